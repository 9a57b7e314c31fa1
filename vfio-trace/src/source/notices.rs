//! The kernel's notices of modules, and the order of these and the looks at the list of modules.

use bytes::Bytes;
use vfio_trace_common::wire::Kind;

use super::{clock::mono_ns, loads::LoadTracker};
use crate::{
    event::{RecordBody, WireRecord, record_text},
    kernel::{KernelFacts, KernelFiles, ModuleScan},
};

/// Notices that were read out of the ring buffer, and whose modules no list was looked for yet.
#[derive(Debug, Default)]
pub(super) struct ModuleNotices {
    latest_ns: Option<u64>,
}

impl ModuleNotices {
    /// Returns true if modules have come that no list was looked for.
    pub(super) const fn are_due(&self) -> bool {
        self.latest_ns.is_some()
    }

    /// Returns the next record that is no notice; notices before it go to `loads`. All records are read through this,
    /// so that none is taken for a notice twice.
    pub(super) fn split(
        &mut self,
        loads: &mut LoadTracker,
        mut next: impl FnMut() -> Option<Bytes>,
    ) -> Option<Bytes> {
        loop {
            let record = next()?;
            // All others are decoded where they are needed.
            let decoded = WireRecord::kind(&record)
                .filter(|kind| *kind == Kind::Module)
                .map(|_| WireRecord::decode(&record));
            let Some(Ok(WireRecord { header, body: RecordBody::Module(module) })) = decoded else {
                return Some(record);
            };
            loads.note_load(record_text(&module.name), header.end_ns);
            self.latest_ns = self.latest_ns.max(Some(header.end_ns));
        }
    }

    /// Takes in that a list was read after `listed_ns`: it has all modules that the kernel told of before that.
    fn note_list(&mut self, listed_ns: u64) {
        self.latest_ns = self.latest_ns.filter(|latest_ns| *latest_ns >= listed_ns);
    }
}

/// A look at the list of modules that is in order with the kernel's notices.
#[derive(Debug)]
pub(super) struct OrderedScan {
    pub(super) scan: ModuleScan,
    /// Time before the list was read, CLOCK_MONOTONIC in ns.
    pub(super) listed_ns: u64,
}

