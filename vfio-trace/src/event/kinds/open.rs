//! A device was opened.

use schemars::JsonSchema;
use serde::Serialize;

use super::payload::{EventMark, EventPayload, MarkKind, OpenCount};
use crate::event::{CallOutcome, EventCells, EventProcess, MigState, SessionEnding, StateEffect, VfioEvent};

/// A device was opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DeviceOpen {
    /// Number of openers after it.
    pub open_count: Option<u32>,
    /// The state it was found in; `None` if that could not be read, or was changing.
    pub state: Option<MigState>,
    /// Outcome of the open.
    #[serde(flatten)]
    pub outcome: CallOutcome,
}

impl DeviceOpen {
    /// Returns true if the device has no other opener, as far as is known: its driver may have set its state anew.
    pub fn is_first(&self) -> bool {
        self.outcome.is_ok() && self.open_count.is_none_or(|count| count <= 1)
    }
}

impl EventPayload for DeviceOpen {
    fn outcome(&self) -> Option<CallOutcome> {
        Some(self.outcome)
    }

    fn state_effect(&self) -> StateEffect {
        match self.state {
            Some(state) if self.is_first() => StateEffect::Entered(state),
            None if self.is_first() => StateEffect::Lost,
            Some(state) => StateEffect::Glimpsed(state),
            None => StateEffect::Doubted,
        }
    }

    fn session_ending(&self) -> Option<SessionEnding> {
        None
    }

    fn presence(&self) -> Option<bool> {
        None
    }

    fn opens(&self) -> OpenCount {
        if self.outcome.is_ok() { OpenCount::Now(self.open_count) } else { OpenCount::AsBefore }
    }

    fn is_failure(&self) -> bool {
        false
    }

    fn mark(&self, process: &EventProcess) -> Option<EventMark> {
        Some(EventMark::new(MarkKind::Open, format!("by {} {}", process.comm, process.pid), self.outcome))
    }

    fn describe(&self, _event: &VfioEvent, cells: &mut EventCells<'_>) {
        cells.openers(self.open_count, "open");
        if self.state.is_some() {
            cells.more_state("state ", self.state);
        }
        cells.outcome(self.outcome);
    }
}
