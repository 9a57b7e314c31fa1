//! What tells one load of a module from the next.

use std::collections::BTreeMap;

use super::{modules::KernelModule, source::KernelFiles};

/// Tells one load of a module from the next of the same name.
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

    /// A load of a module by number.
    #[cfg(test)]
    pub(crate) const fn of_load(number: u64) -> Self {
        Self { size: 1, address: 0, inode: Some(number) }
    }

    /// Whether both are of one load. Neither the state nor the size tells: a module that has run its init function
    /// gives back the memory of that.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self.inode, other.inode) {
            (Some(one), Some(other)) => one == other,
            // sysfs does not have it yet, or there is none.
            _ if self.address != 0 && other.address != 0 => self.address == other.address,
            _ => self.size == other.size,
        }
    }
}

/// Of modules, by name.
pub(super) type ModuleStamps = BTreeMap<String, ModuleStamp>;

/// Whether both have the same loads of the same modules.
pub(super) fn same_loads(one: &ModuleStamps, other: &ModuleStamps) -> bool {
    one.len() == other.len()
        && one.iter().all(|(name, stamp)| other.get(name).is_some_and(|other| stamp.is_same(other)))
}

/// Whether `stamps` has this load of the module.
pub(super) fn is_loaded_in(stamps: &ModuleStamps, name: &str, stamp: &ModuleStamp) -> bool {
    stamps.get(name).is_some_and(|known| known.is_same(stamp))
}
