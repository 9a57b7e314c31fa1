//! Debian packages without touching the system's apt configuration: own sources list, own state, the system's mirror.
//!
//! A fresh machine's apt knows one suite; the lab needs packages of others. Which mirror to ask is read from the
//! system's own sources, only the suite is changed, and nothing below /etc or /var/lib/apt is written.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{cache::Cache, cmd, progress::say};

/// Suites asked for besides the system's own: kernels (6.1, 6.12, 7.3), and a rust-src that matches rustc.
const SUITES: &[&str] = &["bookworm", "bookworm-updates", "bookworm-backports", "trixie-backports"];
/// The suite of security updates, on a mirror of its own.
const SECURITY_SUITE: &str = "bookworm-security";

/// One repository line of the system's sources.
#[derive(Debug, PartialEq, Eq)]
struct Source {
    uri: String,
    suites: Vec<String>,
    components: Vec<String>,
    signed_by: Option<String>,
}

/// Reads deb822 paragraphs (`*.sources`).
fn parse_deb822(text: &str) -> Vec<Source> {
    let mut found = Vec::new();
    for paragraph in text.split("\n\n") {
        let mut fields: BTreeMap<String, String> = BTreeMap::new();
        let mut last = String::new();
        for line in paragraph.lines().filter(|line| !line.starts_with('#')) {
            if line.starts_with([' ', '\t']) {
                if let Some(value) = fields.get_mut(&last) {
                    value.push('\n');
                    value.push_str(line.trim());
                }
            } else if let Some((key, value)) = line.split_once(':') {
                last = key.trim().to_ascii_lowercase();
                fields.insert(last.clone(), value.trim().to_owned());
            }
        }
        let words = |key: &str| -> Vec<String> {
            fields
                .get(key)
                .map(|value| value.split_whitespace().map(str::to_owned).collect())
                .unwrap_or_default()
        };
        if fields.get("enabled").is_some_and(|value| value == "no")
            || !words("types").iter().any(|t| t == "deb")
        {
            continue;
        }
        for uri in words("uris") {
            found.push(Source {
                uri,
                suites: words("suites"),
                components: words("components"),
                // An inline key block is left to apt's trusted keys.
                signed_by: fields.get("signed-by").filter(|value| value.starts_with('/')).cloned(),
            });
        }
    }
    found
}

/// Reads one-line sources (`sources.list`, `*.list`).
fn parse_one_line(text: &str) -> Vec<Source> {
    text.lines()
        .filter_map(|line| {
            let line = line.split('#').next().unwrap_or_default().trim();
            let rest = line.strip_prefix("deb")?.strip_prefix([' ', '\t'])?.trim_start();
            let (options, rest) = match rest.strip_prefix('[') {
                Some(rest) => rest.split_once(']')?,
                None => ("", rest),
            };
            let mut words = rest.split_whitespace().map(str::to_owned);
            Some(Source {
                uri: words.next()?,
                suites: vec![words.next()?],
                components: words.collect(),
                signed_by: options
                    .split_whitespace()
                    .find_map(|option| option.strip_prefix("signed-by="))
                    .map(str::to_owned),
            })
        })
        .collect()
}

/// The system's sources, from all the places that apt reads.
fn system_sources(etc: &Path) -> Vec<Source> {
    let mut files = vec![etc.join("sources.list")];
    if let Ok(entries) = fs::read_dir(etc.join("sources.list.d")) {
        files.extend(entries.flatten().map(|entry| entry.path()));
    }
    files.sort();
    let mut found = Vec::new();
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("sources") => found.extend(parse_deb822(&text)),
            Some("list") => found.extend(parse_one_line(&text)),
            _ => {},
        }
    }
    found
}

/// The sources list that set-up uses, derived from the system's: its mirror, other suites.
fn derive(sources: &[Source], codename: &str) -> Result<String> {
    let archive = sources
        .iter()
        .find(|source| {
            source.suites.iter().any(|suite| suite == codename)
                && source.components.iter().any(|c| c == "main")
        })
        .with_context(|| {
            format!(
                "no Debian mirror found: none of apt's sources has suite {codename} with component main; \
                 add one to /etc/apt/sources.list.d and run this again"
            )
        })?;
    let security_uri = sources
        .iter()
        .find(|source| source.suites.iter().any(|suite| suite == &format!("{codename}-security")))
        .map_or_else(
            || format!("{}-security", archive.uri.trim_end_matches('/')),
            |source| source.uri.clone(),
        );
    let options = archive.signed_by.as_ref().map_or_else(String::new, |key| format!(" [signed-by={key}]"));
    let main = SUITES.iter().map(|suite| format!("deb{options} {} {suite} main\n", archive.uri));
    Ok(main.chain([format!("deb{options} {security_uri} {SECURITY_SUITE} main\n")]).collect())
}

