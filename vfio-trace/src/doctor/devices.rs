//! Checks of each VFIO device: it can migrate, or why QEMU will refuse.
//!
//! QEMU's rules are those of `vfio_migration_realize()` in hw/vfio/migration.c and of
//! `vfio_multiple_devices_migration_is_supported()`, as read in 8.2 to 11.0; other programs may be less strict.

use std::collections::BTreeMap;

use vfio_trace_common::uapi::migration_flags::{P2P, STOP_COPY};

use super::{
    Check, CheckSection, CheckStatus, DeviceFindings, DoctorFacts, MemoryFacts, variants::variant_for,
};
use crate::kernel::{DeviceBus, KernelFacts, VfioDevice};

/// Id of the check that says of each device if it can migrate: the verdict depends on it.
pub(super) const MIGRATION: &str = "device-migration";

/// Makes the checks of all devices.
pub(super) fn devices(facts: &DoctorFacts) -> Vec<Check> {
    if facts.devices.is_empty() {
        return vec![if facts.sysfs_readable {
            check("device", "-", "no device is bound to a VFIO driver")
        } else {
            check("device", "-", "not known: sysfs cannot be read").with_status(CheckStatus::Unknown)
        }];
    }
    // Number of devices with migration that each process has open.
    let mut held: BTreeMap<u32, usize> = BTreeMap::new();
    for found in facts.devices.iter().filter(|found| found.memory.migration != Some(false)) {
        for pid in &found.memory.holders {
            *held.entry(*pid).or_default() += 1;
        }
    }
    let mut checks = Vec::new();
    for found in &facts.devices {
        let first = migration(&facts.kernel, found);
        let refused = first.status == CheckStatus::Missing;
        checks.push(first);
        if !refused {
            checks.extend(p2p(&found.device, &found.memory, &held));
            checks.extend(dirty_tracking(&found.device, &found.memory));
        }
    }
    checks
}

fn check(id: &'static str, subject: &str, what: impl Into<String>) -> Check {
    Check::ok(CheckSection::Devices, id, subject, what)
}

