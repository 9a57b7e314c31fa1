//! Drivers that are there, as modules or in the kernel, and the modules that matter to them.

use std::collections::BTreeMap;

use vfio_trace_common::role::Role;

use super::{
    btf::Btf,
    collection::BtfCollection,
    discover::typed_functions,
    modules::ModuleList,
    private::{PrivateLayout, PrivateLayoutError, private_layouts},
    source::KernelFiles,
    stamp::{ModuleStamp, ModuleStamps},
    wanted::WantedDriver,
};

pub(super) const VFIO: &str = "vfio";

/// Name of a driver's module (`None`: built in) and its functions by type.
pub(super) type TypedFunctions = (Option<String>, Vec<(Role, String)>);

/// Returns the `migration_set_state` functions of drivers that are built into the kernel.
fn set_states_of_built_in(typed: &[TypedFunctions]) -> impl Iterator<Item = &str> {
    let built_in = typed.iter().filter(|(module, _)| module.is_none());
    let functions = built_in.flat_map(|(_, functions)| functions);
    functions.filter(|(role, _)| *role == Role::SetState).map(|(_, name)| name.as_str())
}

/// Returns true if a driver is built into the kernel.
pub(super) fn is_built_in(wanted: &WantedDriver, typed: &[TypedFunctions]) -> bool {
    set_states_of_built_in(typed).any(|name| name == wanted.set_state)
}

/// Finds the places of state and data files of the built-in drivers, by their `migration_set_state`.
pub(super) fn built_in_layouts(
    vmlinux: &Btf,
    typed: &[TypedFunctions],
    wanted: &[&'static WantedDriver],
) -> BTreeMap<String, Result<PrivateLayout, PrivateLayoutError>> {
    let set_states: Vec<&str> = set_states_of_built_in(typed).collect();
    if set_states.is_empty() {
        return BTreeMap::new();
    }
    let known: Vec<_> = wanted
        .iter()
        .filter(|wanted| is_built_in(wanted, typed))
        .map(|wanted| (wanted.set_state, wanted.device))
        .collect();
    private_layouts(vmlinux, &set_states, &known)
}

/// Returns true if a driver's module is among these.
pub(super) fn is_user(users: &[String], wanted: &WantedDriver) -> bool {
    users.iter().any(|user| user == wanted.module)
}

/// Returns the modules from which drivers that are there take steps.
pub(super) fn libraries(
    wanted: &[&'static WantedDriver],
    is_there: impl Fn(&WantedDriver) -> bool,
) -> Vec<&'static str> {
    let there = wanted.iter().filter(|wanted| is_there(wanted));
    there.flat_map(|wanted| wanted.libraries.iter().copied()).collect()
}

/// Returns the modules that use vfio, and stamps of those whose change matters.
pub(super) fn relevant(
    files: &KernelFiles,
    modules: &ModuleList,
    wanted: &[&'static WantedDriver],
) -> (Vec<String>, ModuleStamps) {
    let is_module = modules.get(VFIO).is_some();
    let users: Vec<String> = modules.users_of(VFIO).iter().map(|module| module.name.clone()).collect();
    // With vfio built in every module matters.
    let libraries = libraries(wanted, |wanted| is_user(&users, wanted));
    let stamps = modules
        .list
        .iter()
        .filter(|module| {
            !is_module
                || module.name == VFIO
                || users.contains(&module.name)
                || libraries.contains(&module.name.as_str())
        })
        .map(|module| (module.name.clone(), ModuleStamp::of(files, module)))
        .collect();
    (users, stamps)
}

/// Finds the drivers of a kernel with vfio built in. There no module shows that it uses vfio, so all modules' functions
/// are looked at. Their BTF cannot be searched for the name, because split BTF takes it from the kernel's.
pub(super) fn drivers_of_built_in(
    files: &KernelFiles,
    btf: &mut BtfCollection,
    users: &mut Vec<String>,
    stamps: &ModuleStamps,
    no_drivers: &mut ModuleStamps,
) -> Vec<TypedFunctions> {
    let mut typed: Vec<_> =
        typed_functions(btf.vmlinux(), None).map(|functions| (None, functions)).into_iter().collect();
    users.clear();
    no_drivers.retain(|name, _| stamps.contains_key(name));
    for (name, stamp) in stamps {
        if no_drivers.get(name).is_some_and(|known| known.is_same(stamp)) {
            continue;
        }
        // A module whose BTF cannot be read now may be a driver all the same.
        let Ok(own) = btf.load_again(files, name) else { continue };
        if let Some(functions) = typed_functions(own, Some(name)) {
            users.push(name.clone());
            typed.push((Some(name.clone()), functions));
        } else {
            no_drivers.insert(name.clone(), *stamp);
        }
    }
    typed
}
