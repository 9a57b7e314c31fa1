//! What every kind of event must answer, and words that several kinds share.

use schemars::JsonSchema;
use serde::Serialize;

use crate::event::{CallOutcome, EventCells, EventProcess, SessionEnding, StateEffect, VfioEvent};

/// What is told of one kind of event, besides the fields of its JSON.
///
/// No method has a default: a new kind compiles once it has answered all of them, and is then in every output.
pub trait EventPayload {
    /// Returns how it ended, for kinds that can end in more than one way.
    fn outcome(&self) -> Option<CallOutcome>;

    /// Returns what it does to the device's migration state, or says of it.
    fn state_effect(&self) -> StateEffect;

    /// Returns how it ended the device's data sessions, if it did.
    fn session_ending(&self) -> Option<SessionEnding>;

    /// Returns if the device is one of vfio's after it; `None` if it does not tell.
    fn presence(&self) -> Option<bool>;

    /// Returns how often the device is open after it, of which it may say nothing.
    fn opens(&self) -> OpenCount;

    /// Returns true if it is a failure that a report tells of: of a migration, or outside of all.
    fn is_failure(&self) -> bool;

    /// Returns what a report notes at this moment of the device's time, if anything.
    fn mark(&self, process: &EventProcess) -> Option<EventMark>;

    /// Writes its line of text: subject, details, result.
    fn describe(&self, event: &VfioEvent, cells: &mut EventCells<'_>);
}

/// What an event says of how often its device is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenCount {
    /// Nothing: as often as before.
    AsBefore,
    /// This often; `None`: it may be any number.
    Now(Option<u32>),
}

impl OpenCount {
    /// Returns how often it is open, with what was known before.
    pub fn after(self, before: Option<u32>) -> Option<u32> {
        match self {
            Self::AsBefore => before,
            Self::Now(count) => count,
        }
    }
}

/// What a report notes of an event that has no span of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventMark {
    /// What it was.
    pub kind: MarkKind,
    /// More words.
    pub text: String,
    /// How it ended.
    pub outcome: CallOutcome,
}

impl EventMark {
    pub(super) fn new(kind: MarkKind, text: impl Into<String>, outcome: CallOutcome) -> Self {
        Self { kind, text: text.into(), outcome }
    }
}

/// What happened at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MarkKind {
    /// Opened.
    Open,
    /// Closed.
    Close,
    /// Closed by the last who had it open.
    LastClose,
    /// VFIO_DEVICE_RESET.
    Reset,
    /// Reset by the PCI core.
    PciReset,
    /// Registered with vfio.
    Register,
    /// Taken from vfio.
    Unregister,
    /// Not in the state that it was last known to be in.
    Desync,
}

impl MarkKind {
    /// Returns true if it ends what the device was doing.
    pub(crate) const fn ends_activity(self) -> bool {
        matches!(self, Self::LastClose | Self::Reset | Self::PciReset | Self::Unregister)
    }
}

/// Which records an event of a request is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RequestOrigin {
    /// The ioctl's return was seen: what user space got.
    Ioctl,
    /// Only the driver's function was seen: the kernel called it by itself (debugfs does), or the ioctl's record was lost.
    Driver,
}

/// Which way a data session moves the device's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DataDirection {
    /// Out of the device, by `read()`: source of a migration.
    Save,
    /// Into the device, by `write()`: destination of a migration.
    Resume,
}

impl DataDirection {
    /// Returns the name used in output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Save => "save",
            Self::Resume => "resume",
        }
    }
}
