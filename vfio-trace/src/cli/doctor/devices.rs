//! Each VFIO device: whether it can migrate, or why QEMU will refuse.
//!
//! What QEMU does is `vfio_migration_realize()` in hw/vfio/migration.c and `vfio_multiple_devices_migration_is_supported()`,
//! as read in 8.2 to 11.0; other programs may be less strict.

use std::collections::BTreeMap;

use vfio_trace_common::uapi::migration_flags::{P2P, STOP_COPY};

use super::variants::variant_for;
use crate::{
    event::MigFlags,
    kernel::{DeviceBus, KernelFacts, KernelFiles, VfioDevice},
    output::{Check, CheckSection, CheckStatus},
};

/// What the kernel has in memory about a device; `None` where that could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct MemoryFacts {
    /// Whether it has `mig_ops`.
    pub(super) migration: Option<bool>,
    /// Whether it has `log_ops`.
    pub(super) dirty_tracking: Option<bool>,
    /// `migration_flags`.
    pub(super) flags: Option<MigFlags>,
    /// Processes that have it open.
    pub(super) holders: Vec<u32>,
}

impl MemoryFacts {
    /// What debugfs shows (6.8 and later, CONFIG_VFIO_DEBUGFS, root only): a folder `migration` where there are
    /// `mig_ops` (`vfio_device_debugfs_init()`). Its files are not read: `state` asks the driver.
    fn or_debugfs(mut self, files: &KernelFiles, device: &VfioDevice) -> Self {
        let folder = format!("/sys/kernel/debug/vfio/{}", device.name);
        if self.migration.is_none() && files.exists(&folder) {
            self.migration = Some(files.exists(&format!("{folder}/migration")));
        }
        self
    }
}

/// All devices with what is known of them; findings, and whether it is certain that none can migrate.
pub(super) fn devices(
    files: &KernelFiles,
    facts: &KernelFacts,
    all: Vec<(VfioDevice, MemoryFacts)>,
) -> (Vec<Check>, bool) {
    if all.is_empty() {
        let none = if VfioDevice::has_sysfs(files) {
            finding("device", "-", "no device is bound to a VFIO driver")
        } else {
            finding("device", "-", "not known: sysfs cannot be read").with_status(CheckStatus::Unknown)
        };
        return (vec![none], false);
    }
    let all: Vec<_> =
        all.into_iter().map(|(device, memory)| (memory.or_debugfs(files, &device), device)).collect();
    // How many devices with migration each process holds.
    let mut held: BTreeMap<u32, usize> = BTreeMap::new();
    for (memory, _) in all.iter().filter(|(memory, _)| memory.migration != Some(false)) {
        for pid in &memory.holders {
            *held.entry(*pid).or_default() += 1;
        }
    }
    let mut findings = Vec::new();
    let mut hopeless = true;
    for (memory, device) in &all {
        let first = migration(files, facts, device, memory);
        hopeless &= first.status == CheckStatus::Missing;
        let refused = first.status == CheckStatus::Missing;
        findings.push(first);
        if !refused {
            findings.extend(p2p(device, memory, &held));
            findings.extend(dirty_tracking(device, memory));
        }
    }
    (findings, hopeless)
}

fn finding(id: &'static str, subject: &str, what: impl Into<String>) -> Check {
    Check::ok(CheckSection::Devices, id, subject, what)
}

