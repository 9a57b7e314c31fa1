// SPDX-License-Identifier: GPL-2.0-only
/*
 * quayside: mediated devices that implement VFIO migration and nothing else, for vfio-trace's lab.
 *
 * The names are odd on purpose. vfio-trace must find a driver's callbacks through the kernel's
 * tables of ops and must work with drivers that it has never seen. Nothing in it, except a plug-in
 * for one driver, may go by the names of functions or structures. So no name in here is like one
 * in the kernel's own drivers: if vfio-trace works with quayside, it does not go by names. A
 * comment above each callback names the op that it implements. The words:
 *
 *   quay       the device                          berth      its migration state
 *   hold       a data session, with its data fd    bill       the header of a part of the stream
 *   cargo      the buffer of the data              proof      the data that should be in it
 *   shift      set_state                           glance     get_state
 *   tonnage    the data size                       manifest   precopy_info
 *   unload     a read() of the data fd             load       a write() to it
 *   refit      a reset                             snag       a failure that the user asked for
 *   dial       a setting that is one number        tarry      to sleep
 *
 * Faults and delays that real devices have by accident are set by the user, per device, in
 * /sys/bus/mdev/devices/UUID/quayside/:
 *
 *   state_bytes    size of the state in bytes: generated and verified, never stored
 *   initial_bytes  the bytes of it that PRE_COPY gives; -ENOMSG after that
 *   dirty_bytes    bytes that become dirty each time a read() in PRE_COPY returns -ENOMSG
 *   dirty_rounds   number of times per session that this happens
 *   renew          1: dirty rounds are new initial data (VFIO_PRECOPY_INFO_REINIT) for a VMM
 *                  that has asked for it (kernel 7.1 and later)
 *   delay_us       "FROM TO MICROSECONDS": a sleep inside that arc, berth_lock held; SIGKILL ends it
 *   fail           "FROM TO ERRNO [COUNT]": that arc fails COUNT times, after its delay
 *   error_state    1: an arc that fails leaves the device in ERROR
 *   fail_read      "OFFSET ERRNO [COUNT]": a read() ends short at this byte of the stream,
 *                  and COUNT more fail there
 *   fail_write     the same for write()
 *   read_delay_us, write_delay_us   a sleep in each read() or write()
 *   nested         1: each read() of a data fd calls itself, once
 *   log_fail       "ERRNO [COUNT]": the next COUNT starts of the DMA log fail
 *   dirty_pattern  N: each Nth page is dirty in the DMA log; 0: none
 *   where          state and counters, read without any lock, so that it answers during a delay;
 *                  an arc, set_state, read() or write() that fails counts as an error, -ENOMSG
 *                  included; the other counters do not tell failed calls from others
 *
 * States are names, numbers, or * for any; errnos are names or numbers; COUNT is 1 if left out;
 * bytes take K, M and G; "clear" empties a table. A session uses the stream's settings as they
 * were when its data fd was opened. All others have effect at once.
 *
 * Closing the device brings it back to RUNNING, as VFIO_DEVICE_RESET does: each user finds a
 * fresh device. A data fd may outlive its session, the open device and the device
 * itself, and gives -ENODEV then.
 *
 * Locks, from the outside in: berth_lock is held through the whole of a set_state,
 * quay_hold.lock through the whole of a read() or write(), knob_lock for moments.
 */

#include <linux/delay.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/pci_regs.h>
#include <linux/sched/signal.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "quayside.h"

/* Offset of a region in the device fd: its index, shifted by this. */
#define QUAY_REGION_SHIFT 40

/* An mdev type: its migration_flags, 0 for none, and whether it lacks the DMA log. */
struct quay_kind {
	struct mdev_type type;
	unsigned int flags;
	bool no_log;
};

/*
 * Sleeps, never shorter than asked for, so that tests can rely on it: msleep() counts jiffies, and
 * those jump where a VM was held up. In slices, so that a killed process does not have to wait.
 */
void quay_tarry(u64 us)
{
	ktime_t end = ktime_add_us(ktime_get(), us);
	s64 left;

	while ((left = ktime_us_delta(end, ktime_get())) > 0 && !fatal_signal_pending(current)) {
		u64 slice = min_t(u64, left, QUAY_SLICE);

		usleep_range(slice, slice + 50);
	}
}

