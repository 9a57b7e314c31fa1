//! Tests of the manager with a simulated kernel.

use std::{cell::RefCell, rc::Rc};

use super::*;
use crate::{
    kernel::{KernelSymbol, StepPlan},
    sys::ProbeLocation,
};

/// Counts of the simulated kernel; links are numbers.
#[derive(Default)]
struct FakeCounts {
    missed: BTreeMap<u32, Option<u64>>,
    recursion: BTreeMap<Role, u64>,
    next: u32,
    closed: Vec<u32>,
    refused: Vec<String>,
    places: Vec<ProbeLocation>,
    attaching: bool,
    /// True if it tells the addresses of links.
    tells_places: bool,
    /// Descriptions of steps that the programs have got.
    steps: Vec<StepSpec>,
}

#[derive(Clone, Default)]
struct FakeBackend(Rc<RefCell<FakeCounts>>);

impl ProbeBackend for FakeBackend {
    type Link = u32;

    fn set_step(&mut self, _slot: u16, spec: &StepSpec) -> Result<(), AttachError> {
        self.0.borrow_mut().steps.push(*spec);
        Ok(())
    }

    fn attaching(&mut self, on: bool) {
        self.0.borrow_mut().attaching = on;
    }

    fn attach(&mut self, functions: &[(&ProbeTarget, u16)]) -> Vec<Result<Vec<u32>, AttachError>> {
        let mut counts = self.0.borrow_mut();
        let attach = |(target, _slot): &(&ProbeTarget, u16)| {
            assert!(counts.attaching || target.address.is_some(), "something may be in its way");
            if counts.refused.contains(&target.symbol) {
                return Err("no such function".into());
            }
            counts.next += 1;
            counts.places = target.places();
            Ok(vec![counts.next])
        };
        functions.iter().map(attach).collect()
    }

    fn address(&self, link: &u32) -> Option<u64> {
        self.0.borrow().tells_places.then_some(u64::from(*link) << 12)
    }

    fn missed(&self, link: &u32) -> Option<u64> {
        let counts = self.0.borrow();
        assert!(!counts.closed.contains(link), "read after it was closed");
        counts.missed.get(link).copied().unwrap_or(Some(0))
    }

    fn recursion_misses(&self, role: Role) -> Option<u64> {
        Some(self.0.borrow().recursion.get(&role).copied().unwrap_or(0))
    }

    fn stats(&self, _slot: u16) -> ProbeStats {
        ProbeStats::default()
    }

    fn close(&mut self, links: Vec<u32>) {
        self.0.borrow_mut().closed.extend(links);
    }
}

fn symbol(name: &str, module: Option<&str>, addr: u64) -> KernelSymbol {
    KernelSymbol { addr, name: name.to_owned(), module: module.map(str::to_owned), kind: 't' }
}

fn wanted(role: Role, name: &str, module: &str) -> PlannedProbe {
    PlannedProbe::Attach(ProbeTarget::from_pointer(role, symbol(name, Some(module), 0)))
}

