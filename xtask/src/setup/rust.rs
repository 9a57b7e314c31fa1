//! The two things that rustc lacks for BPF: the source of `core`, and bpf-linker.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    cache::Cache,
    cmd,
    progress::say,
    setup::{
        Archive,
        apt::{self, Package},
    },
    workspace,
};

/// Version of bpf-linker: 0.10 uses LLVM 22, as rustc 1.95 does; 0.11 needs LLVM 23.
const LINKER_VERSION: &str = "0.10.3";

/// Returns the folder in which rustc looks for the sources of the standard library.
fn source_dir() -> Result<PathBuf> {
    let sysroot = cmd::stdout(Command::new("rustc").args(["--print", "sysroot"]))?;
    Ok(Path::new(&sysroot).join("lib/rustlib/src/rust"))
}

fn has_core(source: &Path) -> bool {
    source.join("library/core/src/lib.rs").is_file() && source.join("library/Cargo.lock").is_file()
}

/// Parses `1.95.0` of `rustc 1.95.0 (…)`.
fn rustc_version() -> Result<String> {
    let line = cmd::stdout(Command::new("rustc").arg("--version"))?;
    line.split_whitespace()
        .nth(1)
        .map(str::to_owned)
        .with_context(|| format!("cannot read rustc's version from {line:?}"))
}

fn linker_works(path: &Path) -> bool {
    cmd::stdout(Command::new(path).arg("--version")).is_ok_and(|said| said.contains(LINKER_VERSION))
}

/// Returns true if a build can start.
pub(crate) fn ready() -> Result<bool> {
    Ok(has_core(&source_dir()?) && linker_works(&workspace::tools_dir()?.join("bin/bpf-linker")))
}

/// Provides the source of `core`: rustup's, else the same source as Debian packages it.
pub(crate) fn source(archive: &Archive<'_>) -> Result<()> {
    let target = source_dir()?;
    if has_core(&target) {
        return Ok(());
    }
    // A link to a folder that is no longer in the cache would make rustup fail.
    if target.is_symlink() {
        fs::remove_file(&target)
            .with_context(|| format!("cannot remove the stale link {}", target.display()))?;
    }
    say("rust-src: asking rustup");
    if cmd::run(Command::new("rustup").args(["component", "add", "rust-src"])).is_ok() && has_core(&target) {
        return Ok(());
    }
    let version = rustc_version()?;
    say(&format!("rust-src: rustup cannot download it; taking Debian's package of {version}"));
    let apt = archive.apt()?;
    let offered = apt.packages("rust-src")?;
    let matching = |package: &Package| {
        package.name == "rust-src" && package.version.split(['+', '-']).next() == Some(version.as_str())
    };
    let Some(package) = apt::newest(offered.into_iter().filter(matching)) else {
        bail!(
            "the eBPF programs need rust-src {version}, and neither rustup nor the Debian mirror offers it: \
             run `rustup component add rust-src` where rustup can download, or ask the mirror for trixie-backports"
        );
    };
    let source = archive.cache.folder(&format!("rust-src/{}", package.version), |dir| {
        let debs = apt.download(dir, std::slice::from_ref(&package))?;
        for deb in &debs {
            apt::unpack(deb, dir)?;
            fs::remove_file(deb).context("cannot remove the package file")?;
        }
        Ok(())
    })?;
    let unpacked = source.join(format!("usr/src/rustc-{version}"));
    if !has_core(&unpacked) {
        bail!("Debian's rust-src {} has no core in {}", package.version, unpacked.display());
    }
    let parent = target.parent().context("rustc's sysroot has no parent folder")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    symlink(&unpacked, &target).with_context(|| format!("cannot link rust-src into {}", target.display()))?;
    Ok(())
}

/// Builds bpf-linker once into the cache and copies it to this checkout's target folder.
pub(crate) fn linker(cache: &Cache) -> Result<()> {
    let tools = workspace::tools_dir()?;
    let installed = tools.join("bin/bpf-linker");
    if linker_works(&installed) {
        return Ok(());
    }
    let rustc = rustc_version()?;
    let built = cache.folder(&format!("tools/bpf-linker-{LINKER_VERSION}-rustc-{rustc}"), |dir| {
        say(&format!("bpf-linker: building {LINKER_VERSION} (about a minute)"));
        cmd::run(
            Command::new("cargo")
                .args(["install", "bpf-linker", "--version", LINKER_VERSION, "--locked", "--quiet", "--root"])
                .arg(dir)
                .arg("--target-dir")
                .arg(tools.join("bpf-linker-build"))
                // It must be built like any program, whatever flags the present build has.
                .env_remove("RUSTFLAGS")
                .env_remove("CARGO_ENCODED_RUSTFLAGS"),
        )
        .context("cannot build bpf-linker: is the crate registry reachable?")?;
        Ok(())
    })?;
    fs::create_dir_all(tools.join("bin")).with_context(|| format!("cannot create {}", tools.display()))?;
    fs::copy(built.join("bin/bpf-linker"), &installed).context("cannot copy bpf-linker from the cache")?;
    if !linker_works(&installed) {
        bail!("{} does not run; remove {} and run this again", installed.display(), built.display());
    }
    drop(fs::remove_dir_all(tools.join("bpf-linker-build")));
    say("bpf-linker: ready");
    Ok(())
}
