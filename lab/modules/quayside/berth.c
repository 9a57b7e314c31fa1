// SPDX-License-Identifier: GPL-2.0-only
/*
 * quayside's migration state machine and its DMA log: the ops that VFIO's core calls. main.c tells
 * why the names are odd.
 */

#include <linux/file.h>
#include <linux/iova_bitmap.h>
#include <linux/log2.h>

#include "quayside.h"

/* The states as numbers, the same on every kernel. */
enum {
	ERROR = VFIO_DEVICE_STATE_ERROR,
	STOP = VFIO_DEVICE_STATE_STOP,
	RUNNING = VFIO_DEVICE_STATE_RUNNING,
	STOP_COPY = VFIO_DEVICE_STATE_STOP_COPY,
	RESUMING = VFIO_DEVICE_STATE_RESUMING,
	RUNNING_P2P = VFIO_DEVICE_STATE_RUNNING_P2P,
	PRE_COPY = 6,
	PRE_COPY_P2P = 7,
};

/* Does one arc. Returns the data fd's file if the arc opens one. */
static struct file *quay_do(struct quay *q, unsigned int from, unsigned int to)
{
	int ret;

#define ARC(from, to) ((from) * QUAY_STATES + (to))
	switch (ARC(from, to)) {
	case ARC(RUNNING, PRE_COPY):
	case ARC(RUNNING_P2P, PRE_COPY_P2P):
		return quay_open_pre(q);
	case ARC(STOP, STOP_COPY):
		return quay_open_last(q);
	case ARC(STOP, RESUMING):
		return quay_open_in(q);
	case ARC(PRE_COPY, STOP_COPY):
	case ARC(PRE_COPY_P2P, STOP_COPY):
		quay_last_part(q->outbound);
		return NULL;
	case ARC(PRE_COPY, RUNNING):
	case ARC(PRE_COPY_P2P, RUNNING_P2P):
	case ARC(STOP_COPY, STOP):
		quay_end(&q->outbound);
		return NULL;
	case ARC(RESUMING, STOP):
		/* If it cannot end well the session goes on: the rest may still be written. */
		ret = quay_settled(q->inbound);
		if (!ret)
			quay_end(&q->inbound);
		return ERR_PTR(ret);
	case ARC(RUNNING, STOP):
	case ARC(STOP, RUNNING):
	case ARC(RUNNING, RUNNING_P2P):
	case ARC(RUNNING_P2P, RUNNING):
	case ARC(RUNNING_P2P, STOP):
	case ARC(STOP, RUNNING_P2P):
	case ARC(PRE_COPY, PRE_COPY_P2P):
	case ARC(PRE_COPY_P2P, PRE_COPY):
		return NULL;
	}
	WARN_ONCE(1, "no such arc: %u -> %u\n", from, to);
	return ERR_PTR(-EINVAL);
#undef ARC
}

/* Ends all sessions and sets the state without an arc. */
static void quay_land_in(struct quay *q, unsigned int state)
{
	lockdep_assert_held(&q->berth_lock);
	quay_end(&q->outbound);
	quay_end(&q->inbound);
	WRITE_ONCE(q->berth, state);
}

/* Takes one arc with its delay and its failure, as the user has set them. */
static struct file *quay_step(struct quay *q, unsigned int to)
{
	unsigned int from = q->berth;
	struct file *filp = NULL;
	struct quay_snag *snag = &q->fail[from][to];
	u32 delay;

	quay_say(q, "quay_step: %u -> %u", from, to);
	mutex_lock(&q->knob_lock);
	delay = q->delay_us[from][to];
	mutex_unlock(&q->knob_lock);
	quay_tarry(delay);
	mutex_lock(&q->knob_lock);
	if (snag->count) {
		snag->count--;
		filp = ERR_PTR(-snag->error);
	}
	mutex_unlock(&q->knob_lock);
	if (!filp)
		filp = quay_do(q, from, to);
	if (!IS_ERR(filp)) {
		atomic64_inc(&q->arcs[from][to]);
		WRITE_ONCE(q->berth, to);
		return filp;
	}
	atomic64_inc(&q->arc_errors);
	quay_say(q, "quay_step: %u -> %u failed %ld", from, to, PTR_ERR(filp));
	if (READ_ONCE(q->error_state))
		quay_land_in(q, ERROR);
	return filp;
}

/* vfio_migration_ops.migration_set_state */
static struct file *quay_shift(struct vfio_device *vdev, enum vfio_device_mig_state target)
{
	struct quay *q = quay_of(vdev);
	enum vfio_device_mig_state next;
	struct file *filp = NULL;

