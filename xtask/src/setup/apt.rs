//! Debian packages without touching the system's apt configuration: own sources list, own state, the system's mirror.
//!
//! The apt of a fresh machine knows one suite; the lab needs packages of others. The mirror is read from the system's
//! own sources, only the suite is changed, and nothing below /etc or /var/lib/apt is written.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{cache::Cache, cmd, progress::say, setup::sources};

/// A set of suites with package lists of their own.
pub(crate) struct View {
    /// Its folder in the cache.
    folder: &'static str,
    /// Suites of the main mirror.
    pub(super) suites: &'static [&'static str],
    /// Suites of the mirror of security updates.
    pub(super) security: &'static [&'static str],
    /// True if packages are chosen as for an empty system instead of this one.
    empty_system: bool,
}

/// View for this system's programs, for kernels (6.1, 6.12, 7.3), and for a rust-src that matches rustc.
pub(crate) const HOST: View = View {
    folder: "apt",
    suites: &["bookworm", "bookworm-updates", "bookworm-backports", "trixie-backports"],
    security: &["bookworm-security"],
    empty_system: false,
};

/// View for the compilers of newer kernels. Kept apart from [`HOST`], else apt would install newer programs on the
/// host.
pub(crate) const TRIXIE: View =
    View { folder: "apt-trixie", suites: &["trixie", "trixie-backports"], security: &[], empty_system: true };

/// Returns `ID` and `VERSION_CODENAME` of this system.
fn os_release() -> Result<(String, String)> {
    let text = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let value = |key: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
            .map(|value| value.trim_matches('"').to_owned())
            .unwrap_or_default()
    };
    Ok((value("ID"), value("VERSION_CODENAME")))
}

/// A private view of the Debian archive: apt with its own configuration. Made by [`Apt::open`].
pub(crate) struct Apt {
    dir: PathBuf,
    empty_system: bool,
}

/// A package in the archive, in one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Package {
    /// Its name.
    pub(crate) name: String,
    /// Its version.
    pub(crate) version: String,
}

