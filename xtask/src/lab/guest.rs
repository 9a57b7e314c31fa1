//! Writes the guest's scripts and their parameters: the paths, and the command.

use std::{ffi::OsString, fs, path::Path};

use anyhow::{Context as _, Result};

use crate::{
    cmd::shell_quote,
    setup::kernel::{Driver, Kernel, Replacement},
    workspace,
};

/// Script of the first stage, in the initramfs.
pub(super) const INIT: &str = include_str!("../../../lab/guest/init.sh");
/// Script of the second stage, in the share.
const GUEST: &str = include_str!("../../../lab/guest/guest.sh");
/// Script that the second stage runs if hardware is simulated.
const HISI: &str = include_str!("../../../lab/guest/hisi.sh");

/// Additions to a stock kernel in the guest. A check or the command line chooses them; [`write()`] tells the guest.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Extras {
    /// True if VFIO's core is the one rebuilt with debugfs.
    pub(crate) debugfs: bool,
    /// Driver that is bound to simulated hardware.
    pub(crate) driver: Option<Driver>,
}

/// Writes the scripts into the share. Without a command the guest gives a shell.
pub(super) fn write(
    share: &Path,
    kernel: &Kernel,
    extras: Extras,
    command: Option<&[OsString]>,
) -> Result<()> {
    let bin = workspace::bin_dir()?;
    let cwd = std::env::current_dir().context("cannot tell the current folder")?;
    let mut parameters = String::new();
    let mut set = |name: &str, value: &std::ffi::OsStr| {
        parameters.push_str(name);
        parameters.push('=');
        parameters.push_str(&shell_quote(value));
        parameters.push('\n');
    };
    set("lab_modules", kernel.lib_modules().as_os_str());
    // Two lines each: the module built, and the module that it replaces.
    let mut replacements = OsString::new();
    for Replacement { built, place } in kernel.replacements(extras.debugfs, extras.driver)? {
        for path in [built, place] {
            replacements.push(path);
            replacements.push("\n");
        }
    }
    set("lab_replacements", &replacements);
    set("lab_driver", if extras.driver.is_some() { "hisi" } else { "" }.as_ref());
    set("lab_bin", bin.as_os_str());
    set("lab_cwd", cwd.as_os_str());
    if command.is_none() {
        set("lab_term", &std::env::var_os("TERM").unwrap_or_else(|| "linux".into()));
        set("lab_shell", "exec bash -i".as_ref());
    }
    let words: Vec<String> = command.unwrap_or_default().iter().map(|word| shell_quote(word)).collect();
    for (name, text) in [
        ("guest.sh", GUEST.to_owned()),
        ("hisi.sh", HISI.to_owned()),
        ("parameters", parameters),
        ("command", format!("exec {}\n", words.join(" "))),
    ] {
        fs::write(share.join(name), text).with_context(|| format!("cannot write {name} for the guest"))?;
    }
    Ok(())
}
