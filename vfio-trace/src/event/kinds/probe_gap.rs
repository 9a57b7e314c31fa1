//! Functions were not probed for a time: their calls were not seen.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vfio_trace_common::role::Role;

use super::payload::{EventMark, EventPayload, OpenCount};
use crate::event::{
    CallOutcome, CellStyle, EventCells, EventData, EventProcess, SessionEnding, StateEffect, VfioEvent,
    report::{role_name, role_of},
};
use crate::units::human;

/// Functions of one module that were not probed for a time while the run went on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProbeGap {
    /// The module; `None` for the kernel image.
    pub module: Option<String>,
    /// Its functions.
    pub functions: Vec<GapFunction>,
    /// Time from which they could be called, CLOCK_MONOTONIC in ns.
    pub from_mono_ns: u64,
    /// True if that is the time at which the module was loaded, as the kernel reports it; else it is the earliest
    /// possible.
    pub from_exact: bool,
    /// Time at which all of them were probed; `None`: they are not.
    pub until_mono_ns: Option<u64>,
    /// Reason for the gap.
    pub why: GapCause,
}

/// A function that was not probed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct GapFunction {
    /// Its symbol.
    pub function: String,
    /// Role of the function.
    #[serde(serialize_with = "role_name", deserialize_with = "role_of")]
    #[schemars(with = "String")]
    pub role: Role,
}

/// Reason for probing functions late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GapCause {
    /// Their module was loaded while tracing.
    ModuleLoaded,
    /// They became known through a pointer only: their types are not in any BTF.
    FoundByPointer,
    /// The kernel refused the probe.
    Refused,
}

impl GapCause {
    /// Returns the reason in words.
    pub const fn text(self) -> &'static str {
        match self {
            Self::ModuleLoaded => "loaded while tracing",
            Self::FoundByPointer => "found through a pointer",
            Self::Refused => "the kernel refused the probe",
        }
    }
}

impl ProbeGap {
    /// Makes the event. `told_ns`: time at which it was reported, which counts as its end as long as it is not over.
    pub(super) fn event(&self, told_ns: u64) -> VfioEvent {
        let (start_ns, end_ns) = (self.from_mono_ns, self.until_mono_ns.unwrap_or(told_ns));
        let duration_ns = self.until_mono_ns.map(|until| until.saturating_sub(start_ns));
        let (data, process) = (EventData::ProbeGap(self.clone()), EventProcess::default());
        VfioEvent { start_ns, end_ns, duration_ns, device: None, process, data }
    }
}

impl EventPayload for ProbeGap {
    fn outcome(&self) -> Option<CallOutcome> {
        None
    }

    fn state_effect(&self) -> StateEffect {
        StateEffect::None
    }

    fn session_ending(&self) -> Option<SessionEnding> {
        None
    }

    fn presence(&self) -> Option<bool> {
        None
    }

    fn opens(&self) -> OpenCount {
        OpenCount::AsBefore
    }

    fn is_failure(&self) -> bool {
        false
    }

    fn mark(&self, _process: &EventProcess) -> Option<EventMark> {
        None
    }

    fn describe(&self, _event: &VfioEvent, cells: &mut EventCells<'_>) {
        let name = self.module.as_deref().unwrap_or("kernel");
        cells.subject_as(CellStyle::Error, "not probed ").subject(&human::clean(name));
        let functions: Vec<&str> = self.functions.iter().map(|function| function.function.as_str()).collect();
        cells.more(&human::clean(&functions.join(", "))).more(self.why.text());
        if !self.from_exact {
            cells.more("at most this long");
        }
        if self.until_mono_ns.is_none() {
            cells.more("not probed yet");
        }
    }
}