/* The VFIO device: a PCI function with a configuration space and nothing else. */

/* No vendor has these IDs; class ff is "none of the others". */
static const u8 quay_blank_config[PCI_STD_HEADER_SIZEOF] = {
	[PCI_VENDOR_ID] = 0x55, 0x51, [PCI_DEVICE_ID] = 0x59, 0x41,
	[PCI_REVISION_ID] = 0x01, [PCI_CLASS_DEVICE + 1] = 0xff,
	[PCI_SUBSYSTEM_VENDOR_ID] = 0x55, 0x51, [PCI_SUBSYSTEM_ID] = 0x59, 0x41,
};

/* Returns true for bytes of the configuration space that a write changes. */
static bool quay_config_settable(u64 at)
{
	return at == PCI_COMMAND || at == PCI_COMMAND + 1 || at == PCI_CACHE_LINE_SIZE ||
	       at == PCI_LATENCY_TIMER || at == PCI_INTERRUPT_LINE;
}

/* Returns the length of an access within the configuration space, the only region. */
static ssize_t quay_in_config(loff_t pos, size_t count, u64 *at)
{
	*at = (u64)pos & ((1ULL << QUAY_REGION_SHIFT) - 1);
	if ((u64)pos >> QUAY_REGION_SHIFT != VFIO_PCI_CONFIG_REGION_INDEX || *at >= QUAY_CONFIG)
		return -EINVAL;
	return min_t(u64, count, QUAY_CONFIG - *at);
}

/* vfio_device_ops.read */
static ssize_t quay_peek(struct vfio_device *vdev, char __user *buf, size_t count, loff_t *pos)
{
	struct quay *q = quay_of(vdev);
	u8 copy[QUAY_CONFIG];
	ssize_t n;
	u64 at;

	n = quay_in_config(*pos, count, &at);
	if (n < 0)
		return n;
	mutex_lock(&q->knob_lock);
	memcpy(copy, q->config + at, n);
	mutex_unlock(&q->knob_lock);
	if (copy_to_user(buf, copy, n))
		return -EFAULT;
	*pos += n;
	return n;
}

/* vfio_device_ops.write */
static ssize_t quay_poke(struct vfio_device *vdev, const char __user *buf, size_t count,
			 loff_t *pos)
{
	struct quay *q = quay_of(vdev);
	u8 copy[QUAY_CONFIG];
	ssize_t n, i;
	u64 at;

	n = quay_in_config(*pos, count, &at);
	if (n < 0)
		return n;
	if (copy_from_user(copy, buf, n))
		return -EFAULT;
	mutex_lock(&q->knob_lock);
	for (i = 0; i < n; i++)
		if (quay_config_settable(at + i))
			q->config[at + i] = copy[i];
	mutex_unlock(&q->knob_lock);
	*pos += n;
	return n;
}

/* Answers VFIO_DEVICE_GET_REGION_INFO, by the op or by the ioctl. */
static int quay_region(struct vfio_region_info *info)
{
	if (info->index >= VFIO_PCI_NUM_REGIONS)
		return -EINVAL;
	info->flags = 0;
	info->size = 0;
	info->cap_offset = 0;
	info->offset = (u64)info->index << QUAY_REGION_SHIFT;
	if (info->index == VFIO_PCI_CONFIG_REGION_INDEX) {
		info->flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
		info->size = QUAY_CONFIG;
	}
	return 0;
}

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 19, 0)
/* vfio_device_ops.get_region_info_caps, since 6.19 */
static int quay_region_caps(struct vfio_device *vdev, struct vfio_region_info *info,
			    struct vfio_info_cap *caps)
{
	return quay_region(info);
}
#else
/* VFIO_DEVICE_GET_REGION_INFO, before 6.19 */
static long quay_region_ioctl(void __user *user)
{
	const size_t size = offsetofend(struct vfio_region_info, offset);
	struct vfio_region_info info;
	int ret;

	if (copy_from_user(&info, user, size))
		return -EFAULT;
	if (info.argsz < size)
		return -EINVAL;
	ret = quay_region(&info);
	if (ret)
		return ret;
	return copy_to_user(user, &info, size) ? -EFAULT : 0;
}
#endif

