//! `cargo xtask build`: sets up the requirements of the build, then builds the release binaries.

use std::{
    io::IsTerminal as _,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result};

use crate::{cmd, progress::say, setup, workspace};

/// Runs `cargo xtask build`.
pub(crate) fn main() -> Result<ExitCode> {
    setup::for_build()?;
    binaries()?;
    Ok(ExitCode::SUCCESS)
}

/// Builds vfio-trace and the lab's programs.
pub(crate) fn binaries() -> Result<()> {
    say("build: release binaries (one to two minutes the first time)");
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "-p", "vfio-trace", "-p", "lab"]).current_dir(workspace::root());
    // On a terminal cargo shows its own progress; in a log that is a page of noise.
    if !std::io::stderr().is_terminal() {
        cargo.arg("--quiet");
    }
    cmd::run_loud(&mut cargo).context("the release build failed")
}
