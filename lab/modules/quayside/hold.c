// SPDX-License-Identifier: GPL-2.0-only
/*
 * quayside's data sessions: the stream that read() gives and write() takes. main.c tells why the
 * names are odd.
 *
 * The stream is a sequence of parts: a header (struct quay_bill) and a payload. The payload is
 * generated on one side and compared on the other, so gigabytes cost no memory. PRE_COPY gives
 * the initial part and any number of dirty ones; STOP_COPY gives the rest of them and the final
 * part. Each fault of a stream has an errno of its own: -EINVAL magic, -EPROTO version, -EXDEV
 * another type's flags, -EMSGSIZE another state_bytes, -EBADMSG order or content, -EFBIG beyond
 * the end.
 */

#include <linux/anon_inodes.h>
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "quayside.h"

/* Size of the buffers cargo and proof in bytes. */
#define QUAY_CHUNK	(64U << 10)

#define QUAY_MAGIC	0x4544495359415551ULL	/* "QUAYSIDE" */
#define QUAY_VERSION	1

enum { QUAY_INITIAL = 1, QUAY_DIRTY, QUAY_FINAL };

/* Header of each part of the stream. */
struct quay_bill {
	__le64 magic;
	__le16 version;
	__le16 part;
	__le32 flags;	/* the device's migration flags */
	__le64 total;	/* the device's state_bytes */
	__le64 length;	/* of this part's payload */
	__le64 number;	/* of this part, from 0 */
};

/*
 * A data session. Its file has a reference to it, and so has the device as long as the session
 * lasts. The file may outlive the session: QUAY_OVER then.
 */
struct quay_hold {
	struct quay *quay;
	refcount_t refs;
	struct mutex lock;
	enum { QUAY_PRE, QUAY_LAST, QUAY_IN, QUAY_OVER } phase;
	/* The device's settings as they were when the session began. */
	u64 total;
	u64 initial;
	u64 dirty;
	u64 rounds;
	/* Bytes of the outbound parts that have not begun. */
	u64 initial_due;
	u64 dirty_due;
	bool final_due;
	bool renewed;
	/* The present part: its header, bytes of that done, payload and bytes left of that. */
	struct quay_bill bill;
	unsigned int bill_done;
	u64 length;
	u64 left;
	u64 number;
	/* The whole stream: bytes passed, bytes of state, its end, its first error. */
	u64 passed;
	u64 landed;
	bool complete;
	int spoilt;
	u8 *cargo;
	u8 *proof;
};

/* Drops one reference; frees the session with the last. */
static void quay_let_go(struct quay_hold *hold)
{
	if (!refcount_dec_and_test(&hold->refs))
		return;
	vfio_put_device(&hold->quay->vdev);
	mutex_destroy(&hold->lock);
	kvfree(hold->cargo);
	kvfree(hold->proof);
	kfree(hold);
}

/* Ends a session for the device; its file may stay open. */
void quay_end(struct quay_hold **slot)
{
	struct quay_hold *hold = *slot;

	if (!hold)
		return;
	*slot = NULL;
	mutex_lock(&hold->lock);
	hold->phase = QUAY_OVER;
	mutex_unlock(&hold->lock);
	quay_let_go(hold);
}

/*
 * Generates the payload at an offset: 64-bit words that count in large steps, from a start that
 * differs for each part. The comparison notices bytes that are lost, doubled, swapped or changed.
 */
static void quay_stow(u8 *out, u64 number, u64 offset, size_t len)
{
	const u64 step = 0x9e3779b97f4a7c15ULL;
	u64 word = ~number * 0xd1342543de82ef95ULL + (offset / 8) * step;
	size_t skip = offset % 8;
	__le64 raw;

	if (skip) {
		size_t n = min_t(size_t, len, 8 - skip);

		raw = cpu_to_le64(word);
		memcpy(out, (u8 *)&raw + skip, n);
		out += n;
		len -= n;
		word += step;
	}
	for (; len >= 8; len -= 8, out += 8, word += step) {
		raw = cpu_to_le64(word);
		memcpy(out, &raw, 8);
	}
	raw = cpu_to_le64(word);
	memcpy(out, &raw, len);
}

