//! The modules that Debian does not build: the kernel's own samples, VFIO with debugfs, and this checkout's.
//!
//! The name of each has a hash of its sources, and so has that of each modules tree: an edit builds one module anew,
//! and clones with different sources share the cache without disturbing each other.

use std::{
    fs,
    hash::{DefaultHasher, Hasher as _},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::{
    cache::Cache,
    setup::{
        backport,
        hisi::{self, Hisi},
        kernel::{Driver, Replacement, Series, Unpacked},
        module::{Module, RECIPE},
        packages::only_file,
        tree::{self, files},
    },
    workspace,
};

/// Time after which results are removed that no checkout has asked for.
const KEPT: Duration = Duration::from_hours(14 * 24);

/// A driver of the kernel tree in one source file.
#[derive(Debug)]
pub(super) struct Sample {
    /// Name of the module.
    pub(super) name: &'static str,
    /// Path of its source file, in the kernel tree.
    pub(super) source: &'static str,
}

/// Makes a folder as [`Cache::folder`] does, for an absolute path below the cache.
pub(super) fn folder(cache: &Cache, path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let path = path.to_str().with_context(|| format!("{} is no text", path.display()))?;
    cache.folder(path, fill).map(drop)
}

/// All modules of a kernel. [`plan`] makes it from the sources as they are now.
pub(super) struct Plans {
    /// Modules that modprobe finds, without the simulated hardware's.
    extra: Vec<Module>,
    /// VFIO's core with debugfs.
    vfio: Option<Module>,
    /// Simulated hardware and its driver.
    hisi: Option<Hisi>,
}

/// Plans the modules of a kernel, from the sources as they are now.
pub(super) fn plan(unpacked: &Unpacked, series: &Series) -> Result<Plans> {
    let mut extra = Vec::new();
    for Sample { name, source } in series.samples {
        let file = unpacked.source().join(source);
        extra.push(Module::new(name, &[file], &["modules"])?);
    }
    for backport in backport::of(series) {
        let (name, files) = (backport.name, backport.files(unpacked)?);
        extra.push(Module::of(name, &format!("{name}.ko"), files, &["modules"], &[]));
    }
    if series.mlx5 {
        extra.push(mlx5(unpacked)?);
    }
    extra.extend(own(&workspace::root().join("lab/modules"))?);
    let vfio = series.debugfs.then(|| vfio(unpacked)).transpose()?;
    let hisi = series.hisi.as_ref();
    let hisi = hisi.map(|hisi| Hisi::plan(unpacked, &hisi.manager, hisi.debugfs)).transpose()?;
    Ok(Plans { extra, vfio, hisi })
}

pub(super) fn is_c(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "c" || extension == "h")
}

/// Returns all files from which a module of this checkout is built.
pub(super) fn own_files(folder: &Path) -> Result<Vec<PathBuf>> {
    files(folder, |path| is_c(path) || path.ends_with("Kbuild"))
}

/// Returns the checkout's own modules: each folder that has a C file of its name, or a Kbuild that makes the module
/// from several.
fn own(dir: &Path) -> Result<Vec<Module>> {
    let Ok(entries) = fs::read_dir(dir) else { return Ok(Vec::new()) };
    let mut folders: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    folders.sort();
    let mut modules = Vec::new();
    for folder in folders {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if folder.join(format!("{name}.c")).is_file() || folder.join("Kbuild").is_file() {
            modules.push(Module::new(&name, &own_files(&folder)?, &["modules"])?);
        }
    }
    Ok(modules)
}

/// Returns NVIDIA's migration driver, which Debian does not build.
fn mlx5(unpacked: &Unpacked) -> Result<Module> {
    let kept = |path: &Path| is_c(path) || path.ends_with("Makefile");
    let files = files(&unpacked.source().join("drivers/vfio/pci/mlx5"), kept)?;
    Module::new("mlx5-vfio-pci", &files, &["CONFIG_MLX5_VFIO_PCI=m", "modules"])
}

/// Returns VFIO's core as Debian builds it, from the same files and its own Makefile, but with debugfs.
fn vfio(unpacked: &Unpacked) -> Result<Module> {
    let files =
        files(&unpacked.source().join("drivers/vfio"), |path| is_c(path) || path.ends_with("Makefile"))?;
    // The first is for the Makefile, the second for the code. The Makefile's other modules are not built.
    let make = &["CONFIG_VFIO_DEBUGFS=y", "KCFLAGS=-DCONFIG_VFIO_DEBUGFS=1", "vfio.ko"];
    Module::new("vfio", &files, make)
}

/// Returns the path of Debian's own vfio module.
pub(super) fn stock_vfio(unpacked: &Unpacked) -> Result<PathBuf> {
    only_file(&unpacked.stock.join("kernel/drivers/vfio"), "vfio.ko")
}

impl Plans {
    /// Returns the modules that modprobe finds.
    fn installed(&self) -> impl Iterator<Item = &Module> {
        self.extra.iter().chain(self.hisi.iter().flat_map(|hisi| &hisi.installed))
    }

