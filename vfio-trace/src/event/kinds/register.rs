//! A device was registered with vfio.

use schemars::JsonSchema;
use serde::Serialize;

use super::payload::{EventMark, EventPayload, MarkKind, OpenCount};
use crate::event::{CallOutcome, EventCells, EventProcess, SessionEnding, StateEffect, VfioEvent};

/// A device was registered with vfio.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DeviceRegister {
    /// Outcome of the registration.
    #[serde(flatten)]
    pub outcome: CallOutcome,
}

impl EventPayload for DeviceRegister {
    fn outcome(&self) -> Option<CallOutcome> {
        Some(self.outcome)
    }

    fn state_effect(&self) -> StateEffect {
        StateEffect::Doubted
    }

    fn session_ending(&self) -> Option<SessionEnding> {
        None
    }

    fn presence(&self) -> Option<bool> {
        Some(self.outcome.is_ok())
    }

    fn opens(&self) -> OpenCount {
        OpenCount::AsBefore
    }

    fn is_failure(&self) -> bool {
        false
    }

    fn mark(&self, _process: &EventProcess) -> Option<EventMark> {
        Some(EventMark::new(MarkKind::Register, "", self.outcome))
    }

    fn describe(&self, _event: &VfioEvent, cells: &mut EventCells<'_>) {
        cells.outcome(self.outcome);
    }
}
