//! Formats the probes' counters and the losses: the last lines of a run.

use super::layout::{CellStyle, TableColumn, TextCell, table};
use crate::units::human;
use vfio_trace_common::role::Role;

use crate::event::{GapTotals, ProbeReport, TraceSummary};

/// Formats the table of the probes: function, module, counters; or the reason why a probe is not attached. Driver steps
/// that this kernel does not have share one line: most builds inline most of them.
pub fn probe_table(probes: &[ProbeReport], color: bool) -> String {
    let is_extra = |probe: &&ProbeReport| probe.role == Role::Step && never_attached(probe);
    let extra = probes.iter().filter(is_extra).count();
    let probes: Vec<&ProbeReport> = probes.iter().filter(|probe| !is_extra(probe)).collect();
    let unmatched = probes.iter().any(|probe| probe.unmatched > 0);
    let noted = probes.iter().any(|probe| !probe.attached || probe.reason.is_some());
    let mut columns = vec![
        TableColumn::left("probe"),
        TableColumn::left("module"),
        TableColumn::left("role"),
        TableColumn::right("hits"),
        TableColumn::right("records"),
        TableColumn::right("lost"),
        TableColumn::right("missed"),
    ];
    columns.extend(unmatched.then_some(TableColumn::right("unmatched")));
    columns.extend(noted.then_some(TableColumn::left("note")));
    let rows: Vec<Vec<TextCell>> = probes.iter().map(|probe| row(probe, unmatched, noted, color)).collect();
    let mut text = if rows.is_empty() { String::new() } else { table(&columns, &rows, color) };
    if extra > 0 {
        let steps = human::count(extra as u64, "optional step");
        text.push_str(&steps);
        text.push_str(" of the driver not probed: `vfio-trace doctor` says why\n");
    }
    text
}

/// Returns true if a probe has nothing to count. A probe that was attached once has, even if its module is gone by now.
fn never_attached(probe: &ProbeReport) -> bool {
    let counted = [probe.hits, probe.records, probe.lost, probe.unmatched, probe.missed.unwrap_or(0)];
    !probe.attached && counted == [0; 5]
}

fn row(probe: &ProbeReport, unmatched: bool, noted: bool, color: bool) -> Vec<TextCell> {
    let number = |value: Option<u64>, bad: bool| {
        let style =
            if bad && value.is_some_and(|value| value > 0) { CellStyle::Error } else { CellStyle::Plain };
        let text = match value {
            _ if never_attached(probe) => "-".to_owned(),
            Some(value) => value.to_string(),
            None => "?".to_owned(),
        };
        TextCell::of(color, style, &text)
    };
    let name = |text: &str| TextCell::of(color, CellStyle::Plain, text);
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
            (false, None) => TextCell::of(color, CellStyle::Error, "not attached"),
            (false, Some(reason)) => {
                TextCell::of(color, CellStyle::Error, &format!("not attached: {reason}"))
            },
        });
    }
    row
}

/// Formats the probe table and the totals (`1234 events, 0 lost, 0 missed`), with advice about losses.
pub fn summary_text(summary: &TraceSummary, color: bool) -> String {
    let mut text = probe_table(&summary.probes, color);
    let style = |bad: bool| if bad { CellStyle::Error } else { CellStyle::Plain };
    let mut totals = TextCell::new(color);
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
        totals.plain(", ").add(CellStyle::Error, &format!("{} unmatched", summary.unmatched));
    }
    match summary.gaps {
        Some(GapTotals { gaps: 0, .. }) => {},
        Some(told) => {
            totals.plain(", ").add(CellStyle::Error, &human::count(told.gaps, "probe gap"));
        },
        None => {
            totals.plain(", probe gaps: not known");
        },
    }
    if summary.no_room > 0 {
        totals.plain(", ").add(CellStyle::Error, &format!("{} not remembered", summary.no_room));
    }
    if summary.undecoded > 0 {
        totals
            .plain(", ")
            .add(CellStyle::Error, &format!("{} not understood", human::count(summary.undecoded, "record")));
    }
    totals.plain(&format!(", in {}", human::duration(summary.duration_ns)));
    totals.left(0, &mut text);
    text.push('\n');
    if let Some(told) = summary.gaps.filter(|told| told.gaps > 0) {
        let mut advice = TextCell::new(color);
        advice.add(CellStyle::Error, "Not all was probed all the time");
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
        let mut advice = TextCell::new(color);
        advice.add(CellStyle::Error, &format!("{} lost", human::count(summary.lost, "record")));
        advice.plain(": the buffer between kernel and vfio-trace was full; --buffer makes it larger");
        advice.left(0, &mut text);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_attached_once_counts_though_its_module_is_gone() {
        let step = ProbeReport {
            name: "hisi_qm_mb".to_owned(),
            role: Role::Step,
            module: Some("hisi_qm".to_owned()),
            attached: false,
            reason: Some("its module was unloaded".to_owned()),
            hits: 12,
            records: 9,
            lost: 3,
            missed: Some(0),
            unmatched: 0,
            no_room: 0,
        };
        let gone = probe_table(std::slice::from_ref(&step), false);
        let row = gone.lines().find(|line| line.contains("hisi_qm_mb")).unwrap();
        let words: Vec<&str> = row.split_whitespace().collect();
        assert!(words.windows(4).any(|four| four == ["12", "9", "3", "0"]), "{row}");
        assert!(!gone.contains("optional step"), "{gone}");
        let never = ProbeReport { hits: 0, records: 0, lost: 0, missed: None, ..step };
        assert!(probe_table(&[never], false).contains("1 optional step"));
    }

    #[test]
    fn what_is_not_remembered_is_told_once() {
        let mut summary = TraceSummary::new(Vec::new(), 1, 1, 0, 1);
        summary.no_room = 7;
        assert_eq!(summary_text(&summary, false).matches("7 not remembered").count(), 1);
    }
}
