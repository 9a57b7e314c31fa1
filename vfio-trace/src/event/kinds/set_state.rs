//! A request to change the state: one per request, after its arcs.

use schemars::JsonSchema;
use serde::Serialize;

use super::payload::{EventMark, EventPayload, OpenCount, RequestOrigin};
use crate::event::{CallOutcome, EventCells, EventProcess, MigState, SessionEnding, StateEffect, VfioEvent};
use crate::units::human;

/// A request to change the state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SetState {
    /// State asked for.
    pub target: MigState,
    /// Kind of record that the event is made from.
    pub via: RequestOrigin,
    /// Number of arcs seen to begin within the request; 0 if the device was in the target state already.
    pub arcs: u32,
    /// The data fd that user space got.
    #[schemars(range(min = 0))]
    pub data_fd: Option<i32>,
    /// Number of the data session that the request started.
    pub session: Option<u32>,
    /// Outcome of the request.
    #[serde(flatten)]
    pub outcome: CallOutcome,
    /// Outcome of the driver's function: may be `Ok` although the request failed. `None` if it was not seen.
    pub driver_call: Option<CallOutcome>,
}

impl EventPayload for SetState {
    fn outcome(&self) -> Option<CallOutcome> {
        Some(self.outcome)
    }

    fn state_effect(&self) -> StateEffect {
        if self.outcome.is_ok() { StateEffect::Shown(self.target) } else { StateEffect::Doubted }
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
        self.outcome.is_failure()
    }

    fn mark(&self, _process: &EventProcess) -> Option<EventMark> {
        None
    }

    fn describe(&self, _event: &VfioEvent, cells: &mut EventCells<'_>) {
        cells.subject_state(self.target);
        cells.more(&human::count(self.arcs.into(), "arc"));
        if let Some(fd) = self.data_fd {
            cells.more(&format!("fd {fd}"));
        }
        cells.session(self.session);
        cells.via(self.via);
        cells.outcomes(self.outcome, self.driver_call);
    }
}
