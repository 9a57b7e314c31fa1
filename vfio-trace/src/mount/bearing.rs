//! What an event changes of what is known of a device besides the model.

use crate::event::Data;

/// What an event does to what is known of the state.
pub(super) enum Bearing {
    /// Nothing.
    None,
    /// The model knows from now on.
    Told,
    /// It may be any: only another look tells.
    Open,
}

impl Bearing {
    pub(super) fn of(data: &Data) -> Self {
        let told = match data {
            Data::Arc(arc) => arc.outcome.is_ok(),
            Data::SetState(request) => request.outcome.is_ok(),
            Data::GetState(request) => request.state.is_some(),
            Data::Reset(reset) => reset.state.is_some(),
            Data::PciReset(reset) => reset.state.is_some(),
            Data::Open(open) => open.state.is_some(),
            Data::Desync(_) => true,
            // Drivers do with the state what they like once nobody is left; and whether there is a device is open too.
            Data::Close(_) | Data::Device(_) | Data::Register(_) | Data::Unregister {} => false,
            Data::Held(_)
            | Data::DataSize(_)
            | Data::PrecopyInfo(_)
            | Data::DataIoctl(_)
            | Data::Read(_)
            | Data::Write(_)
            | Data::DataClose(_)
            | Data::Feature(_)
            | Data::Step(_)
            | Data::Image(_)
            | Data::Finding(_)
            | Data::ProbeGap(_) => return Self::None,
        };
        if told { Self::Told } else { Self::Open }
    }
}

/// How often a device is open after an event.
pub(super) const fn opened(data: &Data, before: Option<u32>) -> Option<u32> {
    match data {
        Data::Device(seen) => match seen.open_count {
            None => before,
            told => told,
        },
        Data::Open(open) if open.outcome.is_ok() => open.open_count,
        Data::Close(close) => match close.open_count {
            Some(count) => Some(count.saturating_sub(1)),
            None => None,
        },
        _ => before,
    }
}