/// Looks at the list of modules. It may show a module whose notice still waits in the ring buffer: `drain`, which is
/// called if anything has come, must read that through [`ModuleNotices::split`]. It may even show one that the kernel
/// has not told of yet: if `tells` is true, because the kernel tells of modules at all, that one is left out.
pub(super) fn scan_modules(
    (facts, files): (&KernelFacts, &KernelFiles),
    notices: &mut ModuleNotices,
    loads: &mut LoadTracker,
    tells: bool,
    drain: impl FnOnce(&mut ModuleNotices, &mut LoadTracker),
) -> OrderedScan {
    let listed_ns = mono_ns();
    let scan = facts.scan(files);
    notices.note_list(listed_ns);
    let arrivals = facts.arrivals(&scan);
    if !arrivals.is_empty() {
        drain(notices, loads);
        // What the kernel told of before the list was read is in it; the rest stays due.
        notices.note_list(listed_ns);
    }
    let awaited = loads.awaited(if tells { arrivals } else { Vec::new() }, mono_ns());
    OrderedScan { scan: scan.without(files, &awaited), listed_ns }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use vfio_trace_common::{role::Role, wire};

    use super::*;
    use crate::{
        event::{ProbeGap, fixture::*},
        kernel::source::testing::TestRoot,
        probe::ProbedFunction,
    };

    const VFIO: &str = "vfio 69632 1 mtty, Live 0xffffffffc0b30000\n";
    const LOADING: &str = "mtty 32768 0 - Loading 0xffffffffc0b9d000\n";
    const LIVE: &str = "mtty 28672 0 - Live 0xffffffffc0b9d000\n";

    /// A kernel whose ring buffer is a queue.
    struct MadeUpKernel {
        root: TestRoot,
        facts: KernelFacts,
        ring: VecDeque<Bytes>,
        loads: LoadTracker,
        notices: ModuleNotices,
        /// Records that were taken out of the ring ahead of time.
        taken: Vec<Bytes>,
    }

    fn notice(module: &str, at_ns: u64) -> Bytes {
        let mut name = [0; wire::MODULE_LEN];
        name[..module.len()].copy_from_slice(module.as_bytes());
        let mut record = RecordScript::new(0xd1).unregister().records().remove(0);
        record.header.kind = Kind::Module as u16;
        record.header.end_ns = at_ns;
        record.body = RecordBody::Module(wire::Module { name });
        record.header.len = u16::try_from(size_of::<wire::Header>() + wire::MODULE_LEN).unwrap();
        Bytes::from(bytes(&record))
    }

    fn other(number: u64) -> Bytes {
        Bytes::from(bytes(&RecordScript::new(number).unregister().records()[0]))
    }

    impl MadeUpKernel {
        fn new() -> Self {
            let root = TestRoot::new();
            root.write("proc/modules", VFIO.replace("mtty,", "-"));
            let facts = KernelFacts::read(&root.files());
            let mut loads = LoadTracker::new(1);
            loads.begin(2);
            Self {
                root,
                facts,
                ring: VecDeque::new(),
                loads,
                notices: ModuleNotices::default(),
                taken: Vec::new(),
            }
        }

        /// Looks at the list, and returns the gaps that are told if a driver is in it.
        fn look(&mut self) -> Vec<ProbeGap> {
            let files = self.root.files();
            let Self { facts, ring, loads, notices, taken, .. } = self;
            let drain = |notices: &mut ModuleNotices, loads: &mut LoadTracker| {
                while let Some(record) = notices.split(loads, || ring.pop_front()) {
                    taken.push(record);
                }
            };
            let OrderedScan { scan, listed_ns } = scan_modules((facts, &files), notices, loads, true, drain);
            let changed = facts.refresh(&files, scan);
            let load = |name: &str| facts.load_of(&files, name);
            loads.keep(load, listed_ns, mono_ns());
            let read =
                ProbedFunction { symbol: "mtty_read".into(), module: Some("mtty".into()), role: Role::Read };
            let attached: Vec<_> = load("mtty").filter(|_| changed).map(|_| read).into_iter().collect();
            loads.gaps(&attached, &[], load, mono_ns())
        }

        fn list(&self, text: &str) {
            self.root.write("proc/modules", format!("{text}{VFIO}"));
        }
    }

    fn from(gaps: &[ProbeGap]) -> Vec<(u64, bool)> {
        gaps.iter().map(|gap| (gap.from_mono_ns, gap.from_exact)).collect()
    }

    #[test]
    fn a_notice_behind_others_is_read_before_the_list_is_believed() {
        let mut machine = MadeUpKernel::new();
        let told_ns = mono_ns();
        machine.ring.extend([other(1), other(2), notice("mtty", told_ns), other(3)]);
        machine.list(LIVE);
        assert_eq!(from(&machine.look()), [(told_ns, true)]);
        assert_eq!(machine.taken, [other(1), other(2), other(3)], "each once, in their order");
        assert!(!machine.notices.are_due(), "the list was read after it");
        assert_eq!(machine.look(), [], "nothing twice");
    }

    #[test]
    fn a_module_that_is_listed_before_it_is_told_of_waits_for_that() {
        let mut machine = MadeUpKernel::new();
        machine.list(LOADING);
        assert_eq!(machine.look(), []);
        assert!(machine.facts.load_of(&machine.root.files(), "mtty").is_none(), "it is not there yet");
        let told_ns = mono_ns();
        machine.ring.push_back(notice("mtty", told_ns));
        assert_eq!(from(&machine.look()), [(told_ns, true)]);
    }

    #[test]
    fn a_module_whose_notice_was_lost_is_taken_in_once_it_runs() {
        let mut machine = MadeUpKernel::new();
        machine.list(LOADING);
        assert_eq!(machine.look(), []);
        machine.loads.note_scan(mono_ns());
        machine.list(LIVE);
        assert_eq!(from(&machine.look()), [(2, false)], "since the last look that did not show it");
    }

    #[test]
    fn a_module_that_came_after_the_list_was_read_is_looked_for_again() {
        let mut machine = MadeUpKernel::new();
        machine.list(LIVE);
        // Later than any list that this test reads.
        let told_ns = mono_ns() + 1_000_000_000_000;
        machine.ring.push_back(notice("quayside", told_ns));
        machine.look();
        assert!(machine.notices.are_due());
    }
}
