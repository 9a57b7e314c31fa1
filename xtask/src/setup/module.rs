//! One module: its name has a hash of its sources and flags, and it is built once for each kernel.

use std::{
    ffi::OsString,
    fs,
    hash::{DefaultHasher, Hasher as _},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    cache::Cache,
    cmd,
    progress::say,
    setup::{
        kernel::{Series, Unpacked},
        modules::folder,
        toolchain::Toolchain,
    },
};

/// Part of the hash. Changes when modules are built or installed in another way.
pub(super) const RECIPE: u8 = 1;

/// File with the symbols that a module exports, for modules that use it.
const SYMBOLS: &str = "Module.symvers";
/// File with the symbols of all modules that a module uses, in its work folder.
const NEEDED: &str = "needed.symvers";

/// A module to build.
#[derive(Debug)]
pub(super) struct Module {
    /// Name for people; variants of a module differ in it.
    name: String,
    /// Name of the file that kbuild makes.
    file: String,
    /// Names and contents of all its source files, as they were hashed.
    files: Vec<(OsString, Vec<u8>)>,
    /// Arguments of `make`.
    make: Vec<String>,
    /// Idents of the modules whose symbols it uses.
    needs: Vec<String>,
    /// Name and hash: its folder in the cache.
    pub(super) ident: String,
}

impl Module {
    pub(super) fn new(name: &str, paths: &[PathBuf], make: &[&str]) -> Result<Self> {
        Self::using(name, &format!("{name}.ko"), paths, make, &[])
    }

    /// Returns a module that uses others, and whose file may have another name.
    pub(super) fn using(
        name: &str,
        file: &str,
        paths: &[PathBuf],
        make: &[&str],
        needs: &[&Self],
    ) -> Result<Self> {
        let mut files = Vec::new();
        for path in paths {
            let content = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            files.push((path.file_name().unwrap_or_default().to_owned(), content));
        }
        Ok(Self::of(name, file, files, make, needs))
    }

    /// Returns a module made of contents that need not be files.
    pub(super) fn of(
        name: &str,
        file: &str,
        files: Vec<(OsString, Vec<u8>)>,
        make: &[&str],
        needs: &[&Self],
    ) -> Self {
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
        let needs: Vec<String> = needs.iter().map(|module| module.ident.clone()).collect();
        for ident in &needs {
            add(ident.as_bytes());
        }
        Self {
            name: name.to_owned(),
            file: file.to_owned(),
            files,
            make: make.iter().map(|&argument| argument.to_owned()).collect(),
            needs,
            ident: format!("{name}-{:016x}", hasher.finish()),
        }
    }

    /// Returns the folder in which it is kept.
    pub(super) fn folder(&self, unpacked: &Unpacked) -> PathBuf {
        kept(unpacked, &self.ident)
    }

    /// Returns the path of the built file.
    pub(super) fn built(&self, unpacked: &Unpacked) -> PathBuf {
        self.folder(unpacked).join(&self.file)
    }

    pub(super) fn build(&self, cache: &Cache, unpacked: &Unpacked, series: &Series) -> Result<()> {
        folder(cache, &self.folder(unpacked), |dir| {
            say(&format!("kernel {}: building {}", series.name, self.name));
            let work = Toolchain::work(&unpacked.build(), &self.ident);
            drop(fs::remove_dir_all(&work));
            fs::create_dir_all(&work).with_context(|| format!("cannot create {}", work.display()))?;
            let put = |name: &Path, content: &[u8]| {
                let file = work.join(name);
                fs::write(&file, content).with_context(|| format!("cannot write {}", file.display()))
            };
            // A Kbuild or Makefile among the sources overrides this.
            put(Path::new("Makefile"), format!("obj-m := {}.o\n", self.name).as_bytes())?;
            for (name, content) in &self.files {
                put(Path::new(name), content)?;
            }
            let jobs = std::thread::available_parallelism().map_or(1, usize::from);
            let mut make = series.toolchain.make(&unpacked.build(), &self.ident)?;
            if !self.needs.is_empty() {
                put(Path::new(NEEDED), &self.needed(unpacked)?)?;
                let inside = series.toolchain.inside(&unpacked.build(), &self.ident).join(NEEDED);
                make.arg(format!("KBUILD_EXTRA_SYMBOLS={}", inside.display()));
            }
            cmd::run(make.arg(format!("-j{jobs}")).args(&self.make))
                .with_context(|| format!("cannot build {} for {}", self.name, unpacked.release))?;
            let built = work.join(&self.file);
            ensure_btf(&built, unpacked, &series.toolchain)?;
            // Debug information only; BTF stays.
            cmd::run(Command::new("strip").arg("-d").arg(&built))?;
            fs::copy(&built, dir.join(&self.file)).context("cannot copy the module")?;
            if work.join(SYMBOLS).is_file() {
                fs::copy(work.join(SYMBOLS), dir.join(SYMBOLS)).context("cannot copy the symbols")?;
            }
            fs::remove_dir_all(&work).with_context(|| format!("cannot remove {}", work.display()))
        })
    }

    /// Returns the symbols that the modules export which this one uses.
    fn needed(&self, unpacked: &Unpacked) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        for ident in &self.needs {
            let file = kept(unpacked, ident).join(SYMBOLS);
            all.extend(fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?);
        }
        Ok(all)
    }
}

fn kept(unpacked: &Unpacked, ident: &str) -> PathBuf {
    unpacked.dir.join("built").join(ident)
}

fn has_btf(module: &Path) -> Result<bool> {
    Ok(cmd::stdout(Command::new("readelf").arg("-SW").arg(module))?.contains(" .BTF "))
}

/// Checks that a module has BTF. kbuild makes it where Debian's headers have the kernel's own BTF. 6.1's do not: there
/// this makes it from the kernel itself.
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
