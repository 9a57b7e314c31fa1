//! VFIO_DEVICE_RESET.

use schemars::JsonSchema;
use serde::Serialize;

use super::payload::{EventMark, EventPayload, MarkKind, OpenCount};
use crate::event::{CallOutcome, EventCells, EventProcess, MigState, SessionEnding, StateEffect, VfioEvent};

/// VFIO_DEVICE_RESET.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DeviceReset {
    /// The state it has led to; `None` if it failed, or while a request to change the state was in progress.
    pub state: Option<MigState>,
    /// Outcome of the reset.
    #[serde(flatten)]
    pub outcome: CallOutcome,
}

impl EventPayload for DeviceReset {
    fn outcome(&self) -> Option<CallOutcome> {
        Some(self.outcome)
    }

    fn state_effect(&self) -> StateEffect {
        StateEffect::of_reset(self.state, self.outcome)
    }

    fn session_ending(&self) -> Option<SessionEnding> {
        self.outcome.is_ok().then_some(SessionEnding::Reset)
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
        Some(EventMark::new(MarkKind::Reset, "VFIO_DEVICE_RESET", self.outcome))
    }

    fn describe(&self, _event: &VfioEvent, cells: &mut EventCells<'_>) {
        if let Some(led_to) = self.state {
            cells.subject_state(led_to);
        }
        cells.outcome(self.outcome);
    }
}
