//! VFIO devices of this host, from sysfs: names, driver and group of each. No device is opened.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{modules::ModuleList, source::KernelFiles};

/// Folder in sysfs that since 6.1 has every device that a VFIO driver registered, as `vfioN` (`vfio_init_device()` in
/// drivers/vfio/vfio_main.c), whether it can migrate or not.
const CLASS: &str = "/sys/class/vfio-dev";

/// Names of drivers that may be built into the kernel, where no module tells that they use vfio.
const KNOWN_DRIVERS: [&str; 3] = ["vfio-pci", "vfio-platform", "vfio-ap"];

/// Bus of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeviceBus {
    /// A PCI device or virtual function.
    Pci,
    /// A mediated device, made through a driver's `mdev_supported_types`.
    Mdev,
    /// Any other bus: platform, AP, fsl-mc, cdx …
    Other,
}

impl DeviceBus {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Pci, Self::Mdev, Self::Other];

    /// Returns the bus whose devices have names like this: PCI addresses, and mdev's UUIDs.
    pub fn of_name(name: &str) -> Self {
        let marks: String = name.chars().filter(|c| matches!(c, '-' | ':' | '.')).collect();
        let parts: Vec<&str> = name.split(['-', ':', '.']).collect();
        let hex = parts.iter().all(|part| part.bytes().all(|c| c.is_ascii_hexdigit()));
        let lens: Vec<usize> = parts.iter().map(|part| part.len()).collect();
        match (marks.as_str(), lens.as_slice()) {
            ("::.", [domain, 2, 2, 1]) if hex && *domain >= 4 => Self::Pci,
            ("----", [8, 4, 4, 4, 12]) if hex => Self::Mdev,
            _ => Self::Other,
        }
    }

    /// Returns `pci`, `mdev` or `other`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pci => "pci",
            Self::Mdev => "mdev",
            Self::Other => "other",
        }
    }
}

/// A device that is bound to a VFIO driver, as sysfs shows it. [`VfioDevice::all`] makes them for each look; the
/// commands that list, check, exercise or show devices use them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VfioDevice {
    /// Name in /sys, by which users know it: PCI address or mdev UUID (`dev_name()` in the kernel).
    pub name: String,
    /// Name in `/sys/class/vfio-dev`, `vfioN`; `None` before 6.1.
    pub vfio: Option<String>,
    /// Number of its IOMMU group: `/dev/vfio/N`.
    pub group: Option<u32>,
    /// True if it has a character device of its own, `/dev/vfio/devices/vfioN` (6.6 and later,
    /// CONFIG_VFIO_DEVICE_CDEV).
    pub cdev: bool,
    /// Name of the driver on its bus.
    pub driver: Option<String>,
    /// Name of the driver's module; `None` if it is built in.
    pub module: Option<String>,
    /// Bus of the device.
    pub bus: DeviceBus,
    /// True if it is an SR-IOV virtual function.
    pub is_vf: bool,
    /// PCI vendor and device number.
    pub pci_id: Option<(u16, u16)>,
    /// PCI class: base class, subclass, programming interface.
    pub pci_class: Option<u32>,
    /// Path of its directory in /sys, with all links followed.
    pub sysfs: PathBuf,
}

impl VfioDevice {
    /// Returns true if the device is bound to vfio-pci itself, which cannot migrate anything.
    pub fn is_on_plain_driver(&self) -> bool {
        self.driver.as_deref() == Some("vfio-pci")
    }

    /// Lists all devices of this host, by number of `vfioN`; before 6.1 by name.
    pub fn all(files: &KernelFiles) -> Vec<Self> {
        if !files.exists(CLASS) {
            return without_class(files);
        }
        let mut found: Vec<_> = files
            .list(CLASS)
            .into_iter()
            .filter_map(|vfio| {
                let parent = format!("{CLASS}/{vfio}/device");
                // With CONFIG_VFIO_DEVICE_CDEV it has a device number, except in noiommu groups.
                let cdev = files.exists(&format!("{CLASS}/{vfio}/dev"));
                Some(Self { cdev, ..look(files, &parent, Some(vfio))? })
            })
            .collect();
        found.sort_by_cached_key(Self::number);
        found
    }

    /// Returns true if sysfs can be read: if not, an empty list does not mean that there is no device.
    pub fn has_sysfs(files: &KernelFiles) -> bool {
        if files.exists(CLASS) { fs::read_dir(files.path(CLASS)).is_ok() } else { files.exists("/sys/bus") }
    }

    /// Returns N of `vfioN`.
    pub fn number(&self) -> Option<u32> {
        self.vfio.as_ref()?.strip_prefix("vfio")?.parse().ok()
    }

    /// Returns the path of its own character device, else of its group's.
    pub fn node(&self) -> Option<String> {
        match (&self.vfio, self.group) {
            (Some(vfio), _) if self.cdev => Some(format!("/dev/vfio/devices/{vfio}")),
            (_, Some(group)) => Some(format!("/dev/vfio/{group}")),
            _ => None,
        }
    }

