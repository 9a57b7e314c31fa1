//! Makes the initramfs: static busybox, the modules that reach the root file system, one script.

use std::{
    fs,
    io::Cursor,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use cpio::{NewcBuilder, write_cpio};

use crate::{cmd, lab::guest, setup, setup::kernel::Kernel};

/// Modules that the root file system needs. modprobe finds their dependencies; built-in ones are left out.
const MODULES: &[&str] = &["virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay"];

const FILE: u32 = 0o100_755;
const FOLDER: u32 = 0o040_755;

/// Returns the module files, in the order in which they must be loaded.
fn module_files(kernel: &Kernel) -> Result<Vec<PathBuf>> {
    let mut command =
        Command::new(cmd::find("modprobe").context("modprobe is missing: run `cargo xtask setup`")?);
    let root = kernel.lib_modules();
    let root = root.ancestors().nth(2).context("no root above lib/modules")?;
    command.arg("-d").arg(root).args(["-S", &kernel.release, "--show-depends", "-a"]).args(MODULES);
    let mut files = Vec::new();
    for line in cmd::stdout(&mut command)?.lines() {
        if let Some(path) = line.strip_prefix("insmod ") {
            let path = PathBuf::from(path.trim());
            if !files.contains(&path) {
                files.push(path);
            }
        }
    }
    Ok(files)
}

fn decompressed(path: &Path) -> Result<Vec<u8>> {
    let program = match path.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => return fs::read(path).with_context(|| format!("cannot read {}", path.display())),
    };
    Ok(cmd::run(Command::new(program).arg("-dc").arg(path))?.stdout)
}

/// Writes the initramfs for a kernel.
pub(super) fn write(kernel: &Kernel, target: &Path) -> Result<()> {
    let busybox = setup::host::static_busybox().context("no static busybox: run `cargo xtask setup`")?;
    let busybox = fs::read(&busybox).with_context(|| format!("cannot read {}", busybox.display()))?;
    let mut entries: Vec<(String, u32, Vec<u8>)> = vec![
        ("bin".to_owned(), FOLDER, Vec::new()),
        ("dev".to_owned(), FOLDER, Vec::new()),
        ("modules".to_owned(), FOLDER, Vec::new()),
        ("bin/busybox".to_owned(), FILE, busybox),
        ("init".to_owned(), FILE, guest::INIT.as_bytes().to_vec()),
    ];
    for (index, path) in module_files(kernel)?.iter().enumerate() {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let name = name.split(".ko").next().unwrap_or_default();
        entries.push((format!("modules/{index:02}-{name}.ko"), FILE, decompressed(path)?));
    }
    let entries = entries.into_iter().zip(1..).map(|((name, mode, content), inode)| {
        (NewcBuilder::new(&name).mode(mode).nlink(1).ino(inode), Cursor::new(content))
    });
    let file = fs::File::create(target).with_context(|| format!("cannot create {}", target.display()))?;
    write_cpio(entries, file).with_context(|| format!("cannot write {}", target.display()))?;
    Ok(())
}
