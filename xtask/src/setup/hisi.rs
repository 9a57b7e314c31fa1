//! The kernel's own driver of HiSilicon accelerators, unmodified, and the simulated hardware below it.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::{
    setup::{
        kernel::Unpacked,
        module::Module,
        modules::{is_c, own_files},
        tree::files,
    },
    workspace,
};

/// File of the driver, which its variants replace.
const DRIVER: &str = "hisi-acc-vfio-pci.ko";

/// Compiler flags that keep functions of the driver which are otherwise inlined into their only caller.
const NOT_INLINED: &str = "-fno-inline-functions-called-once -fno-inline-small-functions";

/// Source of the driver's queue manager, `hisi_qm.ko`.
#[derive(Debug)]
pub(crate) enum Manager {
    /// The kernel's own source.
    Kernel,
    /// Ours: the kernel's reads its mailbox only on arm64.
    Own,
}

/// All modules of the simulated hardware for a kernel. `modules.rs` plans and builds them.
pub(super) struct Hisi {
    /// Modules that modprobe finds: queue manager, hardware, driver.
    pub(super) installed: [Module; 3],
    /// Other builds of the driver, each to replace the installed one: true if not inlined, true if with debugfs.
    pub(super) variants: Vec<(bool, bool, Module)>,
}

impl Hisi {
    /// Plans the modules. `debugfs` is true if this kernel's driver shows anything there.
    pub(super) fn plan(unpacked: &Unpacked, manager: &Manager, debugfs: bool) -> Result<Self> {
        let ours = workspace::root().join("lab/hardware");
        let kept = |path: &Path| is_c(path) || path.ends_with("Makefile");
        let manager = match manager {
            Manager::Kernel => {
                let sources = files(&unpacked.source().join("drivers/crypto/hisilicon"), kept)?;
                Module::new("hisi_qm", &sources, &["CONFIG_CRYPTO_DEV_HISI_QM=m", "modules"])?
            },
            Manager::Own => Module::new("hisi_qm", &own_files(&ours.join("hisi_qm"))?, &["modules"])?,
        };
        let hardware = Module::new("hisi_sim", &own_files(&ours.join("hisi_sim"))?, &["modules"])?;
        let sources = files(&unpacked.source().join("drivers/vfio/pci/hisilicon"), kept)?;
        let driver = |noinline: bool, debugfs: bool| {
            let name = match (noinline, debugfs) {
                (false, false) => "hisi-acc-vfio-pci",
                (true, false) => "hisi-acc-vfio-pci-noinline",
                (false, true) => "hisi-acc-vfio-pci-debugfs",
                (true, true) => "hisi-acc-vfio-pci-noinline-debugfs",
            };
            let flags = [(noinline, NOT_INLINED), (debugfs, "-DCONFIG_VFIO_DEBUGFS=1")];
            let flags: Vec<&str> = flags.into_iter().filter_map(|(on, flag)| on.then_some(flag)).collect();
            let flags = format!("KCFLAGS={}", flags.join(" "));
            let make = ["CONFIG_HISI_ACC_VFIO_PCI=m", &flags, "modules"];
            Module::using(name, DRIVER, &sources, &make, &[&manager, &hardware])
        };
        let mut variants = vec![(true, false, driver(true, false)?)];
        if debugfs {
            for noinline in [false, true] {
                variants.push((noinline, true, driver(noinline, true)?));
            }
        }
        let plain = driver(false, false)?;
        Ok(Self { variants, installed: [manager, hardware, plain] })
    }

    /// Returns the modules in build order: the driver uses the others.
    pub(super) fn modules(&self) -> impl Iterator<Item = &Module> {
        self.installed.iter().chain(self.variants.iter().map(|(_, _, module)| module))
    }

    /// Returns the build that replaces the installed driver, if another is asked for.
    pub(super) fn variant(&self, noinline: bool, debugfs: bool) -> Option<&Module> {
        // A kernel whose driver shows nothing in debugfs has one build for both.
        let debugfs = debugfs && self.variants.iter().any(|(_, shows, _)| *shows);
        self.variants
            .iter()
            .find(|(not_inlined, shows, _)| (*not_inlined, *shows) == (noinline, debugfs))
            .map(|(_, _, module)| module)
    }
}

/// Returns the path of the installed driver, in a modules tree of `release`.
pub(super) fn installed(release: &str) -> PathBuf {
    Path::new("/lib/modules").join(release).join("extra").join(DRIVER)
}