impl Apt {
    /// Writes the sources list and fetches the package lists.
    pub(crate) fn open(cache: &Cache, view: &View) -> Result<Self> {
        let (id, codename) = os_release()?;
        ensure!(
            cmd::find("apt-get").is_some() && id == "debian",
            "set-up takes kernels, QEMU and rust-src from the Debian archive with apt, and this system is \
             \"{id}\": run it on Debian 12 or newer (a container will do for `cargo xtask build`)"
        );
        let dir = cache.path(view.folder);
        for folder in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(dir.join(folder))
                .with_context(|| format!("cannot create {}", dir.display()))?;
        }
        let list = sources::derive(&sources::system(Path::new("/etc/apt")), &codename, view)?;
        fs::write(dir.join("sources.list"), list).context("cannot write the sources list")?;
        if view.empty_system {
            fs::write(dir.join("status"), "").context("cannot write an empty package status")?;
        }
        let apt = Self { dir, empty_system: view.empty_system };
        let suites = view.suites.first().copied().unwrap_or_default();
        say(&format!(
            "apt: fetching {suites}'s package lists (into the cache, the system's stay as they are)"
        ));
        cmd::run(&mut apt.command("apt-get", &["update"]))
            .context("the Debian mirror of this system's apt sources does not answer; check the network and run this again")?;
        Ok(apt)
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        let path = |name: &str| self.dir.join(name).into_os_string();
        let set = |key: &str, value: OsString| {
            let mut option = OsString::from(format!("{key}="));
            option.push(value);
            option
        };
        for option in [
            set("Dir::Etc::SourceList", path("sources.list")),
            set("Dir::Etc::SourceParts", "/dev/null".into()),
            // The system's pinning is for the system's suites.
            set("Dir::Etc::Preferences", "/dev/null".into()),
            set("Dir::Etc::PreferencesParts", "/dev/null".into()),
            set("Dir::State::Lists", path("lists")),
            set("Dir::Cache", path("cache")),
            set("Acquire::Languages", "none".into()),
            set("Acquire::Retries", "3".into()),
            // Without it a mirror that does not answer is only a warning.
            set("APT::Update::Error-Mode", "any".into()),
            // Downloads go into our own folders, which the _apt user may not enter.
            set("APT::Sandbox::User", "".into()),
            set("APT::Get::List-Cleanup", "false".into()),
            set("DPkg::Lock::Timeout", "300".into()),
        ] {
            command.arg("-o").arg(option);
        }
        if self.empty_system {
            command.arg("-o").arg(set("Dir::State::status", path("status")));
        }
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C.UTF-8");
        command
    }

    /// Returns all packages whose name starts with `prefix`, in every version on offer.
    pub(crate) fn packages(&self, prefix: &str) -> Result<Vec<Package>> {
        let names = cmd::stdout(&mut self.command("apt-cache", &["pkgnames", prefix]))?;
        let names: Vec<&str> = names.lines().collect();
        if names.is_empty() {
            return Ok(Vec::new());
        }
        // "  name | version | source"
        let mut arguments = vec!["madison"];
        arguments.extend(names);
        let text = cmd::stdout(&mut self.command("apt-cache", &arguments))?;
        Ok(text
            .lines()
            .filter_map(|line| {
                let mut columns = line.split('|').map(str::trim);
                Some(Package { name: columns.next()?.to_owned(), version: columns.next()?.to_owned() })
            })
            .collect())
    }

    /// Downloads packages into `dir`. Returns the files, in the order of `wanted`.
    pub(crate) fn download(&self, dir: &Path, wanted: &[Package]) -> Result<Vec<PathBuf>> {
        let mut command = self.command("apt-get", &["download"]);
        command.current_dir(dir);
        for package in wanted {
            command.arg(format!("{}={}", package.name, package.version));
        }
        let names: Vec<&str> = wanted.iter().map(|package| package.name.as_str()).collect();
        say(&format!("apt: downloading {}", names.join(", ")));
        cmd::run(&mut command).with_context(|| format!("cannot download {}", names.join(", ")))?;
        wanted
            .iter()
            .map(|package| {
                let prefix = format!("{}_", package.name);
                fs::read_dir(dir)?
                    .flatten()
                    .map(|entry| entry.path())
                    .find(|path| {
                        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix))
                            && path.extension().is_some_and(|extension| extension == "deb")
                    })
                    .with_context(|| format!("apt-get downloaded no {}", package.name))
            })
            .collect()
    }

    /// Downloads packages (`name` or `name=version`) and all their dependencies into `dir`. Returns the files. For a
    /// view of an empty system.
    pub(crate) fn download_with_dependencies(&self, dir: &Path, wanted: &[String]) -> Result<Vec<PathBuf>> {
        fs::create_dir_all(dir.join("partial"))
            .with_context(|| format!("cannot create {}", dir.display()))?;
        let mut command = self.command("apt-get", &["-y", "--no-install-recommends", "--download-only"]);
        command.arg("-o").arg(format!("Dir::Cache::archives={}", dir.display()));
        command.arg("install").args(wanted);
        say(&format!("apt: downloading {} and what they need", wanted.join(", ")));
        cmd::run(&mut command).with_context(|| format!("cannot download {}", wanted.join(", ")))?;
        let debs = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
        Ok(debs
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .collect())
    }

    /// Installs packages on this system; `release` is the suite to prefer.
    pub(crate) fn install(&self, release: Option<&str>, packages: &[&str]) -> Result<()> {
        say(&format!("apt: installing {}", packages.join(" ")));
        let mut command = self.command("apt-get", &["-y", "--no-install-recommends"]);
        if let Some(release) = release {
            command.args(["-t", release]);
        }
        command.arg("install").args(packages);
        if !rustix::process::geteuid().is_root() {
            if cmd::find("sudo").is_none() || cmd::run(Command::new("sudo").args(["-n", "true"])).is_err() {
                bail!(
                    "the lab needs Debian packages and installing them needs root: \
                     run `sudo apt-get install {}` yourself (QEMU 9.1 or newer: on Debian 12 from backports), \
                     then run this again",
                    packages.join(" ")
                );
            }
            let mut sudo = Command::new("sudo");
            sudo.args(["-n", "DEBIAN_FRONTEND=noninteractive"])
                .arg(command.get_program())
                .args(command.get_args());
            command = sudo;
        }
        cmd::run(&mut command).context("apt-get could not install them")?;
        Ok(())
    }
}

/// Returns the suite from which this system gets newer packages than its own.
pub(crate) fn backports() -> Result<Option<String>> {
    let (_, codename) = os_release()?;
    Ok((codename == "bookworm").then(|| format!("{codename}-backports")))
}

/// Unpacks a package's files below `dir`, without installing it.
pub(crate) fn unpack(deb: &Path, dir: &Path) -> Result<()> {
    cmd::run(Command::new("dpkg-deb").arg("-x").arg(deb).arg(dir))?;
    Ok(())
}

/// Returns the package with the newest version, compared as dpkg does.
pub(crate) fn newest(packages: impl IntoIterator<Item = Package>) -> Option<Package> {
    packages.into_iter().reduce(|best, other| {
        let newer = Command::new("dpkg")
            .args(["--compare-versions", &other.version, "gt", &best.version])
            .status()
            .is_ok_and(|status| status.success());
        if newer { other } else { best }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_is_dpkgs_newest() {
        let package = |version: &str| Package { name: "x".to_owned(), version: version.to_owned() };
        let best = newest([package("6.12.95-1~bpo12+1"), package("6.12.117-1~deb12u1"), package("6.12.9-1")]);
        assert_eq!(best, Some(package("6.12.117-1~deb12u1")));
    }
}
