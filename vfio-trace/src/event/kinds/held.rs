//! A process had a device open when tracing began.

use schemars::JsonSchema;
use serde::Serialize;

use super::payload::{EventMark, EventPayload, OpenCount};
use crate::event::{CallOutcome, EventCells, EventProcess, SessionEnding, StateEffect, VfioEvent};

/// A process had a device open when tracing began: the event's process, not one that did something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DeviceHeld {
    /// The descriptor in that process.
    pub fd: u32,
}

impl EventPayload for DeviceHeld {
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
        cells.subject(&format!("fd {}", self.fd));
    }
}
