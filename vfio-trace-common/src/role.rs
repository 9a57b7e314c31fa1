//! Roles of probed functions. One eBPF program serves all functions of a role.

/// Declares all roles. `name`: as users see it. `check`: the name of `doctor`'s check. `enter`, `exit`: the eBPF
/// programs at entry and, if there is one, at return. `urgency`: see [`Role::urgency`]. `loss`: see [`Role::loss`].
macro_rules! roles {
    ($($(#[$doc:meta])* $role:ident = $number:literal {
        name: $name:literal,
        check: $check:literal,
        enter: $enter:literal,
        exit: $exit:expr,
        urgency: $urgency:literal,
        loss: $loss:literal,
    })*) => {
        /// Role of a probed kernel function in a migration. `kernel` finds the functions of each role, `probe` attaches
        /// the role's programs to them; records, reports and `doctor` name it. Numbers are part of the recording
        /// format.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Role { $($(#[$doc])* $role = $number,)* }

        impl Role {
            /// Every role.
            pub const ALL: [Self; [$($number),*].len()] = [$(Self::$role),*];

            /// Returns the role with this number, `None` for one that this version does not know.
            pub const fn from_raw(raw: u32) -> Option<Self> {
                match raw {
                    $($number => Some(Self::$role),)*
                    _ => None,
                }
            }

            /// Returns its short name, as users see it in the summary.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$role => $name,)* }
            }

            /// Returns the stable name of `doctor`'s check for it.
            pub const fn check_id(self) -> &'static str {
                match self { $(Self::$role => $check,)* }
            }

            /// Returns the names of its eBPF programs: at entry, and at return if it has one.
            pub const fn programs(self) -> (&'static str, Option<&'static str>) {
                match self { $(Self::$role => ($enter, $exit),)* }
            }

            /// Returns the order in which late probes are attached, 0 before 1: functions that begin a session, then
            /// those that move its data; steps come last.
            pub const fn urgency(self) -> u8 {
                match self { $(Self::$role => $urgency,)* }
            }

            /// Returns the loss if no function of the role can be probed. `doctor` prints it, and docs/doctor.md has it
            /// as a table.
            pub const fn loss(self) -> &'static str {
                match self { $(Self::$role => $loss,)* }
            }
        }
    };
}

