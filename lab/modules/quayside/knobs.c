// SPDX-License-Identifier: GPL-2.0-only
/* quayside's settings and counters in sysfs. main.c lists them, and tells why the names are odd. */

#include <linux/device.h>
#include <linux/err.h>
#include <linux/kernel.h>
#include <linux/string.h>
#include <linux/sysfs.h>

#include "quayside.h"

static const char * const quay_states[QUAY_STATES] = {
	"ERROR", "STOP", "RUNNING", "STOP_COPY", "RESUMING", "RUNNING_P2P", "PRE_COPY",
	"PRE_COPY_P2P",
};

static const struct {
	const char *name;
	int number;
} quay_errnos[] = {
	{ "EPERM", EPERM }, { "EINTR", EINTR }, { "EIO", EIO }, { "EAGAIN", EAGAIN },
	{ "ENOMEM", ENOMEM }, { "EFAULT", EFAULT }, { "EBUSY", EBUSY }, { "ENODEV", ENODEV },
	{ "EINVAL", EINVAL }, { "ENOTTY", ENOTTY }, { "ENOSPC", ENOSPC }, { "ENOMSG", ENOMSG },
	{ "EOPNOTSUPP", EOPNOTSUPP }, { "ETIMEDOUT", ETIMEDOUT },
};

/*
 * Returns the errno of a failure that this call meets, else 0. In that case *len becomes the
 * length up to the failure, so that the next call meets it exactly at its offset.
 */
int quay_meet(struct quay *q, struct quay_snag *snag, u64 passed, size_t *len)
{
	int error = 0;

	mutex_lock(&q->knob_lock);
	if (snag->count && passed >= snag->offset) {
		snag->count--;
		error = -snag->error;
	} else if (snag->count) {
		*len = min_t(u64, *len, snag->offset - passed);
	}
	mutex_unlock(&q->knob_lock);
	return error;
}

/* A setting that is one number: the attribute, its offset in struct quay, its largest value. */
struct quay_dial {
	struct device_attribute attr;
	size_t offset;
	u64 most;
};

static u64 *quay_dial_of(struct device *dev, struct device_attribute *attr, u64 *most)
{
	struct quay_dial *dial = container_of(attr, struct quay_dial, attr);

	*most = dial->most;
	return (void *)dev_get_drvdata(dev) + dial->offset;
}

/* device_attribute.show of all dials */
static ssize_t quay_dial_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	u64 most;

	return sysfs_emit(buf, "%llu\n", READ_ONCE(*quay_dial_of(dev, attr, &most)));
}

/* device_attribute.store of all dials */
static ssize_t quay_dial_store(struct device *dev, struct device_attribute *attr, const char *buf,
			       size_t count)
{
	u64 most, *dial = quay_dial_of(dev, attr, &most);
	char *end;
	u64 value = memparse(buf, &end);

	if (end == buf || (*end && *end != '\n'))
		return -EINVAL;
	if (value > most)
		return -ERANGE;
	WRITE_ONCE(*dial, value);
	return count;
}

#define QUAY_DIAL(_name, _most)							\
	static struct quay_dial quay_dial_##_name = {				\
		.attr = __ATTR(_name, 0644, quay_dial_show, quay_dial_store),	\
		.offset = offsetof(struct quay, _name),				\
		.most = _most,							\
	}

QUAY_DIAL(state_bytes, QUAY_MAX_BYTES);
QUAY_DIAL(initial_bytes, QUAY_MAX_BYTES);
QUAY_DIAL(dirty_bytes, QUAY_MAX_BYTES);
QUAY_DIAL(dirty_rounds, U64_MAX);
QUAY_DIAL(renew, 1);
QUAY_DIAL(nested, 1);
QUAY_DIAL(error_state, 1);
QUAY_DIAL(read_delay_us, QUAY_MAX_DELAY);
QUAY_DIAL(write_delay_us, QUAY_MAX_DELAY);
QUAY_DIAL(dirty_pattern, U32_MAX);

/* Parses a state, as first and last of a range, since * is all of them. */
static int quay_parse_state(const char *word, unsigned int *first, unsigned int *last)
{
	unsigned int state;

	*first = 0;
	*last = QUAY_STATES - 1;
	if (!strcmp(word, "*"))
		return 0;
	for (state = 0; state < QUAY_STATES; state++)
		if (!strcmp(word, quay_states[state]))
			break;
	if (state == QUAY_STATES && (kstrtouint(word, 10, &state) || state >= QUAY_STATES))
		return -EINVAL;
	*first = state;
	*last = state;
	return 0;
}

