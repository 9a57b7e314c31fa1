//! One module: named by a hash of what it is made of, and built once for each kernel.

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

/// Changes when modules are built or installed in another way.
pub(super) const RECIPE: u8 = 1;

/// What a module exports, for modules that use it.
const SYMBOLS: &str = "Module.symvers";
/// The same of all modules that one uses, in its work folder.
const NEEDED: &str = "needed.symvers";

/// A module to build.
#[derive(Debug)]
pub(super) struct Module {
    /// For people; variants of a module differ in it.
    name: String,
    /// The file that kbuild makes.
    file: String,
    /// All that it is built from, as it was hashed: names and contents.
    files: Vec<(OsString, Vec<u8>)>,
    /// Arguments of `make`.
    make: Vec<String>,
    /// Modules whose symbols it uses, by their `ident`.
    needs: Vec<String>,
    /// Name and hash.
    pub(super) ident: String,
}

impl Module {
    pub(super) fn new(name: &str, paths: &[PathBuf], make: &[&str]) -> Result<Self> {
        Self::using(name, &format!("{name}.ko"), paths, make, &[])
    }

    /// A module that uses others, and whose file may have another name.
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

    /// From contents that need not be files.
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

    /// Where it is kept.
    pub(super) fn folder(&self, unpacked: &Unpacked) -> PathBuf {
        kept(unpacked, &self.ident)
    }

    /// The built file.
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
            // A Kbuild or Makefile among the sources has its way.
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

    /// What the modules that it uses export.
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
