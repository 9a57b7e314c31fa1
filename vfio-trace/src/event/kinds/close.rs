//! A device is being closed.

use schemars::JsonSchema;
use serde::Serialize;

use super::payload::{EventMark, EventPayload, MarkKind, OpenCount};
use crate::event::{CallOutcome, EventCells, EventProcess, SessionEnding, StateEffect, VfioEvent};

/// A device is being closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DeviceClose {
    /// Number of openers before it: 1 means that none is left.
    pub open_count: Option<u32>,
}

impl DeviceClose {
    /// Returns true if no opener is left.
    pub fn is_last(&self) -> bool {
        self.open_count == Some(1)
    }

    /// Returns true unless another opener is known to be left.
    pub fn may_be_last(&self) -> bool {
        self.open_count.is_none_or(|count| count <= 1)
    }
}

impl EventPayload for DeviceClose {
    fn outcome(&self) -> Option<CallOutcome> {
        None
    }

    fn state_effect(&self) -> StateEffect {
        // Drivers may set the state as they like once no process has the device open.
        StateEffect::Doubted
    }

    fn session_ending(&self) -> Option<SessionEnding> {
        self.is_last().then_some(SessionEnding::LastClose)
    }

    fn presence(&self) -> Option<bool> {
        None
    }

    fn opens(&self) -> OpenCount {
        OpenCount::Now(self.open_count.map(|count| count.saturating_sub(1)))
    }

    fn is_failure(&self) -> bool {
        false
    }

    fn mark(&self, process: &EventProcess) -> Option<EventMark> {
        let kind = if self.is_last() { MarkKind::LastClose } else { MarkKind::Close };
        Some(EventMark::new(kind, format!("by {} {}", process.comm, process.pid), CallOutcome::Ok))
    }

    fn describe(&self, _event: &VfioEvent, cells: &mut EventCells<'_>) {
        cells.openers(self.open_count.map(|count| count.saturating_sub(1)), "left");
    }
}
