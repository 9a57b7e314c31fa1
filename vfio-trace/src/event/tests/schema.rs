//! Every line is as docs/schema/event-1.json says, and has no field that it does not name.

use std::collections::BTreeSet;

use proptest::prelude::*;

use crate::event::{
    EventKind, GapTotals, ProbeReport, SCHEMA, SCHEMA_ID, TraceStart, TraceSummary, VfioEvent, event_line,
    fixture::*, start_line, summary_line,
};
use crate::units::schema_check::{TestSchema, names};

fn checker() -> TestSchema {
    TestSchema::parse(SCHEMA).unwrap()
}

fn check_all(events: &[VfioEvent]) -> Result<(), String> {
    let checker = checker();
    events.iter().try_for_each(|event| checker.check_text(&event_line(event, &ANCHOR).unwrap()))
}

#[test]
fn the_checker_refuses_what_is_wrong() {
    let checker = checker();
    let line = event_line(&source().events()[0], &ANCHOR).unwrap();
    assert_eq!(checker.check_text(&line), Ok(()));
    for (from, to) in [
        ("event/1", "event/2"),
        ("\"kind\":\"device\"", "\"kind\":\"arc\""),
        ("\"kind\":\"device\"", "\"kind\":\"devices\""),
        ("\"pid\":", "\"ppid\":"),
        ("\"pid\":412", "\"pid\":-412"),
        ("000Z", "Z"),
        ("stop-copy", "stop_copy"),
        ("\"migration\":true", "\"migration\":1"),
        ("\"migration\":true", "\"migration\":true,\"more\":1"),
    ] {
        assert!(line.contains(from), "{from}");
        assert!(checker.check_text(&line.replacen(from, to, 1)).is_err(), "{to}");
    }
}

#[test]
fn migrations_are_as_documented() {
    check_all(&source().events()).unwrap();
    check_all(&destination().events()).unwrap();
}

#[test]
fn the_stream_is_as_documented() {
    let checker = checker();
    let probe = ProbeReport {
        name: "vfio_mig_get_next_state".to_owned(),
        role: vfio_trace_common::role::Role::NextState,
        module: None,
        attached: false,
        reason: Some("no such function".to_owned()),
        hits: 0,
        records: 0,
        lost: 0,
        missed: None,
        unmatched: 0,
        no_room: 3,
    };
    let start = TraceStart {
        version: "0.1.0".to_owned(),
        replayed_by: Some("0.2.0".to_owned()),
        kernel: "6.12".to_owned(),
        machine: "x86_64".to_owned(),
        host: None,
        command: vec!["vfio-trace".to_owned()],
        clock: ANCHOR,
        probes: vec![probe.clone()],
    };
    checker.check_text(&start_line(&start, 1).unwrap()).unwrap();
    let summary = TraceSummary::new(vec![probe], 1, 1, 0, 5);
    let line = summary_line(&summary, &ANCHOR, 9).unwrap();
    checker.check_text(&line).unwrap();
    assert!(!line.contains("probe_gaps"), "not known is not 0: {line}");
    let told = TraceSummary { gaps: Some(GapTotals::default()), ..summary };
    let line = summary_line(&told, &ANCHOR, 9).unwrap();
    checker.check_text(&line).unwrap();
    assert!(line.contains(r#""probe_gaps":0,"#), "{line}");
}

#[test]
fn what_was_not_probed_is_an_event() {
    for until in [Some(1_500), None] {
        let script = RecordScript::new(7).note(gap_note(1_000, until)).close(1);
        let events = script.events();
        let [gap, _close] = events.as_slice() else { panic!("{events:?}") };
        assert_eq!((gap.kind(), gap.start_ns, gap.device.as_ref()), (EventKind::ProbeGap, 1_000, None));
        assert_eq!(gap.duration_ns, until.map(|until| until - 1_000));
        check_all(&events).unwrap();
    }
}

#[test]
fn schema_and_code_know_the_same_kinds() {
    let schema = checker().root().clone();
    let mut kinds: BTreeSet<&str> = names(&schema["properties"]["kind"]["enum"]).into_iter().collect();
    assert!(kinds.remove("start") && kinds.remove("summary"));
    assert_eq!(kinds, EventKind::ALL.map(EventKind::name).into_iter().collect());
    assert_eq!(schema["properties"]["schema"]["const"], SCHEMA_ID);
    let text = include_str!("../../../../docs/events.md");
    for name in names(&schema["properties"]["kind"]["enum"]) {
        assert!(text.contains(&format!("`{name}`")), "docs/events.md has no {name}");
    }
    for (definition, schema) in schema["$defs"].as_object().unwrap() {
        for name in schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name) {
            assert!(text.contains(&format!("`{name}`")), "docs/events.md has no {definition}.{name}");
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens_is_as_documented(records in proptest::collection::vec(any_record(), 0..40)) {
        prop_assert_eq!(check_all(&assemble(&records)), Ok(()));
    }
}