/* vfio_device_ops.ioctl */
static long quay_hail(struct vfio_device *vdev, unsigned int cmd, unsigned long arg)
{
	void __user *user = (void __user *)arg;
	struct vfio_device_info info;
	struct vfio_irq_info irq;
	size_t size;

	switch (cmd) {
	case VFIO_DEVICE_GET_INFO:
		size = offsetofend(struct vfio_device_info, num_irqs);
		if (copy_from_user(&info, user, size))
			return -EFAULT;
		if (info.argsz < size)
			return -EINVAL;
		info.flags = VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET;
		info.num_regions = VFIO_PCI_NUM_REGIONS;
		info.num_irqs = VFIO_PCI_NUM_IRQS;
		return copy_to_user(user, &info, size) ? -EFAULT : 0;
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 19, 0)
	case VFIO_DEVICE_GET_REGION_INFO:
		return quay_region_ioctl(user);
#endif
	case VFIO_DEVICE_GET_IRQ_INFO:
		size = offsetofend(struct vfio_irq_info, count);
		if (copy_from_user(&irq, user, size))
			return -EFAULT;
		/* No error and no request interrupt: with a count of 0, QEMU would complain. */
		if (irq.argsz < size || irq.index > VFIO_PCI_MSIX_IRQ_INDEX)
			return -EINVAL;
		irq.flags = 0;
		irq.count = 0;
		return copy_to_user(user, &irq, size) ? -EFAULT : 0;
	case VFIO_DEVICE_RESET:
		quay_refit(quay_of(vdev));
		return 0;
	}
	return -ENOTTY;
}

/* vfio_device_ops.close_device */
static void quay_slip(struct vfio_device *vdev)
{
	quay_refit(quay_of(vdev));
}

/* vfio_device_ops.init */
static int quay_build(struct vfio_device *vdev)
{
	struct mdev_device *mdev = to_mdev_device(vdev->dev);
	struct quay_kind *kind = container_of(mdev->type, struct quay_kind, type);
	struct quay *q = quay_of(vdev);

	strscpy(q->name, dev_name(vdev->dev), sizeof(q->name));
	mutex_init(&q->berth_lock);
	mutex_init(&q->knob_lock);
	q->berth = VFIO_DEVICE_STATE_RUNNING;
	q->state_bytes = 64 << 10;
	q->initial_bytes = 16 << 10;
	memcpy(q->config, quay_blank_config, sizeof(quay_blank_config));
	if (kind->flags) {
		vdev->migration_flags = kind->flags;
		vdev->mig_ops = &quay_berth_ops;
		if (!kind->no_log)
			vdev->log_ops = &quay_tide_ops;
	}
	return 0;
}

/* vfio_device_ops.release */
static void quay_scrap(struct vfio_device *vdev)
{
	struct quay *q = quay_of(vdev);

	mutex_destroy(&q->knob_lock);
	mutex_destroy(&q->berth_lock);
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)
	vfio_free_device(vdev);
#endif
}

static const struct vfio_device_ops quay_ops = {
	.name = "quayside",
	.init = quay_build,
	.release = quay_scrap,
	.close_device = quay_slip,
	.read = quay_peek,
	.write = quay_poke,
	.ioctl = quay_hail,
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 19, 0)
	.get_region_info_caps = quay_region_caps,
#endif
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 6, 0)
	.bind_iommufd = vfio_iommufd_emulated_bind,
	.unbind_iommufd = vfio_iommufd_emulated_unbind,
	.attach_ioas = vfio_iommufd_emulated_attach_ioas,
	.detach_ioas = vfio_iommufd_emulated_detach_ioas,
#endif
};

/* Number of the next devices that are registered as if they had an IOMMU, which VFIO refuses. */
static unsigned int refuse;
module_param(refuse, uint, 0644);
MODULE_PARM_DESC(refuse, "How many of the next devices VFIO refuses to register");

