//! Modules that were loaded while tracing, and the gaps that follow: calls of their functions before they were probed
//! were not seen. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    event::{GapCause, ProbeGap},
    kernel::{ModuleArrival, ModuleStamp},
    probe::ProbedFunction,
};
use vfio_trace_common::role::Role;

/// One load of a module.
#[derive(Debug)]
struct LoadNotice {
    at_ns: u64,
    /// Stamp of that load, once it is known.
    load: Option<ModuleStamp>,
}

/// A module that the list shows and the kernel has not told of.
#[derive(Debug)]
struct AwaitedLoad {
    load: ModuleStamp,
    /// Time at which the list first showed it.
    since_ns: u64,
}

/// Longest wait for the notice of a module in the list. It comes before the module's init function runs: only if it was
/// lost, and that function takes so long, there is something to wait for in vain.
const LATEST_NOTICE_NS: u64 = 10_000_000_000;

/// A load whose gap was reported.
#[derive(Clone, Copy, Debug)]
struct CoveredLoad {
    /// Stamp of the load, if known.
    load: Option<ModuleStamp>,
    /// Time of the report.
    at_ns: u64,
}

impl CoveredLoad {
    /// Returns true if both are known to be of one load.
    fn is_same(&self, other: &Self) -> bool {
        self.load.zip(other.load).is_some_and(|(one, other)| one.is_same(&other))
    }

    /// Returns true if this is the load of the kernel's notice, which was over by `until_ns`. The notice may be read
    /// later than the list of modules: a gap that is reported then is of the load that was there then.
    fn is_of(&self, told: &LoadNotice, until_ns: u64) -> bool {
        match (self.load, told.load) {
            (Some(one), Some(other)) => one.is_same(&other),
            _ => (told.at_ns..=until_ns).contains(&self.at_ns),
        }
    }
}

/// Loads of modules since tracing was switched on.
#[derive(Debug)]
pub(super) struct LoadTracker {
    /// Time at which tracing was switched on; calls before it are not missed.
    began_ns: Option<u64>,
    /// Time of the last scan of the list of modules.
    looked_ns: u64,
    /// Modules of the last list whose notice is still to come.
    awaited: BTreeMap<String, AwaitedLoad>,
    /// The kernel's notice of each module.
    told: BTreeMap<String, LoadNotice>,
    /// The last two loads of each module whose gaps were reported: the notice of the one before the last may be read
    /// after both.
    covered: BTreeMap<String, [Option<CoveredLoad>; 2]>,
    /// Functions that were ever probed, by module: its next load has the same.
    known: BTreeMap<String, BTreeSet<ProbedFunction>>,
    /// Functions whose probe the kernel refused, and the start of their gap.
    open: BTreeMap<ProbedFunction, (u64, bool)>,
    /// Gaps that were not taken yet.
    due: Vec<ProbeGap>,
}

impl LoadTracker {
    pub(super) const fn new(now_ns: u64) -> Self {
        Self {
            began_ns: None,
            looked_ns: now_ns,
            awaited: BTreeMap::new(),
            told: BTreeMap::new(),
            covered: BTreeMap::new(),
            known: BTreeMap::new(),
            open: BTreeMap::new(),
            due: Vec::new(),
        }
    }

    pub(super) const fn begin(&mut self, now_ns: u64) {
        self.began_ns = Some(now_ns);
    }

    /// Takes in the kernel's notice of a module.
    pub(super) fn note_load(&mut self, module: String, at_ns: u64) {
        let before = self.told.insert(module.clone(), LoadNotice { at_ns, load: None });
        if let Some(before) = before {
            self.passed(&module, &before, at_ns);
        }
    }

    /// Takes in a scan of the list of modules.
    pub(super) fn note_scan(&mut self, at_ns: u64) {
        // A module that was left out was there at this scan: if its notice was lost, its functions may have run.
        if self.awaited.is_empty() {
            self.looked_ns = at_ns;
        }
    }

    /// Returns those of the modules that came that are to be left out of this scan: the kernel lists a module before
    /// it tells of it, and only then the module's first function runs. What is taken in earlier would have a gap that
    /// nobody knows the beginning of.
    pub(super) fn awaited(&mut self, arrivals: Vec<ModuleArrival>, now_ns: u64) -> Vec<String> {
        let mut before = std::mem::take(&mut self.awaited);
        for ModuleArrival { name, load, is_loading } in arrivals {
            let is_told =
                self.told.get(&name).is_some_and(|told| told.load.is_none_or(|told| told.is_same(&load)));
            if !is_loading || is_told {
                continue;
            }
            let since = before.remove(&name).filter(|before| before.load.is_same(&load));
            let since_ns = since.map_or(now_ns, |since| since.since_ns);
            if now_ns.saturating_sub(since_ns) < LATEST_NOTICE_NS {
                self.awaited.insert(name, AwaitedLoad { load, since_ns });
            }
        }
        self.awaited.keys().cloned().collect()
    }

