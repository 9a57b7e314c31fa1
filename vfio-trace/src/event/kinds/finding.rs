//! Conclusions that a driver's plug-in draws from events.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::Serialize;

use super::payload::{EventMark, EventPayload, OpenCount};
use crate::event::{
    CallOutcome, CellStyle, EventCells, EventProcess, SessionEnding, StateEffect, VfioEvent,
    outcome::ERRNO_PATTERN,
};

/// Severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "Severity")]
pub enum FindingSeverity {
    /// Information without a fault.
    Info,
    /// The operation went on, but not as it should have.
    Warning,
    /// The operation failed.
    Error,
}

impl FindingSeverity {
    /// Returns the name used in output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// A conclusion that a driver's plug-in draws from events: the step that failed and the reason, or a fault that the
/// driver did not report. Plug-ins (`vfio-trace/src/drivers`) make it from steps and images; all outputs show it as an
/// event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DriverFinding {
    /// A stable name, `hisi_acc/mailbox-timeout`.
    #[schemars(regex(pattern = "^[a-z0-9_]+/[a-z0-9-]+$"))]
    pub code: Cow<'static, str>,
    /// Severity of the finding.
    pub severity: FindingSeverity,
    /// The first step that failed.
    pub step: Option<Cow<'static, str>>,
    /// The error of that step: not always the one that user space got.
    #[schemars(regex(pattern = ERRNO_PATTERN))]
    pub errno: Option<Cow<'static, str>>,
    /// The finding in one plain sentence.
    pub text: String,
    /// Hint at the next thing to check.
    pub check: Cow<'static, str>,
}

impl EventPayload for DriverFinding {
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
        self.severity == FindingSeverity::Error
    }

    fn mark(&self, _process: &EventProcess) -> Option<EventMark> {
        None
    }

    fn describe(&self, _event: &VfioEvent, cells: &mut EventCells<'_>) {
        let style = match self.severity {
            FindingSeverity::Error => CellStyle::Error,
            FindingSeverity::Warning => CellStyle::Bold,
            FindingSeverity::Info => CellStyle::Plain,
        };
        cells.subject_as(style, &self.code);
        if let Some(step) = &self.step {
            cells.more(&format!("{step}:")).detail(" ");
        }
        cells.detail(&self.text).detail(" Check: ").detail(&self.check);
        cells.result(self.errno.as_deref().unwrap_or_else(|| self.severity.name()));
    }
}
