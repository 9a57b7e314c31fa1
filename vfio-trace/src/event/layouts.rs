//! Layouts of drivers' structures, from notes: for each module those of its last two loads.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use super::CaptureNote;

/// Most layouts that are kept: a few per driver, and each time that it is loaded. Beyond it the oldest are forgotten.
const MAX_LAYOUTS: usize = 512;
/// Number of loads of a module whose layouts are kept. Images of the load before may still come after a module was
/// loaded anew.
const LOADS: usize = 2;

/// A value for each layout, in the order in which the notes came.
#[derive(Debug)]
pub(crate) struct CaptureLayouts<T> {
    told: BTreeMap<(u64, u32), (Arc<str>, T)>,
    /// Keys in the order of the notes, the latest last.
    order: VecDeque<(u64, u32)>,
    /// Number of layouts that were forgotten because the table was full.
    forgotten: u64,
}

impl<T> Default for CaptureLayouts<T> {
    fn default() -> Self {
        Self { told: BTreeMap::new(), order: VecDeque::new(), forgotten: 0 }
    }
}

impl<T> CaptureLayouts<T> {
    /// Keeps `kept` for a note's layout; layouts that are no longer needed are dropped.
    pub(crate) fn insert(&mut self, note: &CaptureNote, kept: T) {
        let key = (note.driver, note.id);
        let module: Arc<str> = note.module.as_str().into();
        if self.told.insert(key, (Arc::clone(&module), kept)).is_some() {
            self.order.retain(|told| *told != key);
        }
        self.order.push_back(key);
        self.replace(&module);
        if self.order.len() > MAX_LAYOUTS
            && let Some(oldest) = self.order.pop_front()
        {
            self.told.remove(&oldest);
            self.forgotten += 1;
        }
    }

    /// Forgets a module's layouts of all loads but the last [`LOADS`]: no image of older loads can come.
    fn replace(&mut self, module: &str) {
        let of = |key: &(u64, u32)| self.told.get(key).is_some_and(|(of, _)| **of == *module);
        let mut loaded: Vec<u64> = Vec::new();
        for (driver, _) in self.order.iter().rev().filter(|key| of(key)) {
            if !loaded.contains(driver) {
                loaded.push(*driver);
            }
        }
        let Some(older) = loaded.get(LOADS..).filter(|older| !older.is_empty()) else { return };
        let old: Vec<(u64, u32)> =
            self.order.iter().filter(|key| of(key) && older.contains(&key.0)).copied().collect();
        self.order.retain(|key| !old.contains(key));
        self.told.retain(|key, _| !old.contains(key));
    }

    /// Returns the value for this structure of this driver.
    pub(crate) fn get(&self, driver: u64, id: u32) -> Option<&T> {
        self.told.get(&(driver, id)).map(|(_, kept)| kept)
    }

    /// Returns all values, the latest last.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.order.iter().filter_map(|&(driver, id)| self.get(driver, id))
    }

    /// Returns the number of layouts that were forgotten because the table was full.
    pub(crate) const fn forgotten(&self) -> u64 {
        self.forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(module: &str, driver: u64, id: u32) -> CaptureNote {
        let (module, name, structure) = (module.to_owned(), String::new(), String::new());
        CaptureNote { driver, id, module, name, structure, fields: Vec::new() }
    }

    #[test]
    fn a_module_that_is_loaded_again_and_again_makes_room() {
        let mut layouts = CaptureLayouts::default();
        let mut tell = |module: &str, driver: u64, ids: u32| {
            (0..ids).for_each(|id| layouts.insert(&note(module, driver, id), (driver, id)));
        };
        tell("mlx5_vfio_pci", 1, 3);
        (1_000..1_200).for_each(|driver| tell("hisi_acc_vfio_pci", driver, 5));
        assert_eq!((layouts.forgotten(), layouts.iter().count(), layouts.told.len()), (0, 13, 13));
        // Also the layouts of the last load but one.
        for (driver, id) in [(1, 0), (1_198, 4), (1_199, 0)] {
            assert_eq!(layouts.get(driver, id), Some(&(driver, id)));
        }
    }

    #[test]
    fn the_last_loads_are_those_told_last_wherever_they_are() {
        let mut layouts = CaptureLayouts::default();
        for driver in [3, 2, 1, 2, 5] {
            (0..2).for_each(|id| layouts.insert(&note("m", driver, id), (driver, id)));
        }
        let kept: Vec<_> = layouts.iter().copied().collect();
        assert_eq!(kept, [(2, 0), (2, 1), (5, 0), (5, 1)]);
    }
}