/* mdev_driver.probe */
static int quay_moor(struct mdev_device *mdev)
{
	struct quay *q = vfio_alloc_device(quay, vdev, &mdev->dev, &quay_ops);
	int ret;

	if (IS_ERR(q))
		return PTR_ERR(q);
	dev_set_drvdata(&mdev->dev, q);
	if (READ_ONCE(refuse)) {
		WRITE_ONCE(refuse, READ_ONCE(refuse) - 1);
		ret = vfio_register_group_dev(&q->vdev);
	} else {
		ret = vfio_register_emulated_iommu_dev(&q->vdev);
	}
	if (ret)
		vfio_put_device(&q->vdev);
	return ret;
}

/* mdev_driver.remove */
static void quay_unmoor(struct mdev_device *mdev)
{
	struct quay *q = dev_get_drvdata(&mdev->dev);

	vfio_unregister_group_dev(&q->vdev);
	vfio_put_device(&q->vdev);
}

static struct quay_kind quay_kinds[] = {
	{
		.type = { .sysfs_name = "full", .pretty_name = "STOP_COPY, P2P and PRE_COPY" },
		.flags = VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P | VFIO_MIGRATION_PRE_COPY,
	}, {
		.type = { .sysfs_name = "p2p", .pretty_name = "STOP_COPY and P2P" },
		.flags = VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P,
	}, {
		.type = { .sysfs_name = "precopy", .pretty_name = "STOP_COPY and PRE_COPY" },
		.flags = VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_PRE_COPY,
	}, {
		.type = { .sysfs_name = "stopcopy", .pretty_name = "STOP_COPY only" },
		.flags = VFIO_MIGRATION_STOP_COPY,
	}, {
		.type = { .sysfs_name = "nolog", .pretty_name = "As full, without a DMA log" },
		.flags = VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P | VFIO_MIGRATION_PRE_COPY,
		.no_log = true,
	}, {
		.type = { .sysfs_name = "none", .pretty_name = "No migration" },
	},
};

static struct mdev_type *quay_types[ARRAY_SIZE(quay_kinds)];

static struct mdev_driver quay_driver = {
	.device_api = VFIO_DEVICE_API_PCI_STRING,
	.max_instances = 4096,
	.driver = {
		.name = "quayside",
		.owner = THIS_MODULE,
		.mod_name = KBUILD_MODNAME,
		.dev_groups = quay_groups,
	},
	.probe = quay_moor,
	.remove = quay_unmoor,
};

/* Its name is the first half of the types' names, as the parent has no driver and no bus. */
static struct class quay_class = {
	.name = "quayside",
};

static struct mdev_parent quay_parent;
static struct device *quay_dev;

/* module_init */
static int __init quay_raise(void)
{
	int i, ret;

	for (i = 0; i < ARRAY_SIZE(quay_kinds); i++)
		quay_types[i] = &quay_kinds[i].type;
	ret = class_register(&quay_class);
	if (ret)
		return ret;
	ret = mdev_register_driver(&quay_driver);
	if (ret)
		goto err_class;
	quay_dev = device_create(&quay_class, NULL, MKDEV(0, 0), NULL, "quayside");
	if (IS_ERR(quay_dev)) {
		ret = PTR_ERR(quay_dev);
		goto err_driver;
	}
	ret = mdev_register_parent(&quay_parent, quay_dev, &quay_driver, quay_types,
				   ARRAY_SIZE(quay_types));
	if (ret)
		goto err_device;
	return 0;

err_device:
	device_unregister(quay_dev);
err_driver:
	mdev_unregister_driver(&quay_driver);
err_class:
	class_unregister(&quay_class);
	return ret;
}

/* module_exit */
static void __exit quay_raze(void)
{
	mdev_unregister_parent(&quay_parent);
	device_unregister(quay_dev);
	mdev_unregister_driver(&quay_driver);
	class_unregister(&quay_class);
}

module_init(quay_raise)
module_exit(quay_raze)

#if IS_ENABLED(CONFIG_IOMMUFD_DRIVER)
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 13, 0)
MODULE_IMPORT_NS("IOMMUFD");
#elif LINUX_VERSION_CODE >= KERNEL_VERSION(6, 6, 0)
MODULE_IMPORT_NS(IOMMUFD);
#endif
#endif
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Mediated devices with nothing but VFIO migration, for tests");
MODULE_AUTHOR("vfio-trace");
