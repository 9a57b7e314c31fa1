/* SPDX-License-Identifier: GPL-2.0-only */
/* quayside: shared declarations. main.c tells its purpose, and why the names are odd. */

#ifndef QUAYSIDE_H
#define QUAYSIDE_H

#undef pr_fmt
#define pr_fmt(fmt) "quayside " fmt

#include <linux/mdev.h>
#include <linux/mutex.h>
#include <linux/printk.h>
#include <linux/refcount.h>
#include <linux/types.h>
#include <linux/version.h>
#include <linux/vfio.h>

/* Before 6.2 there was no PRE_COPY: types with that flag do not have it there. */
#ifndef VFIO_MIGRATION_PRE_COPY
#define VFIO_MIGRATION_PRE_COPY 0
#endif

/* Number of states; those of all kernels fit in. */
#define QUAY_STATES	8
/* Longest delay in us. A longer sleep would only wake the hung task detector. */
#define QUAY_MAX_DELAY	(100U * USEC_PER_SEC)
#define QUAY_SLICE	(100U * USEC_PER_MSEC)
#define QUAY_MAX_BYTES	(1ULL << 42)
#define QUAY_CONFIG	256

/* A failure that the user asked for: at an offset of a stream or in an arc, count times. */
struct quay_snag {
	u64 offset;
	int error;
	unsigned int count;
};

struct quay_hold;

/* A device. The kernel's part is vdev; everything else is private to quayside. */
struct quay {
	struct vfio_device vdev;
	/* A copy of the mdev's name: data fds outlive the mdev. */
	char name[UUID_STRING_LEN + 1];
	/* Held through the whole of a set_state, delays included. Guards berth to watched_page. */
	struct mutex berth_lock;
	enum vfio_device_mig_state berth;
	struct quay_hold *outbound;
	struct quay_hold *inbound;
	bool watched;
	u64 watched_page;

	/* Settings that are one number each, read and set without a lock. */
	u64 state_bytes;
	u64 initial_bytes;
	u64 dirty_bytes;
	u64 dirty_rounds;
	u64 renew;
	u64 error_state;
	u64 read_delay_us;
	u64 write_delay_us;
	u64 dirty_pattern;
	u64 nested;

	/* Guards the tables that follow and config. */
	struct mutex knob_lock;
	u32 delay_us[QUAY_STATES][QUAY_STATES];
	struct quay_snag fail[QUAY_STATES][QUAY_STATES];
	struct quay_snag fail_read;
	struct quay_snag fail_write;
	struct quay_snag log_fail;
	u8 config[QUAY_CONFIG];

	/* Counters of the attribute where. */
	atomic64_t arcs[QUAY_STATES][QUAY_STATES];
	atomic64_t shifts, shift_errors, arc_errors, refits, glances, tonnages, manifests;
	atomic64_t nests, unloads, unload_errors, unload_bytes, loads, load_errors, load_bytes;
	atomic64_t holds, log_watches, log_rests, log_tallies;
};

#define quay_say(q, fmt, ...) pr_debug("%s: " fmt "\n", (q)->name, ##__VA_ARGS__)

static inline struct quay *quay_of(struct vfio_device *vdev)
{
	return container_of(vdev, struct quay, vdev);
}

/* main.c */
void quay_tarry(u64 us);

/* hold.c: data sessions */
struct file *quay_open_pre(struct quay *q);
struct file *quay_open_last(struct quay *q);
struct file *quay_open_in(struct quay *q);
void quay_last_part(struct quay_hold *hold);
int quay_settled(struct quay_hold *hold);
u64 quay_to_come(struct quay_hold *hold);
u64 quay_to_come_from(u64 state_bytes);
void quay_end(struct quay_hold **slot);

/* berth.c: the state machine and the DMA log */
extern const struct vfio_migration_ops quay_berth_ops;
extern const struct vfio_log_ops quay_tide_ops;
void quay_refit(struct quay *q);

/* knobs.c: settings and counters in sysfs */
extern const struct attribute_group *quay_groups[];
int quay_meet(struct quay *q, struct quay_snag *snag, u64 passed, size_t *len);

#endif
