/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Definitions that mtty.c of Linux 6.12 uses and 6.1 does not have; included after all of its headers.
 * xtask/src/setup/backport.rs has the changes to its lines.
 */

#ifndef MTTY_COMPAT_H
#define MTTY_COMPAT_H

/* Since 6.2. The device does not announce PRE_COPY, and 6.1's core refuses it. */
#define VFIO_MIGRATION_PRE_COPY		0
#define VFIO_DEVICE_STATE_PRE_COPY	((enum vfio_device_mig_state)6)
#define VFIO_DEVICE_STATE_PRE_COPY_P2P	((enum vfio_device_mig_state)7)
#define VFIO_MIG_GET_PRECOPY_INFO	_IO(VFIO_TYPE, VFIO_BASE + 21)

struct vfio_precopy_info {
	__u32 argsz;
	__u32 flags;
	__aligned_u64 initial_bytes;
	__aligned_u64 dirty_bytes;
};

/* These have one argument fewer since 6.8 and 6.4. */
#define eventfd_signal(ctx)		eventfd_signal(ctx, 1)
#undef class_create
#define class_create(name)						\
({									\
	static struct lock_class_key key;				\
									\
	__class_create(THIS_MODULE, name, &key);			\
})

#endif
