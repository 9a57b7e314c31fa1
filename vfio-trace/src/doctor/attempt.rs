//! What happens when `tail`'s programs are really loaded and attached, for a moment.
//!
//! The programs stay switched off: a probed function costs what any kprobe costs, and nothing is read or recorded. All
//! is detached again before the report is printed.

use vfio_trace_common::role::Role;

use crate::{
    event::ProbeReport,
    kernel::{
        KernelFacts, KernelFiles,
        caps::{CapSet, LinuxCap},
    },
    probe::{BpfPrograms, LoadOptions, ProbeManager, plan},
};

/// The smallest ring buffer: nothing goes into it.
const BUFFER_BYTES: u32 = 4096;

/// How loading and attaching went.
#[derive(Debug)]
pub enum ProbeAttempt {
    /// It made no sense to try, for this reason.
    NotTried(String),
    /// Not even the maps could be made.
    NoMaps(String),
    /// The programs were loaded, and attached where the plan says.
    Done(AttemptResult),
}

/// What became of programs and probes.
#[derive(Debug, Default)]
pub struct AttemptResult {
    /// Roles whose programs the kernel refused.
    pub refused: Vec<(Role, String)>,
    /// Each function of the plan.
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

/// Returns true if this kernel has the PMU that kprobes are attached through.
pub(super) fn has_kprobes(files: &KernelFiles) -> bool {
    files.line("/sys/bus/event_source/devices/kprobe/type").is_some()
}

impl ProbeAttempt {
    /// Loads the programs and attaches them, where that may work; all of it is undone at the end.
    pub(super) fn make(files: &KernelFiles, facts: &KernelFacts) -> Self {
        if let Some(why) = pointless(files, facts) {
            return Self::NotTried(why.to_owned());
        }
        let mut programs = match BpfPrograms::load(LoadOptions { buffer_bytes: BUFFER_BYTES, log: false }) {
            Ok(programs) => programs,
            Err(error) => return Self::NoMaps(error.to_string()),
        };
        if !has_kprobes(files) {
            // Their programs could not be loaded either.
            return Self::Done(AttemptResult::default());
        }
        // The inventory is no kprobe; it is tried by taking it.
        let kprobes = Role::ALL.into_iter().filter(|role| *role != Role::Inventory);
        let refused =
            kprobes.filter_map(|role| Some((role, programs.prepare(role).err()?.to_string()))).collect();
        let mut manager = ProbeManager::new(programs, files);
        let changes = manager.reconcile(&plan(facts), |name| facts.load_of(files, name));
        Self::Done(AttemptResult { refused, probes: manager.report(), denied: changes.denied })
    }

    /// Returns what was done, if something was.
    pub const fn done(&self) -> Option<&AttemptResult> {
        match self {
            Self::Done(done) => Some(done),
            Self::NotTried(_) | Self::NoMaps(_) => None,
        }
    }
}

/// Tells why it makes no sense to try.
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