    /// Forgets modules that are gone at `now_ns`, or that were loaded again without a notice: `load` returns the
    /// load in a list that was read after `listed_ns`. What the kernel told later, that list does not have to show.
    pub(super) fn keep(&mut self, load: impl Fn(&str) -> Option<ModuleStamp>, listed_ns: u64, now_ns: u64) {
        for (module, mut told) in std::mem::take(&mut self.told) {
            if told.at_ns >= listed_ns {
                self.told.insert(module, told);
                continue;
            }
            let stays = match (load(&module), told.load) {
                (None, _) => false,
                (Some(now), Some(told)) => told.is_same(&now),
                (now, None) => {
                    told.load = now;
                    true
                },
            };
            if stays {
                self.told.insert(module, told);
            } else {
                self.passed(&module, &told, now_ns);
            }
        }
        let is_gone =
            |function: &ProbedFunction| function.module.as_deref().is_some_and(|name| load(name).is_none());
        let gone: Vec<ProbedFunction> =
            self.open.keys().filter(|function| is_gone(function)).cloned().collect();
        let closed = self.close(&gone.iter().collect::<Vec<_>>(), now_ns);
        self.due.extend(closed);
    }

    /// Reports a load that is over by `until_ns`. If it came and went unprobed, the functions that the module had
    /// before are all that is known.
    fn passed(&mut self, module: &str, told: &LoadNotice, until_ns: u64) {
        let (Some(began_ns), Some(known)) = (self.began_ns, self.known.get(module)) else { return };
        let mut covered = self.covered.get(module).into_iter().flatten().flatten();
        if !covered.any(|covered| covered.is_of(told, until_ns)) {
            self.due.push(ProbeGap {
                module: Some(module.to_owned()),
                functions: known.iter().map(Into::into).collect(),
                from_mono_ns: told.at_ns.max(began_ns),
                from_exact: true,
                until_mono_ns: Some(until_ns),
                why: GapCause::ModuleLoaded,
            });
        }
    }

    /// Returns the gaps of functions that were probed at `now_ns`, and of those that the kernel refused, one per
    /// module; and of modules that came and went. Steps that it refused are no gap: most builds inline most of them.
    /// `load` returns the present load of a module.
    pub(super) fn gaps(
        &mut self,
        attached: &[ProbedFunction],
        failed: &[(ProbedFunction, String)],
        load: impl Fn(&str) -> Option<ModuleStamp>,
        now_ns: u64,
    ) -> Vec<ProbeGap> {
        self.tell(attached, failed, load, now_ns, GapCause::ModuleLoaded)
    }

    /// Returns the same for functions that were found through pointers.
    pub(super) fn by_pointer(
        &mut self,
        attached: &[ProbedFunction],
        failed: &[(ProbedFunction, String)],
        load: impl Fn(&str) -> Option<ModuleStamp>,
        now_ns: u64,
    ) -> Vec<ProbeGap> {
        self.tell(attached, failed, load, now_ns, GapCause::FoundByPointer)
    }

    fn tell(
        &mut self,
        attached: &[ProbedFunction],
        failed: &[(ProbedFunction, String)],
        load: impl Fn(&str) -> Option<ModuleStamp>,
        now_ns: u64,
        why: GapCause,
    ) -> Vec<ProbeGap> {
        let failed: Vec<&ProbedFunction> = failed
            .iter()
            .map(|(function, _)| function)
            // An open gap was reported already.
            .filter(|function| function.role != Role::Step && !self.open.contains_key(function))
            .collect();
        let attached: Vec<&ProbedFunction> = attached.iter().collect();
        let late: Vec<&ProbedFunction> =
            attached.iter().copied().filter(|function| !self.open.contains_key(function)).collect();
        let mut gaps = std::mem::take(&mut self.due);
        gaps.extend(self.close(&attached, now_ns));
        gaps.extend(self.of(&late, Some(now_ns), why));
        let refused = self.of(&failed, None, GapCause::Refused);
        for gap in &refused {
            let of_gap = failed.iter().filter(|function| function.module == gap.module);
            self.open.extend(of_gap.map(|&function| (function.clone(), (gap.from_mono_ns, gap.from_exact))));
        }
        gaps.extend(refused);
        for &function in &attached {
            let Some(module) = &function.module else { continue };
            self.known.entry(module.clone()).or_default().insert(function.clone());
        }
        let modules: BTreeSet<&String> =
            attached.iter().chain(&failed).filter_map(|function| function.module.as_ref()).collect();
        for module in modules {
            let now = CoveredLoad { load: load(module), at_ns: now_ns };
            let [last, before] = self.covered.entry(module.clone()).or_default();
            // A further scan of the same load.
            if !last.is_some_and(|last| last.is_same(&now)) {
                *before = *last;
            }
            *last = Some(now);
        }
        gaps
    }

