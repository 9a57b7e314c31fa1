//! A step of a driver: a function that a driver plug-in asked for returned.

use std::{borrow::Cow, sync::Arc};

use schemars::JsonSchema;
use serde::Serialize;
use vfio_trace_common::role::Role;

use super::{
    device::role_name,
    payload::{EventMark, EventPayload, OpenCount},
};
use crate::event::{CallOutcome, EventCells, EventProcess, MigState, SessionEnding, StateEffect, VfioEvent};

/// The arc during which something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct EnclosingArc {
    /// State it starts from.
    pub from: MigState,
    /// State it leads to.
    pub to: MigState,
}

/// A function of a driver, or one that it called, returned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DriverCall {
    /// The function; `None` if the record that names it is missing.
    pub function: Option<Arc<str>>,
    /// Its module; `None` for the kernel, or if not known.
    pub module: Option<Arc<str>>,
    /// The plug-in's name for this step.
    pub step: Option<Cow<'static, str>>,
    /// Text that the plug-in makes from its arguments.
    pub detail: Option<String>,
    /// The arc that it is part of.
    pub arc: Option<EnclosingArc>,
    /// Role of the probe on the call that its thread was in.
    #[serde(serialize_with = "role_name")]
    #[schemars(with = "Option<String>")]
    pub within: Option<Role>,
    /// The number it returned, if that is not an errno.
    pub returned: Option<u64>,
    /// Outcome; `Unknown` for functions whose return value does not show it.
    #[serde(flatten)]
    pub outcome: CallOutcome,
    /// Its arguments, as registers. Some are kernel addresses: not for output.
    #[serde(skip)]
    pub args: Vec<u64>,
}

impl EventPayload for DriverCall {
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
        let function = self.function.as_deref().unwrap_or("?");
        match &self.step {
            Some(name) => cells.subject(name).more(function),
            None => cells.subject(function),
        };
        if let Some(detail) = &self.detail {
            cells.more(detail);
        }
        if let Some(arc) = self.arc {
            cells.more("in ").detail_state(arc.from).detail(" → ").detail_state(arc.to);
        }
        if let Some(returned) = self.returned {
            cells.more(&format!("returned {returned}"));
        }
        // A function whose return value does not show its outcome.
        if self.outcome != CallOutcome::Unknown {
            cells.outcome(self.outcome);
        }
    }
}
