//! The lab's kernels: Debian's packages unpacked (never installed), and migration drivers built unmodified for them.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    cmd,
    progress::say,
    setup::{
        Archive,
        apt::{self, Package},
        vmlinux,
    },
};

/// The series that verbs use when none is named.
pub(crate) const DEFAULT: &str = "6.12";

/// Changes when what is done to the unpacked packages changes: older results are then built anew.
const RECIPE: u32 = 1;

/// A kernel series of the lab.
#[derive(Debug)]
pub(crate) struct Series {
    /// As users name it.
    pub(crate) name: &'static str,
    /// Drivers to build from its `linux-source` package.
    modules: &'static [Module],
}

/// A module that Debian does not build: one source file of the kernel tree, taken as it is.
#[derive(Debug)]
struct Module {
    name: &'static str,
    source: &'static str,
}

const SERIES: &[Series] =
    &[Series { name: "6.12", modules: &[Module { name: "mtty", source: "samples/vfio-mdev/mtty.c" }] }];

/// What of the kernel source is kept: the samples we build, and VFIO itself for whoever wants to read along.
const SOURCE_PARTS: &[&str] = &["samples/vfio-mdev/*", "drivers/vfio/*", "include/uapi/linux/vfio.h"];

/// The series called `name`.
pub(crate) fn find(name: &str) -> Result<&'static Series> {
    SERIES.iter().find(|series| series.name == name).with_context(|| {
        let known: Vec<&str> = SERIES.iter().map(|series| series.name).collect();
        format!("the lab has no kernel \"{name}\": choose one of {}", known.join(", "))
    })
}

/// A prepared kernel.
#[derive(Debug)]
pub(crate) struct Kernel {
    dir: PathBuf,
    /// `uname -r`.
    pub(crate) release: String,
}

impl Kernel {
    /// The uncompressed ELF image: it boots seconds sooner than the bzImage.
    pub(crate) fn vmlinux(&self) -> PathBuf {
        self.dir.join("vmlinux")
    }

    /// The `lib/modules` folder that holds this release.
    pub(crate) fn lib_modules(&self) -> PathBuf {
        self.dir.join("root/lib/modules")
    }

    /// The modules of this release.
    pub(crate) fn modules(&self) -> PathBuf {
        self.lib_modules().join(&self.release)
    }

    fn done(&self, series: &Series) -> PathBuf {
        let names: Vec<&str> = series.modules.iter().map(|module| module.name).collect();
        self.dir.join(format!("modules-{RECIPE}-{}.done", names.join("-")))
    }

    fn open(dir: PathBuf) -> Result<Self> {
        let modules = dir.join("root/lib/modules");
        let release = fs::read_dir(&modules)
            .with_context(|| format!("cannot read {}", modules.display()))?
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .next()
            .with_context(|| format!("no kernel modules in {}", modules.display()))?;
        Ok(Self { dir, release })
    }
}

fn link(series: &Series) -> Result<PathBuf> {
    Ok(crate::cache::root()?.join("kernels").join(series.name))
}

/// The prepared kernel of a series, if it is complete.
pub(crate) fn prepared(series: &Series) -> Result<Option<Kernel>> {
    let Ok(dir) = fs::canonicalize(link(series)?) else { return Ok(None) };
    let kernel = Kernel::open(dir)?;
    Ok(kernel.done(series).is_file().then_some(kernel))
}

/// Whether nothing has to be done for a series.
pub(crate) fn ready(series: &Series) -> bool {
    matches!(prepared(series), Ok(Some(_)))
}

/// The packages of one kernel build.
struct Packages {
    image: Package,
    headers: Package,
    headers_common: Package,
    kbuild: Package,
    source: Package,
}

impl Packages {
    /// The newest stock kernel of the series for which the same version of the source is there.
    fn resolve(apt: &apt::Apt, series: &Series) -> Result<Self> {
        let source_name = format!("linux-source-{}", series.name);
        let sources: Vec<Package> =
            apt.packages(&source_name)?.into_iter().filter(|package| package.name == source_name).collect();
        let prefix = format!("linux-image-{}", series.name);
        let images = apt.packages(&prefix)?.into_iter().filter(|package| {
            let flavour = package.name.strip_prefix(&prefix).unwrap_or_default();
            flavour.starts_with('.')
                && flavour.ends_with("-amd64")
                && !flavour.contains("cloud")
                && !flavour.contains("rt-")
                && sources.iter().any(|source| source.version == package.version)
        });
        let image = apt::newest(images).with_context(|| {
            format!("the Debian mirror offers no {prefix}.*-amd64 with a matching {source_name}; it may be out of date")
        })?;
        let abi = image.name.trim_start_matches("linux-image-").trim_end_matches("-amd64").to_owned();
        let same = |name: String| Package { name, version: image.version.clone() };
        Ok(Self {
            headers: same(format!("linux-headers-{abi}-amd64")),
            headers_common: same(format!("linux-headers-{abi}-common")),
            kbuild: same(format!("linux-kbuild-{abi}")),
            source: same(source_name),
            image,
        })
    }
}

