//! Offsets of the struct members that the eBPF programs read, in this kernel.
//!
//! Rust emits no CO-RE relocations, so user space looks the offsets up in BTF and hands them over in a map. A member
//! that BTF does not have stays unknown, and the program leaves out what depends on it: nothing is ever guessed.

/// A struct member whose byte offset the eBPF programs need. The discriminant is its slot in [`Layout::offset`].
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// `struct vfio_device.dev` (pointer to the parent `struct device`).
    DeviceDev = 0,
    /// `struct vfio_device.mig_ops`.
    DeviceMigOps,
    /// `struct vfio_device.log_ops`.
    DeviceLogOps,
    /// `struct vfio_device.migration_flags`.
    DeviceMigrationFlags,
    /// `struct vfio_device.open_count`.
    DeviceOpenCount,
    /// `struct vfio_device_file.device` (6.6+). Known means: `filp->private_data` of a device fd is a
    /// `struct vfio_device_file`; unknown: it is the `struct vfio_device` itself.
    DeviceFileDevice,
    /// `struct vfio_migration_ops.migration_set_state`.
    MigSetState,
    /// `struct vfio_migration_ops.migration_get_state`.
    MigGetState,
    /// `struct vfio_migration_ops.migration_get_data_size` (6.2+).
    MigGetDataSize,
    /// `struct vfio_log_ops.log_start`.
    LogStart,
    /// `struct vfio_log_ops.log_stop`.
    LogStop,
    /// `struct vfio_log_ops.log_read_and_clear`.
    LogReadAndClear,
    /// `struct device.kobj.name`.
    DevKobjName,
    /// `struct device.driver`.
    DevDriver,
    /// `struct device_driver.name`.
    DriverName,
    /// `struct file.private_data`.
    FilePrivateData,
    /// `struct file.f_op`.
    FileOp,
    /// `struct file.f_pos`.
    FilePos,
    /// `struct file_operations.read`.
    FopRead,
    /// `struct file_operations.write`.
    FopWrite,
    /// `struct file_operations.unlocked_ioctl`.
    FopIoctl,
    /// `struct file_operations.release`.
    FopRelease,
    /// `struct vfio_device.device` (the embedded class device, `/sys/class/vfio-dev/vfioN`).
    DeviceDevice,
    /// `struct device.kobj`.
    DevKobj,
    /// `struct file.f_inode`.
    FileInode,
    /// `struct inode.i_private`; of an inode in sysfs, its `struct kernfs_node`.
    InodePrivate,
    /// `struct kernfs_node.priv`; of a folder in sysfs, its `struct kobject`.
    KernfsPriv,
    /// `struct task_struct.tgid`.
    TaskTgid,
    /// `struct task_struct.pid`.
    TaskPid,
    /// `struct task_struct.comm`.
    TaskComm,
    /// `struct vfio_device.ops`.
    DeviceOps,
    /// `struct vfio_device_ops.open_device`.
    OpsOpenDevice,
    /// `struct pci_dev.dev`.
    PciDevDev,
}