static void quay_begin_part(struct quay_hold *hold, unsigned int part, u64 length)
{
	hold->bill = (struct quay_bill) {
		.magic = cpu_to_le64(QUAY_MAGIC),
		.version = cpu_to_le16(QUAY_VERSION),
		.part = cpu_to_le16(part),
		.flags = cpu_to_le32(hold->quay->vdev.migration_flags),
		.total = cpu_to_le64(hold->total),
		.length = cpu_to_le64(length),
		.number = cpu_to_le64(hold->number),
	};
	hold->bill_done = 0;
	hold->length = length;
	hold->left = length;
}

/* Begins the next part of an outbound stream. Returns false if there is none yet. */
static bool quay_next_part(struct quay_hold *hold)
{
	if (hold->initial_due) {
		quay_begin_part(hold, QUAY_INITIAL, hold->initial_due);
		hold->initial_due = 0;
	} else if (hold->dirty_due) {
		quay_begin_part(hold, QUAY_DIRTY, hold->dirty_due);
		hold->dirty_due = 0;
	} else if (hold->phase == QUAY_LAST && hold->final_due) {
		quay_begin_part(hold, QUAY_FINAL, hold->total - hold->initial);
		hold->final_due = false;
	} else {
		return false;
	}
	return true;
}

static bool quay_part_over(struct quay_hold *hold)
{
	return hold->bill_done == sizeof(hold->bill) && !hold->left;
}

/* Copies the next bytes of the stream to user space. */
static ssize_t quay_give(struct quay_hold *hold, char __user *buf, size_t len)
{
	size_t given = 0;

	if (hold->phase == QUAY_OVER)
		return -ENODEV;
	while (given < len && !fatal_signal_pending(current)) {
		const u8 *from = hold->cargo;
		size_t n;

		if (quay_part_over(hold)) {
			hold->number++;
			if (!quay_next_part(hold)) {
				hold->number--;
				break;
			}
		}
		if (hold->bill_done < sizeof(hold->bill)) {
			n = min(len - given, sizeof(hold->bill) - hold->bill_done);
			from = (u8 *)&hold->bill + hold->bill_done;
		} else {
			n = min_t(u64, min_t(size_t, len - given, QUAY_CHUNK), hold->left);
			quay_stow(hold->cargo, hold->number, hold->length - hold->left, n);
		}
		if (copy_to_user(buf + given, from, n))
			return given ? given : -EFAULT;
		if (hold->bill_done < sizeof(hold->bill))
			hold->bill_done += n;
		else
			hold->left -= n;
		hold->passed += n;
		given += n;
		cond_resched();
	}
	if (given || hold->phase == QUAY_LAST)
		return given;
	/* In PRE_COPY the device goes on running: this is the data that it has dirtied. */
	if (hold->rounds) {
		hold->rounds--;
		hold->dirty_due = hold->dirty;
		hold->renewed = true;
	}
	return -ENOMSG;
}

/* Its address is the position of a read() within a read(): this tells one from the other. */
static loff_t quay_inner;

/* file_operations.read of a saving data fd */
static ssize_t quay_unload(struct file *filp, char __user *buf, size_t len, loff_t *pos)
{
	struct quay_hold *hold = filp->private_data;
	struct quay *q = hold->quay;
	size_t may = len;
	ssize_t ret;

	if (pos && pos != &quay_inner)
		return -ESPIPE;
	if (!pos && READ_ONCE(q->nested)) {
		/* Through the pointer, so that the compiler must make a call. */
		ret = filp->f_op->read(filp, buf, len, &quay_inner);
		atomic64_inc(&q->nests);
		return ret;
	}
	mutex_lock(&hold->lock);
	quay_tarry(READ_ONCE(q->read_delay_us));
	ret = quay_meet(q, &q->fail_read, hold->passed, &may);
	if (!ret)
		ret = quay_give(hold, buf, may);
	atomic64_inc(ret < 0 ? &q->unload_errors : &q->unloads);
	if (ret > 0)
		atomic64_add(ret, &q->unload_bytes);
	quay_say(q, "quay_unload: asked %zu gave %zd", len, ret);
	mutex_unlock(&hold->lock);
	return ret;
}

