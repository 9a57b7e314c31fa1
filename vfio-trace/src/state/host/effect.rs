//! What an event says of a device's state.

use crate::event::EventData;

/// What an event does to what is known of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StateEffect {
    /// Nothing.
    None,
    /// The model knows from now on.
    Known,
    /// It may be any: only another look tells.
    Uncertain,
}

impl StateEffect {
    pub(super) fn of(data: &EventData) -> Self {
        let told = match data {
            EventData::Arc(arc) => arc.outcome.is_ok(),
            EventData::SetState(request) => request.outcome.is_ok(),
            EventData::GetState(request) => request.state.is_some(),
            EventData::Reset(reset) => reset.state.is_some(),
            EventData::PciReset(reset) => reset.state.is_some(),
            EventData::Open(open) => open.state.is_some(),
            EventData::Desync(_) => true,
            // Drivers do with the state what they like once nobody is left; and whether there is a device is open too.
            EventData::Close(_)
            | EventData::Device(_)
            | EventData::Register(_)
            | EventData::Unregister {} => false,
            EventData::Held(_)
            | EventData::DataSize(_)
            | EventData::PrecopyInfo(_)
            | EventData::DataIoctl(_)
            | EventData::Read(_)
            | EventData::Write(_)
            | EventData::DataClose(_)
            | EventData::Feature(_)
            | EventData::Step(_)
            | EventData::Image(_)
            | EventData::Finding(_)
            | EventData::ProbeGap(_) => return Self::None,
        };
        if told { Self::Known } else { Self::Uncertain }
    }
}
