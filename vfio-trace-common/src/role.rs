//! What a probed function is for. One eBPF program serves all functions of a role.

/// The part a probed kernel function plays in a migration.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// `vfio_mig_get_next_state()`.
    NextState = 0,
    /// A driver's `vfio_migration_ops.migration_set_state`.
    SetState = 1,
    /// A driver's `vfio_migration_ops.migration_get_state`.
    GetState = 2,
    /// A driver's `vfio_migration_ops.migration_get_data_size`.
    DataSize = 3,
    /// `file_operations.read` of a driver's data fd.
    Read = 4,
    /// `file_operations.write` of a driver's data fd.
    Write = 5,
    /// `file_operations.unlocked_ioctl` of a driver's data fd.
    DataIoctl = 6,
    /// `file_operations.release` of a driver's data fd.
    Release = 7,
    /// `vfio_device_fops_unl_ioctl()`.
    DeviceIoctl = 8,
    /// `vfio_df_open()` (6.6+) or what opened a device before.
    Open = 9,
    /// `vfio_df_close()` (6.6+) or what closed a device before.
    Close = 10,
    /// `vfio_register_group_dev()` and `vfio_register_emulated_iommu_dev()`.
    Register = 11,
    /// `vfio_unregister_group_dev()`.
    Unregister = 12,
    /// The inventory: an iterator over open files, attached to no function.
    Inventory = 13,
    /// Functions of the PCI core that reset one function of a device.
    PciReset = 14,
    /// Functions that a driver plug-in asked for.
    Step = 15,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 16] = [
        Self::NextState,
        Self::SetState,
        Self::GetState,
        Self::DataSize,
        Self::Read,
        Self::Write,
        Self::DataIoctl,
        Self::Release,
        Self::DeviceIoctl,
        Self::Open,
        Self::Close,
        Self::Register,
        Self::Unregister,
        Self::Inventory,
        Self::PciReset,
        Self::Step,
    ];

    /// Short name, as users see it in the summary.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NextState => "next_state",
            Self::SetState => "set_state",
            Self::GetState => "get_state",
            Self::DataSize => "data_size",
            Self::Read => "read",
            Self::Write => "write",
            Self::DataIoctl => "data_ioctl",
            Self::Release => "release",
            Self::DeviceIoctl => "device_ioctl",
            Self::Open => "open",
            Self::Close => "close",
            Self::Register => "register",
            Self::Unregister => "unregister",
            Self::Inventory => "inventory",
            Self::PciReset => "pci_reset",
            Self::Step => "step",
        }
    }
}

/// The attach cookie of a probe: which statistics slot it counts in, and how to read its arguments.
pub mod cookie {
    /// Bits that hold the index of the probe in the statistics map.
    pub const PROBE_MASK: u64 = 0xffff;
    /// Where a function's arguments lead to the device: one of the following.
    pub const TAKES_MASK: u64 = 3 << 16;
    /// The first argument is a `struct vfio_device_file *`.
    pub const TAKES_DEVICE_FILE: u64 = 0;
    /// The first argument is a `struct vfio_device *`.
    pub const TAKES_DEVICE: u64 = 1 << 16;
    /// The first argument is the `struct file *` of a device fd.
    pub const TAKES_FILE: u64 = 2 << 16;
    /// The second argument is the `struct file *` of a device fd.
    pub const TAKES_INODE_FILE: u64 = 3 << 16;
    /// The function makes a Function Level Reset.
    pub const IS_FLR: u64 = 1 << 18;
    /// The function returns a `struct file *` or an error in its place, and not a number.
    pub const RETURNS_FILE: u64 = 1 << 19;
}
