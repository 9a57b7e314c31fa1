//! BTF of the kernel and of those modules that were asked for.

use std::{collections::BTreeMap, io, sync::Arc};

use thiserror::Error;

use super::{
    btf::{Btf, BtfError},
    source::{FileError, KernelFiles},
};

/// Reason why BTF cannot be used.
#[derive(Debug, Error)]
pub enum BtfLoadError {
    /// The file cannot be read.
    #[error("{cause}{}", missing_hint(name, cause))]
    File {
        /// Name of the BTF: `vmlinux` or a module.
        name: String,
        /// The error.
        #[source]
        cause: FileError,
    },
    /// The file is not BTF, or is damaged.
    #[error(transparent)]
    Btf(#[from] BtfError),
}

fn missing_hint(name: &str, cause: &FileError) -> &'static str {
    match (cause.cause.kind(), name) {
        (io::ErrorKind::NotFound, "vmlinux") => {
            "; the kernel needs CONFIG_DEBUG_INFO_BTF=y, which all current distributions have; --btf DIR gives it from \
             files"
        },
        (io::ErrorKind::NotFound, _) => {
            "; the module was built without BTF: build it with pahole installed and vmlinux in the kernel headers, or \
             give its BTF with --btf DIR"
        },
        _ => "",
    }
}

/// BTF of the kernel, parsed once, and of modules, replaced when they are loaded anew. Part of the kernel facts, which
/// load modules into it and forget them; the lookups for layouts, functions and plug-ins read it.
#[derive(Debug)]
pub struct BtfCollection {
    vmlinux: Arc<Btf>,
    modules: BTreeMap<String, Result<Arc<Btf>, BtfLoadError>>,
}

impl BtfCollection {
    /// Reads the kernel's BTF.
    ///
    /// # Errors
    ///
    /// [`BtfLoadError`] if the kernel has none or it cannot be used.
    pub fn open(files: &KernelFiles) -> Result<Self, BtfLoadError> {
        Ok(Self { vmlinux: Arc::new(load(files, "vmlinux", None)?), modules: BTreeMap::new() })
    }

    /// Returns the kernel's own BTF.
    pub const fn vmlinux(&self) -> &Arc<Btf> {
        &self.vmlinux
    }

    /// Returns a module's BTF, if it was loaded and can be used.
    pub fn module(&self, name: &str) -> Option<&Arc<Btf>> {
        self.modules.get(name)?.as_ref().ok()
    }

    /// Returns the reason why a module's BTF cannot be used; `None` if it can, or was not asked for.
    pub fn failure(&self, name: &str) -> Option<&BtfLoadError> {
        self.modules.get(name)?.as_ref().err()
    }

    /// Reads a module's BTF, even if it is known already: the module may have been replaced.
    ///
    /// # Errors
    ///
    /// [`BtfLoadError`], which is also kept for [`BtfCollection::failure`].
    pub fn load(&mut self, files: &KernelFiles, name: &str) -> Result<&Arc<Btf>, &BtfLoadError> {
        let loaded = load(files, name, Some(Arc::clone(&self.vmlinux))).map(Arc::new);
        let entry = self.modules.entry(name.to_owned());
        let entry = entry.insert_entry(loaded).into_mut();
        entry.as_ref()
    }

    /// Reads the BTF of a module that has not been loaded anew since: if it cannot be read now, the BTF read before
    /// stays.
    ///
    /// # Errors
    ///
    /// [`BtfLoadError`], if no BTF was read before either.
    pub fn load_again(&mut self, files: &KernelFiles, name: &str) -> Result<&Arc<Btf>, &BtfLoadError> {
        let known = self.module(name).cloned();
        let failed = self.load(files, name).is_err();
        if let Some(known) = known.filter(|_| failed) {
            self.modules.insert(name.to_owned(), Ok(known));
        }
        // `load` has just put it there.
        self.modules[name].as_ref()
    }

    /// Keeps the BTF of these modules only.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.modules.retain(|name, _| keep(name));
    }
}

fn load(files: &KernelFiles, name: &str, base: Option<Arc<Btf>>) -> Result<Btf, BtfLoadError> {
    let data = files.btf(name).map_err(|cause| BtfLoadError::File { name: name.to_owned(), cause })?;
    let btf = Btf::parse(name, data, base)?;
    btf.check_base()?;
    Ok(btf)
}
