//! `cargo xtask build`: the release binaries, with what they need set up first.

use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

use crate::{cmd, progress::say, setup, workspace};

/// `cargo xtask build`.
pub(crate) fn main() -> Result<ExitCode> {
    setup::for_build()?;
    binaries()?;
    Ok(ExitCode::SUCCESS)
}

/// Builds vfio-trace and the lab's programs.
pub(crate) fn binaries() -> Result<()> {
    say("build: release binaries");
    cmd::run_loud(
        Command::new("cargo")
            .args(["build", "--release", "--quiet", "-p", "vfio-trace", "-p", "lab"])
            .current_dir(workspace::root()),
    )
    .context("the release build failed")
}