impl Field {
    /// All fields with the path that BTF must be asked for: struct name, then members from the outside in.
    pub const ALL: [(Self, &'static str, &'static [&'static str]); FIELDS] = [
        (Self::DeviceDev, "vfio_device", &["dev"]),
        (Self::DeviceMigOps, "vfio_device", &["mig_ops"]),
        (Self::DeviceLogOps, "vfio_device", &["log_ops"]),
        (Self::DeviceMigrationFlags, "vfio_device", &["migration_flags"]),
        (Self::DeviceOpenCount, "vfio_device", &["open_count"]),
        (Self::DeviceFileDevice, "vfio_device_file", &["device"]),
        (Self::MigSetState, "vfio_migration_ops", &["migration_set_state"]),
        (Self::MigGetState, "vfio_migration_ops", &["migration_get_state"]),
        (Self::MigGetDataSize, "vfio_migration_ops", &["migration_get_data_size"]),
        (Self::LogStart, "vfio_log_ops", &["log_start"]),
        (Self::LogStop, "vfio_log_ops", &["log_stop"]),
        (Self::LogReadAndClear, "vfio_log_ops", &["log_read_and_clear"]),
        (Self::DevKobjName, "device", &["kobj", "name"]),
        (Self::DevDriver, "device", &["driver"]),
        (Self::DriverName, "device_driver", &["name"]),
        (Self::FilePrivateData, "file", &["private_data"]),
        (Self::FileOp, "file", &["f_op"]),
        (Self::FilePos, "file", &["f_pos"]),
        (Self::FopRead, "file_operations", &["read"]),
        (Self::FopWrite, "file_operations", &["write"]),
        (Self::FopIoctl, "file_operations", &["unlocked_ioctl"]),
        (Self::FopRelease, "file_operations", &["release"]),
        (Self::DeviceDevice, "vfio_device", &["device"]),
        (Self::DevKobj, "device", &["kobj"]),
        (Self::FileInode, "file", &["f_inode"]),
        (Self::InodePrivate, "inode", &["i_private"]),
        (Self::KernfsPriv, "kernfs_node", &["priv"]),
        (Self::TaskTgid, "task_struct", &["tgid"]),
        (Self::TaskPid, "task_struct", &["pid"]),
        (Self::TaskComm, "task_struct", &["comm"]),
        (Self::DeviceOps, "vfio_device", &["ops"]),
        (Self::OpsOpenDevice, "vfio_device_ops", &["open_device"]),
        (Self::PciDevDev, "pci_dev", &["dev"]),
    ];
}

/// Number of [`Field`]s.
pub const FIELDS: usize = 33;

/// The table of offsets, in the `LAYOUT` map. User space fills it from BTF (`resolve_layout()`), and replaces it when a
/// module with new types is loaded; every eBPF program that reads a member uses it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Bit `n` is set if `offset[n]` is known.
    pub known: u64,
    /// Byte offsets, by [`Field`].
    pub offset: [u32; FIELDS],
    /// Zero.
    pub reserved: u32,
}

const _: () = assert!(size_of::<Layout>() == 8 + 4 * (FIELDS + 1));
const _: () = assert!(FIELDS <= 64);

/// Greatest number of data files that a driver's private structure can point to: one to save, one to resume, and room.
pub const DRIVER_FILES: usize = 4;

/// Offsets from a `struct vfio_device` to its driver's state and data files, in the `DRIVERS` map by the address of its
/// `migration_set_state`. User space writes an entry when the driver is loaded and removes it when the driver is gone.
///
/// Found in the driver's BTF: the structure that embeds the device has one member of type
/// `enum vfio_device_mig_state`, and pointers to structures that hold a data fd's `struct file *`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DriverLayout {
    /// Bytes from the device to the current state.
    pub state: i64,
    /// 1 if `state` is known.
    pub state_known: u32,
    /// Number of `files` that are known.
    pub files_known: u32,
    /// Places of pointers to data files.
    pub files: [DriverFile; DRIVER_FILES],
}

/// One pointer of a driver's private structure.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DriverFile {
    /// Bytes from the device to a pointer to the driver's migration file.
    pub pointer: i64,
    /// Bytes from the migration file's start to its `struct file *`.
    pub file: u64,
}

const _: () = assert!(size_of::<DriverLayout>() == 16 + 16 * DRIVER_FILES);

/// Parameters of one run of the inventory, in the `SEARCH` map. User space sets them before each run.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Search {
    /// Address of `vfio_device_fops_unl_ioctl()`: a file with this ioctl is a device fd. 0 if it is not known.
    pub device_ioctl: u64,
    /// Index of the capture that is made of every device.
    pub capture: u32,
    /// Zero.
    pub reserved: u32,
}

const _: () = assert!(size_of::<Search>() == 16);

impl Layout {
    /// A table that knows nothing.
    pub const EMPTY: Self = Self { known: 0, offset: [0; FIELDS], reserved: 0 };

    /// Records where a member is.
    pub const fn set(&mut self, field: Field, offset: u32) {
        self.known |= 1 << field as u32;
        self.offset[field as usize] = offset;
    }

    /// Returns the member's byte offset, if this kernel's BTF has it.
    #[inline(always)]
    pub const fn get(&self, field: Field) -> Option<u32> {
        if self.known & (1 << field as u32) == 0 { None } else { Some(self.offset[field as usize]) }
    }
}
