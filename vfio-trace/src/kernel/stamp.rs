//! Identity of one load of a module: tells it from a later load of the same module.

use std::collections::BTreeMap;

use super::{modules::KernelModule, source::KernelFiles};

/// Identity of one load of a module, from its folder's inode in sysfs, else from its address or size in /proc/modules.
/// Made at each look at the modules; the probe manager and the live source compare it to see if a module was loaded
/// anew.
#[derive(Clone, Copy, Debug)]
pub struct ModuleStamp {
    size: u64,
    address: u64,
    inode: Option<u64>,
}

impl ModuleStamp {
    pub(super) fn of(files: &KernelFiles, module: &KernelModule) -> Self {
        let inode = files.inode(&format!("/sys/module/{}", module.name));
        Self { size: module.size, address: module.address, inode }
    }

    /// Makes the stamp of a load with this number.
    #[cfg(test)]
    pub(crate) const fn of_load(number: u64) -> Self {
        Self { size: 1, address: 0, inode: Some(number) }
    }

    /// Returns true if both are of one load. Neither the module's state nor its size tells: a module that has run its
    /// init function gives back the memory of that.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self.inode, other.inode) {
            (Some(one), Some(other)) => one == other,
            // sysfs does not have the folder yet, or is not mounted.
            _ if self.address != 0 && other.address != 0 => self.address == other.address,
            _ => self.size == other.size,
        }
    }
}

/// Stamps of modules, by name.
pub(super) type ModuleStamps = BTreeMap<String, ModuleStamp>;

/// Returns true if both have the same loads of the same modules.
pub(super) fn same_loads(one: &ModuleStamps, other: &ModuleStamps) -> bool {
    one.len() == other.len()
        && one.iter().all(|(name, stamp)| other.get(name).is_some_and(|other| stamp.is_same(other)))
}

/// Returns true if `stamps` has this load of the module.
pub(super) fn is_loaded_in(stamps: &ModuleStamps, name: &str, stamp: &ModuleStamp) -> bool {
    stamps.get(name).is_some_and(|known| known.is_same(stamp))
}