/// `mlx5_vfio_pci, group 31, vfio0`.
fn names(device: &VfioDevice) -> String {
    let driver = device.driver.clone().unwrap_or_else(|| "no driver".to_owned());
    let group = device.group.map(|group| format!("group {group}"));
    let vfio = device.vfio.as_ref().map(|vfio| format!("{vfio}{}", if device.cdev { " (cdev)" } else { "" }));
    [Some(driver), group, vfio].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn migration(files: &KernelFiles, facts: &KernelFacts, device: &VfioDevice, memory: &MemoryFacts) -> Check {
    let names = names(device);
    let finding = |what: &str| finding("device-migration", &device.name, format!("{names}: {what}"));
    let refused = |what: &str| {
        let costs = "QEMU refuses to migrate a VM that has it: \"VFIO migration is not supported in kernel\"";
        finding(what).with_status(CheckStatus::Missing).costs(costs)
    };
    match (memory.migration, memory.flags) {
        (Some(true), Some(flags)) if flags.0 & STOP_COPY == 0 => {
            refused(&format!("it announces migration ({flags}), but not STOP_COPY"))
        },
        (Some(true), Some(flags)) => finding(&format!("can migrate ({flags})")),
        (Some(true), None) => finding("can migrate"),
        (known, _) => match known_by_driver(facts, device) {
            DriverSupport::Plain => {
                refused("cannot migrate: plain vfio-pci never can").todo(instead(files, facts, device))
            },
            DriverSupport::NoMigration => refused("cannot migrate: its driver does not implement it"),
            DriverSupport::Migration if known == Some(false) => {
                refused("cannot migrate: its driver can, but did not announce it for this device")
                    .todo("see the driver's messages in dmesg; migration may need a newer firmware, or to be enabled for the function")
            },
            DriverSupport::Migration => finding("its driver implements migration; whether it announced it for this device is in the kernel's memory only")
                .with_status(CheckStatus::Unknown)
                .todo("run doctor as root"),
            DriverSupport::Unknown if known == Some(false) => refused("cannot migrate: its driver announced no migration"),
            DriverSupport::Unknown => finding("whether it can migrate is in the kernel's memory only")
                .with_status(CheckStatus::Unknown)
                .todo("run doctor as root"),
        },
    }
}

/// What a device's driver tells about migration without a look at the device.
enum DriverSupport {
    /// vfio-pci itself.
    Plain,
    /// It has a function of the type of `migration_set_state`.
    Migration,
    /// It has none.
    NoMigration,
    /// It is built in, or has no BTF.
    Unknown,
}

fn known_by_driver(facts: &KernelFacts, device: &VfioDevice) -> DriverSupport {
    if device.driver.as_deref() == Some("vfio-pci") {
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

/// What to bind instead of vfio-pci.
fn instead(files: &KernelFiles, facts: &KernelFacts, device: &VfioDevice) -> String {
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
    let there = match variant.is_installed(files, facts.release.as_deref()) {
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
    let finding = |what: String| finding("device-p2p", &device.name, what);
    let todo = "give such a VM one device with migration only, or devices that all have P2P";
    Some(match crowded {
        Some((pid, count)) => finding(format!(
            "no P2P ({flags}), and process {pid} holds {count} devices that may migrate"
        ))
        .with_status(CheckStatus::Missing)
        .costs(
            "QEMU refuses: \"Multiple VFIO devices migration is supported only if all of them support P2P \
                     migration\"",
        )
        .todo(todo),
        None => finding(format!("no P2P ({flags})"))
            .with_status(CheckStatus::Degraded)
            .costs("QEMU migrates a VM with several devices only if all of them have P2P")
            .todo(todo),
    })
}

fn dirty_tracking(device: &VfioDevice, memory: &MemoryFacts) -> Option<Check> {
    let finding = |what: &str| finding("device-dirty-tracking", &device.name, what);
    match (memory.migration, memory.dirty_tracking) {
        (Some(true), Some(true)) => Some(finding("tracks dirty pages itself")),
        (Some(true), Some(false)) => Some(
            finding("does not track dirty pages itself")
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
    use crate::kernel::{inventory, source::testing::TestRoot};

    fn memory(migration: bool, flags: u64, dirty: bool, holders: &[u32]) -> MemoryFacts {
        MemoryFacts {
            migration: Some(migration),
            dirty_tracking: Some(dirty),
            flags: Some(MigFlags(flags)),
            holders: holders.to_vec(),
        }
    }

    fn judge(memories: [MemoryFacts; 3]) -> (Vec<Check>, bool) {
        let root = inventory::tests::machine();
        let files = root.files();
        let facts = KernelFacts::read(&files);
        devices(&files, &facts, VfioDevice::all(&files).into_iter().zip(memories).collect())
    }

    fn lines(findings: &[Check]) -> Vec<(&str, &str, CheckStatus)> {
        findings.iter().map(|one| (one.id, &one.subject[..4], one.status)).collect()
    }

    #[test]
    fn memory_decides() {
        let (findings, hopeless) = judge([
            memory(true, 7, true, &[40]),
            memory(true, 5, false, &[40]),
            memory(false, 0, false, &[40]),
        ]);
        assert!(!hopeless);
        assert_eq!(
            lines(&findings),
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
            findings[0].what,
            "mlx5_vfio_pci, group 31, vfio0 (cdev): can migrate (STOP_COPY|P2P|PRE_COPY)"
        );
        assert!(findings[3].what.contains("process 40 holds 2 devices"), "{}", findings[3].what);
        assert!(findings[5].costs.as_ref().unwrap().contains("VFIO migration is not supported in kernel"));
    }

    #[test]
    fn without_memory_only_what_is_certain_is_said() {
        let (findings, hopeless) =
            judge([MemoryFacts::default(), MemoryFacts::default(), MemoryFacts::default()]);
        assert!(!hopeless);
        assert_eq!(
            lines(&findings),
            [
                ("device-migration", "0000", CheckStatus::Unknown),
                ("device-migration", "83b8", CheckStatus::Unknown),
                ("device-migration", "0000", CheckStatus::Missing),
            ]
        );
        assert!(findings[2].what.contains("plain vfio-pci"), "{}", findings[2].what);
    }

    #[test]
    fn none_that_can_is_told() {
        let (findings, hopeless) =
            judge([memory(false, 0, false, &[]), memory(true, 2, false, &[]), MemoryFacts::default()]);
        assert!(hopeless, "{findings:?}");
        let root = inventory::tests::machine();
        let files = root.files();
        assert!(!devices(&files, &KernelFacts::read(&files), Vec::new()).1, "no device is no failure");
        let said = |root: &TestRoot| {
            devices(&root.files(), &KernelFacts::read(&root.files()), Vec::new()).0.remove(0).what
        };
        let empty = TestRoot::new();
        assert!(said(&empty).starts_with("not known"), "without sysfs");
        empty.write("sys/bus/x", "");
        assert_eq!(said(&empty), "no device is bound to a VFIO driver");
    }

    #[test]
    fn a_virtual_function_on_vfio_pci_is_told_its_driver() {
        let root = inventory::tests::machine();
        let files = root.files();
        let facts = KernelFacts::read(&files);
        let mut vf = VfioDevice::all(&files).remove(0);
        vf.driver = Some("vfio-pci".to_owned());
        let (findings, _) = devices(&files, &facts, vec![(vf, MemoryFacts::default())]);
        let todo = findings[0].todo.as_ref().unwrap();
        assert!(
            todo.contains("CONFIG_MLX5_VFIO_PCI") && todo.contains("0000:3b:00.2 >driver/unbind"),
            "{todo}"
        );
    }

    #[test]
    fn debugfs_tells_by_its_folders() {
        let root = inventory::tests::machine();
        root.write("sys/kernel/debug/vfio/0000:3b:00.2/migration/state", "");
        let files = root.files();
        let device = VfioDevice::all(&files).remove(0);
        assert_eq!(MemoryFacts::default().or_debugfs(&files, &device).migration, Some(true));
        std::fs::remove_dir_all(root.path().join("sys/kernel/debug/vfio/0000:3b:00.2/migration")).unwrap();
        assert_eq!(MemoryFacts::default().or_debugfs(&files, &device).migration, Some(false));
        std::fs::remove_dir_all(root.path().join("sys/kernel/debug/vfio/0000:3b:00.2")).unwrap();
        assert_eq!(MemoryFacts::default().or_debugfs(&files, &device).migration, None);
    }
}
