//! Any other ioctl on a data fd.

use schemars::JsonSchema;
use serde::Serialize;

use super::payload::{EventMark, EventPayload, OpenCount};
use crate::event::{CallOutcome, EventCells, EventProcess, SessionEnding, StateEffect, VfioEvent};

/// An ioctl on a data fd that is not VFIO_MIG_GET_PRECOPY_INFO.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DataIoctl {
    /// The data session.
    pub session: Option<u32>,
    /// The ioctl's number.
    pub cmd: u32,
    /// Outcome of the ioctl.
    #[serde(flatten)]
    pub outcome: CallOutcome,
}

impl EventPayload for DataIoctl {
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
        cells.subject(&format!("ioctl {:#x}", self.cmd));
        cells.session(self.session);
        cells.outcome(self.outcome);
    }
}
