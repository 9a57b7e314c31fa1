//! Probes: the plan made from kernel facts, the eBPF programs, attaching, and the state of each probe.

mod diagnose;
mod kprobes;
mod manager;
mod plan;
mod programs;

pub use manager::{ProbeChanges, ProbeManager, ProbedFunction};
pub use plan::{PlannedProbe, ProbeTarget, plan};
pub use programs::{BpfPrograms, LoadOptions, ProgramLoadError};