    /// Returns all modules, in an order in which they can be built.
    fn all(&self) -> impl Iterator<Item = &Module> {
        self.extra.iter().chain(self.hisi.iter().flat_map(Hisi::modules)).chain(&self.vfio)
    }

    fn tree(&self, unpacked: &Unpacked) -> PathBuf {
        let mut hasher = DefaultHasher::new();
        for module in self.installed() {
            hasher.write(module.ident.as_bytes());
        }
        unpacked.dir.join("trees").join(format!("{RECIPE}-{:016x}", hasher.finish()))
    }

    /// Returns the `lib/modules` folder with Debian's modules and ours.
    pub(super) fn lib_modules(&self, unpacked: &Unpacked) -> PathBuf {
        self.tree(unpacked).join("lib/modules")
    }

    /// Returns VFIO's core with debugfs, as the replacement of Debian's.
    pub(super) fn debugfs_vfio(&self, unpacked: &Unpacked) -> Result<Option<Replacement>> {
        let Some(module) = &self.vfio else { return Ok(None) };
        Ok(Some(Replacement { built: module.built(unpacked), place: stock_vfio(unpacked)? }))
    }

    /// Returns all variants of the simulated hardware's driver: the variant, true for debugfs, and the replacement that
    /// makes it (none for the installed build).
    pub(super) fn drivers(&self, unpacked: &Unpacked) -> Vec<(Driver, bool, Option<Replacement>)> {
        let Some(hisi) = &self.hisi else { return Vec::new() };
        [(Driver::Hisi, false), (Driver::HisiNoinline, true)]
            .into_iter()
            .flat_map(|(driver, noinline)| [(driver, noinline, false), (driver, noinline, true)])
            .map(|(driver, noinline, debugfs)| {
                let place = hisi::installed(&unpacked.release);
                let variant = hisi.variant(noinline, debugfs);
                let replacement = variant.map(|module| Replacement { built: module.built(unpacked), place });
                (driver, debugfs, replacement)
            })
            .collect()
    }

    /// Returns true if all modules are built.
    pub(super) fn done(&self, unpacked: &Unpacked) -> bool {
        let mut rest = self.hisi.iter().flat_map(|hisi| &hisi.variants).map(|(_, _, module)| module);
        self.tree(unpacked).is_dir()
            && self.vfio.iter().all(|module| module.folder(unpacked).is_dir())
            && rest.all(|module| module.folder(unpacked).is_dir())
    }

    /// Builds the missing modules.
    pub(super) fn build(&self, cache: &Cache, unpacked: &Unpacked, series: &Series) -> Result<()> {
        for module in self.all() {
            module.build(cache, unpacked, series)?;
        }
        folder(cache, &self.tree(unpacked), |dir| {
            let extra: Vec<PathBuf> = self.installed().map(|module| module.built(unpacked)).collect();
            tree::fill(cache, dir, unpacked, series, &extra)
        })?;
        let used: Vec<PathBuf> =
            self.all().map(|module| module.folder(unpacked)).chain([self.tree(unpacked)]).collect();
        for folder in ["built", "trees", "indexes", "build/lab"] {
            prune(&unpacked.dir.join(folder), &used);
        }
        Ok(())
    }
}

/// Removes entries that are old and not in use now.
fn prune(dir: &Path, used: &[PathBuf]) {
    for entry in fs::read_dir(dir).into_iter().flat_map(Iterator::flatten) {
        let age = entry.metadata().and_then(|data| data.modified()).ok().and_then(|time| time.elapsed().ok());
        if age.is_some_and(|age| age > KEPT) && !used.contains(&entry.path()) {
            drop(fs::remove_dir_all(entry.path()));
        }
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    struct ModuleFolder(TempDir);

    impl ModuleFolder {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn put(&self, file: &str, content: &str) {
            let path = self.0.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }

        fn idents(&self) -> Vec<String> {
            own(self.0.path()).unwrap().into_iter().map(|module| module.ident).collect()
        }
    }

    #[test]
    fn an_edit_renames_only_its_module() {
        let folder = ModuleFolder::new();
        folder.put("one/one.c", "int a;");
        folder.put("two/Kbuild", "obj-m := two.o");
        folder.put("two/main.c", "int b;");
        folder.put("none/notes.txt", "no module");
        let before = folder.idents();
        assert_eq!(before.len(), 2, "{before:?}");
        folder.put("one/.one.c.swp", "an editor's");
        assert_eq!(folder.idents(), before);
        folder.put("two/Kbuild", "obj-m := two.o # edited");
        let after = folder.idents();
        assert_eq!(after[0], before[0]);
        assert_ne!(after[1], before[1]);
    }

    #[test]
    fn sources_elsewhere_with_the_same_content_share_a_name() {
        let (here, there) = (ModuleFolder::new(), ModuleFolder::new());
        for folder in [&here, &there] {
            folder.put("one/one.c", "int a;");
        }
        assert_eq!(here.idents(), there.idents());
        assert!(own(Path::new("/nowhere")).unwrap().is_empty());
    }
}