/* Checks the header of a part that arrived. Returns its fault as an errno. */
static int quay_check_bill(struct quay_hold *hold)
{
	const struct quay_bill *bill = &hold->bill;
	u64 length = le64_to_cpu(bill->length);
	unsigned int part = le16_to_cpu(bill->part);

	if (le64_to_cpu(bill->magic) != QUAY_MAGIC)
		return -EINVAL;
	if (le16_to_cpu(bill->version) != QUAY_VERSION)
		return -EPROTO;
	if (le32_to_cpu(bill->flags) != hold->quay->vdev.migration_flags)
		return -EXDEV;
	if (le64_to_cpu(bill->total) != hold->total)
		return -EMSGSIZE;
	if (le64_to_cpu(bill->number) != hold->number || part < QUAY_INITIAL || part > QUAY_FINAL ||
	    length > QUAY_MAX_BYTES)
		return -EBADMSG;
	/* Dirty data replaces earlier data; all other parts add up to the state. */
	if (part != QUAY_DIRTY)
		hold->landed += length;
	if (hold->landed > hold->total || (part == QUAY_FINAL && hold->landed != hold->total))
		return -EBADMSG;
	hold->length = length;
	hold->left = length;
	return 0;
}

/* Ends a part that has arrived as a whole. */
static void quay_land_part(struct quay_hold *hold)
{
	if (!quay_part_over(hold))
		return;
	hold->complete = le16_to_cpu(hold->bill.part) == QUAY_FINAL;
	hold->bill_done = 0;
	hold->number++;
}

/* Takes bytes of the stream from user space and checks them. */
static ssize_t quay_take(struct quay_hold *hold, const char __user *buf, size_t len)
{
	size_t taken = 0;

	if (hold->phase == QUAY_OVER)
		return -ENODEV;
	if (hold->spoilt)
		return hold->spoilt;
	while (taken < len && !fatal_signal_pending(current)) {
		bool is_bill = hold->bill_done < sizeof(hold->bill);
		u8 *to = hold->cargo;
		size_t n;

		if (hold->complete) {
			hold->spoilt = -EFBIG;
			break;
		}
		if (is_bill) {
			n = min(len - taken, sizeof(hold->bill) - hold->bill_done);
			to = (u8 *)&hold->bill + hold->bill_done;
		} else {
			n = min_t(u64, min_t(size_t, len - taken, QUAY_CHUNK), hold->left);
		}
		if (copy_from_user(to, buf + taken, n))
			return taken ? taken : -EFAULT;
		if (is_bill) {
			hold->bill_done += n;
			if (hold->bill_done == sizeof(hold->bill))
				hold->spoilt = quay_check_bill(hold);
		} else {
			quay_stow(hold->proof, hold->number, hold->length - hold->left, n);
			if (memcmp(hold->cargo, hold->proof, n))
				hold->spoilt = -EBADMSG;
			hold->left -= n;
		}
		if (hold->spoilt)
			break;
		quay_land_part(hold);
		hold->passed += n;
		taken += n;
		cond_resched();
	}
	return hold->spoilt ? hold->spoilt : taken;
}

