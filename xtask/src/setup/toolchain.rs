//! The compiler of a kernel's modules: the host's, or another Debian's in a folder that is entered by chroot.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    cmd,
    progress::say,
    setup::{Archive, apt, packages::Packages},
};

/// The compiler and tools for a series' modules. The table of series in `kernel.rs` names it.
#[derive(Debug)]
pub(crate) enum Toolchain {
    /// The programs of this system.
    Host,
    /// The programs of the Debian that the kernel was made for: its build tools need that libc, its headers that
    /// compiler.
    Root,
}

/// Packages for kbuild. The headers' dependencies bring the compiler and pahole.
const ROOT_PACKAGES: &[&str] =
    &["base-files", "binutils", "coreutils", "dash", "findutils", "grep", "make", "mawk", "sed"];

/// Folder of the builds, inside of the root.
const WORK: &str = "lab";

/// Script that enters the root. objtool needs /proc, shells need /dev/null; the mounts end with the process.
const ENTER: &str = "mount --rbind /proc \"$1/proc\" && mount --rbind /dev \"$1/dev\" && root=$1 && shift \
                     && exec chroot \"$root\" \"$@\"";

/// Returns a command with its own mounts. Any user can run it that may make user namespaces.
pub(super) fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command.arg("--mount");
    if !rustix::process::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C.UTF-8");
    command
}

impl Toolchain {
    /// Checks that the toolchain can be used on this machine, before hundreds of megabytes are downloaded.
    pub(super) fn check(&self, series: &str) -> Result<()> {
        if matches!(self, Self::Root) {
            cmd::run(unshare().args(["mount", "--rbind", "/proc", "/mnt"])).with_context(|| {
                format!(
                    "kernel {series}: its modules need the compiler of its own Debian, which runs in a folder entered \
                     with mount and chroot; this user may do neither (it takes root, or unprivileged user \
                     namespaces): run this as root, or use another kernel"
                )
            })?;
        }
        Ok(())
    }

    /// Unpacks headers and tools into `dir`, which will later be `home`.
    pub(super) fn install(
        &self,
        archive: &Archive<'_>,
        series: &str,
        packages: &Packages,
        dir: &Path,
        home: &Path,
    ) -> Result<()> {
        let debs = dir.join("debs");
        fs::create_dir_all(&debs).with_context(|| format!("cannot create {}", debs.display()))?;
        match self {
            Self::Host => {
                for deb in archive.apt()?.download(&debs, &packages.headers)? {
                    apt::unpack(&deb, dir)?;
                }
                relocate_headers(dir, home)?;
            },
            Self::Root => {
                let mut wanted: Vec<String> = ROOT_PACKAGES.iter().map(|&name| name.to_owned()).collect();
                wanted.extend(
                    packages.headers.iter().map(|package| format!("{}={}", package.name, package.version)),
                );
                let mut files = archive.trixie()?.download_with_dependencies(&debs, &wanted)?;
                say(&format!("kernel {series}: unpacking its compiler"));
                // base-files makes /bin and /lib the links that the others rely on.
                files.sort_by_key(|deb| {
                    !deb.file_name().is_some_and(|name| name.to_string_lossy().starts_with("base-files_"))
                });
                for deb in files {
                    apt::unpack(&deb, dir)?;
                }
                // A maintainer script would make this link, and none of them ran.
                symlink("mawk", dir.join("usr/bin/awk")).context("cannot link awk")?;
            },
        }
        fs::remove_dir_all(&debs).context("cannot remove the package files")
    }

    /// Returns the folder in which the module `ident` is built.
    pub(super) fn work(build: &Path, ident: &str) -> PathBuf {
        build.join(WORK).join(ident)
    }

    /// Returns [`Self::work`], as `make` sees it.
    pub(super) fn inside(&self, build: &Path, ident: &str) -> PathBuf {
        match self {
            Self::Host => Self::work(build, ident),
            Self::Root => Path::new("/").join(WORK).join(ident),
        }
    }

    /// Returns `make` for the module in [`Self::work`].
    pub(super) fn make(&self, build: &Path, ident: &str) -> Result<Command> {
        let headers = headers_dir(build)?;
        let mut make = match self {
            Self::Host => {
                let mut command = Command::new("make");
                command.arg("-C").arg(headers).env_remove("MAKEFLAGS");
                command
            },
            Self::Root => {
                let inside = Path::new("/").join(headers.strip_prefix(build).context("headers elsewhere")?);
                let mut command = unshare();
                command.args(["sh", "-c", ENTER, "sh"]).arg(build).arg("make").arg("-C").arg(inside);
                command
            },
        };
        make.arg(format!("M={}", self.inside(build, ident).display()));
        Ok(make)
    }
}

/// Corrects Debian's headers, which name each other by absolute path: here they are in another folder.
fn relocate_headers(dir: &Path, home: &Path) -> Result<()> {
    let makefile = headers_dir(dir)?.join("Makefile");
    let text =
        fs::read_to_string(&makefile).with_context(|| format!("cannot read {}", makefile.display()))?;
    let moved = text.replace("/usr/src/", &format!("{}/", home.join("usr/src").display()));
    fs::write(&makefile, moved).with_context(|| format!("cannot write {}", makefile.display()))
}

/// Returns the folder to build modules against: the headers of the flavour, not the common ones.
fn headers_dir(build: &Path) -> Result<PathBuf> {
    let src = build.join("usr/src");
    fs::read_dir(&src)
        .with_context(|| format!("cannot read {}", src.display()))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.join("Module.symvers").is_file())
        .with_context(|| format!("no kernel headers in {}", src.display()))
}
