//! The questions that every kind of event must answer, and types that several kinds share.

use schemars::JsonSchema;
use serde::Serialize;

use crate::event::{CallOutcome, EventCells, EventProcess, SessionEnding, StateEffect, VfioEvent};

/// Answers of one kind of event to the questions of other modules, besides the fields of its JSON. Each file of
/// `event/kinds` implements it; `EventData` passes the calls on by kind; reports, timelines, text and JSON use them.
///
/// No method has a default: a new kind compiles once it has answered all of them, and is then in every output.
pub trait EventPayload {
    /// Returns the outcome, for kinds that can end in more than one way.
    fn outcome(&self) -> Option<CallOutcome>;

    /// Returns the effect on the device's migration state.
    fn state_effect(&self) -> StateEffect;

    /// Returns the way in which it ended the device's data sessions, if it did.
    fn session_ending(&self) -> Option<SessionEnding>;

    /// Returns true if the device is registered with vfio after it; `None` if the event does not show that.
    fn presence(&self) -> Option<bool>;

    /// Returns the number of openers of the device after it, if the event shows that.
    fn opens(&self) -> OpenCount;

    /// Returns true if a report lists it as a failure, within a migration or outside of all.
    fn is_failure(&self) -> bool;

    /// Returns the mark that a report makes for it, if any.
    fn mark(&self, process: &EventProcess) -> Option<EventMark>;

    /// Writes its line of text: subject, details, result.
    fn describe(&self, event: &VfioEvent, cells: &mut EventCells<'_>);
}

/// An event's effect on the number of openers of its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenCount {
    /// No effect: the number stays.
    AsBefore,
    /// The new number; `None`: it may be any.
    Now(Option<u32>),
}

impl OpenCount {
    /// Returns the number of openers after the event, given the one before.
    pub fn after(self, before: Option<u32>) -> Option<u32> {
        match self {
            Self::AsBefore => before,
            Self::Now(count) => count,
        }
    }
}

/// Mark that a report makes for an event without a span of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventMark {
    /// Kind of the mark.
    pub kind: MarkKind,
    /// Further words.
    pub text: String,
    /// Outcome of the event.
    pub outcome: CallOutcome,
}

impl EventMark {
    pub(super) fn new(kind: MarkKind, text: impl Into<String>, outcome: CallOutcome) -> Self {
        Self { kind, text: text.into(), outcome }
    }
}

/// Kind of a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MarkKind {
    /// Opened.
    Open,
    /// Closed.
    Close,
    /// Closed by the last opener.
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
    /// Returns true if it ends the device's activity.
    pub(crate) const fn ends_activity(self) -> bool {
        matches!(self, Self::LastClose | Self::Reset | Self::PciReset | Self::Unregister)
    }
}

/// Records that an event of a request is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RequestOrigin {
    /// The ioctl's return was seen: the result that user space got.
    Ioctl,
    /// Only the driver's function was seen: the kernel called it by itself (debugfs does), or the ioctl's record was
    /// lost.
    Driver,
}

/// Direction in which a data session moves the device's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "Direction")]
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
