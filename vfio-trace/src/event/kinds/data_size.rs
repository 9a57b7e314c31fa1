//! A request for how many bytes STOP_COPY would move.

use schemars::JsonSchema;
use serde::Serialize;

use super::payload::{EventMark, EventPayload, OpenCount, RequestOrigin};
use crate::event::{
    CallOutcome, EventCells, EventProcess, SessionEnding, StateEffect, VfioEvent, cells::or_unknown,
};
use crate::units::human;

/// A request for the size of the data that STOP_COPY would move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DataSize {
    /// The driver's estimate, in bytes.
    pub stop_copy_bytes: Option<u64>,
    /// Kind of record that the event is made from.
    pub via: RequestOrigin,
    /// Outcome of the request.
    #[serde(flatten)]
    pub outcome: CallOutcome,
    /// Outcome of the driver's function; `None` if it was not seen.
    pub driver_call: Option<CallOutcome>,
}

impl EventPayload for DataSize {
    fn outcome(&self) -> Option<CallOutcome> {
        Some(self.outcome)
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
        cells.subject(&or_unknown(self.stop_copy_bytes.map(human::bytes)));
        cells.via(self.via);
        cells.outcomes(self.outcome, self.driver_call);
    }
}
