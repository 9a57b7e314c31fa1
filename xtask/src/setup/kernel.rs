//! The lab's kernels: Debian's packages unpacked (never installed), with the modules that Debian does not build.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::{
    progress::say,
    setup::{
        Archive, backport,
        hisi::Manager,
        modules::{self, Sample},
        packages,
        toolchain::Toolchain,
    },
};

/// The series that verbs use by default.
pub(crate) const DEFAULT: &str = "6.12";

/// A kernel series of the lab. The table [`SERIES`] has them all; `packages.rs` and `modules.rs` prepare them.
#[derive(Debug)]
pub(crate) struct Series {
    /// Name for users: `6.12`.
    pub(crate) name: &'static str,
    /// Packages that together are the kernel, without its version; the first names the version.
    pub(super) image: &'static [&'static str],
    /// Compiler of its modules.
    pub(super) toolchain: Toolchain,
    /// Drivers to build from its `linux-source` package, unmodified.
    pub(super) samples: &'static [Sample],
    /// True if its VFIO can show device states in debugfs (6.8 and newer).
    pub(super) debugfs: bool,
    /// Source of the driver that runs on simulated hardware, for kernels whose migration of it is worth testing.
    pub(super) hisi: Option<HisiSource>,
    /// True if `mlx5_vfio_pci` is built, unmodified: there is no hardware for it, but it has types and functions to
    /// probe.
    pub(super) mlx5: bool,
}

/// Build of the simulated hardware's driver for a kernel.
#[derive(Debug)]
pub(super) struct HisiSource {
    pub(super) manager: Manager,
    /// True if the driver has files in VFIO's debugfs (6.13 and newer).
    pub(super) debugfs: bool,
}

const MTTY: Sample = Sample { name: "mtty", source: "samples/vfio-mdev/mtty.c" };

const SERIES: &[Series] = &[
    // This series' own mtty cannot migrate yet; it gets a newer one.
    Series {
        name: "6.1",
        image: &["linux-image"],
        toolchain: Toolchain::Host,
        samples: &[],
        debugfs: false,
        hisi: None,
        mlx5: true,
    },
    Series {
        name: "6.12",
        image: &["linux-image"],
        toolchain: Toolchain::Host,
        samples: &[MTTY],
        debugfs: true,
        hisi: Some(HisiSource { manager: Manager::Kernel, debugfs: false }),
        mlx5: true,
    },
    Series {
        name: "7.3",
        image: &["linux-binary", "linux-modules", "linux-base"],
        toolchain: Toolchain::Root,
        samples: &[MTTY],
        debugfs: true,
        hisi: Some(HisiSource { manager: Manager::Own, debugfs: true }),
        mlx5: true,
    },
];

/// Returns the series called `name`.
pub(crate) fn find(name: &str) -> Result<&'static Series> {
    SERIES.iter().find(|series| series.name == name).with_context(|| {
        let known: Vec<&str> = SERIES.iter().map(|series| series.name).collect();
        format!("the lab has no kernel \"{name}\": choose one of {}", known.join(", "))
    })
}

/// Returns a series' name as a static string.
pub(crate) fn name(name: &str) -> Result<&'static str> {
    Ok(find(name)?.name)
}

/// Returns the names of all series.
pub(crate) fn names() -> impl DoubleEndedIterator<Item = &'static str> {
    SERIES.iter().map(|series| series.name)
}

/// A kernel's packages, unpacked.
#[derive(Debug)]
pub(super) struct Unpacked {
    /// Folder of the kernel in the cache.
    pub(super) dir: PathBuf,
    /// Release, as `uname -r` prints it.
    pub(super) release: String,
    /// Folder of Debian's modules of this release.
    pub(super) stock: PathBuf,
}

impl Unpacked {
    fn open(dir: PathBuf) -> Result<Self> {
        // In newer packages /lib is a link to /usr/lib.
        let folders = ["root/lib/modules", "root/usr/lib/modules"].map(|folder| dir.join(folder));
        let release = folders
            .iter()
            .filter_map(|folder| fs::read_dir(folder).ok())
            .flat_map(Iterator::flatten)
            .map(|entry| entry.path())
            .next()
            .with_context(|| format!("no kernel modules in {}", dir.display()))?;
        let name = release.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { dir, release: name, stock: release })
    }

    /// Returns the path of the kernel as ELF.
    pub(super) fn vmlinux(&self) -> PathBuf {
        self.dir.join("vmlinux")
    }

    /// Returns the folder of the kernel's sources.
    pub(super) fn source(&self) -> PathBuf {
        self.dir.join("source")
    }

    /// Returns the folder in which modules are built.
    pub(super) fn build(&self) -> PathBuf {
        self.dir.join("build")
    }
}

