//! Formats the closing table: per device its path of states, the bytes moved, and the time per state.

use std::collections::BTreeSet;

use super::layout::{CellStyle, TableColumn, TextCell, table};
use crate::units::human;
use crate::{
    event::MigState,
    state::{DeviceReport, TraceReport},
    units::visible,
};

/// Most states of a path that the table shows: enough for a migration and its way back.
const PATH: usize = 16;

/// Formats two tables for people: one line per device, then the time per state. Returns an empty text if there was no
/// device.
pub fn closing_table(report: &TraceReport, color: bool) -> String {
    if report.devices.is_empty() {
        return String::new();
    }
    let mut text = format!("{}\n{}", devices(report, color), times(report, color));
    if report.device_events_left_out > 0 {
        text.push_str(&human::count(report.device_events_left_out, "event"));
        text.push_str(" of other devices are in no table: there are too many devices\n");
    }
    text
}

/// Formats the report as one JSON object, without newline: [`TraceReport`] as it is (docs/events.md).
///
/// # Errors
///
/// None with these types; only serde's interface returns them.
pub fn closing_json(report: &TraceReport) -> serde_json::Result<String> {
    visible::json(report)
}

fn devices(report: &TraceReport, color: bool) -> String {
    let failures = report.devices.iter().any(|device| device.arcs.failed + device.arcs.refused > 0);
    let resets = report.devices.iter().any(|device| device.resets > 0);
    let desyncs = report.devices.iter().any(|device| device.desyncs > 0);
    let mut columns = vec![
        TableColumn::left("device"),
        TableColumn::left("driver"),
        TableColumn::left("state"),
        TableColumn::right("arcs"),
    ];
    if failures {
        columns.extend([TableColumn::right("failed"), TableColumn::right("refused")]);
    }
    columns.extend(resets.then_some(TableColumn::right("resets")));
    columns.extend(desyncs.then_some(TableColumn::right("desyncs")));
    columns.extend([
        TableColumn::right("sessions"),
        TableColumn::right("read"),
        TableColumn::right("written"),
        TableColumn::left("path of states"),
    ]);
    let plain = |text: &str| TextCell::of(color, CellStyle::Plain, text);
    let number = |value: u64| plain(&value.to_string());
    let bad = |value: u64| {
        TextCell::of(color, if value > 0 { CellStyle::Error } else { CellStyle::Plain }, &value.to_string())
    };
    let row = |device: &DeviceReport| {
        let state = match device.state {
            _ if device.gone => "gone".to_owned(),
            Some(state) => state.to_string(),
            None => "?".to_owned(),
        };
        let arcs = device.arcs.ok + device.arcs.failed + device.arcs.unknown;
        let mut row = vec![
            name(device, color),
            plain(or_unknown(device.driver.as_deref())),
            plain(&state),
            number(arcs),
        ];
        if failures {
            row.extend([bad(device.arcs.failed), bad(device.arcs.refused)]);
        }
        row.extend(resets.then(|| number(device.resets)));
        row.extend(desyncs.then(|| bad(device.desyncs)));
        row.extend([
            number(device.sessions),
            plain(&human::bytes(device.read.bytes)),
            plain(&human::bytes(device.written.bytes)),
            plain(&device.path.text(PATH)),
        ]);
        row
    };
    let rows: Vec<Vec<TextCell>> = report.devices.iter().map(row).collect();
    table(&columns, &rows, color)
}

fn times(report: &TraceReport, color: bool) -> String {
    let states: BTreeSet<MigState> =
        report.devices.iter().flat_map(|device| device.states.iter().map(|time| time.state)).collect();
    let uncertain = report.devices.iter().any(|device| device.uncertain_ns > 0);
    let mut columns = vec![TableColumn::left("time in state")];
    columns.extend(states.iter().map(|state| TableColumn::right(state.name())));
    columns.push(TableColumn::right("in arcs"));
    columns.extend(uncertain.then_some(TableColumn::right("uncertain")));
    let plain = |text: &str| TextCell::of(color, CellStyle::Plain, text);
    let row = |device: &DeviceReport| {
        let mut row = vec![name(device, color)];
        row.extend(states.iter().map(|state| {
            let time = device.states.iter().find(|time| time.state == *state);
            plain(&time.map_or_else(|| "-".to_owned(), |time| human::duration(time.time_ns)))
        }));
        row.push(plain(&human::duration(device.arcs_ns)));
        row.extend(uncertain.then(|| plain(&human::duration(device.uncertain_ns))));
        row
    };
    let rows: Vec<Vec<TextCell>> = report.devices.iter().map(row).collect();
    table(&columns, &rows, color)
}

fn name(device: &DeviceReport, color: bool) -> TextCell {
    TextCell::of(color, CellStyle::Plain, or_unknown(device.device.as_deref()))
}

fn or_unknown(name: Option<&str>) -> &str {
    name.unwrap_or("?")
}
