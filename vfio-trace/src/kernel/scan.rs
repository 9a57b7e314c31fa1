//! One look at the list of modules, and the modules that came since the last one.

use super::{
    modules::{ModuleList, ModulesError},
    present::relevant,
    source::KernelFiles,
    stamp::{ModuleStamp, ModuleStamps},
    wanted::WantedDriver,
};

/// One look at the list of modules. [`super::KernelFacts::scan`] makes it; [`super::KernelFacts::add_modules`] and
/// [`super::KernelFacts::refresh`] take it in.
#[derive(Debug)]
pub struct ModuleScan {
    pub(super) modules: Result<ModuleList, ModulesError>,
    /// Names of modules that use vfio.
    pub(super) users: Vec<String>,
    pub(super) stamps: ModuleStamps,
    wanted: &'static [&'static WantedDriver],
}

/// A module that matters and was not there at the last look.
#[derive(Clone, Debug)]
pub struct ModuleArrival {
    /// Name of the module.
    pub name: String,
    /// Stamp of this load.
    pub load: ModuleStamp,
    /// True if its init function has not finished.
    pub is_loading: bool,
}

impl ModuleScan {
    /// Reads the list of modules.
    pub(super) fn read(files: &KernelFiles, wanted: &'static [&'static WantedDriver]) -> Self {
        Self::of(files, ModuleList::read(files), wanted)
    }

    fn of(
        files: &KernelFiles,
        modules: Result<ModuleList, ModulesError>,
        wanted: &'static [&'static WantedDriver],
    ) -> Self {
        let (users, stamps) =
            modules.as_ref().map_or_else(|_| Default::default(), |modules| relevant(files, modules, wanted));
        Self { modules, users, stamps, wanted }
    }

    /// Returns the modules that matter and whose stamp is not the one that is `known`.
    pub(super) fn arrivals<'k>(&self, known: impl Fn(&str) -> Option<&'k ModuleStamp>) -> Vec<ModuleArrival> {
        let Ok(modules) = &self.modules else { return Vec::new() };
        let new =
            self.stamps.iter().filter(|(name, stamp)| known(name).is_none_or(|known| !known.is_same(stamp)));
        new.map(|(name, &load)| {
            let is_loading = modules.is_loading(name);
            ModuleArrival { name: name.clone(), load, is_loading }
        })
        .collect()
    }

    /// Returns the scan as it would be if these modules were not there.
    #[must_use]
    pub fn without(self, files: &KernelFiles, names: &[String]) -> Self {
        if names.is_empty() {
            return self;
        }
        let modules = self.modules.map(|mut modules| {
            modules.list.retain(|module| !names.contains(&module.name));
            modules
        });
        Self::of(files, modules, self.wanted)
    }
}
