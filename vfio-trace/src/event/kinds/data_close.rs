//! The last reference to a data fd is gone.

use schemars::JsonSchema;
use serde::Serialize;

use super::payload::{DataDirection, EventMark, EventPayload, OpenCount};
use crate::event::{CallOutcome, CellStyle, EventCells, EventProcess, SessionEnding, StateEffect, VfioEvent};
use crate::units::human;

/// The last reference to a data fd is gone: the account of its session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DataClose {
    /// The data session.
    pub session: Option<u32>,
    /// Direction of the session, if any call on it was seen.
    pub direction: Option<DataDirection>,
    /// True if its start was not seen, so that the numbers below are a part only.
    pub partial: bool,
    /// True if the driver was seen to end it before: by an arc, a reset, or the device's close.
    pub ended: bool,
    /// `read()` calls.
    pub reads: u64,
    /// `write()` calls.
    pub writes: u64,
    /// Calls that failed. One that moved nothing for now (ENOMSG, EAGAIN, a signal) is not counted.
    pub failed: u64,
    /// Bytes that `read()` gave.
    pub read_bytes: u64,
    /// Bytes that `write()` took.
    pub written_bytes: u64,
    /// Bytes that the file's offset passed without a call that was seen; `None` if no offset could be read.
    pub missed_bytes: Option<u64>,
    /// Offset at the end; drivers set it back to 0 when they end a session. `None` if it could not be read.
    pub position_bytes: Option<u64>,
    /// Time since the session's start, in ns; `None` if that was not seen.
    pub lifetime_ns: Option<u64>,
}

impl EventPayload for DataClose {
    fn outcome(&self) -> Option<CallOutcome> {
        None
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
        cells.subject(&self.session.map_or_else(String::new, |nr| format!("session {nr}")));
        if let Some(direction) = self.direction {
            cells.subject(&format!(" ({})", direction.name()));
        }
        let (bytes, calls, noun) = match self.direction {
            Some(DataDirection::Resume) => (self.written_bytes, self.writes, "write"),
            _ => (self.read_bytes, self.reads, "read"),
        };
        cells.more(&format!("{} in {}", human::bytes(bytes), human::count(calls, noun)));
        if self.failed > 0 {
            cells.detail(", ").detail_as(CellStyle::Error, &format!("{} failed", self.failed));
        }
        if self.partial {
            cells.more("start not seen");
        }
        if let Some(missed) = self.missed_bytes.filter(|&missed| missed > 0) {
            cells.more(&format!("{} not seen", human::bytes(missed)));
        }
        if !self.ended && !self.partial {
            cells.more("still active");
        }
    }
}