/// Downloads, unpacks and builds what is missing of a series.
pub(crate) fn prepare(archive: &Archive<'_>, series: &Series, upgrade: bool) -> Result<()> {
    if !upgrade && ready(series) {
        return Ok(());
    }
    let link = link(series)?;
    let dir = match fs::canonicalize(&link) {
        Ok(dir) if !upgrade => dir,
        _ => unpack(archive, series)?,
    };
    let kernel = Kernel::open(dir)?;
    if !kernel.done(series).is_file() {
        for module in series.modules {
            build_module(&kernel, series, module)?;
        }
        cmd::run(Command::new("depmod").arg("-b").arg(kernel.dir.join("root")).arg(&kernel.release))?;
        fs::write(kernel.done(series), "").context("cannot note that the modules are built")?;
    }
    // The name is switched last: until then the older kernel, if any, stays in use.
    let fresh = link.with_extension("new");
    drop(fs::remove_file(&fresh));
    symlink(&kernel.dir, &fresh).with_context(|| format!("cannot create {}", fresh.display()))?;
    fs::rename(&fresh, &link).with_context(|| format!("cannot create {}", link.display()))?;
    say(&format!("kernel {}: ready ({})", series.name, kernel.release));
    Ok(())
}

fn unpack(archive: &Archive<'_>, series: &Series) -> Result<PathBuf> {
    let apt = archive.apt()?;
    let packages = Packages::resolve(apt, series)?;
    let folder = format!("kernels/{}-{RECIPE}", packages.image.version);
    let home = archive.cache.path(&folder);
    archive.cache.folder(&folder, |dir| {
        let Packages { image, headers, headers_common, kbuild, source } = &packages;
        let wanted = [image, headers, headers_common, kbuild, source].map(Clone::clone);
        let debs = apt.download(dir, &wanted)?;
        let [image, headers, headers_common, kbuild, source] = debs.as_slice() else {
            bail!("apt-get downloaded {} packages instead of {}", debs.len(), wanted.len());
        };
        say(&format!("kernel {}: unpacking", series.name));
        apt::unpack(image, &dir.join("root"))?;
        for deb in [headers, headers_common, kbuild] {
            apt::unpack(deb, &dir.join("build"))?;
        }
        unpack_source(source, &dir.join("source"))?;
        relocate_headers(&dir.join("build"), &home.join("build"))?;
        vmlinux::extract(&only_file(&dir.join("root/boot"), "vmlinuz-")?, &dir.join("vmlinux"))?;
        for deb in &debs {
            fs::remove_file(deb).context("cannot remove a package file")?;
        }
        Ok(())
    })
}

fn only_file(dir: &Path, prefix: &str) -> Result<PathBuf> {
    fs::read_dir(dir)
        .with_context(|| format!("cannot read {}", dir.display()))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)))
        .with_context(|| format!("no {prefix}* in {}", dir.display()))
}

/// Takes the parts that the lab needs out of the package's tarball.
fn unpack_source(deb: &Path, dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let patterns: Vec<String> = SOURCE_PARTS.iter().map(|part| format!("'*/{part}'")).collect();
    let script = format!(
        "set -e; dpkg-deb --fsys-tarfile \"$1\" | tar -xOf - --wildcards './usr/src/*.tar.xz' | xz -dc -T0 \
         | tar -xf - -C \"$2\" --strip-components=1 --wildcards {}",
        patterns.join(" ")
    );
    cmd::run(Command::new("bash").args(["-o", "pipefail", "-c", &script, "bash"]).arg(deb).arg(dir))
        .context("cannot unpack the kernel source")?;
    Ok(())
}

/// Debian's headers name each other by absolute path; here they live elsewhere.
fn relocate_headers(dir: &Path, home: &Path) -> Result<()> {
    let makefile =
        only_file(&dir.join("usr/src"), "linux-headers-").and_then(|_| headers_dir(dir))?.join("Makefile");
    let text =
        fs::read_to_string(&makefile).with_context(|| format!("cannot read {}", makefile.display()))?;
    let moved = text.replace("/usr/src/", &format!("{}/", home.join("usr/src").display()));
    fs::write(&makefile, moved).with_context(|| format!("cannot write {}", makefile.display()))
}

/// The folder to build modules against: the headers of the flavour, not the common ones.
fn headers_dir(build: &Path) -> Result<PathBuf> {
    let src = build.join("usr/src");
    fs::read_dir(&src)
        .with_context(|| format!("cannot read {}", src.display()))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.join("Module.symvers").is_file())
        .with_context(|| format!("no kernel headers in {}", src.display()))
}

/// Builds one module and puts it where modprobe finds it. Its BTF is made by pahole against the headers' vmlinux.
fn build_module(kernel: &Kernel, series: &Series, module: &Module) -> Result<()> {
    say(&format!("kernel {}: building {}", series.name, module.name));
    let work = kernel.dir.join("modules").join(module.name);
    if work.exists() {
        fs::remove_dir_all(&work).with_context(|| format!("cannot remove {}", work.display()))?;
    }
    fs::create_dir_all(&work).with_context(|| format!("cannot create {}", work.display()))?;
    let source = kernel.dir.join("source").join(module.source);
    fs::copy(&source, work.join(format!("{}.c", module.name)))
        .with_context(|| format!("cannot copy {}", source.display()))?;
    fs::write(work.join("Makefile"), format!("obj-m := {}.o\n", module.name))
        .context("cannot write a Makefile")?;
    cmd::run(
        Command::new("make")
            .arg("-C")
            .arg(headers_dir(&kernel.dir.join("build"))?)
            .arg(format!("M={}", work.display()))
            .arg("modules")
            .env_remove("MAKEFLAGS"),
    )
    .with_context(|| format!("cannot build {} for {}", module.name, kernel.release))?;
    let extra = kernel.modules().join("extra");
    fs::create_dir_all(&extra).with_context(|| format!("cannot create {}", extra.display()))?;
    let built = extra.join(format!("{}.ko", module.name));
    fs::copy(work.join(format!("{}.ko", module.name)), &built).context("cannot copy the module")?;
    // Debug information only; BTF stays.
    cmd::run(Command::new("strip").arg("-d").arg(&built))?;
    Ok(())
}