roles! {
    /// `vfio_mig_get_next_state()`.
    NextState = 0 {
        name: "next_state",
        check: "probe-next-state",
        enter: "next_state_enter",
        exit: Some("next_state_exit"),
        urgency: 2,
        loss: "no `arc` events: which arcs a request went through, how long each took, and which one failed or was \
               refused",
    }
    /// A driver's `vfio_migration_ops.migration_set_state`.
    SetState = 1 {
        name: "set_state",
        check: "probe-set-state",
        enter: "set_state_enter",
        exit: Some("set_state_exit"),
        urgency: 0,
        loss: "`set_state` events are those of the ioctl alone, without `driver_call`; data sessions have no \
               beginning, so that reads and writes have no device and their session is `partial`; a driver without \
               BTF is not followed through its pointers",
    }
    /// A driver's `vfio_migration_ops.migration_get_state`.
    GetState = 2 {
        name: "get_state",
        check: "probe-get-state",
        enter: "get_state_enter",
        exit: Some("get_state_exit"),
        urgency: 4,
        loss: "`get_state` events are those of the ioctl alone, without `driver_call`; reads of debugfs' `state` are \
               not seen",
    }
    /// A driver's `vfio_migration_ops.migration_get_data_size`.
    DataSize = 3 {
        name: "data_size",
        check: "probe-data-size",
        enter: "data_size_enter",
        exit: Some("data_size_exit"),
        urgency: 4,
        loss: "`data_size` events are those of the ioctl alone, without `driver_call`",
    }
    /// `file_operations.read` of a driver's data fd.
    Read = 4 {
        name: "read",
        check: "probe-read",
        enter: "read_enter",
        exit: Some("read_exit"),
        urgency: 1,
        loss: "no `read` events: bytes, times and errors of saving; `data_close` counts no reads, and all bytes as \
               missed",
    }
    /// `file_operations.write` of a driver's data fd.
    Write = 5 {
        name: "write",
        check: "probe-write",
        enter: "write_enter",
        exit: Some("write_exit"),
        urgency: 1,
        loss: "no `write` events: bytes, times and errors of loading; `data_close` counts no writes, and all bytes as \
               missed",
    }
    /// `file_operations.unlocked_ioctl` of a driver's data fd.
    DataIoctl = 6 {
        name: "data_ioctl",
        check: "probe-data-ioctl",
        enter: "data_ioctl_enter",
        exit: Some("data_ioctl_exit"),
        urgency: 2,
        loss: "no `precopy_info` and `data_ioctl` events: how much is left to save in PRE_COPY",
    }
    /// `file_operations.release` of a driver's data fd.
    Release = 7 {
        name: "release",
        check: "probe-release",
        enter: "release_enter",
        exit: None,
        urgency: 3,
        loss: "no `data_close` events: when a data fd was closed, and the account of its session",
    }
    /// `vfio_device_fops_unl_ioctl()`.
    DeviceIoctl = 8 {
        name: "device_ioctl",
        check: "probe-device-ioctl",
        enter: "device_ioctl_enter",
        exit: Some("device_ioctl_exit"),
        urgency: 2,
        loss: "requests are seen at the driver only (`via` is `driver`): without the fd that user space got and the \
               errors that the core adds; no `feature` events (dirty tracking is among them) and no `reset` events",
    }
    /// `vfio_df_open()` (6.6+) or the function that opened a device before.
    Open = 9 {
        name: "open",
        check: "probe-open",
        enter: "open_enter",
        exit: Some("open_exit"),
        urgency: 3,
        loss: "`open` events begin once a device is known, through its driver's `open_device`, if that is found \
               through pointers (as in Linux 6.1)",
    }
    /// `vfio_df_close()` (6.6+) or the function that closed a device before.
    Close = 10 {
        name: "close",
        check: "probe-close",
        enter: "close_enter",
        exit: None,
        urgency: 3,
        loss: "no `close` events; that the last close ended a session is not seen, and the state after it is not \
               certain",
    }
    /// `vfio_register_group_dev()` and `vfio_register_emulated_iommu_dev()`.
    Register = 11 {
        name: "register",
        check: "probe-register",
        enter: "register_enter",
        exit: Some("register_exit"),
        urgency: 3,
        loss: "a device that is bound or made while tracing is shown from its first use on",
    }
    /// `vfio_unregister_group_dev()`.
    Unregister = 12 {
        name: "unregister",
        check: "probe-unregister",
        enter: "unregister_enter",
        exit: Some("unregister_exit"),
        urgency: 4,
        loss: "that a device was taken away is not seen",
    }
    /// The inventory: an iterator over open files, attached to no function.
    Inventory = 13 {
        name: "inventory",
        check: "probe-inventory",
        enter: "inventory",
        exit: None,
        urgency: 4,
        loss: "`list` and `show` know what sysfs says and nothing of the kernel's memory (migration, flags, state, \
               holders); `tail` learns of a device with its first call",
    }
    /// Functions of the PCI core that reset one function of a device.
    PciReset = 14 {
        name: "pci_reset",
        check: "probe-pci-reset",
        enter: "pci_reset_enter",
        exit: Some("pci_reset_exit"),
        urgency: 4,
        loss: "no `pci_reset` events: a Function Level Reset through sysfs is not seen, and what it does to the state \
               shows as a `desync`",
    }
    /// Functions that a driver plug-in asked for.
    Step = 15 {
        name: "step",
        check: "probe-step",
        enter: "step_enter",
        exit: Some("step_exit"),
        urgency: 5,
        loss: "this step of the driver: a failure is then told by what is around it",
    }
}

/// The attach cookie of a probe: its statistics slot, and the way to read its arguments.
pub mod cookie {
    /// Bits that hold the index of the probe in the statistics map.
    pub const PROBE_MASK: u64 = 0xffff;
    /// Bits for the argument that leads to the device: one of the following.
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
    /// The function returns a `struct file *` or an error in its place, not a number.
    pub const RETURNS_FILE: u64 = 1 << 19;
}