/// A driver on simulated hardware, to be loaded and bound before the command runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Driver {
    /// The kernel's hisi_acc_vfio_pci, as its own flags compile it.
    Hisi,
    /// The same with every function kept, for probes on functions that are otherwise inlined.
    HisiNoinline,
}

/// A prepared kernel, with the modules of this very checkout. [`prepared`] makes it; the lab boots it.
#[derive(Debug)]
pub(crate) struct Kernel {
    vmlinux: PathBuf,
    /// Release, as `uname -r` prints it.
    pub(crate) release: String,
    lib_modules: PathBuf,
    vfio: Option<Replacement>,
    drivers: Vec<(Driver, bool, Option<Replacement>)>,
}

/// A module that replaces another in the guest.
#[derive(Clone, Debug)]
pub(crate) struct Replacement {
    /// Path of the module on the host.
    pub(crate) built: PathBuf,
    /// Path of the module that it replaces, as the guest sees it.
    pub(crate) place: PathBuf,
}

impl Kernel {
    /// Returns the uncompressed ELF image: it boots seconds sooner than the bzImage.
    pub(crate) fn vmlinux(&self) -> &Path {
        &self.vmlinux
    }

    /// Returns the `lib/modules` folder that has this release.
    pub(crate) fn lib_modules(&self) -> &Path {
        &self.lib_modules
    }

    /// Returns the replacements in the guest: VFIO's core with debugfs, and a driver's variant.
    pub(crate) fn replacements(&self, debugfs: bool, driver: Option<Driver>) -> Result<Vec<Replacement>> {
        let known = |has: fn(&Series) -> bool| {
            let known: Vec<&str> =
                SERIES.iter().filter(|series| has(series)).map(|series| series.name).collect();
            known.join(" or ")
        };
        let mut all = Vec::new();
        if debugfs {
            all.push(self.vfio.clone().with_context(|| {
                let known = known(|series| series.debugfs);
                format!("VFIO of {} has no debugfs: choose kernel {known}", self.release)
            })?);
        }
        if let Some(driver) = driver {
            let found = self.drivers.iter().find(|(name, shows, _)| (*name, *shows) == (driver, debugfs));
            let (_, _, variant) = found.with_context(|| {
                let known = known(|series| series.hisi.is_some());
                format!("there is no simulated hardware for {}: choose kernel {known}", self.release)
            })?;
            all.extend(variant.clone());
        }
        Ok(all)
    }
}

fn link(series: &Series) -> Result<PathBuf> {
    Ok(crate::cache::root()?.join("kernels").join(series.name))
}

/// Returns the prepared kernel of a series, if it is complete.
pub(crate) fn prepared(series: &Series) -> Result<Option<Kernel>> {
    let Ok(dir) = fs::canonicalize(link(series)?) else { return Ok(None) };
    if !packages::current(&dir) {
        return Ok(None);
    }
    let unpacked = Unpacked::open(dir)?;
    let plans = modules::plan(&unpacked, series)?;
    if !plans.done(&unpacked) {
        return Ok(None);
    }
    let vfio = plans.debugfs_vfio(&unpacked)?;
    let drivers = plans.drivers(&unpacked);
    let lib_modules = plans.lib_modules(&unpacked);
    Ok(Some(Kernel { vmlinux: unpacked.vmlinux(), release: unpacked.release, lib_modules, vfio, drivers }))
}

/// Returns true if a series is fully prepared.
pub(crate) fn ready(series: &Series) -> bool {
    matches!(prepared(series), Ok(Some(_)))
}

/// Downloads, unpacks and builds the missing parts of a series.
pub(crate) fn prepare(archive: &Archive<'_>, series: &Series, upgrade: bool) -> Result<()> {
    if !upgrade && ready(series) {
        return Ok(());
    }
    series.toolchain.check(series.name)?;
    let link = link(series)?;
    let dir = match fs::canonicalize(&link) {
        Ok(dir) if !upgrade && packages::current(&dir) => dir,
        _ => {
            let dir = packages::unpack(archive, series)?;
            switch(&link, &dir)?;
            dir
        },
    };
    let unpacked = Unpacked::open(dir)?;
    for backport in backport::of(series) {
        backport.fetch(archive, &unpacked)?;
    }
    modules::plan(&unpacked, series)?.build(archive.cache, &unpacked, series)?;
    say(&format!("kernel {}: ready ({})", series.name, unpacked.release));
    Ok(())
}

/// Makes the series' link lead to `dir`, in one step: it always leads to a complete folder.
fn switch(link: &Path, dir: &Path) -> Result<()> {
    let fresh = link.with_extension("new");
    drop(fs::remove_file(&fresh));
    symlink(dir, &fresh).with_context(|| format!("cannot create {}", fresh.display()))?;
    fs::rename(&fresh, link).with_context(|| format!("cannot create {}", link.display()))
}
