//! What the tracer saw of a step.

use super::report::{DriverStep, ExerciseArc, ExerciseStep};
use crate::event::{DriverFinding, EventData, VfioEvent};

/// Sees what the kernel does; the live tracer, if it may.
pub trait ExerciseTracer {
    /// What has happened since the last call, of whatever device.
    fn events(&mut self) -> Vec<VfioEvent>;
    /// Records that were lost so far, and calls that were not seen.
    fn lost(&mut self) -> u64;
    /// Why it sees nothing, if it does not.
    fn find_untraced_reason(&mut self) -> UntracedReason;
}

/// Why a witness has seen nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum UntracedReason {
    /// Nobody knows.
    #[default]
    Unknown,
    /// It cannot tell this process's doings from those of others.
    OwnPidUnknown,
    /// This.
    Known(String),
}

/// Adds what was seen of a step's device to it. Where modules have no BTF devices have no names: what this process did in a
/// step is that step's then.
pub(super) fn add(step: &mut ExerciseStep, events: &[VfioEvent]) {
    for event in events.iter().filter(|event| event.device_name().is_none_or(|name| name == step.device)) {
        match &event.data {
            EventData::Arc(arc) => {
                let (from, to) = (arc.from, arc.to);
                step.arcs.push(ExerciseArc {
                    from,
                    to,
                    duration_ns: event.duration_ns,
                    outcome: arc.outcome,
                });
            },
            EventData::Step(seen) => {
                let function = seen.function.as_deref().unwrap_or("?");
                step.driver_steps.push(DriverStep {
                    name: seen.step.as_deref().unwrap_or(function).to_owned(),
                    detail: seen.detail.clone(),
                    duration_ns: event.duration_ns,
                    outcome: seen.outcome,
                });
            },
            EventData::Finding(finding) => note(&mut step.findings, finding.clone()),
            _ => {},
        }
    }
}

/// Each thing once.
pub(super) fn note(findings: &mut Vec<DriverFinding>, finding: DriverFinding) {
    if !findings.iter().any(|known| known.code == finding.code) {
        findings.push(finding);
    }
}
