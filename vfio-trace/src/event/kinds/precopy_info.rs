//! VFIO_MIG_GET_PRECOPY_INFO on a data fd.

use schemars::JsonSchema;
use serde::Serialize;

use super::payload::{EventMark, EventPayload, OpenCount};
use crate::event::{CallOutcome, EventCells, EventProcess, SessionEnding, StateEffect, VfioEvent};
use crate::units::human;

/// Sizes of the data that is left to read in PRE_COPY.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PrecopyInfo {
    /// The data session.
    pub session: Option<u32>,
    /// Bytes that the destination should have before the switchover.
    pub initial_bytes: Option<u64>,
    /// Bytes that have changed since they were read.
    pub dirty_bytes: Option<u64>,
    /// `vfio_precopy_info.flags` as returned. Kernels before PRECOPY_INFOv2 leave the caller's value in it.
    pub flags: Option<u32>,
    /// Outcome of the ioctl.
    #[serde(flatten)]
    pub outcome: CallOutcome,
}

impl EventPayload for PrecopyInfo {
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
        if let (Some(initial), Some(dirty)) = (self.initial_bytes, self.dirty_bytes) {
            cells.subject(&format!("{} initial, {} dirty", human::bytes(initial), human::bytes(dirty)));
        }
        cells.session(self.session);
        if let Some(flags) = self.flags.filter(|&flags| flags != 0) {
            cells.more(&format!("flags {flags:#x}"));
        }
        cells.outcome(self.outcome);
    }
}