/// Makes a function that returns the load of a module, from modules with the numbers of their loads.
fn loads<'a>(modules: &'a [(&'a str, u64)]) -> impl Fn(&str) -> Option<ModuleStamp> + 'a {
    |name| {
        let (_, load) = modules.iter().find(|(module, _)| *module == name)?;
        Some(ModuleStamp::of_load(*load))
    }
}

fn names(functions: &[ProbedFunction]) -> Vec<&str> {
    functions.iter().map(|function| function.symbol.as_str()).collect()
}

fn missed(manager: &ProbeManager<FakeBackend>) -> Option<u64> {
    manager.report().iter().try_fold(0, |sum, probe| Some(sum + probe.missed?))
}

#[test]
fn what_was_missed_never_goes_down() {
    let fake = FakeBackend::default();
    let mut manager = ProbeManager::over(fake.clone());
    let plan = [wanted(Role::Read, "a_read", "a"), wanted(Role::Read, "b_read", "b")];
    manager.reconcile(&plan, loads(&[("a", 1), ("b", 1)]));
    fake.0.borrow_mut().missed.extend([(1, Some(5)), (2, Some(7))]);
    fake.0.borrow_mut().recursion.insert(Role::Read, 11);
    assert_eq!(missed(&manager), Some(23));
    let by_probe = |manager: &ProbeManager<FakeBackend>| -> Vec<_> {
        manager.report().iter().map(|probe| (probe.attached, probe.missed)).collect()
    };
    // The driver whose probe has the role's recursion misses goes: they stay with it.
    let changes = manager.reconcile(&plan[1..], loads(&[("b", 1)]));
    assert_eq!(changes.detached[0].1, "module a was unloaded");
    assert_eq!(by_probe(&manager), [(false, Some(16)), (true, Some(7))]);
    // It comes back, with a link that counts from 0.
    manager.reconcile(&plan, loads(&[("a", 2), ("b", 1)]));
    assert_eq!(by_probe(&manager), [(true, Some(16)), (true, Some(7))]);
    fake.0.borrow_mut().missed.insert(3, Some(1));
    assert_eq!(missed(&manager), Some(24));
}

#[test]
fn where_the_kernel_does_not_tell_a_probe_that_is_gone_does_not_either() {
    let fake = FakeBackend::default();
    let mut manager = ProbeManager::over(fake.clone());
    manager.reconcile(&[wanted(Role::Read, "a_read", "a")], loads(&[("a", 1)]));
    fake.0.borrow_mut().missed.insert(1, None);
    manager.reconcile(&[], loads(&[]));
    assert_eq!(manager.report()[0].missed, None);
}

#[test]
fn what_a_pointer_has_shown_stays_until_its_module_goes() {
    let mut manager = ProbeManager::over(FakeBackend::default());
    let here = [("odd", 1), ("other", 1)];
    let plan = [wanted(Role::NextState, "next", "vfio")];
    let target = ProbeTarget::from_pointer(Role::Read, symbol("odd_read", Some("odd"), 0x1000));
    manager.attach_pointer(Role::Read, 0x1000, Some(target), loads(&here));
    // A function of the kernel image: module events do not affect it.
    let target = ProbeTarget::from_pointer(Role::Write, symbol("core_write", None, 0x2000));
    manager.attach_pointer(Role::Write, 0x2000, Some(target), loads(&here));
    let changes = manager.reconcile(&plan, loads(&[("odd", 1), ("vfio", 1)]));
    assert_eq!(
        (changes.detached.len(), names(&changes.attached)),
        (0, vec!["next"]),
        "another module came and went"
    );
    assert!(!manager.is_new_pointer(Role::Read, 0x1000));
    let changes = manager.reconcile(&plan, loads(&[("odd", 2), ("vfio", 1)]));
    assert_eq!(changes.detached.len(), 1, "{changes:?}");
    assert_eq!(changes.detached[0].0.symbol, "odd_read");
    assert!(manager.is_new_pointer(Role::Read, 0x1000), "its address may be another function's now");
    assert!(!manager.is_new_pointer(Role::Write, 0x2000));
}

#[test]
fn a_reload_is_noticed_once_and_a_probe_that_is_back_stays() {
    let fake = FakeBackend::default();
    fake.0.borrow_mut().tells_places = true;
    let mut manager = ProbeManager::over(fake.clone());
    let plan = [wanted(Role::Read, "a_read", "a"), wanted(Role::Write, "a_write", "a")];
    manager.reconcile(&plan, loads(&[("a", 1)]));
    // The kernel reported the load before the manager saw that the module had gone.
    let changes = manager.attach_at_once(&plan, loads(&[("a", 2)]));
    assert_eq!((changes.detached.len(), names(&changes.attached)), (2, vec!["a_read", "a_write"]));
    let changes = manager.reconcile(&plan, loads(&[("a", 2)]));
    assert_eq!(changes, ProbeChanges::default());
    assert!(!fake.0.borrow().attaching, "links may be closed again");
    // The kernel tells the addresses long before symbols do: pointers to them are not new.
    assert_eq!(manager.address(Role::Write, "a_write", Some("a")), Some(0x4000));
    assert!(!manager.is_new_pointer(Role::Write, 0x4000));
}

#[test]
fn a_plan_made_in_a_hurry_is_not_held_against_the_kernel() {
    let fake = FakeBackend::default();
    fake.0.borrow_mut().refused.push("gone".to_owned());
    let mut manager = ProbeManager::over(fake);
    let plan = [wanted(Role::Read, "gone", "a"), wanted(Role::Write, "a_write", "a")];
    let changes = manager.attach_at_once(&plan, loads(&[("a", 1)]));
    assert_eq!((names(&changes.attached), changes.failed.len()), (vec!["a_write"], 0));
    let changes = manager.reconcile(&plan, loads(&[("a", 1)]));
    assert_eq!((changes.attached.len(), changes.failed.len()), (0, 1), "said by the one that knows");
}

#[test]
fn steps_of_a_library_go_with_the_last_driver() {
    let mut manager = ProbeManager::over(FakeBackend::default());
    manager.reconcile(&[wanted(Role::Step, "qm_mb", "qm")], loads(&[("qm", 1)]));
    let changes = manager.reconcile(&[], loads(&[("qm", 1)]));
    assert_eq!(changes.detached[0].1, "no driver that it serves is loaded");
}

#[test]
fn in_a_hurry_nothing_is_attached_of_what_is_gone_nor_by_an_old_address() {
    let fake = FakeBackend::default();
    let mut manager = ProbeManager::over(fake.clone());
    let placed = |module: &str| {
        let target = ProbeTarget::from_pointer(Role::Read, symbol("save_read", Some(module), 0x1000));
        PlannedProbe::Attach(ProbeTarget { unique: true, ..target })
    };
    // The last complete plan had both. One has gone since, and its address may be another function's.
    let changes = manager.attach_at_once(&[placed("gone"), placed("here")], loads(&[("here", 1)]));
    let modules: Vec<_> = changes.attached.iter().map(|function| function.module.as_deref()).collect();
    assert_eq!(modules, [Some("here")]);
    assert_eq!(fake.0.borrow().places, [ProbeLocation::Name("here:save_read".to_owned())]);
}

#[test]
fn a_probe_attached_before_its_module_was_in_the_list_stays() {
    let mut manager = ProbeManager::over(FakeBackend::default());
    let target = ProbeTarget::from_pointer(Role::Read, symbol("odd_read", Some("odd"), 0x1000));
    manager.attach_pointer(Role::Read, 0x1000, Some(target), loads(&[]));
    assert_eq!(manager.reconcile(&[], loads(&[("odd", 1)])), ProbeChanges::default());
    let changes = manager.reconcile(&[], loads(&[("odd", 2)]));
    assert_eq!(changes.detached[0].1, "module odd was unloaded");
}

#[test]
fn what_the_kernel_refused_is_said_once_however_many_hurries_come() {
    let fake = FakeBackend::default();
    fake.0.borrow_mut().refused.push("gone".to_owned());
    let mut manager = ProbeManager::over(fake);
    let plan = [wanted(Role::Read, "gone", "a")];
    assert_eq!(manager.reconcile(&plan, loads(&[("a", 1)])).failed.len(), 1);
    manager.attach_at_once(&plan, loads(&[("a", 1)]));
    assert_eq!(manager.report()[0].reason.as_deref(), Some("no such function"));
    assert_eq!(manager.reconcile(&plan, loads(&[("a", 1)])).failed, []);
}

#[test]
fn a_pointer_that_no_symbol_names_is_told_and_tried_again() {
    let mut manager = ProbeManager::over(FakeBackend::default());
    let changes = manager.attach_pointer(Role::Read, 0x1000, None, loads(&[]));
    assert!(matches!(&changes.failed[..], [(function, _)] if function.symbol == "? (read)"), "{changes:?}");
    assert!(!manager.is_new_pointer(Role::Read, 0x1000), "each look costs a pass over all symbols");
    manager.reconcile(&[], loads(&[("odd", 1)]));
    assert!(manager.is_new_pointer(Role::Read, 0x1000));
    // If addresses are hidden, the pointer may lead to this function.
    manager.reconcile(&[wanted(Role::Read, "odd_read", "odd")], loads(&[("odd", 1)]));
    assert_eq!(manager.attach_pointer(Role::Read, 0x1000, None, loads(&[])), ProbeChanges::default());
}

#[test]
fn a_step_follows_its_driver_that_is_built_anew_while_its_library_stays() {
    let fake = FakeBackend::default();
    let mut manager = ProbeManager::over(fake.clone());
    let step = |offset: i64| {
        let mut spec = StepSpec::default();
        spec.chain.offset[0] = offset;
        let mut target = ProbeTarget::from_pointer(Role::Step, symbol("lib_step", Some("lib"), 0x1000));
        target.step = Some(StepPlan {
            symbol: "lib_step".to_owned(),
            module: Some("lib".to_owned()),
            address: None,
            unique: true,
            spec,
            returns: ReturnKind::Int,
            params: 5,
        });
        [PlannedProbe::Attach(target)]
    };
    let told = || -> Vec<i64> { fake.0.borrow().steps.iter().map(|spec| spec.chain.offset[0]).collect() };
    manager.reconcile(&step(8), loads(&[("lib", 1), ("driver", 1)]));
    manager.reconcile(&step(8), loads(&[("lib", 1), ("driver", 1)]));
    assert_eq!((told(), manager.take_notes().len()), (vec![8], 1), "nothing new");
    let changes = manager.attach_at_once(&step(16), loads(&[("lib", 1), ("driver", 2)]));
    assert_eq!((changes, told(), manager.take_notes().len()), (ProbeChanges::default(), vec![8, 16], 1));
    manager.reconcile(&step(24), loads(&[("lib", 1), ("driver", 3)]));
    assert_eq!((told(), manager.take_notes().len()), (vec![8, 16, 24], 1));
    // Attached again, it gets its description again: its slot was not used meanwhile.
    manager.reconcile(&[], loads(&[("lib", 1)]));
    manager.reconcile(&step(24), loads(&[("lib", 1), ("driver", 3)]));
    assert_eq!((told(), manager.take_notes().len()), (vec![8, 16, 24, 24], 1));
}