/// Returns the device's driver and numbers, as in `mlx5_vfio_pci, group 31, vfio0`.
fn names(device: &VfioDevice) -> String {
    let driver = device.driver.clone().unwrap_or_else(|| "no driver".to_owned());
    let group = device.group.map(|group| format!("group {group}"));
    let vfio = device.vfio.as_ref().map(|vfio| format!("{vfio}{}", if device.cdev { " (cdev)" } else { "" }));
    [Some(driver), group, vfio].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn migration(kernel: &KernelFacts, found: &DeviceFindings) -> Check {
    let DeviceFindings { device, memory, .. } = found;
    let names = names(device);
    let check = |what: &str| check(MIGRATION, &device.name, format!("{names}: {what}"));
    let refused = |what: &str| {
        let costs = "QEMU refuses to migrate a VM that has it: \"VFIO migration is not supported in kernel\"";
        check(what).with_status(CheckStatus::Missing).costs(costs)
    };
    match (memory.migration, memory.flags) {
        (Some(true), Some(flags)) if flags.0 & STOP_COPY == 0 => {
            refused(&format!("it announces migration ({flags}), but not STOP_COPY"))
        },
        (Some(true), Some(flags)) => check(&format!("can migrate ({flags})")),
        (Some(true), None) => check("can migrate"),
        (known, _) => match known_by_driver(kernel, device) {
            DriverSupport::Plain => {
                refused("cannot migrate: plain vfio-pci never can").todo(instead(found))
            },
            DriverSupport::NoMigration => refused("cannot migrate: its driver does not implement it"),
            DriverSupport::Migration if known == Some(false) => {
                refused("cannot migrate: its driver can, but did not announce it for this device")
                    .todo("see the driver's messages in dmesg; migration may need a newer firmware, or to be enabled for the function")
            },
            DriverSupport::Migration => check("its driver implements migration; whether it announced it for this device is in the kernel's memory only")
                .with_status(CheckStatus::Unknown)
                .todo("run doctor as root"),
            DriverSupport::Unknown if known == Some(false) => refused("cannot migrate: its driver announced no migration"),
            DriverSupport::Unknown => check("whether it can migrate is in the kernel's memory only")
                .with_status(CheckStatus::Unknown)
                .todo("run doctor as root"),
        },
    }
}

/// Support for migration by a device's driver, as far as it is known without a look at the device.
enum DriverSupport {
    /// The driver is vfio-pci itself.
    Plain,
    /// The driver has a function of the type of `migration_set_state`.
    Migration,
    /// The driver has BTF, and no such function.
    NoMigration,
    /// Not known: the driver is built in, or has no BTF.
    Unknown,
}

fn known_by_driver(facts: &KernelFacts, device: &VfioDevice) -> DriverSupport {
    if device.is_on_plain_driver() {
        return DriverSupport::Plain;
    }
    let Some(module) = &device.module else { return DriverSupport::Unknown };
    if facts.drivers.iter().any(|driver| driver.module.as_ref() == Some(module)) {
        return DriverSupport::Migration;
    }
    match facts.btf.as_ref().ok().and_then(|btf| btf.module(module)) {
        Some(_) => DriverSupport::NoMigration,
        None => DriverSupport::Unknown,
    }
}

/// Returns the advice which driver to bind instead of vfio-pci.
fn instead(found: &DeviceFindings) -> String {
    let device = &found.device;
    let Some(variant) = variant_for(device) else {
        return match (device.bus, device.is_vf) {
            (DeviceBus::Pci, false) => {
                "none known for it; Linux' drivers with migration are for SR-IOV virtual functions".to_owned()
            },
            _ => {
                "none: Linux has no driver with migration for it that is known here (its vendor may have one)"
                    .to_owned()
            },
        };
    };
    let (driver, name) = (variant.driver, &device.name);
    let there = match found.variant_installed {
        Some(false) => format!(
            "it needs {driver} ({}, with migration since Linux {}), which this kernel was built without; with it: ",
            variant.config, variant.since
        ),
        _ => format!(
            "bind it to {driver} ({}, with migration since Linux {}): ",
            variant.config, variant.since
        ),
    };
    format!(
        "{there}modprobe {driver}; cd /sys/bus/pci/devices/{name}; echo {driver} >driver_override; \
         echo {name} >driver/unbind; echo {name} >/sys/bus/pci/drivers_probe"
    )
}

fn p2p(device: &VfioDevice, memory: &MemoryFacts, held: &BTreeMap<u32, usize>) -> Option<Check> {
    let flags = memory.flags.filter(|flags| memory.migration == Some(true) && flags.0 & P2P == 0)?;
    let crowded =
        memory.holders.iter().find_map(|pid| Some((pid, held.get(pid).filter(|count| **count > 1)?)));
    let check = |what: String| check("device-p2p", &device.name, what);
    let todo = "give such a VM one device with migration only, or devices that all have P2P";
    Some(match crowded {
        Some((pid, count)) => check(format!(
            "no P2P ({flags}), and process {pid} holds {count} devices that may migrate"
        ))
        .with_status(CheckStatus::Missing)
        .costs(
            "QEMU refuses: \"Multiple VFIO devices migration is supported only if all of them support P2P \
                     migration\"",
        )
        .todo(todo),
        None => check(format!("no P2P ({flags})"))
            .with_status(CheckStatus::Degraded)
            .costs("QEMU migrates a VM with several devices only if all of them have P2P")
            .todo(todo),
    })
}

fn dirty_tracking(device: &VfioDevice, memory: &MemoryFacts) -> Option<Check> {
    let check = |what: &str| check("device-dirty-tracking", &device.name, what);
    match (memory.migration, memory.dirty_tracking) {
        (Some(true), Some(true)) => Some(check("tracks dirty pages itself")),
        (Some(true), Some(false)) => Some(
            check("does not track dirty pages itself")
                .with_status(CheckStatus::Degraded)
                .costs(
                    "unless the IOMMU does (QEMU 9.1 and later with iommufd, on an IOMMU that can), QEMU refuses by \
                     default; with enable-migration=on it migrates, and takes all memory that the device can reach \
                     for dirty",
                )
                .todo(if device.cdev {
                    "use iommufd in the VM's configuration, on a host whose IOMMU tracks dirty pages"
                } else {
                    "none on this kernel: iommufd needs CONFIG_VFIO_DEVICE_CDEV, and the device has no cdev"
                }),
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        doctor::{CheckVerdict, examine, tests::facts_of, tests::works},
        event::MigFlags,
        kernel::{inventory, source::testing::TestRoot},
    };

    fn memory(migration: bool, flags: u64, dirty: bool, holders: &[u32]) -> MemoryFacts {
        MemoryFacts {
            migration: Some(migration),
            dirty_tracking: Some(dirty),
            flags: Some(MigFlags(flags)),
            holders: holders.to_vec(),
        }
    }

    /// Makes facts of three devices, with these facts from memory.
    fn made_up(memories: [MemoryFacts; 3]) -> DoctorFacts {
        let mut facts = facts_of(&inventory::tests::machine(), works());
        facts.devices.iter_mut().zip(memories).for_each(|(found, memory)| found.memory = memory);
        facts
    }

    fn lines(checks: &[Check]) -> Vec<(&str, &str, CheckStatus)> {
        checks.iter().map(|one| (one.id, &one.subject[..4], one.status)).collect()
    }

    /// Returns true if it is certain that no device can migrate.
    fn is_hopeless(facts: &DoctorFacts) -> bool {
        let mut report = examine(facts);
        // Leaves only the checks of devices, as on a host on which all else is right.
        report.findings.retain(|check| check.section == CheckSection::Devices);
        crate::doctor::verdict(&report.findings) == CheckVerdict::NoDeviceMigrates
    }

    #[test]
    fn memory_decides() {
        let facts = made_up([
            memory(true, 7, true, &[40]),
            memory(true, 5, false, &[40]),
            memory(false, 0, false, &[40]),
        ]);
        assert!(!is_hopeless(&facts));
        let checks = devices(&facts);
        assert_eq!(
            lines(&checks),
            [
                ("device-migration", "0000", CheckStatus::Ok),
                ("device-dirty-tracking", "0000", CheckStatus::Ok),
                ("device-migration", "83b8", CheckStatus::Ok),
                ("device-p2p", "83b8", CheckStatus::Missing),
                ("device-dirty-tracking", "83b8", CheckStatus::Degraded),
                ("device-migration", "0000", CheckStatus::Missing),
            ]
        );
        assert_eq!(
            checks[0].what,
            "mlx5_vfio_pci, group 31, vfio0 (cdev): can migrate (STOP_COPY|P2P|PRE_COPY)"
        );
        assert!(checks[3].what.contains("process 40 holds 2 devices"), "{}", checks[3].what);
        assert!(checks[5].costs.as_ref().unwrap().contains("VFIO migration is not supported in kernel"));
    }

    #[test]
    fn without_memory_only_what_is_certain_is_said() {
        let facts = made_up([MemoryFacts::default(), MemoryFacts::default(), MemoryFacts::default()]);
        assert!(!is_hopeless(&facts));
        let checks = devices(&facts);
        assert_eq!(
            lines(&checks),
            [
                ("device-migration", "0000", CheckStatus::Unknown),
                ("device-migration", "83b8", CheckStatus::Unknown),
                ("device-migration", "0000", CheckStatus::Missing),
            ]
        );
        assert!(checks[2].what.contains("plain vfio-pci"), "{}", checks[2].what);
    }

    #[test]
    fn none_that_can_is_told() {
        let mut facts =
            made_up([memory(false, 0, false, &[]), memory(true, 2, false, &[]), MemoryFacts::default()]);
        assert!(is_hopeless(&facts), "{:?}", devices(&facts));
        facts.devices.clear();
        assert!(!is_hopeless(&facts), "no device is no failure");
        let said = |root: &TestRoot| devices(&facts_of(root, works())).remove(0).what;
        let empty = TestRoot::new();
        assert!(said(&empty).starts_with("not known"), "without sysfs");
        empty.write("sys/bus/x", "");
        assert_eq!(said(&empty), "no device is bound to a VFIO driver");
    }

    #[test]
    fn a_virtual_function_on_vfio_pci_is_told_its_driver() {
        let mut facts = made_up([MemoryFacts::default(), MemoryFacts::default(), MemoryFacts::default()]);
        facts.devices[0].device.driver = Some("vfio-pci".to_owned());
        let todo = |facts: &DoctorFacts| devices(facts).remove(0).todo.unwrap();
        let told = todo(&facts);
        assert!(
            told.contains("CONFIG_MLX5_VFIO_PCI") && told.contains("0000:3b:00.2 >driver/unbind"),
            "{told}"
        );
        assert!(told.starts_with("bind it to mlx5_vfio_pci"), "{told}");
        facts.devices[0].variant_installed = Some(false);
        assert!(todo(&facts).starts_with("it needs mlx5_vfio_pci"), "{}", todo(&facts));
    }
}
