//! Tests that no name can steer a terminal: every text and every JSON, with every name hostile.

use jiff::tz::TimeZone;
use proptest::prelude::*;
use vfio_trace_common::role::Role;

use super::*;
use crate::{
    doctor::{Check, CheckSection, CheckVerdict, DOCTOR_SCHEMA, DoctorReport},
    event::{ProbeReport, TraceSummary, VfioEvent, WireRecord, fixture::*},
    report::{
        HostHistory,
        document::{MigrationDocument, TracedHost},
    },
    state::TraceModel,
    units::visible::tests::{HOSTILE, harms},
};

/// Fails if a name steers the terminal or begins a line; `text` has no colours.
fn check(what: &str, text: &str) {
    assert!(!text.is_empty(), "{what}");
    let bad: Vec<char> = text.chars().filter(|c| harms(*c) && *c != '\n').collect();
    assert!(bad.is_empty(), "{what} has {bad:?}:\n{text:?}");
    assert!(!text.lines().any(|line| line.trim_start().starts_with("FORGED")), "{what}:\n{text}");
}

fn put(name: &str, into: &mut [u8]) {
    into.fill(0);
    // The kernel's copy may end anywhere, also within a character.
    let len = name.len().min(into.len() - 1);
    into[..len].copy_from_slice(&name.as_bytes()[..len]);
}

/// Makes the records of a migration of two devices; devices, drivers and processes all have this name.
fn records(name: &str) -> Vec<WireRecord> {
    let mut records = [source().holder(7).records(), destination().records()].concat();
    records.sort_by_key(|record| record.header.end_ns);
    for record in &mut records {
        put(name, &mut record.header.comm);
        if let crate::event::RecordBody::Device(device) = &mut record.body {
            put(name, &mut device.name);
            put(name, &mut device.driver);
        }
    }
    records
}

fn document_of(name: &str, events: &[VfioEvent]) -> MigrationDocument {
    let host = TracedHost {
        name: Some(name.to_owned()),
        kernel: name.to_owned(),
        machine: name.to_owned(),
        source: name.to_owned(),
        ..TracedHost::default()
    };
    let mut history = HostHistory::new(host, ANCHOR, None);
    for event in events {
        history.apply(event);
    }
    crate::report::document(&[history], &crate::report::DocumentOptions::default())
}

fn list_row(name: &str) -> DeviceRow {
    let text = || name.to_owned();
    let holder =
        HolderRow { pid: 1, local_pid: Some(1), comm: text(), vm: Some(text()), process_started: Some(1) };
    DeviceRow {
        device: text(),
        bus: "pci",
        vfio: Some(text()),
        group: None,
        cdev: Some(true),
        driver: Some(text()),
        migration: None,
        migration_flags: None,
        dirty_tracking: None,
        state: None,
        open_count: None,
        holders: Some(vec![holder]),
    }
}

fn summary(name: &str) -> TraceSummary {
    let probe = |attached, role| ProbeReport {
        name: name.to_owned(),
        role,
        module: Some(name.to_owned()),
        attached,
        reason: Some(name.to_owned()),
        hits: 0,
        records: 0,
        lost: 0,
        missed: None,
        unmatched: 0,
        no_room: 0,
    };
    TraceSummary::new(
        vec![probe(true, Role::Read), probe(false, Role::Write), probe(false, Role::Step)],
        1,
        1,
        0,
        1,
    )
}

fn doctor(name: &str) -> DoctorReport {
    let finding = Check::ok(CheckSection::Devices, "device", name, name).costs(name).todo(name);
    DoctorReport {
        schema: DOCTOR_SCHEMA,
        version: "0.1.0",
        kernel: Some(name.to_owned()),
        machine: name.to_owned(),
        verdict: CheckVerdict::Ready,
        exit_code: 0,
        findings: vec![finding],
    }
}

fn check_all(name: &str) {
    let events = assemble(&records(name));
    let options = TextOptions { anchor: ANCHOR, zone: TimeZone::UTC, time: TimeFormat::Date, color: false };
    let mut text = TextFormatter::new(options);
    let mut model = TraceModel::new();
    for event in &events {
        let line = text.line(event);
        check("a line", &line);
        assert_eq!(line.matches('\n').count(), 1, "{line:?}");
        check("ndjson", &Ndjson::new(ANCHOR).host_line(event, Some(name)).unwrap());
        model.apply(event);
    }
    let report = model.report(None);
    check("the closing table", &closing_table(&report, false));
    check("the closing table as JSON", &closing_json(&report).unwrap());
    check("the summary", &summary_text(&summary(name), false));
    check("the list", &device_table(&[list_row(name)], false));
    check("the list as JSON", &devices_json(&[list_row(name)], Some(name), None, None).unwrap());
    check("doctor", &doctor_text(&doctor(name), false));
    check("doctor as JSON", &doctor_json(&doctor(name)).unwrap());
    let document = document_of(name, &events);
    check("the report", &report_text(&document, &TimeZone::UTC, false));
    let mut json = Vec::new();
    for pretty in [false, true] {
        export::write_json(&document, pretty, &mut json).unwrap();
    }
    export::write_chrome(&document, &mut json).unwrap();
    check("exports", &String::from_utf8(json).unwrap());
    for (table, ..) in export::CsvTable::ALL {
        let mut csv = Vec::new();
        export::write_csv(&document, table, &mut csv).unwrap();
        check("a table", &String::from_utf8(csv).unwrap());
    }
    let mut perfetto = Vec::new();
    export::write_perfetto(&document, &mut perfetto).unwrap();
    let strings = export::perfetto_strings(&perfetto);
    assert!(strings.len() > 10, "{strings:?}");
    for text in strings {
        assert!(!text.chars().any(harms), "Perfetto has {text:?}");
    }
}

#[test]
fn hostile_names_everywhere() {
    check_all(HOSTILE);
    let document = html::fixture::hostile();
    check("the report", &report_text(&document, &TimeZone::UTC, false));
    let page = html(&document).unwrap();
    assert_eq!(page.chars().find(|c| harms(*c) && !matches!(c, '\n' | '\t')), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_name_anywhere(name in "[\\PC\\p{C}\\n\u{1b}\u{202e}\u{85}]{1,24}", code in any::<char>()) {
        check_all(&name);
        check_all(&format!("a{code}"));
    }
}
