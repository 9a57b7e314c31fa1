//! `read()` and `write()` on a data fd: the device's state leaves, or is loaded.

use schemars::JsonSchema;
use serde::Serialize;

use super::payload::{EventMark, EventPayload, OpenCount};
use crate::event::{
    CallOutcome, CellStyle, Errno, EventCells, EventProcess, SessionEnding, StateEffect, VfioEvent,
};
use crate::units::human;

/// Reason for a `read()` or `write()` that moved no bytes although nothing is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReadEnd {
    /// 0 bytes: all of it has been read.
    End,
    /// Nothing for now, which is no failure of the migration: ENOMSG from a `read()` in PRE_COPY, EAGAIN from any
    /// `read()`, and any error that shows that a signal interrupted the call ([`Errno::is_interrupted`]).
    ForNow,
}

/// One `read()` or `write()` on a data fd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DataIo {
    /// The data session.
    pub session: Option<u32>,
    /// Bytes moved; `None` if the call failed.
    pub bytes: Option<u64>,
    /// Bytes that user space asked to move.
    pub requested_bytes: u64,
    /// Offset in the stream at entry; `None` if it could not be read.
    pub offset_bytes: Option<u64>,
    /// Reason for a call that moved no bytes although nothing is wrong; `None` for any other call.
    pub dry: Option<ReadEnd>,
    /// True if the driver had ended the session before: it answers ENODEV then.
    pub ended: bool,
    /// Outcome of the call.
    #[serde(flatten)]
    pub outcome: CallOutcome,
}

impl DataIo {
    /// Returns true if the call is a failure. Moving no bytes for now is none, nor is a call after the session's end.
    pub const fn fails(&self) -> bool {
        self.dry.is_none() && !self.ended && self.outcome.is_failure()
    }
}

impl EventPayload for DataIo {
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
        self.fails()
    }

    fn mark(&self, _process: &EventProcess) -> Option<EventMark> {
        None
    }

    fn describe(&self, _event: &VfioEvent, cells: &mut EventCells<'_>) {
        cells.subject(&match (self.dry, self.bytes) {
            (Some(ReadEnd::End), _) => "end of data".to_owned(),
            (Some(ReadEnd::ForNow), _) if self.outcome.errno() == Some(Errno::ENOMSG) => {
                "no data for now".to_owned()
            },
            (Some(ReadEnd::ForNow), _) => "nothing for now".to_owned(),
            (None, Some(bytes)) => human::bytes(bytes),
            (None, None) => "nothing".to_owned(),
        });
        if let Some(offset) = self.offset_bytes {
            cells.subject(&format!(" @ {offset}"));
        }
        cells.more(&format!("of {}", human::bytes(self.requested_bytes)));
        cells.session(self.session);
        if self.ended {
            cells.more("after its end");
        }
        match self.outcome {
            // Every PRE_COPY ends like this: red would be a false alarm.
            CallOutcome::Failed(errno) if self.dry.is_some() => {
                cells.result_as(CellStyle::Dim, &errno.name());
            },
            outcome => cells.outcome(outcome),
        }
    }
}