	mutex_lock(&q->berth_lock);
	quay_say(q, "quay_shift: -> %u", target);
	/* No arc leaves ERROR. The core would refuse it, too, but warn with a backtrace. */
	if (q->berth == VFIO_DEVICE_STATE_ERROR && target != q->berth)
		filp = ERR_PTR(-EINVAL);
	while (q->berth != target && !filp) {
		int ret = vfio_mig_get_next_state(vdev, q->berth, target, &next);

		filp = ret ? ERR_PTR(ret) : quay_step(q, next);
	}
	/* Only a last arc opens a file. */
	if (WARN_ON_ONCE(!IS_ERR(filp) && q->berth != target)) {
		fput(filp);
		filp = ERR_PTR(-EINVAL);
	}
	atomic64_inc(IS_ERR(filp) ? &q->shift_errors : &q->shifts);
	quay_say(q, "quay_shift: -> %u result %ld now %u", target,
		 IS_ERR(filp) ? PTR_ERR(filp) : 0L, q->berth);
	mutex_unlock(&q->berth_lock);
	return filp;
}

/* vfio_migration_ops.migration_get_state */
static int quay_where(struct vfio_device *vdev, enum vfio_device_mig_state *state)
{
	struct quay *q = quay_of(vdev);

	mutex_lock(&q->berth_lock);
	*state = q->berth;
	atomic64_inc(&q->glances);
	quay_say(q, "quay_where: %u", *state);
	mutex_unlock(&q->berth_lock);
	return 0;
}

#ifdef VFIO_DEVICE_FEATURE_MIG_DATA_SIZE
/*
 * vfio_migration_ops.migration_get_data_size: the bytes left of the session, or the bytes that a
 * session would give if it began now.
 */
static int quay_tonnage(struct vfio_device *vdev, unsigned long *bytes)
{
	struct quay *q = quay_of(vdev);

	mutex_lock(&q->berth_lock);
	*bytes = q->outbound ? quay_to_come(q->outbound) :
			       quay_to_come_from(READ_ONCE(q->state_bytes));
	atomic64_inc(&q->tonnages);
	quay_say(q, "quay_tonnage: %lu", *bytes);
	mutex_unlock(&q->berth_lock);
	return 0;
}
#endif

const struct vfio_migration_ops quay_berth_ops = {
	.migration_set_state = quay_shift,
	.migration_get_state = quay_where,
#ifdef VFIO_DEVICE_FEATURE_MIG_DATA_SIZE
	.migration_get_data_size = quay_tonnage,
#endif
};

/* Resets the device: ends all sessions and the DMA log, and sets RUNNING. */
void quay_refit(struct quay *q)
{
	mutex_lock(&q->berth_lock);
	quay_say(q, "quay_refit: %u -> %u", q->berth, RUNNING);
	quay_land_in(q, RUNNING);
	q->watched = false;
	atomic64_inc(&q->refits);
	mutex_unlock(&q->berth_lock);
}

/* The DMA log. */

/* vfio_log_ops.log_start */
static int quay_log_watch(struct vfio_device *vdev, struct rb_root_cached *ranges, u32 nnodes,
			  u64 *page_size)
{
	struct quay *q = quay_of(vdev);
	size_t whatever = 0;
	int ret;

	mutex_lock(&q->berth_lock);
	ret = quay_meet(q, &q->log_fail, 0, &whatever);
	if (!ret && (q->watched || !is_power_of_2(*page_size)))
		ret = -EINVAL;
	if (!ret) {
		q->watched = true;
		q->watched_page = *page_size;
	}
	atomic64_inc(&q->log_watches);
	quay_say(q, "quay_log_watch: ranges %u page %llu result %d", nnodes, *page_size, ret);
	mutex_unlock(&q->berth_lock);
	return ret;
}

/* vfio_log_ops.log_stop */
static int quay_log_rest(struct vfio_device *vdev)
{
	struct quay *q = quay_of(vdev);

	mutex_lock(&q->berth_lock);
	q->watched = false;
	atomic64_inc(&q->log_rests);
	quay_say(q, "quay_log_rest");
	mutex_unlock(&q->berth_lock);
	return 0;
}

/* vfio_log_ops.log_read_and_clear */
static int quay_log_tally(struct vfio_device *vdev, unsigned long iova, unsigned long length,
			  struct iova_bitmap *dirty)
{
	struct quay *q = quay_of(vdev);
	u64 every = READ_ONCE(q->dirty_pattern);
	unsigned long pages = 0;
	int ret = -EINVAL;
	u64 page;

	mutex_lock(&q->berth_lock);
	if (q->watched) {
		ret = 0;
		for (page = iova / q->watched_page;
		     every && page * q->watched_page < (u64)iova + length; page++) {
			if (page % every)
				continue;
			iova_bitmap_set(dirty, page * q->watched_page, q->watched_page);
			pages++;
		}
	}
	atomic64_inc(&q->log_tallies);
	quay_say(q, "quay_log_tally: iova 0x%lx length 0x%lx pages %lu result %d", iova, length,
		 pages, ret);
	mutex_unlock(&q->berth_lock);
	return ret;
}

const struct vfio_log_ops quay_tide_ops = {
	.log_start = quay_log_watch,
	.log_stop = quay_log_rest,
	.log_read_and_clear = quay_log_tally,
};
