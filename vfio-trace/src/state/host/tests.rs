//! The present of a host, from scripted records: states, timelines, limits.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use vfio_trace_common::role::Role;

use super::{HostState, TIMELINE_SCHEMA, TraceOrigin, timeline_schema};
use crate::{
    event::{
        ClockAnchor, DecodeError, GapCause, GapFunction, MigState, ProbeGap, ProbeReport, RecordNote, SCHEMA,
        WallClock, WireRecord, fixture::*,
    },
    state::TraceModel,
    units::schema_check::TestSchema,
};

/// Makes a host that has seen nothing.
fn unfed(keep: usize) -> HostState {
    let origin = TraceOrigin {
        version: "1.2".to_owned(),
        replayed_by: None,
        kernel: "6.12.0".to_owned(),
        host: Some("here".to_owned()),
        clock: ANCHOR.into(),
    };
    HostState::new(origin, keep, 500)
}

fn fed(mut host: HostState, script: &RecordScript) -> HostState {
    script.records().iter().for_each(|record| host.push(Ok(record)));
    host
}

fn present(host: &HostState) -> Vec<&str> {
    host.devices().filter(|(_, device)| device.present).map(|(name, _)| name).collect()
}

fn state(host: &HostState) -> Option<MigState> {
    host.report(BDF).state
}

fn text(host: &mut HostState, device: &str) -> String {
    String::from_utf8(host.timeline(device).unwrap().unwrap().to_vec()).unwrap()
}

fn timeline(host: &mut HostState, device: &str) -> Value {
    serde_json::from_str(&text(host, device)).unwrap()
}

fn kinds(timeline: &Value) -> Vec<&str> {
    timeline["events"].as_array().unwrap().iter().map(|event| event["kind"].as_str().unwrap()).collect()
}

fn start() -> RecordScript {
    RecordScript::new(0xd1).device(BDF, "mtty", 7)
}

#[test]
fn what_memory_says_counts_until_something_happens() {
    let failed = start().set(&[RUNNING, RUNNING_P2P], 0, -1).walk(&[RUNNING_P2P, STOP], -5, 0).wait(1_000);
    let mut host = fed(unfed(100), &failed);
    host.tick(failed.now + 1_000_000_000);
    assert_eq!(state(&host), None, "a failed arc may have left it anywhere");
    assert!(host.take_stale() && !host.take_stale());
    let seen =
        |script: RecordScript| script.device_in(BDF, "mtty", 7, Role::Inventory, Some((RUNNING_P2P, 1)));
    let later = seen(RecordScript::new(0xd1).wait(failed.now + 2_000_000_000));
    let host = fed(host, &later);
    assert_eq!(state(&host), Some(MigState::RUNNING_P2P));
    assert_eq!(host.device_changed_ns(BDF), Some(later.now), "that is news");
    let then = RecordScript::new(0xd1).wait(later.now).set(&[RUNNING_P2P, STOP], 0, -1).close(2);
    let host = fed(host, &then);
    assert_eq!(state(&host), Some(MigState::STOP), "somebody else still has it open");
    let last = RecordScript::new(0xd1).wait(then.now).close(1);
    let mut host = fed(host, &last);
    assert!(host.take_stale(), "the driver may do something at the last close");
    assert_eq!(state(&host), None, "and nobody has looked since");
    let reset = RecordScript::new(0xd1).wait(last.now).pci_reset(0, 0);
    let host = fed(host, &reset);
    assert_eq!(state(&host), None, "its driver's reset_done has not run");
    let known = host.devices().next().unwrap().1;
    assert_eq!((known.open_count, known.report.holders.len(), known.present), (Some(0), 0, true));
    let looked =
        RecordScript::new(0xd1).wait(reset.now).device_in(BDF, "mtty", 7, Role::Inventory, Some((STOP, 0)));
    assert_eq!(state(&fed(host, &looked)), Some(MigState::STOP));
}

