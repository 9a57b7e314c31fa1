//! Keeps the eBPF programs' tables of drivers in step with the drivers that are loaded. An address that is free again
//! may become another driver's, so no entry may stay there.

use std::collections::{BTreeMap, BTreeSet};

use vfio_trace_common::{capture::Captures, layout::DriverLayout, role::Role};

use crate::{
    event::{CaptureNote, RecordNote},
    kernel::{KernelFacts, PluginFacts},
    probe::{BpfPrograms, ProgramLoadError},
};

/// Tables in which the programs look drivers up, by the address of their `migration_set_state`: the kernel's maps, or a
/// test's.
pub(super) trait DriverTables {
    fn set_driver(&mut self, set_state: u64, layout: &DriverLayout) -> Result<(), ProgramLoadError>;
    fn set_captures(&mut self, set_state: u64, captures: &Captures) -> Result<(), ProgramLoadError>;
    fn forget_driver(&mut self, set_state: u64) -> Result<(), ProgramLoadError>;
}

impl DriverTables for BpfPrograms {
    fn set_driver(&mut self, set_state: u64, layout: &DriverLayout) -> Result<(), ProgramLoadError> {
        self.set_driver(set_state, layout)
    }

    fn set_captures(&mut self, set_state: u64, captures: &Captures) -> Result<(), ProgramLoadError> {
        self.set_captures(set_state, captures)
    }

    fn forget_driver(&mut self, set_state: u64) -> Result<(), ProgramLoadError> {
        self.forget_driver(set_state)
    }
}

/// Entry of one driver.
#[derive(Clone, Debug, PartialEq, Eq)]
struct DriverEntry {
    module: Option<String>,
    layout: DriverLayout,
    captures: Option<Captures>,
}

/// Entries handed over to the programs, by address.
#[derive(Debug, Default)]
pub(super) struct DriverRegistry {
    drivers: BTreeMap<u64, DriverEntry>,
    /// Addresses of drivers for which the tables had no room.
    refused: BTreeSet<u64>,
}

/// Results of handing over.
#[derive(Debug, Default)]
pub(super) struct HandoverNotes {
    /// Notes that explain the drivers' records.
    pub(super) notes: Vec<RecordNote>,
    /// Drivers whose memory is not read, and the reasons.
    pub(super) unread: Vec<(String, String)>,
}

impl DriverRegistry {
    /// Hands over all offsets to the programs: those of the kernel's structures, and each driver's own.
    pub(super) fn hand_over(
        &mut self,
        programs: &mut BpfPrograms,
        facts: &KernelFacts,
    ) -> Result<HandoverNotes, ProgramLoadError> {
        programs.set_layout(&facts.layout)?;
        let mut notes = Vec::new();
        let wanted = wanted(facts, &mut notes);
        Ok(self.update(programs, wanted, notes))
    }

    /// Adds missing entries and removes outdated ones. An entry that is there already is not written again: the
    /// programs may be reading it.
    fn update(
        &mut self,
        tables: &mut impl DriverTables,
        wanted: BTreeMap<u64, DriverEntry>,
        notes: Vec<(u64, RecordNote)>,
    ) -> HandoverNotes {
        let mut news = HandoverNotes::default();
        self.drivers.retain(|address, driver| {
            let stays = wanted.get(address) == Some(driver);
            if !stays {
                // A later entry at this address must find no remains of this one.
                let _absent = tables.forget_driver(*address).is_err();
            }
            stays
        });
        self.refused.retain(|address| wanted.contains_key(address));
        let mut told = BTreeSet::new();
        for (address, driver) in wanted {
            if self.drivers.contains_key(&address) {
                continue;
            }
            let captures = driver.captures.as_ref();
            let done = tables
                .set_driver(address, &driver.layout)
                .and_then(|()| captures.map_or(Ok(()), |captures| tables.set_captures(address, captures)));
            match done {
                Ok(()) => {
                    told.insert(address);
                    self.refused.remove(&address);
                    self.drivers.insert(address, driver);
                },
                Err(error) => {
                    // Half of an entry would be worse than none.
                    let _absent = tables.forget_driver(address).is_err();
                    if self.refused.insert(address) {
                        let module = driver.module.unwrap_or_else(|| "in the kernel".to_owned());
                        news.unread.push((module, error.to_string()));
                    }
                },
            }
        }
        let notes = notes.into_iter().filter(|(address, _)| told.contains(address));
        news.notes = notes.map(|(_, note)| note).collect();
        news
    }
}

