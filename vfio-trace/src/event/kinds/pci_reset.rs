//! The PCI core has reset the device.

use schemars::JsonSchema;
use serde::Serialize;

use super::payload::{EventMark, EventPayload, MarkKind, OpenCount};
use crate::event::{CallOutcome, EventCells, EventProcess, MigState, SessionEnding, StateEffect, VfioEvent};

/// The PCI core has reset the device's function: by request of the driver, of user space through sysfs, or of vfio.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PciReset {
    /// `flr` for a Function Level Reset; `None` for any other way.
    #[schemars(with = "Option<MethodShape>")]
    pub method: Option<&'static str>,
    /// The state that it leads to, as soon as the driver's `reset_done` has run; `None` if that is not certain.
    pub state: Option<MigState>,
    /// Outcome of the reset.
    #[serde(flatten)]
    pub outcome: CallOutcome,
}

/// Ways of a reset that have a name.
#[derive(JsonSchema)]
#[schemars(rename = "ResetMethod", rename_all = "lowercase")]
#[expect(dead_code, reason = "for the schema alone")]
enum MethodShape {
    Flr,
}

impl EventPayload for PciReset {
    fn outcome(&self) -> Option<CallOutcome> {
        Some(self.outcome)
    }

    fn state_effect(&self) -> StateEffect {
        StateEffect::of_reset(self.state, self.outcome)
    }

    fn session_ending(&self) -> Option<SessionEnding> {
        self.outcome.is_ok().then_some(SessionEnding::Reset)
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
        let text = self.method.map_or_else(|| "reset".to_owned(), str::to_uppercase);
        Some(EventMark::new(MarkKind::PciReset, text, self.outcome))
    }

    fn describe(&self, _event: &VfioEvent, cells: &mut EventCells<'_>) {
        cells.subject(self.method.map_or("reset", |_| "FLR"));
        if self.state.is_some() {
            cells.more_state("state ", self.state);
        }
        cells.outcome(self.outcome);
    }
}