/* file_operations.write of a resuming data fd */
static ssize_t quay_load(struct file *filp, const char __user *buf, size_t len, loff_t *pos)
{
	struct quay_hold *hold = filp->private_data;
	struct quay *q = hold->quay;
	size_t may = len;
	ssize_t ret;

	if (pos)
		return -ESPIPE;
	mutex_lock(&hold->lock);
	quay_tarry(READ_ONCE(q->write_delay_us));
	ret = quay_meet(q, &q->fail_write, hold->passed, &may);
	if (!ret)
		ret = quay_take(hold, buf, may);
	atomic64_inc(ret < 0 ? &q->load_errors : &q->loads);
	if (ret > 0)
		atomic64_add(ret, &q->load_bytes);
	quay_say(q, "quay_load: asked %zu took %zd total %llu", len, ret, hold->passed);
	mutex_unlock(&hold->lock);
	return ret;
}

/* Returns the bytes of a part that is due, with its header. */
static u64 quay_due(u64 payload)
{
	return payload ? sizeof(struct quay_bill) + payload : 0;
}

#ifdef VFIO_MIG_GET_PRECOPY_INFO
/* Returns the bytes left of the present part if it is of this kind. */
static u64 quay_at_hand(struct quay_hold *hold, unsigned int part)
{
	if (le16_to_cpu(hold->bill.part) != part)
		return 0;
	return sizeof(hold->bill) - hold->bill_done + hold->left;
}

/* file_operations.unlocked_ioctl of a saving data fd: VFIO_MIG_GET_PRECOPY_INFO */
static long quay_manifest(struct file *filp, unsigned int cmd, unsigned long arg)
{
	const size_t size = offsetofend(struct vfio_precopy_info, dirty_bytes);
	struct quay_hold *hold = filp->private_data;
	void __user *user = (void __user *)arg;
	struct vfio_precopy_info info;
	struct quay *q = hold->quay;
	long ret = 0;

	if (cmd != VFIO_MIG_GET_PRECOPY_INFO)
		return -ENOTTY;
	if (copy_from_user(&info, user, size))
		return -EFAULT;
	if (info.argsz < size)
		return -EINVAL;

	mutex_lock(&hold->lock);
	info.flags = 0;
	info.initial_bytes = quay_due(hold->initial_due) + quay_at_hand(hold, QUAY_INITIAL);
	info.dirty_bytes = quay_due(hold->dirty_due) + quay_at_hand(hold, QUAY_DIRTY);
#ifdef VFIO_PRECOPY_INFO_REINIT
	if (q->vdev.precopy_info_v2 && READ_ONCE(q->renew)) {
		info.flags = hold->renewed ? VFIO_PRECOPY_INFO_REINIT : 0;
		info.initial_bytes += info.dirty_bytes;
		info.dirty_bytes = 0;
	}
#endif
	if (hold->phase == QUAY_OVER)
		ret = -ENODEV;
	else if (hold->phase != QUAY_PRE)
		ret = -EINVAL;
	else if (copy_to_user(user, &info, size))
		ret = -EFAULT;
	else
		hold->renewed = false;
	atomic64_inc(&q->manifests);
	quay_say(q, "quay_manifest: initial %llu dirty %llu flags %u result %ld",
		 info.initial_bytes, info.dirty_bytes, info.flags, ret);
	mutex_unlock(&hold->lock);
	return ret;
}
#endif

/* file_operations.release of both data fds */
static int quay_cast_off(struct inode *inode, struct file *filp)
{
	struct quay_hold *hold = filp->private_data;

	atomic64_dec(&hold->quay->holds);
	quay_say(hold->quay, "quay_cast_off: total %llu", hold->passed);
	quay_let_go(hold);
	return 0;
}

static const struct file_operations quay_outbound_fops = {
	.owner = THIS_MODULE,
	.read = quay_unload,
#ifdef VFIO_MIG_GET_PRECOPY_INFO
	.unlocked_ioctl = quay_manifest,
	.compat_ioctl = compat_ptr_ioctl,
#endif
	.release = quay_cast_off,
};

static const struct file_operations quay_inbound_fops = {
	.owner = THIS_MODULE,
	.write = quay_load,
	.release = quay_cast_off,
};