    /// Returns true if `text` names this device: its name, a PCI address without the domain `0000:`, or `vfioN`.
    pub fn matches_name(&self, text: &str) -> bool {
        is_named(&self.name, text) || self.vfio.as_deref() == Some(text)
    }
}

/// Returns true if `text` stands for `name`: the name itself, or a PCI address without the domain `0000:`.
pub fn is_named(name: &str, text: &str) -> bool {
    name.eq_ignore_ascii_case(text)
        || name.strip_prefix("0000:").is_some_and(|short| short.eq_ignore_ascii_case(text))
}

/// Reads the device whose directory is `parent`, or the one that `parent` links to.
fn look(files: &KernelFiles, parent: &str, vfio: Option<String>) -> Option<VfioDevice> {
    let sysfs = files.follow(parent)?;
    let last = |link: &str| base_name(&files.follow(&format!("{parent}/{link}"))?);
    let bus = match last("subsystem").as_deref() {
        Some("pci") => DeviceBus::Pci,
        Some("mdev") => DeviceBus::Mdev,
        _ => DeviceBus::Other,
    };
    let hex = |file: &str| {
        let text = files.line(&format!("{parent}/{file}"))?;
        u32::from_str_radix(text.strip_prefix("0x")?, 16).ok()
    };
    let id = |file: &str| u16::try_from(hex(file)?).ok();
    let pci = bus == DeviceBus::Pci;
    Some(VfioDevice {
        name: base_name(&sysfs)?,
        vfio,
        group: last("iommu_group").and_then(|group| group.parse().ok()),
        cdev: false,
        driver: last("driver"),
        module: last("driver/module"),
        bus,
        is_vf: pci && files.exists(&format!("{parent}/physfn")),
        pci_id: if pci { id("vendor").zip(id("device")) } else { None },
        pci_class: if pci { hex("class") } else { None },
        sysfs,
    })
}

fn base_name(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_str()?.to_owned())
}

