//! Traces of the steps, as the tracer saw them.

use super::report::{DriverStep, ExerciseArc, ExerciseStep};
use crate::event::{DriverFinding, EventData, VfioEvent};

/// Source of the kernel's events during a run: the live tracer, if tracing is possible.
pub trait ExerciseTracer {
    /// Returns the events of all devices since the last call.
    fn events(&mut self) -> Vec<VfioEvent>;
    /// Returns the number of records that were lost so far, and of calls that were not seen.
    fn lost(&mut self) -> u64;
    /// Returns the reason why nothing was seen, if nothing was.
    fn find_untraced_reason(&mut self) -> UntracedReason;
}

/// Reason why a tracer has seen nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum UntracedReason {
    /// Unknown reason.
    #[default]
    Unknown,
    /// The tracer cannot tell this process from others.
    OwnPidUnknown,
    /// Known reason, in words.
    Known(String),
}

/// Adds events of a step's device to the step. Without BTF of the modules, devices have no names: then all that this
/// process did during the step belongs to it.
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

/// Adds a finding, unless there is one with the same code.
pub(super) fn note(findings: &mut Vec<DriverFinding>, finding: DriverFinding) {
    if !findings.iter().any(|known| known.code == finding.code) {
        findings.push(finding);
    }
}
