//! The `lib/modules` folder for a guest: links to Debian's modules, ours beside them, one index of both.

use std::{
    fs,
    hash::{DefaultHasher, Hasher as _},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    cache::Cache,
    cmd,
    progress::say,
    setup::{
        kernel::{Series, Unpacked},
        modules::folder,
    },
};

/// Returns the plain files of a folder, sorted.
pub(super) fn files(dir: &Path, wanted: impl Fn(&Path) -> bool) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_file() && !path.is_symlink() && wanted(path))
        .collect();
    files.sort();
    Ok(files)
}

/// Makes the tree `dir` with the modules `extra`.
pub(super) fn fill(
    cache: &Cache,
    dir: &Path,
    unpacked: &Unpacked,
    series: &Series,
    extra: &[PathBuf],
) -> Result<()> {
    let modules = dir.join("lib/modules").join(&unpacked.release);
    let ours = modules.join("extra");
    fs::create_dir_all(&ours).with_context(|| format!("cannot create {}", ours.display()))?;
    // Absolute links: the guest has the cache at the host's path, and mounts this folder elsewhere.
    for name in ["kernel", "modules.order", "modules.builtin", "modules.builtin.modinfo"] {
        symlink(unpacked.stock.join(name), modules.join(name))
            .with_context(|| format!("cannot link {name} into {}", modules.display()))?;
    }
    let mut hasher = DefaultHasher::new();
    for module in extra {
        let name = module.file_name().unwrap_or_default();
        fs::copy(module, ours.join(name)).with_context(|| format!("cannot copy {}", module.display()))?;
        hasher.write(name.as_encoded_bytes());
        hasher.write(&index_entry(module)?);
    }
    // depmod reads all of Debian's modules, too, and most edits of ours change nothing that it looks at.
    let index = unpacked.dir.join("indexes").join(format!("{:016x}", hasher.finish()));
    folder(cache, &index, |index| {
        say(&format!("kernel {}: indexing modules", series.name));
        cmd::run(kmod("depmod")?.arg("-b").arg(dir).arg(&unpacked.release))?;
        for file in files(&modules, |_| true)? {
            fs::rename(&file, index.join(file.file_name().unwrap_or_default()))
                .with_context(|| format!("cannot move {}", file.display()))?;
        }
        Ok(())
    })?;
    for file in files(&index, |_| true)? {
        fs::hard_link(&file, modules.join(file.file_name().unwrap_or_default()))
            .with_context(|| format!("cannot link {}", file.display()))?;
    }
    Ok(())
}

/// Returns a command for a program that an ordinary user's PATH lacks.
fn kmod(program: &str) -> Result<Command> {
    let path =
        cmd::find(program).with_context(|| format!("{program} is missing: install the package kmod"))?;
    Ok(Command::new(path))
}

/// Returns the properties of a module that depmod records.
fn index_entry(module: &Path) -> Result<Vec<u8>> {
    let mut entry = Vec::new();
    for field in ["depends", "alias", "softdep", "weakdep"] {
        let text = cmd::run(kmod("modinfo")?.args(["-F", field]).arg(module))?.stdout;
        entry.extend_from_slice(field.as_bytes());
        entry.extend(text);
    }
    // It fails for a module that exports nothing.
    let exports = cmd::run(kmod("modprobe")?.arg("--show-exports").arg(module));
    entry.extend(exports.map(|output| output.stdout).unwrap_or_default());
    Ok(entry)
}