/* Parses "EIO", "5", or "-5"; 0 is no error. */
static int quay_parse_errno(const char *word, int *error)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(quay_errnos); i++) {
		if (!strcmp(word, quay_errnos[i].name)) {
			*error = quay_errnos[i].number;
			return 0;
		}
	}
	if (kstrtoint(word + (*word == '-'), 10, error) || *error < 0 || *error > MAX_ERRNO)
		return -EINVAL;
	return 0;
}

/* Parses the words of "ERRNO [COUNT]". Returns 0 or an errno. */
static int quay_parse_snag(int words, const char *errno_word, unsigned int count,
			   struct quay_snag *snag)
{
	int ret;

	if (words < 1 || words > 2)
		return -EINVAL;
	ret = quay_parse_errno(errno_word, &snag->error);
	if (ret)
		return ret;
	snag->count = words == 2 ? count : 1;
	if (!snag->error)
		snag->count = 0;
	return 0;
}

static ssize_t delay_us_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct quay *q = dev_get_drvdata(dev);
	int from, to, at = 0;

	mutex_lock(&q->knob_lock);
	for (from = 0; from < QUAY_STATES; from++)
		for (to = 0; to < QUAY_STATES; to++)
			if (q->delay_us[from][to])
				at += sysfs_emit_at(buf, at, "%s %s %u\n", quay_states[from],
						    quay_states[to], q->delay_us[from][to]);
	mutex_unlock(&q->knob_lock);
	return at;
}

static ssize_t delay_us_store(struct device *dev, struct device_attribute *attr, const char *buf,
			      size_t count)
{
	unsigned int from, from_last, to, first, last, us;
	struct quay *q = dev_get_drvdata(dev);
	char words[2][16], rest[2];

	if (sysfs_streq(buf, "clear")) {
		mutex_lock(&q->knob_lock);
		memset(q->delay_us, 0, sizeof(q->delay_us));
		mutex_unlock(&q->knob_lock);
		return count;
	}
	if (sscanf(buf, "%15s %15s %u %1s", words[0], words[1], &us, rest) != 3 ||
	    quay_parse_state(words[0], &from, &from_last) ||
	    quay_parse_state(words[1], &first, &last))
		return -EINVAL;
	if (us > QUAY_MAX_DELAY)
		return -ERANGE;
	mutex_lock(&q->knob_lock);
	for (; from <= from_last; from++)
		for (to = first; to <= last; to++)
			q->delay_us[from][to] = us;
	mutex_unlock(&q->knob_lock);
	return count;
}
static DEVICE_ATTR_RW(delay_us);

static ssize_t fail_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct quay *q = dev_get_drvdata(dev);
	int from, to, at = 0;

	mutex_lock(&q->knob_lock);
	for (from = 0; from < QUAY_STATES; from++)
		for (to = 0; to < QUAY_STATES; to++)
			if (q->fail[from][to].count)
				at += sysfs_emit_at(buf, at, "%s %s %d %u\n", quay_states[from],
						    quay_states[to], q->fail[from][to].error,
						    q->fail[from][to].count);
	mutex_unlock(&q->knob_lock);
	return at;
}

static ssize_t fail_store(struct device *dev, struct device_attribute *attr, const char *buf,
			  size_t count)
{
	unsigned int from, from_last, to, first, last, times = 0;
	struct quay *q = dev_get_drvdata(dev);
	struct quay_snag snag = {};
	char words[3][16], rest[2];
	int ret;

	if (sysfs_streq(buf, "clear")) {
		mutex_lock(&q->knob_lock);
		memset(q->fail, 0, sizeof(q->fail));
		mutex_unlock(&q->knob_lock);
		return count;
	}
	ret = sscanf(buf, "%15s %15s %15s %u %1s", words[0], words[1], words[2], &times, rest);
	if (quay_parse_snag(ret - 2, words[2], times, &snag) ||
	    quay_parse_state(words[0], &from, &from_last) ||
	    quay_parse_state(words[1], &first, &last))
		return -EINVAL;
	mutex_lock(&q->knob_lock);
	for (; from <= from_last; from++)
		for (to = first; to <= last; to++)
			q->fail[from][to] = snag;
	mutex_unlock(&q->knob_lock);
	return count;
}
static DEVICE_ATTR_RW(fail);

static ssize_t quay_show_snag(struct quay *q, struct quay_snag *snag, bool with_offset, char *buf)
{
	int at = 0;

	mutex_lock(&q->knob_lock);
	if (snag->count && with_offset)
		at += sysfs_emit_at(buf, at, "%llu ", snag->offset);
	if (snag->count)
		at += sysfs_emit_at(buf, at, "%d %u\n", snag->error, snag->count);
	mutex_unlock(&q->knob_lock);
	return at;
}