/// Lists devices of kernels before 6.1: members of IOMMU groups whose driver's module uses vfio.
fn without_class(files: &KernelFiles) -> Vec<VfioDevice> {
    const GROUPS: &str = "/sys/kernel/iommu_groups";
    let modules = ModuleList::read(files).unwrap_or_default();
    let users: Vec<&str> = modules.users_of("vfio").iter().map(|module| module.name.as_str()).collect();
    let is_vfio = |device: &VfioDevice| {
        device.module.as_deref().is_some_and(|module| users.contains(&module))
            || device.driver.as_deref().is_some_and(|driver| KNOWN_DRIVERS.contains(&driver))
    };
    let mut found: Vec<VfioDevice> = files
        .list(GROUPS)
        .iter()
        .flat_map(|group| {
            let members = format!("{GROUPS}/{group}/devices");
            files.list(&members).into_iter().map(move |name| format!("{members}/{name}"))
        })
        .filter_map(|member| look(files, &member, None))
        .filter(is_vfio)
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::kernel::source::testing::TestRoot;

    /// Makes a host with a virtual function of a ConnectX, a network card on plain vfio-pci and a mediated device, as
    /// 6.12 shows them.
    pub(crate) fn machine() -> TestRoot {
        let root = TestRoot::new();
        pci(&root, "0000:3b:00.2", "0x101e", "mlx5_vfio_pci", "mlx5_vfio_pci", 31);
        root.link("sys/devices/pci0/0000:3b:00.2/physfn", "../0000:3b:00.0");
        pci(&root, "0000:5e:00.0", "0x1572", "vfio-pci", "vfio_pci", 44);
        root.write("sys/devices/pci0/0000:5e:00.0/vendor", "0x8086\n");
        class(&root, "vfio0", "pci0/0000:3b:00.2");
        class(&root, "vfio10", "pci0/0000:5e:00.0");
        root.write("sys/class/vfio-dev/vfio0/dev", "511:0\n");
        let uuid = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001";
        let mdev = format!("sys/devices/virtual/mtty/mtty/{uuid}");
        root.link(&format!("{mdev}/subsystem"), "../../../../../bus/mdev")
            .link(&format!("{mdev}/iommu_group"), "../../../../../kernel/iommu_groups/2")
            .write("sys/kernel/iommu_groups/2/type", "x")
            .write("sys/bus/mdev/drivers/vfio_mtty/x", "")
            .write("sys/module/mtty/x", "")
            .link("sys/bus/mdev/drivers/vfio_mtty/module", "../../../../module/mtty")
            .link(&format!("{mdev}/driver"), "../../../../../bus/mdev/drivers/vfio_mtty");
        class(&root, "vfio2", &format!("virtual/mtty/mtty/{uuid}"));
        root
    }

    fn pci(root: &TestRoot, name: &str, id: &str, driver: &str, module: &str, group: u32) {
        let dir = format!("sys/devices/pci0/{name}");
        root.write(&format!("{dir}/vendor"), "0x15b3\n")
            .write(&format!("{dir}/device"), format!("{id}\n"))
            .write(&format!("{dir}/class"), "0x020000\n")
            .write("sys/bus/pci/x", "")
            .write(&format!("sys/bus/pci/drivers/{driver}/x"), "")
            .write(&format!("sys/module/{module}/x"), "")
            .write(&format!("sys/kernel/iommu_groups/{group}/type"), "DMA\n")
            .link(&format!("{dir}/subsystem"), "../../../bus/pci")
            .link(&format!("{dir}/driver"), &format!("../../../bus/pci/drivers/{driver}"))
            .link(&format!("sys/bus/pci/drivers/{driver}/module"), &format!("../../../../module/{module}"))
            .link(&format!("{dir}/iommu_group"), &format!("../../../kernel/iommu_groups/{group}"))
            .link(
                &format!("sys/kernel/iommu_groups/{group}/devices/{name}"),
                &format!("../../../../devices/pci0/{name}"),
            );
    }

    fn class(root: &TestRoot, vfio: &str, device: &str) {
        root.link(&format!("sys/class/vfio-dev/{vfio}/device"), &format!("../../../devices/{device}"));
    }

    #[test]
    fn names_tell_the_bus() {
        for (name, bus) in [
            ("0000:75:00.1", DeviceBus::Pci),
            ("10000:e1:00.0", DeviceBus::Pci),
            ("83b8f4f2-509f-382f-3c1e-e6bfe0fa1001", DeviceBus::Mdev),
            ("00.0016", DeviceBus::Other),
            ("75:00.1", DeviceBus::Other),
            ("83b8f4f2-509f-382f-3c1e", DeviceBus::Other),
            ("LNRO0005:00", DeviceBus::Other),
        ] {
            assert_eq!(DeviceBus::of_name(name), bus, "{name}");
        }
    }

    #[test]
    fn devices_are_told_with_all_their_names() {
        let root = machine();
        let devices = VfioDevice::all(&root.files());
        let [vf, mdev, card] = devices.as_slice() else { panic!("{devices:?}") };
        assert_eq!(
            *vf,
            VfioDevice {
                name: "0000:3b:00.2".to_owned(),
                vfio: Some("vfio0".to_owned()),
                group: Some(31),
                cdev: true,
                driver: Some("mlx5_vfio_pci".to_owned()),
                module: Some("mlx5_vfio_pci".to_owned()),
                bus: DeviceBus::Pci,
                is_vf: true,
                pci_id: Some((0x15b3, 0x101e)),
                pci_class: Some(0x020000),
                sysfs: root.files().follow("/sys/devices/pci0/0000:3b:00.2").unwrap(),
            }
        );
        assert_eq!((card.number(), card.is_vf, card.pci_id), (Some(10), false, Some((0x8086, 0x1572))));
        assert_eq!((mdev.bus, mdev.group, mdev.cdev, mdev.pci_id), (DeviceBus::Mdev, Some(2), false, None));
        assert_eq!((mdev.driver.as_deref(), mdev.module.as_deref()), (Some("vfio_mtty"), Some("mtty")));
        assert_eq!(vf.node().as_deref(), Some("/dev/vfio/devices/vfio0"));
        assert_eq!(mdev.node().as_deref(), Some("/dev/vfio/2"));
        assert!(vf.matches_name("3b:00.2") && vf.matches_name("vfio0") && !vf.matches_name("3b:00"));
        assert!(mdev.matches_name("83B8F4F2-509F-382F-3C1E-E6BFE0FA1001"));
    }

    #[test]
    fn kernels_before_the_class_are_searched_by_group() {
        let root = machine();
        fs::remove_dir_all(root.path().join("sys/class")).unwrap();
        root.write(
            "proc/modules",
            "mlx5_vfio_pci 1 0 - Live 0x0\nvfio_pci 1 0 - Live 0x0\nvfio 1 2 mlx5_vfio_pci,vfio_pci, Live 0x0\n",
        );
        pci(&root, "0000:01:00.0", "0x0001", "nvme", "nvme", 1);
        let devices = VfioDevice::all(&root.files());
        let names: Vec<_> = devices.iter().map(|device| device.name.as_str()).collect();
        assert_eq!(names, ["0000:3b:00.2", "0000:5e:00.0"]);
        assert!(devices.iter().all(|device| device.vfio.is_none() && !device.cdev));
        assert_eq!(devices[0].node().as_deref(), Some("/dev/vfio/31"));
    }

    #[test]
    fn a_host_without_any_has_an_empty_list() {
        assert_eq!(VfioDevice::all(&TestRoot::new().files()), []);
        let root = TestRoot::new();
        // A device that goes away while we look.
        root.link("sys/class/vfio-dev/vfio0/device", "../../../devices/gone");
        assert_eq!(VfioDevice::all(&root.files()), []);
    }
}