/// Returns the entries of all drivers that are loaded, and the notes that explain their records.
fn wanted(facts: &KernelFacts, notes: &mut Vec<(u64, RecordNote)>) -> BTreeMap<u64, DriverEntry> {
    let mut wanted = BTreeMap::new();
    for driver in &facts.drivers {
        // The last complete scan may be older than the list of modules.
        let loaded = |module: &String| facts.modules.as_ref().is_ok_and(|list| list.get(module).is_some());
        if driver.module.as_ref().is_some_and(|module| !loaded(module)) {
            continue;
        }
        for candidate in driver.of(Role::SetState) {
            let private = facts.private_of(driver, &candidate.name);
            let (Some(Ok(private)), Some(address)) = (private, candidate.address) else { continue };
            let plugin = facts.plugin_of(driver, &candidate.name);
            let captures = plugin.map(|plugin| captures(plugin, address, notes));
            let (module, layout) = (driver.module.clone(), private.layout);
            wanted.insert(address, DriverEntry { module, layout, captures });
        }
    }
    wanted
}

/// Returns the structures that a plug-in wants copied of the driver with this `migration_set_state`.
fn captures(plugin: &PluginFacts, driver: u64, notes: &mut Vec<(u64, RecordNote)>) -> Captures {
    let mut captures = Captures::default();
    let wanted = plugin.wanted.captures.iter().zip(&plugin.captures);
    let there = wanted.filter_map(|(wanted, plan)| Some((wanted, plan.as_ref().ok()?)));
    for (spec, (wanted, plan)) in captures.specs.iter_mut().zip(there) {
        *spec = plan.spec;
        let note = CaptureNote {
            driver,
            id: plan.spec.id,
            module: plugin.wanted.module.to_owned(),
            name: wanted.name.to_owned(),
            structure: wanted.structure.to_owned(),
            fields: plan.fields.clone(),
        };
        notes.push((driver, RecordNote::Capture(note)));
    }
    captures
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Room for two drivers.
    #[derive(Default)]
    struct TwoDriverTables {
        drivers: BTreeMap<u64, DriverLayout>,
        captures: BTreeSet<u64>,
        writes: u32,
    }

    impl DriverTables for TwoDriverTables {
        fn set_driver(&mut self, set_state: u64, layout: &DriverLayout) -> Result<(), ProgramLoadError> {
            if self.drivers.len() == 2 && !self.drivers.contains_key(&set_state) {
                return Err(ProgramLoadError::IncompleteObject("room"));
            }
            self.drivers.insert(set_state, *layout);
            self.writes += 1;
            Ok(())
        }

        fn set_captures(&mut self, set_state: u64, _captures: &Captures) -> Result<(), ProgramLoadError> {
            self.captures.insert(set_state);
            Ok(())
        }

        fn forget_driver(&mut self, set_state: u64) -> Result<(), ProgramLoadError> {
            self.drivers.remove(&set_state);
            self.captures.remove(&set_state);
            Ok(())
        }
    }

    fn driver(module: &str, state: i64, captures: bool) -> DriverEntry {
        let layout = DriverLayout { state_known: 1, state, ..DriverLayout::default() };
        DriverEntry { module: Some(module.to_owned()), layout, captures: captures.then(Captures::default) }
    }

    #[test]
    fn a_driver_that_is_loaded_again_and_again_takes_no_more_room() {
        let (mut handed, mut two) = (DriverRegistry::default(), TwoDriverTables::default());
        for load in 0..100 {
            let news = handed.update(&mut two, [(0x1000 * load, driver("a", 8, true))].into(), Vec::new());
            assert!(news.unread.is_empty(), "load {load}: {news:?}");
        }
        assert_eq!((two.drivers.len(), two.captures.len()), (1, 1));
    }

    #[test]
    fn what_is_at_the_address_of_another_one_is_its_own() {
        let (mut handed, mut two) = (DriverRegistry::default(), TwoDriverTables::default());
        handed.update(&mut two, [(0x1000, driver("a", 8, true))].into(), Vec::new());
        let rebuilt = [(0x1000, driver("a", 16, false))];
        handed.update(&mut two, rebuilt.clone().into(), Vec::new());
        assert_eq!((two.drivers[&0x1000].state, two.captures.len()), (16, 0));
        let writes = two.writes;
        handed.update(&mut two, rebuilt.into(), Vec::new());
        assert_eq!(two.writes, writes, "the programs may be reading it");
        // Its layout is not known any more, or the driver has gone.
        handed.update(&mut two, BTreeMap::new(), Vec::new());
        assert!(two.drivers.is_empty());
    }

    #[test]
    fn a_full_map_is_told_once_and_the_rest_goes_on() {
        let (mut handed, mut two) = (DriverRegistry::default(), TwoDriverTables::default());
        let three: BTreeMap<u64, DriverEntry> =
            [(1, driver("a", 8, true)), (2, driver("b", 8, true)), (3, driver("c", 8, true))].into();
        let news = handed.update(&mut two, three.clone(), Vec::new());
        assert!(matches!(&news.unread[..], [(module, _)] if module == "c"), "{news:?}");
        assert_eq!(handed.update(&mut two, three.clone(), Vec::new()).unread, []);
        let left: BTreeMap<u64, DriverEntry> = three.into_iter().skip(1).collect();
        assert_eq!(handed.update(&mut two, left, Vec::new()).unread, []);
        assert!(two.drivers.contains_key(&3), "there is room by now");
    }
}
