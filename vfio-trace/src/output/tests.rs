//! Golden files, and properties that a line keeps for every event.

use jiff::tz::{Offset, TimeZone};
use vfio_trace_common::role::Role;

use super::*;
use crate::{
    event::{GapTotals, ProbeReport, TraceStart, TraceSummary, VfioEvent, fixture::*},
    state::TraceModel,
};

fn events() -> Vec<VfioEvent> {
    let mut records = [source().records(), destination().records()].concat();
    records.sort_by_key(|record| record.header.end_ns);
    assemble(&records)
}

fn text(time: TimeFormat, color: bool) -> TextFormatter {
    let zone = TimeZone::fixed(Offset::constant(1));
    TextFormatter::new(TextOptions { anchor: ANCHOR, zone, time, color })
}

fn probes() -> Vec<ProbeReport> {
    let probe = |name: &str, role, module: Option<&str>, reason: Option<&str>, hits, missed| ProbeReport {
        name: name.to_owned(),
        role,
        module: module.map(str::to_owned),
        attached: reason.is_none(),
        reason: reason.map(str::to_owned),
        hits,
        records: hits,
        lost: 0,
        missed,
        unmatched: 0,
        no_room: 0,
    };
    vec![
        probe("vfio_mig_get_next_state", Role::NextState, Some("vfio"), None, 11, Some(0)),
        probe("mtty_read", Role::Read, Some("mtty"), None, 1234, Some(0)),
        probe("vfio_df_open", Role::Open, Some("vfio"), Some("no such function"), 0, None),
    ]
}

/// Compares the text with a file in testdata; with `UPDATE_GOLDEN=1 cargo test` writes the file instead.
fn golden(name: &str, got: &str) {
    let path = std::path::Path::new(file!()).with_file_name("testdata").join(name);
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = [root.join(&path), root.join("..").join(&path)]
        .into_iter()
        .find(|path| path.parent().unwrap().exists());
    let path = path.expect("testdata beside this file");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, got).unwrap();
    }
    let want = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(got, want, "{}", path.display());
}

#[test]
fn text_of_a_migration() {
    let mut text = text(TimeFormat::Clock, false);
    text.expect_devices(&[UUID]);
    let mut all = text.header();
    all.extend(events().iter().map(|event| text.line(event)));
    golden("migration.txt", &all);
}

#[test]
fn text_of_failures() {
    let script = RecordScript::new(0xd1).device(BDF, "hisi_acc_vfio_pci", 5).open(1);
    let start = script.now;
    let script =
        script.walk(&[RUNNING, PRE_COPY], 0, 0xf1).set_ioctl(start, PRE_COPY, -24, -1).release(0xf1, 0);
    let start = script.now;
    let script = script.walk(&[PRE_COPY, RUNNING, STOP], -110, 0).set_ioctl(start, STOP, -110, -1);
    let start = script.now;
    let script = script
        .next(STOP_COPY, PRE_COPY, 0, -22)
        .set_state(start, PRE_COPY, -22, 0)
        .set_ioctl(start, PRE_COPY, -22, -1)
        .read(0xf1, 4096, -19, 64)
        .release(0xf1, 64)
        .data_ioctl(0xf2, 0x1234, -25, 0, 0)
        .next(9, STOP, 0, -22)
        .driver_get_state(0)
        .reset(-5)
        .walk(&[STOP, RUNNING], 0, 0)
        .lose()
        .on(0xd9)
        .close(2);
    let mut text = text(TimeFormat::Clock, false);
    golden("failures.txt", &script.events().iter().map(|event| text.line(event)).collect::<String>());
}

#[test]
fn text_of_an_attach_in_the_middle() {
    let seen = |state, open| Some((state, open));
    let script =
        RecordScript::new(0xd2).thread(9, 9).device_in(UUID, "mtty", 7, Role::Inventory, seen(RUNNING, 0));
    let script = script.on(0xd3).device_in("0000:01:00.0", "vfio-pci", 0, Role::Inventory, None).on(0xd1);
    let script = script.device_in(BDF, "hisi_acc_vfio_pci", 7, Role::Inventory, seen(PRE_COPY, 1));
    let script = script.thread(412, 415).holder(23).wait(300_000_000);
    let script = script.set(&[STOP_COPY, STOP], 0, -1).reset(0).driver_get_state(RESUMING).close(1);
    let script = script.device_in(BDF, "hisi_acc_vfio_pci", 7, Role::Open, seen(RUNNING, 1)).open(1);
    let script = script.close(1).on(0xd2).thread(88, 88).unregister();
    let script = script.device_in(UUID, "mtty", 7, Role::Register, seen(RUNNING, 0)).register(0);
    let script = script.device_in(UUID, "mtty", 7, Role::Open, seen(STOP, 2)).open(2);
    let script = script.device_in("bad", "mtty", 7, Role::Register, seen(RUNNING, 0)).register(-16);
    let mut text = text(TimeFormat::Clock, false);
    text.expect_devices(&[UUID]);
    let events = script.events();
    golden("attach.txt", &events.iter().map(|event| text.line(event)).collect::<String>());
    let mut model = TraceModel::new();
    for event in &events {
        model.apply(event);
    }
    golden("attach-closing.txt", &closing_table(&model.report(None), false));
}

