//! Loads and attaches `tail`'s programs for a moment, to see if that works.
//!
//! The programs stay switched off: a probed function costs what any kprobe costs, and nothing is read or recorded. All
//! probes are detached again before the report is printed.

use vfio_trace_common::role::Role;

use crate::{
    event::ProbeReport,
    kernel::{
        KernelFacts, KernelFiles, KprobeSupport,
        caps::{CapSet, LinuxCap},
    },
    probe::{BpfPrograms, LoadOptions, ProbeManager, plan},
};

/// Size of the ring buffer, the smallest possible: nothing goes into it.
const BUFFER_BYTES: u32 = 4096;

/// Result of loading and attaching the programs of `tail`. `ProbeAttempt::make` makes it once per run of `doctor`; the
/// checks of types, probes and devices use it.
#[derive(Debug)]
pub enum ProbeAttempt {
    /// Not tried, with the reason why an attempt made no sense.
    NotTried(String),
    /// Not even the maps could be made, with the error.
    NoMaps(String),
    /// Programs loaded, and attached where the plan says.
    Done(AttemptResult),
}

/// Programs and probes after an attempt.
#[derive(Debug, Default)]
pub struct AttemptResult {
    /// Roles whose programs the kernel refused, each with the error.
    pub refused: Vec<(Role, String)>,
    /// Result for each function of the plan.
    pub probes: Vec<ProbeReport>,
    /// True if the kernel refused a probe because a capability is missing.
    pub denied: bool,
}

impl AttemptResult {
    /// Returns true if at least one function could be probed.
    pub fn any(&self) -> bool {
        self.probes.iter().any(|probe| probe.attached)
    }
}

impl ProbeAttempt {
    /// Loads the programs and attaches them, where that may work; undoes all of it at the end.
    pub(super) fn make(files: &KernelFiles, facts: &KernelFacts) -> Self {
        if let Some(why) = pointless(files, facts) {
            return Self::NotTried(why.to_owned());
        }
        let mut programs = match BpfPrograms::load(LoadOptions { buffer_bytes: BUFFER_BYTES, log: false }) {
            Ok(programs) => programs,
            Err(error) => return Self::NoMaps(error.to_string()),
        };
        if KprobeSupport::read(files) != KprobeSupport::Present {
            // Without kprobes the programs for them could not be loaded either.
            return Self::Done(AttemptResult::default());
        }
        // The inventory is an iterator, not a kprobe; it is tried by taking it.
        let kprobes = Role::ALL.into_iter().filter(|role| *role != Role::Inventory);
        let refused =
            kprobes.filter_map(|role| Some((role, programs.prepare(role).err()?.to_string()))).collect();
        let mut manager = ProbeManager::new(programs, files);
        let changes = manager.reconcile(&plan(facts), |name| facts.load_of(files, name));
        Self::Done(AttemptResult { refused, probes: manager.report(), denied: changes.denied })
    }

    /// Returns the result, if the programs were loaded.
    pub const fn done(&self) -> Option<&AttemptResult> {
        match self {
            Self::Done(done) => Some(done),
            Self::NotTried(_) | Self::NoMaps(_) => None,
        }
    }
}

/// Returns the reason why an attempt makes no sense, if there is one.
fn pointless(files: &KernelFiles, facts: &KernelFacts) -> Option<&'static str> {
    let may = |held: CapSet| held.has(LinuxCap::Bpf) && held.has(LinuxCap::Perfmon);
    if !may(CapSet::effective(files)) {
        Some("it takes CAP_BPF and CAP_PERFMON")
    } else if facts.lockdown.forbids_tracing() {
        Some("lockdown forbids it")
    } else {
        None
    }
}
