//! Paths in this checkout.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// Returns the root of the checkout.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// Returns the folder of the release binaries: the one that this very program runs from.
pub(crate) fn bin_dir() -> Result<PathBuf> {
    let exe = std::env::current_exe().context("cannot tell where xtask runs from")?;
    Ok(exe.parent().context("xtask runs from no folder")?.to_path_buf())
}

/// Returns cargo's target folder.
pub(crate) fn target_dir() -> Result<PathBuf> {
    let bin = bin_dir()?;
    Ok(bin.parent().context("the release folder has no parent")?.to_path_buf())
}

/// Returns the folder of tools that only this checkout uses; `vfio-trace/build.rs` looks for bpf-linker there.
pub(crate) fn tools_dir() -> Result<PathBuf> {
    Ok(target_dir()?.join("tools"))
}