/// `ID` and `VERSION_CODENAME` of this system.
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

/// A private view of the Debian archive.
pub(crate) struct Apt {
    dir: PathBuf,
}

/// A package as the archive offers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Package {
    /// Its name.
    pub(crate) name: String,
    /// Its version.
    pub(crate) version: String,
}

impl Apt {
    /// Writes the sources list and fetches the package lists.
    pub(crate) fn open(cache: &Cache) -> Result<Self> {
        let (id, codename) = os_release()?;
        ensure!(
            cmd::find("apt-get").is_some() && id == "debian",
            "set-up takes kernels, QEMU and rust-src from the Debian archive with apt, and this system is \
             \"{id}\": run it on Debian 12 or newer (a container will do for `cargo xtask build`)"
        );
        let dir = cache.path("apt");
        for folder in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(dir.join(folder))
                .with_context(|| format!("cannot create {}", dir.display()))?;
        }
        let list = derive(&system_sources(Path::new("/etc/apt")), &codename)?;
        fs::write(dir.join("sources.list"), list).context("cannot write the sources list")?;
        let apt = Self { dir };
        say("apt: fetching package lists (into the cache, the system's stay as they are)");
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
            // The system's pinning is about the system's suites.
            set("Dir::Etc::Preferences", "/dev/null".into()),
            set("Dir::Etc::PreferencesParts", "/dev/null".into()),
            set("Dir::State::Lists", path("lists")),
            set("Dir::Cache", path("cache")),
            set("Acquire::Languages", "none".into()),
            set("Acquire::Retries", "3".into()),
            // Else a mirror that does not answer is only a warning.
            set("APT::Update::Error-Mode", "any".into()),
            // Downloads go into our own folders, which the _apt user may not enter.
            set("APT::Sandbox::User", "".into()),
            set("APT::Get::List-Cleanup", "false".into()),
            set("DPkg::Lock::Timeout", "300".into()),
        ] {
            command.arg("-o").arg(option);
        }
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C.UTF-8");
        command
    }

    /// All packages whose name starts with `prefix`, in every version on offer.
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

    /// Downloads packages into `dir` and gives the files, in the order asked for.
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

/// The suite from which this system gets newer packages than its own.
pub(crate) fn backports() -> Result<Option<String>> {
    let (_, codename) = os_release()?;
    Ok((codename == "bookworm").then(|| format!("{codename}-backports")))
}

/// Unpacks a package's files below `dir`, without installing it.
pub(crate) fn unpack(deb: &Path, dir: &Path) -> Result<()> {
    cmd::run(Command::new("dpkg-deb").arg("-x").arg(deb).arg(dir))?;
    Ok(())
}

/// Compares versions as dpkg does.
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

    const DEB822: &str = "Types: deb\n# a comment\nURIs: http://mirror.test/debian\nSuites: bookworm bookworm-updates\n\
                          Components: main\nSigned-By: /usr/share/keyrings/k.gpg\n\nTypes: deb\n\
                          URIs: http://mirror.test/sec\nSuites: bookworm-security\nComponents: main\n\n\
                          Enabled: no\nTypes: deb\nURIs: http://off.test\nSuites: bookworm\nComponents: main\n";

    #[test]
    fn both_formats_name_the_mirror() {
        let list = derive(&parse_deb822(DEB822), "bookworm").unwrap();
        assert!(list.contains(
            "deb [signed-by=/usr/share/keyrings/k.gpg] http://mirror.test/debian trixie-backports main\n"
        ));
        assert!(list.contains("http://mirror.test/sec bookworm-security main\n"));
        assert!(!list.contains("off.test"));

        let old = "# x\ndeb [arch=amd64 signed-by=/k] http://m.test/debian/ bookworm main contrib # y\ndeb-src http://s bookworm main\n";
        let sources = parse_one_line(old);
        assert_eq!(sources.len(), 1);
        let list = derive(&sources, "bookworm").unwrap();
        assert!(
            list.contains("deb [signed-by=/k] http://m.test/debian-security bookworm-security main\n"),
            "{list}"
        );
    }

    #[test]
    fn no_mirror_is_one_clear_line() {
        let error = derive(&parse_deb822(DEB822), "sid").unwrap_err().to_string();
        assert!(error.contains("no Debian mirror found"), "{error}");
    }

    #[test]
    fn newest_is_dpkgs_newest() {
        let package = |version: &str| Package { name: "x".to_owned(), version: version.to_owned() };
        let best = newest([package("6.12.95-1~bpo12+1"), package("6.12.117-1~deb12u1"), package("6.12.9-1")]);
        assert_eq!(best, Some(package("6.12.117-1~deb12u1")));
    }
}