    /// Ends those of these functions' gaps that have no end yet.
    fn close(&mut self, functions: &[&ProbedFunction], until_ns: u64) -> Vec<ProbeGap> {
        let mut gaps: Vec<ProbeGap> = Vec::new();
        for &function in functions {
            let Some((from_mono_ns, from_exact)) = self.open.remove(function) else { continue };
            let same =
                |gap: &&mut ProbeGap| gap.module == function.module && gap.from_mono_ns == from_mono_ns;
            if let Some(gap) = gaps.iter_mut().find(same) {
                gap.functions.push(function.into());
                continue;
            }
            gaps.push(ProbeGap {
                module: function.module.clone(),
                functions: vec![function.into()],
                from_mono_ns,
                from_exact,
                until_mono_ns: Some(until_ns),
                why: GapCause::Refused,
            });
        }
        gaps
    }

    fn of(&self, functions: &[&ProbedFunction], until_mono_ns: Option<u64>, why: GapCause) -> Vec<ProbeGap> {
        let Some(began_ns) = self.began_ns else { return Vec::new() };
        let mut modules: BTreeMap<Option<&str>, Vec<&ProbedFunction>> = BTreeMap::new();
        for function in functions {
            modules.entry(function.module.as_deref()).or_default().push(function);
        }
        let gap = |(module, functions): (Option<&str>, Vec<&ProbedFunction>)| {
            let told = module.and_then(|module| self.told.get(module)).map(|told| told.at_ns);
            let (from, from_exact) = match (told, why) {
                (Some(told), _) => (told, true),
                // A function found through a pointer, or never probed, may have been there from the beginning.
                (None, GapCause::FoundByPointer | GapCause::Refused) => (began_ns, false),
                (None, GapCause::ModuleLoaded) => (self.looked_ns, false),
            };
            ProbeGap {
                module: module.map(str::to_owned),
                functions: functions.into_iter().map(Into::into).collect(),
                from_mono_ns: from.max(began_ns),
                from_exact,
                until_mono_ns,
                why,
            }
        };
        modules.into_iter().map(gap).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(symbol: &str, module: &str, role: Role) -> ProbedFunction {
        ProbedFunction { symbol: symbol.to_owned(), module: Some(module.to_owned()), role }
    }

    #[test]
    fn a_gap_begins_when_the_kernel_says_so_else_at_the_last_look() {
        let mut loads = LoadTracker::new(10);
        let read = [function("mtty_read", "mtty", Role::Read)];
        assert_eq!(loads.gaps(&read, &[], |_| None, 50), [], "nothing is traced yet");
        loads.begin(100);
        let from = |loads: &mut LoadTracker| {
            let [gap] = &loads.gaps(&read, &[], |_| None, 500)[..] else { panic!() };
            (gap.from_mono_ns, gap.from_exact, gap.until_mono_ns)
        };
        assert_eq!(from(&mut loads), (100, false, Some(500)), "not before tracing began");
        loads.note_scan(300);
        assert_eq!(from(&mut loads), (300, false, Some(500)));
        loads.note_load("mtty".to_owned(), 400);
        assert_eq!(from(&mut loads), (400, true, Some(500)));
        loads.keep(|_| None, 550, 550);
        assert_eq!(from(&mut loads), (300, false, Some(500)));
    }

    #[test]
    fn a_load_that_the_kernel_told_is_not_taken_for_a_later_one() {
        let stamp = |load| Some(ModuleStamp::of_load(load));
        let mut loads = LoadTracker::new(10);
        loads.begin(100);
        let read = [function("mtty_read", "mtty", Role::Read)];
        let from = |loads: &mut LoadTracker| {
            let gaps = loads.gaps(&read, &[], |_| None, 900);
            (gaps[0].from_mono_ns, gaps[0].from_exact)
        };
        loads.note_load("mtty".to_owned(), 200);
        loads.keep(|_| stamp(1), 300, 300);
        loads.keep(|_| stamp(1), 300, 300);
        assert_eq!(from(&mut loads), (200, true));
        loads.note_scan(600);
        loads.keep(|_| stamp(2), 950, 950);
        assert_eq!(from(&mut loads), (600, false), "its notice was lost");
    }

    #[test]
    fn a_module_is_left_out_until_its_notice_has_come() {
        let arrival = |load, is_loading| {
            vec![ModuleArrival { name: "mtty".to_owned(), load: ModuleStamp::of_load(load), is_loading }]
        };
        let mut loads = LoadTracker::new(10);
        loads.begin(100);
        assert_eq!(loads.awaited(arrival(1, true), 200), ["mtty"]);
        loads.note_scan(200);
        assert_eq!(loads.looked_ns, 10, "it was there");
        loads.note_load("mtty".to_owned(), 210);
        assert!(loads.awaited(arrival(1, true), 220).is_empty(), "the kernel has told of it");
        loads.keep(|_| Some(ModuleStamp::of_load(1)), 220, 230);
        assert_eq!(loads.awaited(arrival(2, true), 300), ["mtty"], "that was an earlier load");
        assert!(loads.awaited(arrival(2, false), 310).is_empty(), "its functions run");
        loads.note_scan(320);
        assert_eq!(loads.looked_ns, 320);
        // Its notice was lost, and its init function takes long.
        assert_eq!(loads.awaited(arrival(3, true), 400), ["mtty"]);
        assert_eq!(loads.awaited(arrival(3, true), 399 + LATEST_NOTICE_NS), ["mtty"]);
        assert!(loads.awaited(arrival(3, true), 400 + LATEST_NOTICE_NS).is_empty());
    }

    #[test]
    fn a_list_says_nothing_of_what_the_kernel_told_after_it() {
        let mut loads = LoadTracker::new(10);
        loads.begin(100);
        let read = [function("mtty_read", "mtty", Role::Read)];
        assert_eq!(loads.gaps(&read, &[], |_| Some(ModuleStamp::of_load(1)), 150).len(), 1);
        loads.note_load("mtty".to_owned(), 400);
        loads.keep(|_| None, 400, 450);
        let gaps = loads.gaps(&read, &[], |_| Some(ModuleStamp::of_load(2)), 500);
        let spans: Vec<_> = gaps.iter().map(|gap| (gap.from_mono_ns, gap.from_exact)).collect();
        assert_eq!(spans, [(400, true)], "it has not gone: it was not there yet");
    }

    #[test]
    fn gaps_are_told_per_module_and_stay_open_where_the_kernel_refuses() {
        let mut loads = LoadTracker::new(0);
        loads.begin(1);
        let attached = [function("a", "m", Role::Read), function("b", "n", Role::Write)];
        let why = "no such function".to_owned();
        let failed = [(function("c", "m", Role::Write), why.clone()), (function("s", "m", Role::Step), why)];
        let gaps = loads.gaps(&attached, &failed, |_| None, 9);
        let said: Vec<_> =
            gaps.iter().map(|gap| (gap.functions[0].function.as_str(), gap.until_mono_ns, gap.why)).collect();
        assert_eq!(
            said,
            [
                ("a", Some(9), GapCause::ModuleLoaded),
                ("b", Some(9), GapCause::ModuleLoaded),
                ("c", None, GapCause::Refused)
            ]
        );
    }

    #[test]
    fn a_gap_ends_when_the_function_is_probed_or_gone() {
        let mut loads = LoadTracker::new(0);
        loads.begin(100);
        let refused = |symbol: &str| (function(symbol, "m", Role::Read), "no such function".to_owned());
        let span = |gaps: &[ProbeGap]| -> Vec<_> {
            let of = |gap: &ProbeGap| (gap.functions.len(), gap.from_mono_ns, gap.until_mono_ns, gap.why);
            gaps.iter().map(of).collect()
        };
        loads.note_scan(500);
        let gaps = loads.gaps(&[], &[refused("a"), refused("b")], |_| None, 600);
        assert_eq!(
            span(&gaps),
            [(2, 100, None, GapCause::Refused)],
            "it was never probed, since tracing began"
        );
        assert_eq!(loads.gaps(&[], &[refused("a")], |_| None, 700), [], "it has been told");
        let gaps = loads.gaps(&[function("a", "m", Role::Read)], &[], |_| None, 800);
        assert_eq!(span(&gaps), [(1, 100, Some(800), GapCause::Refused)]);
        loads.keep(|_| None, 900, 900);
        assert_eq!(span(&loads.gaps(&[], &[], |_| None, 950)), [(1, 100, Some(900), GapCause::Refused)]);
        assert_eq!(
            span(&loads.by_pointer(&[], &[refused("c")], |_| None, 960)),
            [(1, 100, None, GapCause::Refused)]
        );
    }

    #[test]
    fn a_driver_that_came_and_went_while_nobody_looked_is_told() {
        let stamp = |load| Some(ModuleStamp::of_load(load));
        let mut loads = LoadTracker::new(0);
        loads.begin(100);
        let read = [function("mtty_read", "mtty", Role::Read)];
        loads.note_load("mtty".to_owned(), 200);
        loads.keep(|_| stamp(1), 210, 210);
        assert_eq!(loads.gaps(&read, &[], |_| None, 220).len(), 1);
        loads.keep(|_| None, 300, 300);
        assert_eq!(loads.gaps(&[], &[], |_| None, 300), [], "it was probed while it was there");
        // Twice within a pass over the symbols, the second one gone before the next scan.
        loads.note_load("mtty".to_owned(), 400);
        loads.note_load("mtty".to_owned(), 500);
        loads.note_load("unrelated".to_owned(), 510);
        loads.keep(|_| None, 600, 600);
        let gaps = loads.gaps(&[], &[], |_| None, 600);
        let spans: Vec<_> = gaps.iter().map(|gap| (gap.from_mono_ns, gap.until_mono_ns)).collect();
        assert_eq!(spans, [(400, Some(500)), (500, Some(600))]);
        assert!(gaps.iter().all(|gap| gap.from_exact && gap.functions[0].function == "mtty_read"));
    }

    #[test]
    fn what_was_probed_is_no_gap_however_late_the_kernels_notice_is_read() {
        let stamp = |load| move |_: &str| Some(ModuleStamp::of_load(load));
        let read = [function("mtty_read", "mtty", Role::Read)];
        let end = |loads: &mut LoadTracker| {
            loads.keep(|_| None, 9_000, 9_000);
            loads.gaps(&[], &[], |_| None, 9_000)
        };
        // Loaded, unloaded and loaded again before the first notice is read: the second load is probed.
        let mut loads = LoadTracker::new(0);
        loads.begin(100);
        loads.note_load("mtty".to_owned(), 200);
        loads.keep(stamp(2), 220, 220);
        assert_eq!(loads.gaps(&read, &[], stamp(2), 220).len(), 1);
        loads.note_load("mtty".to_owned(), 205);
        loads.keep(stamp(2), 230, 230);
        assert_eq!(end(&mut loads), []);
        // The list of modules showed it, and its notices were read behind that.
        let mut loads = LoadTracker::new(0);
        loads.begin(100);
        assert_eq!(loads.gaps(&read, &[], stamp(1), 220).len(), 1);
        loads.note_load("mtty".to_owned(), 205);
        loads.note_load("mtty".to_owned(), 300);
        loads.keep(stamp(2), 310, 310);
        let gaps = end(&mut loads);
        let spans: Vec<_> = gaps.iter().map(|gap| (gap.from_mono_ns, gap.until_mono_ns)).collect();
        assert_eq!(spans, [(300, Some(9_000))], "the next one it did not probe");
        // Two loads were probed before the first notice is read.
        let mut loads = LoadTracker::new(0);
        loads.begin(100);
        assert_eq!(loads.gaps(&read, &[], stamp(1), 220).len(), 1);
        assert_eq!(loads.gaps(&read, &[], stamp(2), 240).len(), 1);
        assert_eq!(loads.by_pointer(&read, &[], stamp(2), 245).len(), 1);
        loads.note_load("mtty".to_owned(), 200);
        loads.note_load("mtty".to_owned(), 230);
        assert_eq!(end(&mut loads), []);
        // Even when it is gone.
        let mut loads = LoadTracker::new(0);
        loads.begin(100);
        assert_eq!(loads.gaps(&read, &[], stamp(1), 220).len(), 1);
        loads.keep(|_| None, 300, 300);
        loads.note_load("mtty".to_owned(), 205);
        assert_eq!(end(&mut loads), []);
    }
}