#[test]
fn colours_only_add_escapes() {
    let (mut plain, mut colored) = (text(TimeFormat::Clock, false), text(TimeFormat::Clock, true));
    for event in events() {
        let line = colored.line(&event);
        assert!(line.contains("\x1b["));
        assert_eq!(strip(&line), plain.line(&event));
    }
    assert_eq!(strip(&colored.header()), plain.header());
}

fn strip(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let mut line = parts.next().unwrap().to_owned();
    for part in parts {
        line.push_str(part.split_once('m').unwrap().1);
    }
    format!("{}\n", line.trim_end())
}

#[test]
fn ndjson_of_a_migration() {
    let ndjson = Ndjson::new(ANCHOR);
    let start = TraceStart {
        version: "0.1.0".to_owned(),
        replayed_by: None,
        kernel: "6.12.0-test".to_owned(),
        machine: "x86_64".to_owned(),
        host: None,
        command: vec!["vfio-trace".to_owned(), "tail".to_owned()],
        clock: ANCHOR,
        probes: probes(),
    };
    let mut all = ndjson.start(&start, 900_000).unwrap();
    all.extend(events().iter().map(|event| ndjson.line(event).unwrap()));
    let mut summary = TraceSummary::new(probes(), 42, 42, 0, 1_000_000_000);
    summary.gaps = Some(GapTotals::default());
    all.push_str(&ndjson.summary(&summary, 1_000_900_000).unwrap());
    golden("migration.ndjson", &all);
}

#[test]
fn closing_tables() {
    let mut model = TraceModel::new();
    for event in events() {
        model.apply(&event);
    }
    let report = model.report(None);
    golden("closing.txt", &closing_table(&report, false));
    golden("closing.json", &format!("{}\n", closing_json(&report).unwrap()));
    assert_eq!(closing_table(&TraceModel::new().report(None), false), "");
}

#[test]
fn summaries() {
    let mut quiet = TraceSummary::new(probes(), 1245, 1245, 0, 12_300_000_000);
    quiet.gaps = Some(GapTotals::default());
    let mut lossy = probes();
    lossy[1].lost = 17;
    lossy[1].unmatched = 2;
    lossy[0].missed = None;
    let mut lossy = TraceSummary::new(lossy, 1245, 40, 1, 12_300_000_000);
    lossy.gaps = Some(GapTotals { gaps: 2, longest_ns: 40_000_000, open: 1 });
    let mut unknown = probes();
    for probe in &mut unknown {
        probe.missed = None;
    }
    let unknown = TraceSummary::new(unknown, 1, 1, 0, 0);
    let all: Vec<String> =
        [quiet, lossy, unknown].iter().map(|summary| summary_text(summary, false)).collect();
    golden("summary.txt", &all.join("\n"));
}

#[test]
fn times() {
    let events = events();
    let first = |format| {
        let mut text = text(format, false);
        [text.line(&events[0]), text.line(&events[4])]
            .map(|line| line.trim_start().split(' ').next().unwrap().to_owned())
    };
    assert_eq!(first(TimeFormat::Clock), ["16:40:20.001000", "16:40:20.001121"]);
    assert_eq!(first(TimeFormat::Date)[0], "2026-11-22T16:40:20.001000+01:00");
    assert_eq!(first(TimeFormat::Monotonic), ["0.001000", "0.001121"]);
    assert_eq!(first(TimeFormat::Relative), ["+0.000000", "+0.000121"]);
    assert_eq!(first(TimeFormat::Delta), ["+0.000000", "+0.000121"]);
}

#[test]
fn names_are_made_harmless() {
    let mut event = events()[0].clone();
    event.process.comm = "\x1b[31mevil".to_owned();
    assert!(!text(TimeFormat::Clock, false).line(&event).contains('\x1b'));
    assert!(!Ndjson::new(ANCHOR).line(&event).unwrap().contains('\x1b'));
}

#[test]
fn a_device_that_was_never_opened_is_in_no_state() {
    let events = |state| {
        let role = Role::Inventory;
        RecordScript::new(7).device_in("0000:75:00.1", "hisi_acc_vfio_pci", 7, role, state).events()
    };
    let options = TextOptions { anchor: ANCHOR, zone: TimeZone::UTC, time: TimeFormat::Date, color: false };
    let lines = |state| -> String {
        events(state).iter().map(|event| TextFormatter::new(options.clone()).line(event)).collect()
    };
    let fresh = lines(Some((0, 0)));
    assert!(fresh.contains("not open") && !fresh.contains("ERROR"), "{fresh}");
    assert!(lines(Some((0, 1))).contains("ERROR"));
    let mut model = TraceModel::new();
    let mut history = crate::report::HostHistory::default();
    for event in events(Some((0, 0))) {
        model.apply(&event);
        history.apply(&event);
    }
    assert_eq!(model.report(None).devices[0].state, None);
    let document = crate::report::document(&[history], &crate::report::DocumentOptions::default());
    assert!(document.devices[0].states.iter().all(|span| span.state.is_none()));
}