#[test]
fn more_devices_than_there_is_room_for_are_counted() {
    let mut host = unfed(10).limited(100, 50);
    for n in 1..=150u64 {
        let script =
            RecordScript::new(n).wait(n * 1_000).device(&format!("0000:75:00.{n}"), "mtty", 7).open(1);
        host = fed(host, &script);
    }
    assert_eq!((present(&host).len(), host.devices().count()), (100, 100));
    assert_eq!(host.forgotten(), 50, "each of those that came too late, once");
    let known: BTreeSet<String> = (0..200).map(|n| format!("0000:76:00.{n}")).collect();
    host.set_existing(&known, 1_000_000);
    assert!(host.devices().count() <= 100);
}

#[test]
fn devices_that_the_model_has_no_room_for_are_counted() {
    let mut host = unfed(10).with_model(TraceModel::new().with_room_for(2));
    for n in 1..=5u64 {
        let script = RecordScript::new(n)
            .wait(n * 1_000)
            .device(&format!("0000:75:00.{n}"), "mtty", 7)
            .open(1)
            .open(2);
        host = fed(host, &script);
    }
    assert_eq!((host.devices().count(), host.forgotten()), (5, 3), "each once");
}

#[test]
fn timelines_have_a_limit_together() {
    let script = |n: u64| RecordScript::new(n).wait(n * 1_000).device(&format!("0000:75:00.{n}"), "mtty", 7);
    let mut host = unfed(10).limited(100, 50);
    for n in 1..=30 {
        host = fed(host, &script(n).open(1).open(2));
    }
    let document = |host: &mut HostState, n: u64| -> Value { timeline(host, &format!("0000:75:00.{n}")) };
    let sums = |host: &mut HostState| {
        let documents: Vec<Value> = (1..=30).map(|n| document(host, n)).collect();
        let kept: usize = documents.iter().map(|document| document["events"].as_array().unwrap().len()).sum();
        let dropped: u64 = documents.iter().map(|document| document["dropped"].as_u64().unwrap()).sum();
        (kept, dropped)
    };
    assert_eq!(sums(&mut host), (50, 40));
    let [first, last] = [document(&mut host, 1), document(&mut host, 30)];
    assert_eq!((kinds(&first).len(), &first["dropped"]), (0, &3.into()), "the oldest of all went first");
    assert_eq!((kinds(&last), &last["dropped"]), (vec!["device", "open", "open"], &0.into()));
    // Events beyond a device's own limit count as well.
    for _ in 0..20 {
        host = fed(host, &RecordScript::new(30).wait(40_000).open(3));
    }
    let (kept, dropped) = sums(&mut host);
    assert_eq!((kept, kept as u64 + dropped), (50, 90 + 20));
    assert_eq!(kinds(&document(&mut host, 30)).len(), 10);
}

#[test]
fn timelines_keep_the_last_events_and_say_so() {
    let mut some = fed(unfed(1000), &source());
    let all = timeline(&mut some, UUID);
    let events = all["events"].as_array().unwrap();
    assert_eq!(all["schema"], TIMELINE_SCHEMA);
    assert_eq!(
        (&all["device"], &all["driver"], &all["kernel"], &all["host"]),
        (&UUID.into(), &"mtty".into(), &"6.12.0".into(), &"here".into())
    );
    assert_eq!((&all["dropped"], &all["undecoded"]), (&0.into(), &0.into()));
    for count in ["lost", "missed", "unmatched", "no_room"] {
        assert!(all[count].is_null(), "nobody has counted {count}: {}", all[count]);
    }
    assert_eq!((&all["since"], &all["since_mono_ns"]), (&ANCHOR.rfc3339(500).into(), &500.into()));
    let schema = TestSchema::parse_with(&timeline_schema().to_string(), &[SCHEMA]).unwrap();
    schema.check_value(&all).unwrap();
    let broken = |name: &str, value: Value| {
        let mut all = all.clone();
        all[name] = value;
        schema.check_value(&all).is_err()
    };
    assert!(broken("events", json!([{"kind": 7}])), "it looks into events");
    assert!(broken("lost", json!("none")) && broken("else", json!(1)) && broken("kernel", Value::Null));
    assert!(kinds(&all).iter().filter(|kind| **kind == "arc").count() == 4);

    let mut few = fed(unfed(3), &source());
    few.push(Err(DecodeError::ShortHeader { have: 3 }));
    few.set_losses(Some(&[ProbeReport {
        name: "probed".to_owned(),
        role: Role::Read,
        module: None,
        attached: true,
        reason: None,
        hits: 20,
        records: 10,
        lost: 7,
        missed: None,
        unmatched: 2,
        no_room: 3,
    }]));
    let last = timeline(&mut few, UUID);
    schema.check_value(&last).unwrap();
    assert_eq!(last["events"].as_array().unwrap()[..], events[events.len() - 3..]);
    assert_eq!(last["dropped"], events.len() - 3);
    let count = |name: &str| last[name].as_u64();
    assert_eq!(["lost", "unmatched", "no_room", "undecoded"].map(count), [7, 2, 3, 1].map(Some));
    assert!(last["missed"].is_null(), "not known is not 0");
    assert_eq!(text(&mut few, UUID).lines().count(), 3 + 2, "one line per event");
}

