//! Which modules were loaded while tracing, and when: what their functions did before they were probed was not seen.
//! Pure.

use std::collections::BTreeMap;

use crate::{
    event::{GapCause, ProbeGap},
    kernel::Stamp,
    probe::Function,
};
use vfio_trace_common::role::Role;

/// Loads of modules since tracing was switched on.
#[derive(Debug)]
pub(super) struct Loads {
    /// When tracing was switched on; nothing before is missed.
    began_ns: Option<u64>,
    /// When the list of modules was looked at last.
    looked_ns: u64,
    /// When the kernel told of each, and which load that was, once it is known.
    told: BTreeMap<String, (u64, Option<Stamp>)>,
}

impl Loads {
    pub(super) const fn new(now_ns: u64) -> Self {
        Self { began_ns: None, looked_ns: now_ns, told: BTreeMap::new() }
    }

    pub(super) const fn begin(&mut self, now_ns: u64) {
        self.began_ns = Some(now_ns);
    }

    /// The kernel has told of a module.
    pub(super) fn told(&mut self, module: String, at_ns: u64) {
        self.told.insert(module, (at_ns, None));
    }

    /// The list of modules was looked at.
    pub(super) const fn looked(&mut self, at_ns: u64) {
        self.looked_ns = at_ns;
    }

    /// Forgets modules that are gone, or that were loaded again without a word: `load` tells what is there now.
    pub(super) fn keep(&mut self, load: impl Fn(&str) -> Option<Stamp>) {
        self.told.retain(|module, (_, told)| match (load(module), *told) {
            (None, _) => false,
            (Some(now), Some(told)) => told.is_same(&now),
            (now, None) => {
                *told = now;
                true
            },
        });
    }

    /// What was not seen of functions that were probed at `now_ns`, and of those that the kernel refused, one gap per
    /// module. Steps that it refused are no gap: most builds inline most of them.
    pub(super) fn gaps(
        &self,
        attached: &[Function],
        failed: &[(Function, String)],
        now_ns: u64,
    ) -> Vec<ProbeGap> {
        let failed: Vec<&Function> = failed
            .iter()
            .map(|(function, _)| function)
            .filter(|function| function.role != Role::Step)
            .collect();
        let attached: Vec<&Function> = attached.iter().collect();
        let mut gaps = self.of(&attached, Some(now_ns), GapCause::ModuleLoaded);
        gaps.extend(self.of(&failed, None, GapCause::Refused));
        gaps
    }

    /// The same of functions that were met through pointers.
    pub(super) fn by_pointer(&self, attached: &[Function], now_ns: u64) -> Vec<ProbeGap> {
        let attached: Vec<&Function> = attached.iter().collect();
        self.of(&attached, Some(now_ns), GapCause::FoundByPointer)
    }

    fn of(&self, functions: &[&Function], until_mono_ns: Option<u64>, why: GapCause) -> Vec<ProbeGap> {
        let Some(began_ns) = self.began_ns else { return Vec::new() };
        let mut modules: BTreeMap<Option<&str>, Vec<&Function>> = BTreeMap::new();
        for function in functions {
            modules.entry(function.module.as_deref()).or_default().push(function);
        }
        let gap = |(module, functions): (Option<&str>, Vec<&Function>)| {
            let told = module.and_then(|module| self.told.get(module)).map(|(at_ns, _)| *at_ns);
            // What only a pointer shows may have been there from the beginning.
            let (from, from_exact) = match (told, why) {
                (Some(told), _) => (told, true),
                (None, GapCause::FoundByPointer) => (began_ns, false),
                (None, _) => (self.looked_ns, false),
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

    fn function(symbol: &str, module: &str, role: Role) -> Function {
        Function { symbol: symbol.to_owned(), module: Some(module.to_owned()), role }
    }

    #[test]
    fn a_gap_begins_when_the_kernel_says_so_else_at_the_last_look() {
        let mut loads = Loads::new(10);
        let read = [function("mtty_read", "mtty", Role::Read)];
        assert_eq!(loads.gaps(&read, &[], 50), [], "nothing is traced yet");
        loads.begin(100);
        let from = |loads: &Loads| {
            let [gap] = &loads.gaps(&read, &[], 500)[..] else { panic!() };
            (gap.from_mono_ns, gap.from_exact, gap.until_mono_ns)
        };
        assert_eq!(from(&loads), (100, false, Some(500)), "not before tracing began");
        loads.looked(300);
        assert_eq!(from(&loads), (300, false, Some(500)));
        loads.told("mtty".to_owned(), 400);
        assert_eq!(from(&loads), (400, true, Some(500)));
        loads.keep(|_| None);
        assert_eq!(from(&loads), (300, false, Some(500)));
    }

    #[test]
    fn a_load_that_the_kernel_told_is_not_taken_for_a_later_one() {
        let stamp = |load| Some(Stamp::of_load(load));
        let mut loads = Loads::new(10);
        loads.begin(100);
        let read = [function("mtty_read", "mtty", Role::Read)];
        let from = |loads: &Loads| {
            let gaps = loads.gaps(&read, &[], 900);
            (gaps[0].from_mono_ns, gaps[0].from_exact)
        };
        loads.told("mtty".to_owned(), 200);
        loads.keep(|_| stamp(1));
        loads.keep(|_| stamp(1));
        assert_eq!(from(&loads), (200, true));
        loads.looked(600);
        loads.keep(|_| stamp(2));
        assert_eq!(from(&loads), (600, false), "its notice was lost");
    }

    #[test]
    fn gaps_are_told_per_module_and_stay_open_where_the_kernel_refuses() {
        let mut loads = Loads::new(0);
        loads.begin(1);
        let attached = [function("a", "m", Role::Read), function("b", "n", Role::Write)];
        let why = "no such function".to_owned();
        let failed = [(function("c", "m", Role::Write), why.clone()), (function("s", "m", Role::Step), why)];
        let gaps = loads.gaps(&attached, &failed, 9);
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
}
