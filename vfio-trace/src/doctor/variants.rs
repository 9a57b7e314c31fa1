//! Table of PCI devices for which Linux has a driver with migration, to be bound instead of plain vfio-pci.

use crate::kernel::{KernelFiles, VfioDevice};

/// A variant driver of vfio-pci.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct VariantDriver {
    /// Name of the module and of the driver.
    pub(super) driver: &'static str,
    /// Kernel option that builds it.
    pub(super) config: &'static str,
    /// First kernel version in which the driver can migrate.
    pub(super) since: &'static str,
    vendor: u16,
    /// PCI device ids; empty if `class` is used.
    devices: &'static [u16],
    /// PCI base class, where the driver has too many ids to list.
    class: Option<u8>,
}

/// Variant drivers, from the PCI id tables in 6.12 (drivers/vfio/pci/*/); xe is newer. All ids are of virtual
/// functions.
const VARIANTS: [VariantDriver; 6] = [
    VariantDriver {
        driver: "mlx5_vfio_pci",
        config: "CONFIG_MLX5_VFIO_PCI",
        since: "5.18",
        vendor: 0x15b3,
        devices: &[0x101e],
        class: None,
    },
    VariantDriver {
        driver: "hisi_acc_vfio_pci",
        config: "CONFIG_HISI_ACC_VFIO_PCI",
        since: "5.18",
        vendor: 0x19e5,
        // ZIP, SEC, HPRE
        devices: &[0xa251, 0xa256, 0xa259],
        class: None,
    },
    VariantDriver {
        driver: "pds_vfio_pci",
        config: "CONFIG_PDS_VFIO_PCI",
        since: "6.6",
        vendor: 0x1dd8,
        devices: &[0x1003],
        class: None,
    },
    VariantDriver {
        driver: "qat_vfio_pci",
        config: "CONFIG_QAT_VFIO_PCI",
        since: "6.10",
        vendor: 0x8086,
        devices: &[0x4941, 0x4943, 0x4945],
        class: None,
    },
    VariantDriver {
        driver: "virtio_vfio_pci",
        config: "CONFIG_VIRTIO_VFIO_PCI",
        since: "6.13",
        vendor: 0x1af4,
        devices: &[0x1041],
        class: None,
    },
    // Graphics devices with many ids.
    VariantDriver {
        driver: "xe_vfio_pci",
        config: "CONFIG_XE_VFIO_PCI",
        since: "6.19",
        vendor: 0x8086,
        devices: &[],
        class: Some(0x03),
    },
];

/// Returns the variant driver for a device, if Linux has one.
pub(super) fn variant_for(device: &VfioDevice) -> Option<&'static VariantDriver> {
    let (vendor, number) = device.pci_id.filter(|_| device.is_vf)?;
    let base_class = device.pci_class.and_then(|class| u8::try_from(class >> 16).ok());
    VARIANTS.iter().find(|variant| {
        variant.vendor == vendor
            && (variant.devices.contains(&number) || (variant.class.is_some() && variant.class == base_class))
    })
}

impl VariantDriver {
    /// Returns true if the running kernel's list of modules has the driver; `None` if there is no list.
    pub(super) fn is_installed(&self, files: &KernelFiles, release: Option<&str>) -> Option<bool> {
        let list = |name: &str| files.text(&format!("/lib/modules/{}/{name}", release?)).ok();
        let modules = list("modules.dep")?;
        let has = |text: &str| {
            // kernel/drivers/vfio/pci/mlx5/mlx5-vfio-pci.ko.xz: …
            let names = text.lines().filter_map(|line| line.split(':').next()?.rsplit('/').next());
            names.filter_map(|file| file.split('.').next()).any(|name| name.replace('-', "_") == self.driver)
        };
        Some(has(&modules) || list("modules.builtin").is_some_and(|text| has(&text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        driver::WANTED,
        kernel::{inventory, source::testing::TestRoot},
    };

    #[test]
    fn every_plug_in_is_of_a_driver_that_is_advised() {
        for wanted in WANTED {
            assert!(VARIANTS.iter().any(|variant| variant.driver == wanted.module), "{}", wanted.module);
        }
    }

    #[test]
    fn a_virtual_function_has_a_driver_where_linux_has_one() {
        let root = inventory::tests::machine();
        let devices = VfioDevice::all(&root.files());
        let mut vf = devices[0].clone();
        assert_eq!(variant_for(&vf).unwrap().driver, "mlx5_vfio_pci");
        vf.pci_id = Some((0x8086, 0xe20b));
        assert_eq!(variant_for(&vf), None);
        vf.pci_class = Some(0x030000);
        assert_eq!(variant_for(&vf).unwrap().driver, "xe_vfio_pci");
        vf.is_vf = false;
        assert_eq!(variant_for(&vf), None);
        assert_eq!(variant_for(&devices[1]), None, "a mediated device");
    }

    #[test]
    fn the_kernels_list_of_modules_tells_whether_it_is_there() {
        let root = TestRoot::new();
        let mlx5 = &VARIANTS[0];
        assert_eq!(mlx5.is_installed(&root.files(), Some("6.12")), None);
        root.write("lib/modules/6.12/modules.dep", "kernel/drivers/vfio/pci/vfio-pci.ko.xz: x.ko.xz\n");
        assert_eq!(mlx5.is_installed(&root.files(), Some("6.12")), Some(false));
        root.write("lib/modules/6.12/modules.builtin", "kernel/drivers/vfio/pci/mlx5/mlx5-vfio-pci.ko\n");
        assert_eq!(mlx5.is_installed(&root.files(), Some("6.12")), Some(true));
    }
}
