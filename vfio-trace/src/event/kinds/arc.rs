//! One step of the state machine.

use schemars::JsonSchema;
use serde::Serialize;

use super::payload::{EventMark, EventPayload, OpenCount};
use crate::event::{
    CallOutcome, CellStyle, EventCells, EventProcess, MigState, SessionEnding, StateEffect, VfioEvent,
};

/// One arc of the state machine, asked for or in between.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ArcStep {
    /// State it starts from.
    pub from: MigState,
    /// State it leads to; `None` if the core refused to name one.
    pub to: Option<MigState>,
    /// State that was asked for in the end.
    pub target: MigState,
    /// Outcome of the arc.
    #[serde(flatten)]
    pub outcome: CallOutcome,
}

impl EventPayload for ArcStep {
    fn outcome(&self) -> Option<CallOutcome> {
        Some(self.outcome)
    }

    fn state_effect(&self) -> StateEffect {
        StateEffect::Moved { from: self.from, to: self.to, outcome: self.outcome }
    }

    fn session_ending(&self) -> Option<SessionEnding> {
        let ends = self.outcome.is_ok() && self.to.is_some_and(|to| self.from.ends_session(to));
        ends.then_some(SessionEnding::Arc)
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
        cells.subject_state(self.from);
        match self.to {
            Some(to) => cells.subject(" → ").subject_state(to),
            None => cells.subject_as(CellStyle::Error, " ↛"),
        };
        cells.detail("target ").detail_state(self.target);
        cells.outcome(self.outcome);
    }
}
