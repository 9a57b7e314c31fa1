//! The assembler's rules, one by one, and what must hold for any records.

mod arcs;
mod driver;
mod props;
mod requests;
mod schema;
mod sessions;
mod states;

use super::{CallOutcome, EventData, VfioEvent};

/// Returns an event in a few words, for comparison.
fn brief(event: &VfioEvent) -> String {
    let took = event.duration_ns.map_or_else(|| "?".to_owned(), |ns| format!("{}µs", ns / 1000));
    let outcome = match event.data.outcome() {
        None => String::new(),
        Some(CallOutcome::Failed(errno) | CallOutcome::Refused(errno)) => format!(
            "{}{errno}",
            if matches!(event.data.outcome(), Some(CallOutcome::Refused(_))) { "refused " } else { "" }
        ),
        Some(outcome) => outcome.name().to_owned(),
    };
    let text = match &event.data {
        EventData::Arc(arc) => {
            let to = arc.to.map_or_else(|| "-".to_owned(), |to| to.to_string());
            format!("{}>{to} for {} {took} {outcome}", arc.from, arc.target)
        },
        EventData::SetState(data) => {
            let fd = data.data_fd.map_or_else(String::new, |fd| format!(" fd {fd}"));
            let session = data.session.map_or_else(String::new, |nr| format!(" session {nr}"));
            let driver = data.driver_call.map_or("unseen", CallOutcome::name);
            format!(
                "set {} via {:?} {} arcs{fd}{session} {took} {outcome} driver {driver}",
                data.target, data.via, data.arcs
            )
        },
        EventData::Desync(data) => format!("desync {} not {} by {:?}", data.found, data.expected, data.cause),
        EventData::Reset(data) => {
            let state = data.state.map_or_else(|| "?".to_owned(), |state| state.to_string());
            format!("reset to {state} {outcome}")
        },
        data => format!("{} {outcome}", data.kind()),
    };
    text.trim_end().to_owned()
}

/// Returns all events in a few words, `device` ones left out.
fn briefs(events: &[VfioEvent]) -> Vec<String> {
    events.iter().filter(|event| !matches!(event.data, EventData::Device(_))).map(brief).collect()
}
