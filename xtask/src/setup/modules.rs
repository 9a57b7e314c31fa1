//! The modules that Debian does not build: the kernel's own samples, VFIO with debugfs, and this checkout's.
//!
//! Each is named by a hash of what it is made of, and so is each modules tree: an edit builds one module anew, and clones
//! with different sources share the cache without disturbing each other.

use std::{
    ffi::OsString,
    fs,
    hash::{DefaultHasher, Hasher as _},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    cache::Cache,
    cmd,
    progress::say,
    setup::{
        backport,
        kernel::{Series, Unpacked},
        packages::only_file,
        toolchain::Toolchain,
        tree::{self, files},
    },
    workspace,
};

/// Changes when modules are built or installed in another way.
const RECIPE: u8 = 1;

/// Results that no checkout asked for in this time are removed.
const KEPT: Duration = Duration::from_hours(14 * 24);

/// A driver of the kernel tree in one source file.
#[derive(Debug)]
pub(super) struct Sample {
    /// The module's name.
    pub(super) name: &'static str,
    /// The file, in the kernel tree.
    pub(super) source: &'static str,
}

/// A module to build.
#[derive(Debug)]
struct Module {
    name: String,
    /// All that it is built from, as it was hashed: names and contents.
    files: Vec<(OsString, Vec<u8>)>,
    /// Arguments of `make`.
    make: &'static [&'static str],
    /// Name and hash.
    ident: String,
}

impl Module {
    fn new(name: String, paths: &[PathBuf], make: &'static [&'static str]) -> Result<Self> {
        let mut files = Vec::new();
        for path in paths {
            let content = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            files.push((path.file_name().unwrap_or_default().to_owned(), content));
        }
        Ok(Self::of(name, files, make))
    }

    fn of(name: String, files: Vec<(OsString, Vec<u8>)>, make: &'static [&'static str]) -> Self {
        let mut hasher = DefaultHasher::new();
        let mut add = |bytes: &[u8]| {
            hasher.write_usize(bytes.len());
            hasher.write(bytes);
        };
        add(&[RECIPE]);
        for argument in make {
            add(argument.as_bytes());
        }
        for (name, content) in &files {
            add(name.as_encoded_bytes());
            add(content);
        }
        let ident = format!("{name}-{:016x}", hasher.finish());
        Self { name, files, make, ident }
    }

    fn folder(&self, unpacked: &Unpacked) -> PathBuf {
        unpacked.dir.join("built").join(&self.ident)
    }

    fn file(&self) -> String {
        format!("{}.ko", self.name)
    }

    fn build(&self, cache: &Cache, unpacked: &Unpacked, series: &Series) -> Result<()> {
        folder(cache, &self.folder(unpacked), |dir| {
            say(&format!("kernel {}: building {}", series.name, self.name));
            let work = Toolchain::work(&unpacked.build(), &self.ident);
            drop(fs::remove_dir_all(&work));
            fs::create_dir_all(&work).with_context(|| format!("cannot create {}", work.display()))?;
            // A Kbuild or Makefile among the sources has its way.
            fs::write(work.join("Makefile"), format!("obj-m := {}.o\n", self.name))
                .context("cannot write a Makefile")?;
            for (name, content) in &self.files {
                let file = work.join(name);
                fs::write(&file, content).with_context(|| format!("cannot write {}", file.display()))?;
            }
            let jobs = std::thread::available_parallelism().map_or(1, usize::from);
            let mut make = series.toolchain.make(&unpacked.build(), &self.ident)?;
            cmd::run(make.arg(format!("-j{jobs}")).args(self.make))
                .with_context(|| format!("cannot build {} for {}", self.name, unpacked.release))?;
            let built = work.join(self.file());
            ensure_btf(&built, unpacked, &series.toolchain)?;
            // Debug information only; BTF stays.
            cmd::run(Command::new("strip").arg("-d").arg(&built))?;
            fs::copy(&built, dir.join(self.file())).context("cannot copy the module")?;
            fs::remove_dir_all(&work).with_context(|| format!("cannot remove {}", work.display()))
        })
    }
}

fn has_btf(module: &Path) -> Result<bool> {
    Ok(cmd::stdout(Command::new("readelf").arg("-SW").arg(module))?.contains(" .BTF "))
}

/// kbuild makes BTF where Debian's headers carry the kernel's own; 6.1's do not, but the kernel itself does.
fn ensure_btf(module: &Path, unpacked: &Unpacked, toolchain: &Toolchain) -> Result<()> {
    if matches!(toolchain, Toolchain::Host) && !has_btf(module)? {
        let mut pahole = Command::new("pahole");
        pahole.args(["-J", "--btf_gen_floats", "--btf_base"]).arg(unpacked.vmlinux()).arg(module);
        cmd::run(pahole.env("LLVM_OBJCOPY", "objcopy"))?;
    }
    ensure!(
        has_btf(module)?,
        "{} was built without BTF, which vfio-trace needs: is pahole (package dwarves) installed?",
        module.display()
    );
    Ok(())
}

/// [`Cache::folder`] for a place that a kernel's own folder gave us.
pub(super) fn folder(cache: &Cache, path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let path = path.to_str().with_context(|| format!("{} is no text", path.display()))?;
    cache.folder(path, fill).map(drop)
}

