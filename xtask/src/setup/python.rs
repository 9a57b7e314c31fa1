//! Python for programs that read the output of vfio-trace: a venv in the cache for each set of pinned packages.

use std::{
    fs,
    hash::{DefaultHasher, Hasher as _},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    cache::{self, Cache},
    cmd,
    progress::say,
};

/// Changes when venvs are made in another way.
const RECIPE: u8 = 1;

/// Path of the interpreter, below a venv.
const PYTHON: &str = "bin/python";

/// Packages that are used together, in one venv.
#[derive(Debug)]
pub(crate) struct Packages {
    /// Part of the venv's name.
    name: &'static str,
    /// Requirements in pip's format: versions and hashes.
    requirements: &'static str,
    /// Modules whose import shows that the venv works.
    modules: &'static [&'static str],
}

/// Packages that read exports and other documents.
pub(crate) const EXPORT: Packages = Packages {
    name: "export",
    requirements: include_str!("python/export.txt"),
    modules: &["jsonschema", "jsonschema_rs", "perfetto.protos.perfetto.trace.perfetto_trace_pb2"],
};

/// All sets of packages.
const ALL: &[&Packages] = &[&EXPORT];

impl Packages {
    /// Returns the venv's folder in the cache. A venv is a link to the Python that made it, and compiled packages are
    /// for one version: another Python has another folder.
    fn folder(&self) -> Result<String> {
        let python = cmd::stdout(Command::new("python3").args([
            "-I",
            "-c",
            "import sys; print(sys.base_prefix, sys.version)",
        ]))
        .context("tests of what other programs read need Python: install python3")?;
        let mut hasher = DefaultHasher::new();
        hasher.write_u8(RECIPE);
        hasher.write(self.requirements.as_bytes());
        hasher.write(python.as_bytes());
        Ok(format!("python/{}-{:016x}", self.name, hasher.finish()))
    }
}

/// Returns the Python that has these packages. Needs no network; `setup` has made it.
pub(crate) fn ready(packages: &Packages) -> Result<PathBuf> {
    let python = cache::root()?.join(packages.folder()?).join(PYTHON);
    ensure!(python.exists(), "the Python packages for {} are missing: run cargo xtask setup", packages.name);
    Ok(python)
}

/// Returns true if nothing has to be installed.
pub(super) fn all_ready() -> bool {
    ALL.iter().all(|packages| ready(packages).is_ok())
}

/// Makes the missing venvs.
pub(super) fn install(cache: &Cache) -> Result<()> {
    for packages in ALL {
        cache.folder(&packages.folder()?, |dir| fill(packages, dir))?;
    }
    Ok(())
}

fn fill(packages: &Packages, dir: &Path) -> Result<()> {
    say(&format!("python: installing packages for {}", packages.name));
    // Debian has the module that puts pip into venvs in a package of its own; the system's pip serves any venv.
    cmd::run(Command::new("python3").args(["-I", "-m", "venv", "--without-pip"]).arg(dir))
        .context("cannot make a venv")?;
    let list = dir.join("requirements.txt");
    fs::write(&list, packages.requirements).with_context(|| format!("cannot write {}", list.display()))?;
    let python = dir.join(PYTHON);
    let pip = ["-m", "pip", "--python"];
    let install = ["install", "--quiet", "--require-hashes", "--only-binary", ":all:", "--no-deps", "-r"];
    cmd::run(Command::new("python3").args(pip).arg(&python).args(install).arg(&list))
        .context("pip cannot install the packages: is the package index reachable?")?;
    for module in packages.modules {
        cmd::run(Command::new(&python).args(["-I", "-c", &format!("import {module}")]))
            .with_context(|| format!("pip has installed {module}, and it does not work"))?;
    }
    Ok(())
}
