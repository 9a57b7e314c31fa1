//! A request for the current state.

use schemars::JsonSchema;
use serde::Serialize;

use super::payload::{EventMark, EventPayload, OpenCount, RequestOrigin};
use crate::event::{CallOutcome, EventCells, EventProcess, MigState, SessionEnding, StateEffect, VfioEvent};

/// A request for the current state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct GetState {
    /// The state returned.
    pub state: Option<MigState>,
    /// Kind of record that the event is made from.
    pub via: RequestOrigin,
    /// Outcome of the request.
    #[serde(flatten)]
    pub outcome: CallOutcome,
    /// Outcome of the driver's function; `None` if it was not seen.
    pub driver_call: Option<CallOutcome>,
}

impl EventPayload for GetState {
    fn outcome(&self) -> Option<CallOutcome> {
        Some(self.outcome)
    }

    fn state_effect(&self) -> StateEffect {
        self.state.map_or(StateEffect::Doubted, StateEffect::Shown)
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
        match self.state {
            Some(state) => cells.subject_state(state),
            None => cells.subject("?"),
        };
        cells.via(self.via);
        cells.outcomes(self.outcome, self.driver_call);
    }
}
