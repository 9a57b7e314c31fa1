//! A device is about to be taken from vfio.

use schemars::JsonSchema;
use serde::Serialize;

use super::payload::{EventMark, EventPayload, MarkKind, OpenCount};
use crate::event::{CallOutcome, EventCells, EventProcess, SessionEnding, StateEffect, VfioEvent};

/// A device is about to be taken from vfio; it has no fields. Its openers must close it first.
#[expect(clippy::empty_structs_with_brackets, reason = "an object in JSON, as all others")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DeviceUnregister {}

impl EventPayload for DeviceUnregister {
    fn outcome(&self) -> Option<CallOutcome> {
        None
    }

    fn state_effect(&self) -> StateEffect {
        StateEffect::Lost
    }

    fn session_ending(&self) -> Option<SessionEnding> {
        None
    }

    fn presence(&self) -> Option<bool> {
        Some(false)
    }

    fn opens(&self) -> OpenCount {
        OpenCount::AsBefore
    }

    fn is_failure(&self) -> bool {
        false
    }

    fn mark(&self, _process: &EventProcess) -> Option<EventMark> {
        Some(EventMark::new(MarkKind::Unregister, "", CallOutcome::Ok))
    }

    fn describe(&self, _event: &VfioEvent, _cells: &mut EventCells<'_>) {}
}
