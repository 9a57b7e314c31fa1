//! The Debian packages that the lab uses on the host: QEMU, busybox for the initramfs, build tools for kernel modules,
//! Python for programs that read the output of vfio-trace.

use std::process::Command;

use anyhow::{Result, bail};

use crate::{
    cmd,
    setup::{Archive, apt},
};

/// Programs of the lab, each with its package.
const PROGRAMS: &[(&str, &str)] = &[
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("depmod", "kmod"),
    ("pahole", "dwarves"),
    ("x86_64-linux-gnu-gcc-12", "gcc-12"),
    ("make", "make"),
    ("xz", "xz-utils"),
    ("zstd", "zstd"),
    ("setpriv", "util-linux"),
    ("fusermount3", "fuse3"),
    ("python3", "python3"),
    ("pip3", "python3-pip"),
];

/// Oldest usable QEMU: 9.1 is the first with `migration-events`; older ones (before 8) speak the old VFIO protocol.
const QEMU_AT_LEAST: (u32, u32) = (9, 1);

/// Parses `10.0` of `QEMU emulator version 10.0.2 (…)`.
fn parse_qemu_version(text: &str) -> Option<(u32, u32)> {
    let version = text.split_whitespace().skip_while(|word| *word != "version").nth(1)?;
    let mut numbers = version.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn qemu_is_new_enough() -> bool {
    cmd::stdout(Command::new("qemu-system-x86_64").arg("--version"))
        .ok()
        .and_then(|text| parse_qemu_version(&text))
        .is_some_and(|version| version >= QEMU_AT_LEAST)
}

/// Returns the path of busybox if it is static: it is the only program in the initramfs.
pub(crate) fn static_busybox() -> Option<std::path::PathBuf> {
    let path = cmd::find("busybox")?;
    let head = std::fs::read(&path).ok()?;
    // A static executable names no interpreter.
    let dynamic = head.windows(9).take(4096).any(|bytes| bytes == b"/ld-linux");
    (!dynamic).then_some(path)
}

fn missing() -> Vec<&'static str> {
    let mut packages: Vec<&str> = PROGRAMS
        .iter()
        .filter(|(program, _)| cmd::find(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    if static_busybox().is_none() {
        packages.push("busybox-static");
    }
    if !packages.contains(&"qemu-system-x86") && !qemu_is_new_enough() {
        packages.push("qemu-system-x86");
    }
    packages
}

/// Returns true if nothing has to be installed.
pub(crate) fn ready() -> bool {
    missing().is_empty()
}

/// Installs the missing packages.
pub(crate) fn install(archive: &Archive<'_>) -> Result<()> {
    let packages = missing();
    if packages.is_empty() {
        return Ok(());
    }
    archive.apt()?.install(apt::backports()?.as_deref(), &packages)?;
    let still = missing();
    if !still.is_empty() {
        bail!("installed, but still missing or too old: {}", still.join(" "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn qemu_versions() {
        assert_eq!(
            parse_qemu_version("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds)\nCopyright"),
            Some((10, 0))
        );
        assert_eq!(parse_qemu_version("QEMU emulator version 7.2.19"), Some((7, 2)));
        assert_eq!(parse_qemu_version("no such thing"), None);
    }
}
