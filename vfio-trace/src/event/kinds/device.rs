//! A device was seen for the first time, or has changed.

use schemars::JsonSchema;
use serde::{Serialize, Serializer};
use vfio_trace_common::role::Role;

use super::payload::{EventMark, EventPayload, OpenCount};
use crate::event::{
    CallOutcome, EventCells, EventProcess, MigFlags, MigState, NOT_OPEN, SessionEnding, StateEffect,
    VfioEvent, cells::or_unknown,
};

/// A device as it was when first seen, or when it had changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DeviceSeen {
    /// True if it can migrate; `None` if that could not be read.
    pub migration: Option<bool>,
    /// The device's migration flags; `None` if they could not be read.
    pub migration_flags: Option<MigFlags>,
    /// True if it tracks dirty pages itself; `None` if that could not be read.
    pub dirty_tracking: Option<bool>,
    /// The state it was in, read from its driver's memory without a lock; `None` if that could not be read.
    pub state: Option<MigState>,
    /// Number of openers; `None` if that could not be read.
    pub open_count: Option<u32>,
    /// Role of the probe that saw it.
    #[serde(serialize_with = "role_name")]
    #[schemars(with = "Option<String>")]
    pub seen_by: Option<Role>,
}

impl DeviceSeen {
    /// Returns true if its driver has 0 in memory while no process has it open: ERROR's number, but also the value
    /// before the first open.
    pub fn may_be_fresh(&self) -> bool {
        self.state == Some(MigState::ERROR) && self.open_count == Some(0)
    }

    /// Returns the state it was in, if that is known: see [`Self::may_be_fresh`].
    pub fn known_state(&self) -> Option<MigState> {
        self.state.filter(|_| !self.may_be_fresh())
    }
}

#[expect(clippy::ref_option, clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
pub(super) fn role_name<S: Serializer>(role: &Option<Role>, serializer: S) -> Result<S::Ok, S::Error> {
    role.map(Role::name).serialize(serializer)
}

impl EventPayload for DeviceSeen {
    fn outcome(&self) -> Option<CallOutcome> {
        None
    }

    fn state_effect(&self) -> StateEffect {
        // It is also open if this is still the device that was known before.
        self.known_state().map_or(StateEffect::Doubted, StateEffect::Read)
    }

    fn session_ending(&self) -> Option<SessionEnding> {
        None
    }

    fn presence(&self) -> Option<bool> {
        Some(true)
    }

    fn opens(&self) -> OpenCount {
        self.open_count.map_or(OpenCount::AsBefore, |count| OpenCount::Now(Some(count)))
    }

    fn is_failure(&self) -> bool {
        false
    }

    fn mark(&self, _process: &EventProcess) -> Option<EventMark> {
        None
    }

    fn describe(&self, event: &VfioEvent, cells: &mut EventCells<'_>) {
        cells.subject(event.driver().unwrap_or("?"));
        if self.may_be_fresh() {
            cells.more(NOT_OPEN);
        } else if self.migration != Some(false) {
            cells.more_state("state ", self.state);
        }
        if let Some(count) = self.open_count.filter(|&count| count > 0) {
            cells.more(&format!("{count} open"));
        }
        match self.migration {
            Some(false) => cells.more("no migration"),
            _ => cells.more(&or_unknown(self.migration_flags.map(|flags| flags.to_string()))),
        };
        cells.more(match self.dirty_tracking {
            Some(true) => "dirty tracking",
            Some(false) => "no dirty tracking",
            None => "dirty tracking not known",
        });
    }
}