#[test]
fn a_timeline_tells_when_its_driver_was_not_probed() {
    let gap = |module: &str, from| {
        let gap = ProbeGap {
            module: Some(module.to_owned()),
            functions: vec![GapFunction { function: "set".to_owned(), role: Role::SetState }],
            from_mono_ns: from,
            from_exact: true,
            until_mono_ns: Some(from + 5),
            why: GapCause::ModuleLoaded,
        };
        WireRecord::decode(&RecordNote::ProbeGap(gap).record(from + 5).unwrap()).unwrap()
    };
    let mut host = unfed(10);
    host.push(Ok(&gap("mtty", 600)));
    host = fed(host, &start());
    let gaps = |host: &mut HostState| -> Vec<u64> {
        let document = timeline(host, BDF);
        let gaps = document["probe_gaps"].as_array().unwrap();
        gaps.iter().map(|gap| gap["from_mono_ns"].as_u64().unwrap()).collect()
    };
    assert_eq!(gaps(&mut host), [600], "told before the device came");
    host.push(Ok(&gap("other", 700)));
    host.push(Ok(&gap("vfio", 800)));
    assert_eq!(gaps(&mut host), [600, 700, 800], "whose functions those of other are is not known");
    host = fed(host, &RecordScript::new(0xd2).device(UUID, "other", 7));
    assert_eq!(gaps(&mut host), [600, 800], "and now it is; the document is made anew");
    (0..300).for_each(|n| host.push(Ok(&gap("mtty", 1000 + n))));
    assert_eq!((gaps(&mut host).len(), &timeline(&mut host, BDF)["probe_gaps_dropped"]), (256, &47.into()));
}

#[test]
fn new_names_without_end_do_not_fill_the_memory() {
    let mut host = unfed(10);
    for n in 1..=300u64 {
        let name = format!("0000:75:00.{n}");
        let script = RecordScript::new(n).wait(n * 1_000).device(&name, "mtty", 7).unregister();
        host = fed(host, &script);
    }
    assert_eq!(present(&host), [""; 0]);
    assert!(format!("{host:?}").matches("DeviceTimeline {").count() <= 64);
}

#[test]
fn a_clock_that_is_set_changes_what_was_rendered() {
    let mut host = fed(unfed(100), &start());
    let last = |now: &Value| now["events"].as_array().unwrap().last().unwrap().clone();
    let before = last(&timeline(&mut host, BDF));
    let mut clock = WallClock::from(ANCHOR);
    let hour = 3_600_000_000_000;
    assert!(clock.sample(ClockAnchor { mono_ns: ANCHOR.mono_ns, real_ns: ANCHOR.real_ns + hour }, 0));
    host.set_clock(&clock);
    let after = last(&timeline(&mut host, BDF));
    assert_eq!(before["mono_ns"], after["mono_ns"]);
    assert_ne!(before["time"], after["time"], "{after}");
}

#[test]
fn of_many_devices_the_last_timelines_are_kept_rendered() {
    let mut host = unfed(100);
    let names: BTreeSet<String> = (0..100).map(|nr| format!("0000:75:00.{nr}")).collect();
    host.set_existing(&names, 5);
    for name in &names {
        let length = text(&mut host, name).len() as u64;
        assert_eq!(host.timeline_bytes(name), Some(length));
    }
    assert!(format!("{host:?}").matches("RenderedTimeline {").count() <= 16);
    for name in &names {
        assert!(host.timeline_bytes(name) > Some(0), "as when it was made last");
    }
}
