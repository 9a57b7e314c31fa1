//! The modules that Debian does not build: the kernel's own samples, VFIO with debugfs, and this checkout's.
//!
//! Each is named by a hash of what it is made of, and so is each modules tree: an edit builds one module anew, and clones
//! with different sources share the cache without disturbing each other.

use std::{
    fs,
    hash::{DefaultHasher, Hasher as _},
    os::unix::fs::symlink,
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
        kernel::{Series, Unpacked},
        packages::only_file,
        toolchain::Toolchain,
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
    /// All that is copied to where it is built.
    files: Vec<PathBuf>,
    /// Arguments of `make`.
    make: &'static [&'static str],
    /// Name and hash.
    ident: String,
}

impl Module {
    fn new(name: String, files: Vec<PathBuf>, make: &'static [&'static str]) -> Result<Self> {
        let mut hasher = DefaultHasher::new();
        let mut add = |bytes: &[u8]| {
            hasher.write_usize(bytes.len());
            hasher.write(bytes);
        };
        add(&[RECIPE]);
        for argument in make {
            add(argument.as_bytes());
        }
        for file in &files {
            add(file.file_name().unwrap_or_default().as_encoded_bytes());
            add(&fs::read(file).with_context(|| format!("cannot read {}", file.display()))?);
        }
        let ident = format!("{name}-{:016x}", hasher.finish());
        Ok(Self { name, files, make, ident })
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
            for file in &self.files {
                fs::copy(file, work.join(file.file_name().unwrap_or_default()))
                    .with_context(|| format!("cannot copy {}", file.display()))?;
            }
            let jobs = std::thread::available_parallelism().map_or(1, usize::from);
            let mut make = series.toolchain.make(&unpacked.build(), &self.ident)?;
            cmd::run(make.arg(format!("-j{jobs}")).args(self.make))
                .with_context(|| format!("cannot build {} for {}", self.name, unpacked.release))?;
            let built = work.join(self.file());
            ensure_btf(&built, unpacked)?;
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
fn ensure_btf(module: &Path, unpacked: &Unpacked) -> Result<()> {
    if !has_btf(module)? {
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
fn folder(cache: &Cache, path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
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
        extra.push(Module::new((*name).to_owned(), vec![file], &["modules"])?);
    }
    extra.extend(own(&workspace::root().join("lab/modules"))?);
    let vfio = series.debugfs.then(|| vfio(unpacked)).transpose()?;
    Ok(Plans { extra, vfio })
}

/// The files of a folder that a compiler may want, sorted.
fn sources(dir: &Path, wanted: impl Fn(&Path) -> bool) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_file() && !path.is_symlink() && wanted(path))
        .collect();
    files.sort();
    Ok(files)
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
            let files = sources(&folder, |path| is_c(path) || path.ends_with("Kbuild"))?;
            modules.push(Module::new(name, files, &["modules"])?);
        }
    }
    Ok(modules)
}

/// VFIO's core as Debian builds it, from the same files and its own Makefile, but with debugfs.
fn vfio(unpacked: &Unpacked) -> Result<Module> {
    let files =
        sources(&unpacked.source().join("drivers/vfio"), |path| is_c(path) || path.ends_with("Makefile"))?;
    // The first for the Makefile, the second for the code; other modules of that Makefile are not asked for.
    let make = &["CONFIG_VFIO_DEBUGFS=y", "KCFLAGS=-DCONFIG_VFIO_DEBUGFS=1", "vfio.ko"];
    Module::new("vfio".to_owned(), files, make)
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
        folder(cache, &self.tree(unpacked), |dir| self.fill_tree(dir, unpacked))?;
        let used: Vec<PathBuf> = self
            .extra
            .iter()
            .chain(&self.vfio)
            .map(|module| module.folder(unpacked))
            .chain([self.tree(unpacked)])
            .collect();
        for folder in ["built", "trees"] {
            prune(&unpacked.dir.join(folder), &used);
        }
        Ok(())
    }

    fn fill_tree(&self, dir: &Path, unpacked: &Unpacked) -> Result<()> {
        let modules = dir.join("lib/modules").join(&unpacked.release);
        let extra = modules.join("extra");
        fs::create_dir_all(&extra).with_context(|| format!("cannot create {}", extra.display()))?;
        // Absolute: the guest sees the cache where the host has it, and mounts this folder elsewhere.
        for name in ["kernel", "modules.order", "modules.builtin", "modules.builtin.modinfo"] {
            symlink(unpacked.stock.join(name), modules.join(name))
                .with_context(|| format!("cannot link {name} into {}", modules.display()))?;
        }
        for module in &self.extra {
            let built = module.folder(unpacked).join(module.file());
            fs::copy(&built, extra.join(module.file()))
                .with_context(|| format!("cannot copy {}", built.display()))?;
        }
        cmd::run(Command::new("depmod").arg("-b").arg(dir).arg(&unpacked.release))?;
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
