//! All facts about the running kernel in one place.

use std::collections::{BTreeMap, BTreeSet};

use vfio_trace_common::{layout::Layout, role::Role};

use super::{
    btf::Btf,
    caps::CapSet,
    collection::{BtfCollection, BtfLoadError},
    core_functions::{CoreFunction, CoreStatus, core_functions, core_names, pci_functions},
    discover::{DriverFunctions, driver_functions, typed_functions},
    kallsyms::{Kallsyms, KallsymsError, SymbolSelection},
    layout::{MissingField, resolve_layout},
    modules::{ModuleList, ModulesError},
    plugin::{PluginFacts, plugin_facts},
    present::{TypedFunctions, VFIO, built_in_layouts, drivers_of_built_in, is_built_in, is_user, libraries},
    private::{PrivateLayout, PrivateLayoutError, private_layout},
    scan::{ModuleArrival, ModuleScan},
    security::{AddressRestriction, LockdownMode, addresses_hidden, perf_wants_admin},
    source::KernelFiles,
    stamp::{ModuleStamp, ModuleStamps, is_loaded_in, same_loads},
    wanted::WantedDriver,
};

/// Place of the vfio core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VfioCore {
    /// A loaded module.
    Module,
    /// Part of the kernel.
    BuiltIn,
    /// Nowhere: the module is not loaded, or the kernel has no vfio.
    NotLoaded,
}

/// Everything that is known of the running kernel for tracing vfio: symbols, BTF, modules, functions and layouts. A
/// fact that cannot be found out is stored as the reason, never as a failure.
///
/// The source of records and the commands make it once ([`Self::read_for`]). [`Self::refresh`] and
/// [`Self::add_modules`] change it when modules come and go. The probe plan, the eBPF programs' tables and `doctor` use
/// it.
#[derive(Debug)]
pub struct KernelFacts {
    /// `uname -r`.
    pub release: Option<String>,
    /// BTF of the kernel, of vfio and of the modules that use it.
    pub btf: Result<BtfCollection, BtfLoadError>,
    /// Loaded modules. Kernels without loadable modules have no list.
    pub modules: Result<ModuleList, ModulesError>,
    /// Place of the vfio core.
    pub vfio: VfioCore,
    /// Names of modules that use vfio. If vfio is built in, the migration drivers among all modules.
    pub users: Vec<String>,
    /// Symbols of vfio, of `users`, and of all names that are looked for. Empty if vfio is not loaded.
    pub kallsyms: Result<Kallsyms, KallsymsError>,
    /// Struct layouts for the eBPF programs.
    pub layout: Layout,
    /// Members that `layout` lacks, and why.
    pub missing: Vec<MissingField>,
    /// The core's functions, one per role.
    pub core: Vec<CoreFunction>,
    /// Migration drivers.
    pub drivers: Vec<DriverFunctions>,
    /// Places of each driver's state and data files, by module, or the reason why they are not known.
    pub private: BTreeMap<String, Result<PrivateLayout, PrivateLayoutError>>,
    /// Places of state and data files of drivers that are built into the kernel, by their `migration_set_state`.
    pub built_in: BTreeMap<String, Result<PrivateLayout, PrivateLayoutError>>,
    /// Results of the plug-ins' requests, for drivers that are loaded.
    pub plugins: Vec<PluginFacts>,
    /// The kernel's lockdown mode.
    pub lockdown: LockdownMode,
    /// Capabilities of this process.
    pub caps: CapSet,
    /// True if perf may require CAP_SYS_ADMIN.
    pub perf_wants_admin: bool,
    /// Reason why kernel addresses read as zero, if they do.
    pub addresses_hidden: Option<AddressRestriction>,
    wanted: &'static [&'static WantedDriver],
    stamps: Option<BTreeMap<String, ModuleStamp>>,
    /// Modules that turned out not to be drivers: with a built-in vfio every module has to be looked at.
    no_drivers: BTreeMap<String, ModuleStamp>,
    /// Names of modules whose BTF could not be read while their init function ran, or before: it may have been too
    /// early.
    unread_modules: BTreeSet<String>,
    /// Modules that [`Self::add_modules`] took in since the last [`Self::refresh`].
    added: BTreeMap<String, ModuleStamp>,
    /// Names of those modules among them that [`Self::add_plugins`] has not looked at yet.
    new_modules: Vec<String>,
}

