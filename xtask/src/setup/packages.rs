//! Resolves and unpacks the packages that make up a kernel of the lab.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    cmd,
    progress::say,
    setup::{
        Archive,
        apt::{self, Package},
        kernel::Series,
        vmlinux,
    },
};

/// Changes when the handling of the packages changes: older results are then made anew.
const RECIPE: u32 = 2;

/// Parts of the kernel source that are kept: the drivers we build, and VFIO itself, to rebuild and to read along.
const SOURCE_PARTS: &[&str] =
    &["samples/vfio-mdev/*", "drivers/vfio/*", "drivers/crypto/hisilicon/*", "include/uapi/linux/vfio.h"];

/// The packages of one kernel build.
pub(super) struct Packages {
    /// The kernel itself: the packages of [`Series::image`].
    image: Vec<Package>,
    /// Its headers, of the flavour and common, and its build tools.
    pub(super) headers: [Package; 3],
    source: Package,
}

impl Packages {
    /// Finds the newest stock kernel of the series for which the same version of the source is offered.
    fn resolve(apt: &apt::Apt, series: &Series) -> Result<Self> {
        let source_name = format!("linux-source-{}", series.name);
        let sources: Vec<Package> =
            apt.packages(&source_name)?.into_iter().filter(|package| package.name == source_name).collect();
        let first = series.image.first().context("a series without packages")?;
        let prefix = format!("{first}-{}", series.name);
        let images = apt.packages(&prefix)?.into_iter().filter(|package| {
            is_stock(&package.name, &prefix) && sources.iter().any(|source| source.version == package.version)
        });
        let newest = apt::newest(images).with_context(|| {
            format!("the Debian mirror offers no {prefix}.*-amd64 with a matching {source_name}; it may be out of date")
        })?;
        let release = newest.name.strip_prefix(first).unwrap_or_default().trim_start_matches('-').to_owned();
        let abi = release.trim_end_matches("-amd64").to_owned();
        let same = |name: String| Package { name, version: newest.version.clone() };
        // Up to 6.1 one package of build tools served all builds of a series.
        let kbuild = [format!("linux-kbuild-{abi}"), format!("linux-kbuild-{}", series.name)].map(same);
        let offered = apt.packages(&format!("linux-kbuild-{}", series.name))?;
        let kbuild = kbuild.into_iter().find(|kbuild| offered.contains(kbuild)).with_context(|| {
            format!(
                "the Debian mirror offers no build tools (linux-kbuild) for {release}; it may be out of date"
            )
        })?;
        Ok(Self {
            headers: [
                same(format!("linux-headers-{abi}-amd64")),
                same(format!("linux-headers-{abi}-common")),
                kbuild,
            ],
            source: same(source_name),
            image: series.image.iter().map(|part| same(format!("{part}-{release}"))).collect(),
        })
    }
}

/// Returns true if a folder was unpacked with the present [`RECIPE`].
pub(super) fn current(dir: &Path) -> bool {
    dir.file_name().is_some_and(|name| name.to_string_lossy().ends_with(&format!("-{RECIPE}")))
}

/// Returns true if a package is a kernel of the ordinary flavour, signed, of the series in `prefix`.
fn is_stock(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| {
        rest.starts_with('.') && rest.ends_with("-amd64") && !rest.contains("cloud") && !rest.contains("rt-")
    })
}

/// Downloads and unpacks the newest kernel of a series.
pub(super) fn unpack(archive: &Archive<'_>, series: &Series) -> Result<PathBuf> {
    let apt = archive.apt()?;
    let packages = Packages::resolve(apt, series)?;
    let folder = format!("kernels/{}-{RECIPE}", packages.source.version);
    let home = archive.cache.path(&folder);
    archive.cache.folder(&folder, |dir| {
        let mut wanted = packages.image.clone();
        wanted.push(packages.source.clone());
        let debs = apt.download(dir, &wanted)?;
        let (source, image) = debs.split_last().context("apt-get downloaded nothing")?;
        say(&format!("kernel {}: unpacking", series.name));
        for deb in image {
            apt::unpack(deb, &dir.join("root"))?;
        }
        unpack_source(source, &dir.join("source"))?;
        vmlinux::extract(&bzimage(&dir.join("root"))?, &dir.join("vmlinux"))?;
        for deb in &debs {
            fs::remove_file(deb).context("cannot remove a package file")?;
        }
        series.toolchain.install(archive, series.name, &packages, &dir.join("build"), &home.join("build"))
    })
}

/// Returns the path of the kernel image: in /boot, or (newer packages) beside its modules.
fn bzimage(root: &Path) -> Result<PathBuf> {
    let beside = fs::read_dir(root.join("usr/lib/modules"))
        .into_iter()
        .flat_map(Iterator::flatten)
        .map(|entry| entry.path().join("vmlinuz"))
        .find(|path| path.is_file());
    beside.map_or_else(|| only_file(&root.join("boot"), "vmlinuz-"), Ok)
}

/// Returns the only file in `dir` whose name starts with `prefix`.
pub(super) fn only_file(dir: &Path, prefix: &str) -> Result<PathBuf> {
    fs::read_dir(dir)
        .with_context(|| format!("cannot read {}", dir.display()))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)))
        .with_context(|| format!("no {prefix}* in {}", dir.display()))
}

/// Unpacks the parts that the lab needs of the package's tarball.
pub(super) fn unpack_source(deb: &Path, dir: &Path) -> Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stock_kernels_are_told_from_others() {
        assert!(is_stock("linux-image-6.1.0-56-amd64", "linux-image-6.1"));
        assert!(is_stock("linux-image-6.12.117+deb12-amd64", "linux-image-6.12"));
        assert!(is_stock("linux-binary-7.3.4+deb13-amd64", "linux-binary-7.3"));
        for other in [
            "linux-image-6.12.117+deb12-amd64",
            "linux-image-6.19.8+deb13-amd64",
            "linux-image-6.1.0-56-rt-amd64",
            "linux-image-6.1.0-56-cloud-amd64",
            "linux-image-6.1.0-56-amd64-dbg",
            "linux-image-6.1.0-56-amd64-unsigned",
            "linux-image-6.1-amd64",
        ] {
            assert!(!is_stock(other, "linux-image-6.1"), "{other}");
        }
    }
}