/* Opens a data fd and begins its session. */
static struct file *quay_open(struct quay *q, int phase)
{
	bool inbound = phase == QUAY_IN;
	struct quay_hold **slot = inbound ? &q->inbound : &q->outbound;
	struct quay_hold *hold;
	struct file *filp;

	hold = kzalloc(sizeof(*hold), GFP_KERNEL_ACCOUNT);
	if (!hold)
		return ERR_PTR(-ENOMEM);
	hold->cargo = kvmalloc(QUAY_CHUNK, GFP_KERNEL_ACCOUNT);
	hold->proof = inbound ? kvmalloc(QUAY_CHUNK, GFP_KERNEL_ACCOUNT) : NULL;
	hold->quay = q;
	get_device(&q->vdev.device);
	refcount_set(&hold->refs, 1);
	mutex_init(&hold->lock);
	hold->phase = phase;
	hold->total = READ_ONCE(q->state_bytes);
	hold->dirty = READ_ONCE(q->dirty_bytes);
	hold->rounds = hold->dirty ? READ_ONCE(q->dirty_rounds) : 0;
	if (phase == QUAY_PRE)
		hold->initial = min(hold->total, READ_ONCE(q->initial_bytes));
	hold->initial_due = hold->initial;
	hold->final_due = true;
	if (!inbound) {
		/* As if part -1 had just ended. */
		hold->number = -1;
		hold->bill_done = sizeof(hold->bill);
	}
	if (!hold->cargo || (inbound && !hold->proof)) {
		filp = ERR_PTR(-ENOMEM);
		goto out;
	}
	filp = anon_inode_getfile("quay_hold", inbound ? &quay_inbound_fops : &quay_outbound_fops,
				  hold, inbound ? O_WRONLY : O_RDONLY);
	if (IS_ERR(filp))
		goto out;
	stream_open(filp->f_inode, filp);
	atomic64_inc(&q->holds);
	refcount_inc(&hold->refs);
	*slot = hold;
	return filp;
out:
	quay_let_go(hold);
	return filp;
}

/* Opens the data fd that PRE_COPY and then STOP_COPY read. */
struct file *quay_open_pre(struct quay *q)
{
	return quay_open(q, QUAY_PRE);
}

/* Opens the data fd of a STOP_COPY without PRE_COPY. */
struct file *quay_open_last(struct quay *q)
{
	return quay_open(q, QUAY_LAST);
}

/* Opens the data fd of RESUMING. */
struct file *quay_open_in(struct quay *q)
{
	return quay_open(q, QUAY_IN);
}

/* Ends PRE_COPY: the same data fd goes on to the end of the state. */
void quay_last_part(struct quay_hold *hold)
{
	mutex_lock(&hold->lock);
	hold->phase = QUAY_LAST;
	mutex_unlock(&hold->lock);
}

/* Returns 0 if a whole valid stream was written, else its fault as an errno. */
int quay_settled(struct quay_hold *hold)
{
	int ret;

	mutex_lock(&hold->lock);
	ret = hold->spoilt;
	if (!ret && !hold->complete)
		ret = -ENODATA;
	mutex_unlock(&hold->lock);
	return ret;
}

/* Returns the bytes that the rest of an outbound session gives. */
u64 quay_to_come(struct quay_hold *hold)
{
	u64 sum;

	mutex_lock(&hold->lock);
	sum = quay_due(hold->initial_due) + quay_due(hold->dirty_due) + hold->left +
	      sizeof(hold->bill) - hold->bill_done;
	if (hold->final_due)
		sum += sizeof(hold->bill) + hold->total - hold->initial;
	mutex_unlock(&hold->lock);
	return sum;
}

/* Returns the bytes that a session that begins in STOP_COPY would give. */
u64 quay_to_come_from(u64 state_bytes)
{
	return sizeof(struct quay_bill) + state_bytes;
}