/// Returns true if a module whose BTF could not be read at first must be looked at again: it has BTF now, or will never
/// have any.
fn is_due(files: &KernelFiles, modules: &ModuleList, name: &str) -> bool {
    files.exists(&format!("/sys/kernel/btf/{name}")) || !modules.is_loading(name)
}

impl KernelFacts {
    /// Finds out everything. Costs one parse of the kernel's BTF and one pass over /proc/kallsyms.
    pub fn read(files: &KernelFiles) -> Self {
        Self::read_for(files, &[])
    }

    /// Finds out everything, as [`Self::read`], and looks up the requests of these driver plug-ins.
    pub fn read_for(files: &KernelFiles, wanted: &'static [&'static WantedDriver]) -> Self {
        let mut facts = Self {
            release: files.line("/proc/sys/kernel/osrelease"),
            btf: BtfCollection::open(files),
            modules: Ok(ModuleList::default()),
            vfio: VfioCore::NotLoaded,
            users: Vec::new(),
            kallsyms: Ok(Kallsyms::default()),
            layout: Layout::EMPTY,
            missing: Vec::new(),
            core: Vec::new(),
            drivers: Vec::new(),
            private: BTreeMap::new(),
            built_in: BTreeMap::new(),
            plugins: Vec::new(),
            lockdown: LockdownMode::read(files),
            caps: CapSet::effective(files),
            perf_wants_admin: perf_wants_admin(files),
            addresses_hidden: None,
            wanted,
            stamps: None,
            no_drivers: BTreeMap::new(),
            unread_modules: BTreeSet::new(),
            added: BTreeMap::new(),
            new_modules: Vec::new(),
        };
        facts.addresses_hidden = addresses_hidden(files, facts.caps);
        let scan = facts.scan(files);
        facts.refresh(files, scan);
        facts
    }

    /// Reads the list of modules.
    pub fn scan(&self, files: &KernelFiles) -> ModuleScan {
        ModuleScan::read(files, self.wanted)
    }

    /// Returns the modules of a scan that were not there at the last look, or not in this load.
    pub fn arrivals(&self, scan: &ModuleScan) -> Vec<ModuleArrival> {
        scan.arrivals(|name| self.known_stamp(name))
    }

    fn known_stamp(&self, name: &str) -> Option<&ModuleStamp> {
        self.added.get(name).or_else(|| self.stamps.as_ref()?.get(name))
    }

    /// Looks at the loaded modules again and returns true if those that matter changed. If they did not, this costs a
    /// look at /proc/modules; if they did, also their BTF and a pass over /proc/kallsyms. A list that could be read
    /// before and cannot be read now says nothing.
    pub fn refresh(&mut self, files: &KernelFiles, scan: ModuleScan) -> bool {
        let ModuleScan { modules, users, stamps, .. } = scan;
        if modules.is_err() && self.modules.is_ok() && self.stamps.is_some() {
            return false;
        }
        let same = self.stamps.as_ref().is_some_and(|before| same_loads(before, &stamps));
        let early = modules
            .as_ref()
            .is_ok_and(|modules| self.unread_modules.iter().any(|name| is_due(files, modules, name)));
        // A module that `add_modules` took in may even be gone again.
        let changed = !same || early || !self.added.is_empty();
        self.modules = modules;
        if changed {
            self.look(files, users, &stamps);
            self.added.clear();
        }
        // Also if they are the same: sysfs tells more of a module that was loading before.
        self.stamps = Some(stamps);
        changed
    }

    /// Takes in modules that were loaded since, with what their BTF tells: a pass over /proc/kallsyms takes much
    /// longer, and functions can be probed by name before it. Returns true if there are any; then [`Self::refresh`] is
    /// due.
    pub fn add_modules(&mut self, files: &KernelFiles, scan: ModuleScan) -> bool {
        let ModuleScan { modules: Ok(modules), users, stamps, .. } = scan else { return false };
        let early = |name: &str| self.unread_modules.contains(name) && is_due(files, &modules, name);
        let is_new = |name: &str, stamp: &ModuleStamp| {
            self.known_stamp(name).is_none_or(|known| !known.is_same(stamp)) || early(name)
        };
        let new: Vec<&str> = stamps
            .iter()
            .filter(|(name, stamp)| is_new(name, stamp))
            .map(|(name, _)| name.as_str())
            .collect();
        let is_module = modules.get(VFIO).is_some();
        self.modules = Ok(modules);
        let Ok(btf) = &mut self.btf else { return !new.is_empty() };
        if new.is_empty() || !(is_module || self.vfio == VfioCore::BuiltIn) {
            return false;
        }
        // Facts known under these names were of another load.
        self.drivers.retain(|driver| driver.module.as_deref().is_none_or(|name| !new.contains(&name)));
        self.added.extend(new.iter().filter_map(|name| Some(((*name).to_owned(), *stamps.get(*name)?))));
        for name in &new {
            self.unread_modules.remove(*name);
            let own = match btf.load(files, name) {
                Ok(own) => own,
                Err(error) => {
                    let is_loading = self.modules.as_ref().is_ok_and(|modules| modules.is_loading(name));
                    if is_loading && matches!(error, BtfLoadError::File { .. }) {
                        self.unread_modules.insert((*name).to_owned());
                    }
                    continue;
                },
            };
            if is_module && !users.iter().any(|user| user == name) {
                continue;
            }
            if let Some(typed) = typed_functions(own, Some(name)) {
                self.private.insert((*name).to_owned(), private_layout(own));
                self.drivers.push(driver_functions(Some(name), typed, None));
                if !self.users.iter().any(|user| user == name) {
                    self.users.push((*name).to_owned());
                }
            }
        }
        // A library that was loaded long ago matters once its driver comes.
        let there = |wanted: &WantedDriver| {
            is_user(&self.users, wanted) || self.built_in.contains_key(wanted.set_state)
        };
        for name in libraries(self.wanted, there) {
            if btf.module(name).is_none() && stamps.contains_key(name) {
                // Its steps say why they cannot be probed.
                let _library = btf.load(files, name);
            }
        }
        if new.contains(&VFIO) {
            self.vfio = VfioCore::Module;
            let resets: Vec<_> =
                self.core.drain(..).filter(|function| function.role == Role::PciReset).collect();
            self.core = core_functions(btf.module(VFIO).map(AsRef::as_ref), Some(VFIO), None);
            self.core.extend(resets);
        }
        if new.contains(&VFIO) || !self.missing.is_empty() {
            let mut order = vec![VFIO];
            order.extend(self.users.iter().map(String::as_str));
            let core_known = self.vfio == VfioCore::BuiltIn || btf.module(VFIO).is_some();
            (self.layout, self.missing) = resolve_layout(btf, &order, core_known);
        }
        self.new_modules.extend(new.into_iter().map(str::to_owned));
        true
    }

    /// Looks up the plug-ins' requests in modules that [`Self::add_modules`] found: steps and captures, which takes
    /// longer than finding the driver's functions. Returns true if there are any.
    pub fn add_plugins(&mut self) -> bool {
        let new = std::mem::take(&mut self.new_modules);
        let Ok(btf) = &self.btf else { return false };
        let is_new = |name: &str| new.iter().any(|new| new == name);
        let mut any = false;
        for wanted in self.wanted {
            let built_in = self.built_in.get(wanted.set_state);
            let there = built_in.is_some() || is_user(&self.users, wanted);
            let anew = is_new(wanted.module) || wanted.libraries.iter().any(|name| is_new(name));
            if !(there && anew) {
                continue;
            }
            let private = built_in.or_else(|| self.private.get(wanted.module));
            let private = private.and_then(|private| private.as_ref().ok());
            self.plugins.retain(|plugin| plugin.wanted.module != wanted.module);
            self.plugins.push(plugin_facts(wanted, btf, private, None, built_in.is_some()));
            any = true;
        }
        any
    }

    /// Takes in the addresses of functions whose address is not known yet: once a function is probed, its probe tells
    /// it.
    pub fn set_addresses(&mut self, address: impl Fn(Role, &str, Option<&str>) -> Option<u64>) {
        for driver in &mut self.drivers {
            let module = driver.module.as_deref();
            for function in driver.functions.iter_mut().filter(|function| function.address.is_none()) {
                function.address = address(function.role, &function.symbol, module);
            }
        }
    }

    /// Returns the places of state and data files of the driver with this `migration_set_state`.
    pub fn private_of(
        &self,
        driver: &DriverFunctions,
        set_state: &str,
    ) -> Option<&Result<PrivateLayout, PrivateLayoutError>> {
        match &driver.module {
            Some(module) => self.private.get(module),
            None => self.built_in.get(set_state),
        }
    }

    /// Returns the places of state and data files of a driver by its module's name, which a driver that is built in
    /// has, too. For built-in drivers they are known if a plug-in knows the driver, or if there is only one.
    pub fn private_named(&self, module: &str) -> Option<&Result<PrivateLayout, PrivateLayoutError>> {
        let known = || {
            let plugin = self.plugins.iter().find(|plugin| plugin.wanted.module == module)?;
            self.built_in.get(plugin.wanted.set_state)
        };
        let only = || self.built_in.values().next().filter(|_| self.built_in.len() == 1);
        self.private.get(module).or_else(known).or_else(only)
    }

    /// Returns the results of a plug-in's requests for the driver with this `migration_set_state`.
    pub fn plugin_of(&self, driver: &DriverFunctions, set_state: &str) -> Option<&PluginFacts> {
        self.plugins.iter().find(|plugin| match &driver.module {
            Some(module) => module == plugin.wanted.module,
            None => set_state == plugin.wanted.set_state,
        })
    }

    /// Returns the offset of the name in `struct module`.
    pub fn module_name_offset(&self) -> Option<u32> {
        let btf = self.btf.as_ref().ok()?.vmlinux();
        Some(btf.member(btf.find_struct("module")?, &["name"]).ok()?.offset)
    }

    /// Returns the stamp that tells this load of a module from a later one; `None` if it was not loaded at the last
    /// look.
    pub fn load_of(&self, files: &KernelFiles, name: &str) -> Option<ModuleStamp> {
        self.modules.as_ref().ok()?.get(name).map(|module| ModuleStamp::of(files, module))
    }

    /// Returns the modules that matter but whose BTF cannot be used, and why: only pointers tell their functions.
    pub fn without_btf(&self) -> impl Iterator<Item = (&str, &BtfLoadError)> {
        let names = std::iter::once(VFIO).chain(self.users.iter().map(String::as_str));
        names.filter_map(|name| Some((name, self.btf.as_ref().ok()?.failure(name)?)))
    }

    fn look(&mut self, files: &KernelFiles, users: Vec<String>, stamps: &ModuleStamps) {
        let is_module = self.modules.as_ref().is_ok_and(|modules| modules.get(VFIO).is_some());
        // A kernel without BTF still has symbols: then only they tell.
        let may_be_built_in = !is_module
            && self.btf.as_ref().map_or(true, |btf| btf.vmlinux().find_struct("vfio_device").is_some());
        self.users = users;
        let (mut typed, mut libraries_there) = (Vec::new(), Vec::new());
        let before = self.stamps.take().unwrap_or_default();
        if let Ok(btf) = &mut self.btf {
            btf.retain(|name| stamps.get(name).is_some_and(|stamp| is_loaded_in(&before, name, stamp)));
            if is_module {
                // A failure is kept there, for `without_btf`.
                let _vfio = btf.load_again(files, VFIO);
                for name in &self.users {
                    let functions =
                        btf.load_again(files, name).ok().and_then(|btf| typed_functions(btf, Some(name)));
                    typed.extend(functions.map(|functions| (Some(name.clone()), functions)));
                }
            } else if may_be_built_in {
                typed = drivers_of_built_in(files, btf, &mut self.users, stamps, &mut self.no_drivers);
            } else {
                self.users.clear();
            }
            libraries_there =
                libraries(self.wanted, |wanted| is_user(&self.users, wanted) || is_built_in(wanted, &typed));
            // BTF from a folder is there even if they are not loaded.
            for name in libraries_there.iter().filter(|name| stamps.contains_key(**name)) {
                // Their steps say why they cannot be probed.
                let _library = btf.load_again(files, name);
            }
            let modules = self.modules.as_ref().ok();
            let early = |name: &str| {
                let unread = matches!(btf.failure(name), Some(BtfLoadError::File { .. }));
                unread && modules.is_some_and(|modules| modules.is_loading(name))
            };
            self.unread_modules = stamps.keys().filter(|name| early(name)).cloned().collect();
            if !is_module {
                btf.retain(|name| {
                    self.users.iter().any(|user| user == name) || libraries_there.contains(&name)
                });
            }
        }
        self.kallsyms = if is_module || may_be_built_in {
            self.read_symbols(files, is_module, &typed, &libraries_there)
        } else {
            Ok(Kallsyms::default())
        };
        self.vfio = match (&self.kallsyms, is_module, may_be_built_in) {
            (_, true, _) => VfioCore::Module,
            (Ok(symbols), false, true) if symbols.lookup("vfio_mig_get_next_state", None).is_empty() => {
                VfioCore::NotLoaded
            },
            (Err(_), false, true) if self.btf.is_err() => VfioCore::NotLoaded,
            (_, false, built_in) => {
                if built_in {
                    VfioCore::BuiltIn
                } else {
                    VfioCore::NotLoaded
                }
            },
        };
        self.conclude(typed);
    }

    fn read_symbols(
        &self,
        files: &KernelFiles,
        is_module: bool,
        typed: &[TypedFunctions],
        libraries: &[&str],
    ) -> Result<Kallsyms, KallsymsError> {
        let mut names = core_names();
        names.extend(typed.iter().flat_map(|(_, functions)| functions).map(|(_, name)| name.as_str()));
        let mut modules: Vec<&str> = self.users.iter().map(String::as_str).collect();
        modules.extend(libraries);
        let there =
            self.wanted.iter().filter(|wanted| is_user(&self.users, wanted) || is_built_in(wanted, typed));
        names.extend(there.flat_map(|wanted| wanted.steps).map(|step| step.name));
        if is_module {
            modules.push(VFIO);
        }
        Kallsyms::read(files, &SymbolSelection { modules: &modules, names: &names, addresses: &[] })
    }

    /// Works out layout, core functions, drivers and plug-ins from BTF and symbols.
    fn conclude(&mut self, typed: Vec<TypedFunctions>) {
        let symbols = self.kallsyms.as_ref().ok();
        let core_btf: Option<&Btf> = match (&self.btf, self.vfio) {
            (Ok(btf), VfioCore::Module) => btf.module(VFIO).map(AsRef::as_ref),
            (Ok(btf), VfioCore::BuiltIn) => Some(btf.vmlinux()),
            _ => None,
        };
        let module = (self.vfio != VfioCore::BuiltIn).then_some(VFIO);
        self.core = core_functions(core_btf, module, symbols);
        let vmlinux = self.btf.as_ref().ok().map(|btf| btf.vmlinux().as_ref());
        self.core.extend(pci_functions(vmlinux, symbols));
        if self.vfio == VfioCore::NotLoaded {
            for function in &mut self.core {
                let why =
                    "vfio is not loaded; it comes with a device's driver: modprobe vfio-pci, for instance";
                function.status = CoreStatus::Absent { why: why.to_owned() };
            }
        }
        // Drivers first: their BTF has the structs that they and vfio share.
        let drivers = typed.iter().filter_map(|(module, _)| module.as_deref());
        let mut order = vec![VFIO];
        order.extend(drivers.chain(self.users.iter().map(String::as_str)));
        (self.layout, self.missing) = match &self.btf {
            Ok(btf) => resolve_layout(btf, &order, core_btf.is_some()),
            Err(_) => (Layout::EMPTY, Vec::new()),
        };
        self.private = match &self.btf {
            Ok(btf) => typed
                .iter()
                .filter_map(|(module, _)| {
                    Some((module.clone()?, private_layout(btf.module(module.as_deref()?)?)))
                })
                .collect(),
            Err(_) => BTreeMap::new(),
        };
        self.built_in = match &self.btf {
            Ok(btf) => built_in_layouts(btf.vmlinux(), &typed, self.wanted),
            Err(_) => BTreeMap::new(),
        };
        self.plugins = match &self.btf {
            Ok(btf) => self
                .wanted
                .iter()
                .filter_map(|wanted| {
                    let built_in = is_built_in(wanted, &typed);
                    let private = if built_in {
                        self.built_in.get(wanted.set_state)
                    } else {
                        is_user(&self.users, wanted).then_some(())?;
                        self.private.get(wanted.module)
                    };
                    let private = private.and_then(|private| private.as_ref().ok());
                    Some(plugin_facts(wanted, btf, private, symbols, built_in))
                })
                .collect(),
            Err(_) => Vec::new(),
        };
        self.drivers = typed
            .into_iter()
            .map(|(module, typed)| driver_functions(module.as_deref(), typed, symbols))
            .collect();
    }
}
