//! A device is not in the state that it was last known to be in.

use schemars::JsonSchema;
use serde::Serialize;

use super::payload::{EventMark, EventPayload, MarkKind, OpenCount};
use crate::event::{CallOutcome, EventCells, EventProcess, MigState, SessionEnding, StateEffect, VfioEvent};

/// Observation that showed a device in another state than expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DesyncCause {
    /// An arc that starts from it.
    Arc,
    /// The driver's `migration_get_state`.
    GetState,
    /// The driver's memory, read along with the device.
    Device,
}

impl DesyncCause {
    /// Returns the name used in output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Arc => "arc",
            Self::GetState => "get_state",
            Self::Device => "device",
        }
    }
}

/// A device is not in the state that it was last known to be in: something changed it unseen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct StateDesync {
    /// State that follows from what was seen.
    pub expected: MigState,
    /// State it is in.
    pub found: MigState,
    /// Observation that showed it.
    pub cause: DesyncCause,
}

impl EventPayload for StateDesync {
    fn outcome(&self) -> Option<CallOutcome> {
        None
    }

    fn state_effect(&self) -> StateEffect {
        StateEffect::Found(self.found)
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
        let Self { found, expected, cause } = self;
        let text = format!("found in {found}, not in {expected}, by {}", cause.name());
        Some(EventMark::new(MarkKind::Desync, text, CallOutcome::Ok))
    }

    fn describe(&self, _event: &VfioEvent, cells: &mut EventCells<'_>) {
        cells.subject_state(self.found);
        cells.more_state("expected ", Some(self.expected)).more(&format!("shown by {}", self.cause.name()));
    }
}
