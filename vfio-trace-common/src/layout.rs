//! Where this kernel keeps the struct members that the eBPF programs read.
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
    ];
}

/// Number of [`Field`]s.
pub const FIELDS: usize = 22;

/// The table itself, in the `LAYOUT` map.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Bit `n` set: `offset[n]` is known.
    pub known: u64,
    /// Byte offsets, by [`Field`].
    pub offset: [u32; FIELDS],
}

const _: () = assert!(size_of::<Layout>() == 8 + 4 * FIELDS);
const _: () = assert!(FIELDS <= 64);

impl Layout {
    /// A table that knows nothing.
    pub const EMPTY: Self = Self { known: 0, offset: [0; FIELDS] };

    /// Records where a member is.
    pub const fn set(&mut self, field: Field, offset: u32) {
        self.known |= 1 << field as u32;
        self.offset[field as usize] = offset;
    }

    /// The member's byte offset, if this kernel's BTF has it.
    #[inline(always)]
    pub const fn get(&self, field: Field) -> Option<u32> {
        if self.known & (1 << field as u32) == 0 { None } else { Some(self.offset[field as usize]) }
    }
}