/// All modules of a kernel.
pub(super) struct Plans {
    /// Those that modprobe finds.
    extra: Vec<Module>,
    /// VFIO's core with debugfs.
    vfio: Option<Module>,
}

/// What is to be built for a kernel, by the sources as they are now.
pub(super) fn plan(unpacked: &Unpacked, series: &Series) -> Result<Plans> {
    let mut extra = Vec::new();
    for Sample { name, source } in series.samples {
        let file = unpacked.source().join(source);
        extra.push(Module::new((*name).to_owned(), &[file], &["modules"])?);
    }
    for backport in backport::of(series) {
        extra.push(Module::of(backport.name.to_owned(), backport.files(unpacked)?, &["modules"]));
    }
    extra.extend(own(&workspace::root().join("lab/modules"))?);
    let vfio = series.debugfs.then(|| vfio(unpacked)).transpose()?;
    Ok(Plans { extra, vfio })
}

fn is_c(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "c" || extension == "h")
}

/// The checkout's own modules: each folder that holds a C file of its name, or a Kbuild that makes the module from many.
fn own(dir: &Path) -> Result<Vec<Module>> {
    let Ok(entries) = fs::read_dir(dir) else { return Ok(Vec::new()) };
    let mut folders: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    folders.sort();
    let mut modules = Vec::new();
    for folder in folders {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if folder.join(format!("{name}.c")).is_file() || folder.join("Kbuild").is_file() {
            let files = files(&folder, |path| is_c(path) || path.ends_with("Kbuild"))?;
            modules.push(Module::new(name, &files, &["modules"])?);
        }
    }
    Ok(modules)
}

/// VFIO's core as Debian builds it, from the same files and its own Makefile, but with debugfs.
fn vfio(unpacked: &Unpacked) -> Result<Module> {
    let files =
        files(&unpacked.source().join("drivers/vfio"), |path| is_c(path) || path.ends_with("Makefile"))?;
    // The first for the Makefile, the second for the code; other modules of that Makefile are not asked for.
    let make = &["CONFIG_VFIO_DEBUGFS=y", "KCFLAGS=-DCONFIG_VFIO_DEBUGFS=1", "vfio.ko"];
    Module::new("vfio".to_owned(), &files, make)
}

/// Debian's own vfio module.
pub(super) fn stock_vfio(unpacked: &Unpacked) -> Result<PathBuf> {
    only_file(&unpacked.stock.join("kernel/drivers/vfio"), "vfio.ko")
}

impl Plans {
    fn tree(&self, unpacked: &Unpacked) -> PathBuf {
        let mut hasher = DefaultHasher::new();
        for module in &self.extra {
            hasher.write(module.ident.as_bytes());
        }
        unpacked.dir.join("trees").join(format!("{RECIPE}-{:016x}", hasher.finish()))
    }

    /// The `lib/modules` folder with Debian's modules and ours.
    pub(super) fn lib_modules(&self, unpacked: &Unpacked) -> PathBuf {
        self.tree(unpacked).join("lib/modules")
    }

    /// The rebuilt vfio module.
    pub(super) fn debugfs_vfio(&self, unpacked: &Unpacked) -> Option<PathBuf> {
        self.vfio.as_ref().map(|module| module.folder(unpacked).join(module.file()))
    }

    /// Whether all is built.
    pub(super) fn done(&self, unpacked: &Unpacked) -> bool {
        self.tree(unpacked).is_dir() && self.vfio.iter().all(|module| module.folder(unpacked).is_dir())
    }

    /// Builds what is missing.
    pub(super) fn build(&self, cache: &Cache, unpacked: &Unpacked, series: &Series) -> Result<()> {
        for module in self.extra.iter().chain(&self.vfio) {
            module.build(cache, unpacked, series)?;
        }
        folder(cache, &self.tree(unpacked), |dir| {
            let extra: Vec<PathBuf> =
                self.extra.iter().map(|module| module.folder(unpacked).join(module.file())).collect();
            tree::fill(cache, dir, unpacked, series, &extra)
        })?;
        let used: Vec<PathBuf> = self
            .extra
            .iter()
            .chain(&self.vfio)
            .map(|module| module.folder(unpacked))
            .chain([self.tree(unpacked)])
            .collect();
        for folder in ["built", "trees", "indexes", "build/lab"] {
            prune(&unpacked.dir.join(folder), &used);
        }
        Ok(())
    }
}

/// Removes what has not been made lately and is not in use now.
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
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("vfio-trace-{name}-{}", std::process::id()));
            fs::create_dir_all(&dir).unwrap();
            Self(dir)
        }

        fn put(&self, file: &str, content: &str) {
            let path = self.0.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }

        fn idents(&self) -> Vec<String> {
            own(&self.0).unwrap().into_iter().map(|module| module.ident).collect()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    #[test]
    fn an_edit_renames_only_its_module() {
        let folder = Folder::new("edit");
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
        let (here, there) = (Folder::new("here"), Folder::new("there"));
        for folder in [&here, &there] {
            folder.put("one/one.c", "int a;");
        }
        assert_eq!(here.idents(), there.idents());
        assert!(own(Path::new("/nowhere")).unwrap().is_empty());
    }
}
