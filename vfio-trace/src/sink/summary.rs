//! What the probes counted, and what was lost: the last lines of a run.

use super::{
    human,
    layout::{Cell, Column, Style, table},
};
use vfio_trace_common::role::Role;

use crate::event::{GapTotals, ProbeReport, Summary};

/// Table of the probes: function, module, what was counted; why one is not attached. Steps of drivers that this kernel
/// does not have are one line: most builds inline most of them.
pub fn probe_table(probes: &[ProbeReport], color: bool) -> String {
    let is_extra = |probe: &&ProbeReport| probe.role == Role::Step && !probe.attached;
    let extra = probes.iter().filter(is_extra).count();
    let probes: Vec<&ProbeReport> = probes.iter().filter(|probe| !is_extra(probe)).collect();
    let unmatched = probes.iter().any(|probe| probe.unmatched > 0);
    let noted = probes.iter().any(|probe| !probe.attached || probe.reason.is_some());
    let mut columns = vec![
        Column::left("probe"),
        Column::left("module"),
        Column::left("role"),
        Column::right("hits"),
        Column::right("records"),
        Column::right("lost"),
        Column::right("missed"),
    ];
    columns.extend(unmatched.then_some(Column::right("unmatched")));
    columns.extend(noted.then_some(Column::left("note")));
    let rows: Vec<Vec<Cell>> = probes.iter().map(|probe| row(probe, unmatched, noted, color)).collect();
    let mut text = if rows.is_empty() { String::new() } else { table(&columns, &rows, color) };
    if extra > 0 {
        let steps = human::count(extra as u64, "optional step");
        text.push_str(&steps);
        text.push_str(" of the driver not probed: `vfio-trace doctor` says why\n");
    }
    text
}

fn row(probe: &ProbeReport, unmatched: bool, noted: bool, color: bool) -> Vec<Cell> {
    let number = |value: Option<u64>, bad: bool| {
        let style = if bad && value.is_some_and(|value| value > 0) { Style::Error } else { Style::Plain };
        let text = match value {
            _ if !probe.attached => "-".to_owned(),
            Some(value) => value.to_string(),
            None => "?".to_owned(),
        };
        Cell::of(color, style, &text)
    };
    let name = |text: &str| Cell::of(color, Style::Plain, text);
    let mut row = vec![
        name(&probe.name),
        name(probe.module.as_deref().unwrap_or("-")),
        name(probe.role.name()),
        number(Some(probe.hits), false),
        number(Some(probe.records), false),
        number(Some(probe.lost), true),
        number(probe.missed, true),
    ];
    if unmatched {
        row.push(number(Some(probe.unmatched), true));
    }
    if noted {
        let reason = probe.reason.as_deref();
        row.push(match (probe.attached, reason) {
            (true, reason) => name(reason.unwrap_or_default()),
            (false, None) => Cell::of(color, Style::Error, "not attached"),
            (false, Some(reason)) => Cell::of(color, Style::Error, &format!("not attached: {reason}")),
        });
    }
    row
}

/// The probe table and the totals: `1234 events, 0 lost, 0 missed`, and what to do about a loss.
pub fn summary_text(summary: &Summary, color: bool) -> String {
    let mut text = probe_table(&summary.probes, color);
    let style = |bad: bool| if bad { Style::Error } else { Style::Plain };
    let mut totals = Cell::new(color);
    totals.plain(&format!("{}, ", human::count(summary.events, "event")));
    if summary.shown != summary.events {
        totals.plain(&format!("{} shown, ", summary.shown));
    }
    totals.add(style(summary.lost > 0), &format!("{} lost", summary.lost)).plain(", ");
    let known = || {
        let probes = summary.probes.iter().filter(|probe| probe.attached || probe.hits > 0);
        probes.filter_map(|probe| probe.missed)
    };
    match summary.missed {
        Some(missed) => totals.add(style(missed > 0), &format!("{missed} missed")),
        None if known().next().is_none() => totals.plain("missed: not known on this kernel"),
        None => totals.plain(&format!("{} missed as far as known", known().fold(0, u64::saturating_add))),
    };
    if summary.unmatched > 0 {
        totals.plain(", ").add(Style::Error, &format!("{} unmatched", summary.unmatched));
    }
    match summary.gaps {
        Some(GapTotals { gaps: 0, .. }) => {},
        Some(told) => {
            totals.plain(", ").add(Style::Error, &human::count(told.gaps, "probe gap"));
        },
        None => {
            totals.plain(", probe gaps: not known");
        },
    }
    if summary.no_room > 0 {
        totals.plain(", ").add(Style::Error, &format!("{} not remembered", summary.no_room));
    }
    if summary.undecoded > 0 {
        totals
            .plain(", ")
            .add(Style::Error, &format!("{} not understood", human::count(summary.undecoded, "record")));
    }
    totals.plain(&format!(", in {}", human::duration(summary.duration_ns)));
    totals.left(0, &mut text);
    text.push('\n');
    if let Some(told) = summary.gaps.filter(|told| told.gaps > 0) {
        let mut advice = Cell::new(color);
        advice.add(Style::Error, "Not all was probed all the time");
        advice.plain(&format!(
            ": {} (the longest {}{}); `probe_gap` events say which functions, when and why",
            human::count(told.gaps, "gap"),
            human::duration(told.longest_ns),
            match told.open {
                0 => String::new(),
                open => format!(", {open} still open"),
            },
        ));
        advice.left(0, &mut text);
        text.push('\n');
    }
    if summary.no_room > 0 {
        text.push_str("not remembered: devices or data fds beyond 16384; what happens to them is shown without a device\n");
    }
    if summary.lost > 0 {
        let mut advice = Cell::new(color);
        advice.add(Style::Error, &format!("{} lost", human::count(summary.lost, "record")));
        advice.plain(": the buffer between kernel and vfio-trace was full; --buffer makes it larger");
        advice.left(0, &mut text);
        text.push('\n');
    }
    text
}