static ssize_t quay_set_snag(struct quay *q, struct quay_snag *snag, bool with_offset,
			     const char *buf, size_t count)
{
	struct quay_snag new = {};
	char word[16], rest[2], *end;
	unsigned int times = 0;
	int words;

	if (!sysfs_streq(buf, "clear")) {
		const char *from = skip_spaces(buf);

		if (with_offset) {
			new.offset = memparse(from, &end);
			if (end == from || *end != ' ')
				return -EINVAL;
			from = end;
		}
		words = sscanf(from, "%15s %u %1s", word, &times, rest);
		if (quay_parse_snag(words, word, times, &new))
			return -EINVAL;
	}
	mutex_lock(&q->knob_lock);
	*snag = new;
	mutex_unlock(&q->knob_lock);
	return count;
}

#define QUAY_SNAG(_name, _with_offset)							\
	static ssize_t _name##_show(struct device *dev, struct device_attribute *attr,	\
				    char *buf)						\
	{										\
		struct quay *q = dev_get_drvdata(dev);					\
											\
		return quay_show_snag(q, &q->_name, _with_offset, buf);			\
	}										\
	static ssize_t _name##_store(struct device *dev, struct device_attribute *attr,	\
				     const char *buf, size_t count)			\
	{										\
		struct quay *q = dev_get_drvdata(dev);					\
											\
		return quay_set_snag(q, &q->_name, _with_offset, buf, count);		\
	}										\
	static DEVICE_ATTR_RW(_name)

QUAY_SNAG(fail_read, true);
QUAY_SNAG(fail_write, true);
QUAY_SNAG(log_fail, false);

static ssize_t where_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct quay *q = dev_get_drvdata(dev);
	int from, to, at = 0;
	s64 sum = 0;

	for (from = 0; from < QUAY_STATES; from++)
		for (to = 0; to < QUAY_STATES; to++)
			sum += atomic64_read(&q->arcs[from][to]);
	at += sysfs_emit_at(buf, at, "state %u\narcs %lld\n", READ_ONCE(q->berth), sum);
#define QUAY_COUNT(_name) \
	(at += sysfs_emit_at(buf, at, #_name " %lld\n", atomic64_read(&q->_name)))
	QUAY_COUNT(arc_errors);
	QUAY_COUNT(shifts);
	QUAY_COUNT(shift_errors);
	QUAY_COUNT(glances);
	QUAY_COUNT(tonnages);
	QUAY_COUNT(manifests);
	QUAY_COUNT(refits);
	QUAY_COUNT(nests);
	QUAY_COUNT(unloads);
	QUAY_COUNT(unload_errors);
	QUAY_COUNT(unload_bytes);
	QUAY_COUNT(loads);
	QUAY_COUNT(load_errors);
	QUAY_COUNT(load_bytes);
	QUAY_COUNT(holds);
	QUAY_COUNT(log_watches);
	QUAY_COUNT(log_rests);
	QUAY_COUNT(log_tallies);
#undef QUAY_COUNT
	for (from = 0; from < QUAY_STATES; from++)
		for (to = 0; to < QUAY_STATES; to++)
			if (atomic64_read(&q->arcs[from][to]))
				at += sysfs_emit_at(buf, at, "arc %d %d %lld\n", from, to,
						    atomic64_read(&q->arcs[from][to]));
	return at;
}
static DEVICE_ATTR_RO(where);

static struct attribute *quay_attrs[] = {
	&quay_dial_state_bytes.attr.attr,
	&quay_dial_initial_bytes.attr.attr,
	&quay_dial_dirty_bytes.attr.attr,
	&quay_dial_dirty_rounds.attr.attr,
	&quay_dial_renew.attr.attr,
	&quay_dial_nested.attr.attr,
	&quay_dial_error_state.attr.attr,
	&quay_dial_read_delay_us.attr.attr,
	&quay_dial_write_delay_us.attr.attr,
	&quay_dial_dirty_pattern.attr.attr,
	&dev_attr_delay_us.attr,
	&dev_attr_fail.attr,
	&dev_attr_fail_read.attr,
	&dev_attr_fail_write.attr,
	&dev_attr_log_fail.attr,
	&dev_attr_where.attr,
	NULL,
};

static const struct attribute_group quay_group = {
	.name = "quayside",
	.attrs = quay_attrs,
};

const struct attribute_group *quay_groups[] = {
	&quay_group,
	NULL,
};
