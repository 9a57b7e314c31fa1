//! Texts that say what is lost without each struct member and each kind of BTF. `doctor` prints them, and
//! docs/doctor.md has them as a table. The texts for probes are with their roles.

use vfio_trace_common::layout::Field;

/// Returns the text for a struct member whose offset is not known.
pub(super) const fn of_field(field: Field) -> &'static str {
    match field {
        Field::PciDevDev => "no `pci_reset` events",
        Field::DeviceDev => {
            "names and drivers of devices (`?`); before 6.6 also the device of ioctls, opens and closes"
        },
        Field::DeviceMigOps => {
            "whether a device can migrate, its state in `list`, and the way to a driver's functions through pointers"
        },
        Field::DeviceLogOps => "whether a device tracks dirty pages",
        Field::DeviceMigrationFlags => "`migration_flags` of devices",
        Field::DeviceOpenCount => "`open_count`",
        Field::DeviceFileDevice => "from 6.6 on the device of ioctls, opens and closes; before, nothing",
        Field::MigSetState => {
            "a driver without BTF is not found through its pointers; states in `list` are not known"
        },
        Field::MigGetState | Field::MigGetDataSize => "that function of a driver without BTF is not probed",
        Field::LogStart | Field::LogStop | Field::LogReadAndClear => {
            "nothing yet: dirty tracking is traced at the ioctl"
        },
        Field::DevKobjName => "names of devices (`?`)",
        Field::DevDriver | Field::DriverName => "names of drivers (`?`)",
        Field::FilePrivateData => {
            "the device of ioctls, and in some kernels of opens and closes; who holds a device"
        },
        Field::FileOp => {
            "a data fd's functions of a driver without BTF are not found through pointers; who holds a device"
        },
        Field::FilePos => "`offset_bytes`, `missed_bytes` and `position_bytes`",
        Field::FopRead | Field::FopWrite | Field::FopRelease => {
            "that function of a data fd is not probed for a driver without BTF"
        },
        Field::FopIoctl => {
            "that function of a data fd is not probed for a driver without BTF; who holds a device"
        },
        Field::DeviceDevice | Field::DevKobj | Field::FileInode | Field::InodePrivate | Field::KernfsPriv => {
            "`list` and `show` know what sysfs says and nothing of the kernel's memory (migration, flags, state)"
        },
        Field::TaskTgid => {
            "`list` and `show` know what sysfs says and nothing of the kernel's memory, holders included"
        },
        Field::TaskPid => "who holds a device",
        Field::DeviceOps | Field::OpsOpenDevice => {
            "`open` events where the core's own function is inlined (as in Linux 6.1)"
        },
        Field::TaskComm => "the name of the process that holds a device",
    }
}

/// Text for a kernel without any BTF: argument-only mode.
pub(super) const NO_BTF: &str = "argument-only mode: what is left are arcs with their states, times and errors, and the \
    results of migration ioctls. Structures cannot be read: no names of devices and drivers, no flags, ioctls without a \
    device, no offsets. Drivers' functions cannot be recognised by type: no set_state, read, write, precopy_info and \
    data_close. open and close are not probed, because their arguments differ between kernels";

/// Text for a kernel without vfio's own BTF.
pub(super) const NO_VFIO_BTF: &str = "functions of the vfio core are probed only where their type never changed (arcs and \
    ioctls; not open, close, register); ioctls have no device. Structures are known if a driver's BTF repeats them";

/// Text for a module that uses vfio and has no BTF.
pub(super) const NO_MODULE_BTF: &str = "if it is a migration driver, its functions are not recognised by type but followed \
    through pointers from its first call on: the first set_state, its data_size and the session before are missed, and \
    its state is not known before its first arc";

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use vfio_trace_common::role::Role;

    use super::*;

    const DOC: &str = include_str!("../../../docs/doctor.md");

    /// Returns the table as docs/doctor.md has it.
    fn table() -> String {
        let mut text = String::from("| without | is lost |\n|---|---|\n");
        for (what, loss) in [
            ("BTF of the kernel", NO_BTF),
            ("BTF of vfio", NO_VFIO_BTF),
            ("BTF of a module that uses vfio", NO_MODULE_BTF),
        ] {
            writeln!(text, "| {what} | {loss} |").unwrap();
        }
        for role in Role::ALL {
            writeln!(text, "| probe `{}` | {} |", role.name(), role.loss()).unwrap();
        }
        for (field, name, path) in Field::ALL {
            writeln!(text, "| field `{name}.{}` | {} |", path.join("."), of_field(field)).unwrap();
        }
        text
    }

    #[test]
    fn the_table_in_the_manual_is_what_doctor_says() {
        assert!(DOC.contains(&table()), "docs/doctor.md should have this table:\n{}", table());
    }
}
