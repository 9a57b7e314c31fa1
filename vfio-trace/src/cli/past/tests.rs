//! Tests of the state at a moment of a recording, and of refusals of moments that are not in it.

use std::{io, path::Path};

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::{
    cli::replay::tests::{GivenItem, any_given, migration, record},
    event::{ClockAnchor, MigState, fixture::*},
    recording::{BlockItem, EndReason, PartEnd, PartHeader, PartWriter, fixture::header},
};

const KEPT: &str = "src/cli/replay/testdata/mtty-6.12-format-1";

/// Returns the state at a moment of a real recording; `None`: at its end.
pub(in crate::cli) fn kept(at: Option<&str>) -> Result<PastState, CliError> {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("{KEPT}.vft"));
    FromArgs { from: vec![from], at: at.map(|at| parse::moment(at).unwrap()), ..FromArgs::default() }
        .read(100)
}

fn of_stream(bytes: Vec<u8>, at: Option<RecordingMoment>) -> Result<PastState, CliError> {
    let mut recording = RecordingSource::from_stream("test", Box::new(io::Cursor::new(bytes))).unwrap();
    PastState::read(&mut recording, at, 100)
}

fn state(past: &PastState, device: &str) -> Option<MigState> {
    past.host.devices().find(|(name, _)| *name == device)?.1.report.state
}

/// Compares the state with the events that `replay` shows.
#[test]
fn the_state_is_what_replays_events_say() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("{KEPT}.ndjson"));
    let golden = std::fs::read_to_string(golden).unwrap();
    let mut compared = (0, 0);
    for line in golden.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let (ns, expected) = match event["kind"].as_str().unwrap() {
            "arc" => (&event["start_mono_ns"], &event["data"]["from"]),
            "set_state" => (&event["mono_ns"], &event["data"]["target"]),
            _ => continue,
        };
        let after = ns.as_u64().unwrap() - 10_407_885_245;
        let past = kept(Some(&format!("{}.{:09}s", after / 1_000_000_000, after % 1_000_000_000))).unwrap();
        let state = state(&past, event["device"].as_str().unwrap()).unwrap().name().to_string();
        assert_eq!(*expected, state, "{line}");
        *if event["kind"] == "arc" { &mut compared.0 } else { &mut compared.1 } += 1;
    }
    assert_eq!(compared, (14, 11));
}

#[test]
fn moments_are_found_by_any_clock() {
    let wall = kept(Some("2026-11-22T20:44:40.257600576Z")).unwrap();
    let after = kept(Some("6.9s")).unwrap();
    assert_eq!(wall.facts, after.facts);
    assert_eq!(
        after.describe(),
        "recorded on lab, kernel 6.12.117+deb12-amd64; as of 2026-11-22T20:44:40.257600576Z, 6.900 s after the \
         recording began"
    );
    let zone = TimeZone::fixed(jiff::tz::offset(5));
    let clock = ClockAnchor { mono_ns: 0, real_ns: 0 };
    // It begins at 1970-01-01 04:59:59.5 +05:00 and goes on after that midnight.
    let span =
        RecordingSpan { clock: clock.into(), began_ns: 86_399_500_000_000 - 5 * 3_600_000_000_000, zone };
    let day =
        |hour, minute, second| span.find(RecordingMoment::Day(civil::time(hour, minute, second, 0))).unwrap();
    assert_eq!(day(23, 59, 59), 86_399_000_000_000 - 5 * 3_600_000_000_000, "within its first second");
    assert_eq!(day(0, 0, 1), 86_401_000_000_000 - 5 * 3_600_000_000_000, "the day after");
    assert_eq!(span.find(RecordingMoment::After(Duration::MAX)).unwrap(), u64::MAX);
    let local = RecordingMoment::Local(civil::date(1970, 1, 2).at(4, 59, 59, 500_000_000));
    assert_eq!(span.find(local).unwrap(), 86_399_500_000_000);
}

#[test]
fn clocks_that_are_put_forward_and_back() {
    let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
    let real_ns = "2026-03-28T12:00:00Z".parse::<Timestamp>().unwrap().as_nanosecond() as u64;
    let span = RecordingSpan { clock: ClockAnchor { mono_ns: 0, real_ns }.into(), began_ns: 0, zone };
    let at = |text: &str| span.find(parse::moment(text).unwrap()).map(|ns| span.clock.rfc3339(ns));
    assert_eq!(at("2026-03-29T03:30:00").unwrap(), "2026-03-29T01:30:00.000000000Z");
    assert_eq!(at("03:30:00").unwrap(), "2026-03-29T01:30:00.000000000Z");
    let error = at("2026-03-29T02:30:00").unwrap_err();
    assert!(error.code == USAGE && format!("{error:?}").contains("do not show it"), "{error:?}");
    assert_eq!(at("02:30:00").unwrap_err().code, USAGE, "that night they do not");
    assert_eq!(at("2026-10-25T02:30:00").unwrap(), "2026-10-25T00:30:00.000000000Z", "the first of two");
    let began_ns = "2026-10-25T00:50:00Z".parse::<Timestamp>().unwrap().as_nanosecond() as u64 - real_ns;
    let span = RecordingSpan { began_ns, ..span };
    let at = |text: &str| span.find(parse::moment(text).unwrap()).map(|ns| span.clock.rfc3339(ns));
    assert_eq!(at("02:45:00").unwrap(), "2026-10-25T01:45:00.000000000Z", "the hour that comes twice");
    assert_eq!(at("02:55:00").unwrap(), "2026-10-25T00:55:00.000000000Z");
}

#[test]
fn other_times_are_refused() {
    let error = |at: &str| {
        let Err(error) = kept(Some(at)) else { panic!("{at} is in the recording") };
        assert_eq!(error.code, USAGE);
        format!("{error:?}")
    };
    assert!(error("100s").contains("it ends 10.415 s after its beginning, at 2026-11-22T20:44:43.77"));
    for early in ["2020-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "2026-11-22T20:44:33.35Z"] {
        let error = error(early);
        assert!(error.contains("it begins at 2026-11-22T20:44:33.357600576Z"), "{error}");
        assert!(
            error.contains(&format!("at {}", early.trim_end_matches('Z'))),
            "it says what was asked: {error}"
        );
    }
    assert!(error("2300-01-01T00:00:00Z").contains("it ends"));
    assert!(error("9999-01-01T00:00:00Z").contains("at 9999-01-01T00:00:00Z"));
}

#[test]
fn the_beginning_is_a_moment() {
    let past = kept(Some("0s")).unwrap();
    assert_eq!((past.facts.at.as_str(), past.after), ("2026-11-22T20:44:33.357600576Z", Duration::ZERO));
}

#[test]
fn what_is_missing_costs_the_exit_code_and_no_more() {
    let whole = record(&migration(), 10).concat();
    let past = of_stream(whole.clone(), None).unwrap();
    assert!(past.facts.complete && past.present().count() == 2);
    let all: Vec<Option<MigState>> = past.present().map(|(_, known)| known.report.state).collect();
    assert_eq!(past.code().unwrap(), 0);
    let cut = of_stream(whole[..whole.len() - 60].to_vec(), None).unwrap();
    assert!(!cut.facts.complete);
    assert_eq!(cut.present().map(|(_, known)| known.report.state).collect::<Vec<_>>(), all);
    assert_eq!(cut.code().unwrap(), INPUT);
    let late = Some(RecordingMoment::After(Duration::from_hours(1)));
    let code = |bytes: &[u8]| of_stream(bytes.to_vec(), late).map(|_| ()).unwrap_err().code;
    assert_eq!((code(&whole), code(&whole[..whole.len() - 60])), (USAGE, USAGE), "only the index is cut");
    let error = of_stream(whole[..whole.len() / 2].to_vec(), late).map(|_| ()).unwrap_err();
    assert!(error.code == INPUT && format!("{error:?}").contains("what can be read of it ends"), "{error:?}");
}

#[test]
fn nothing_is_read_behind_the_moment() {
    let seconds = |n: u64| {
        let script =
            RecordScript::new(0xd1).wait(n * 1_000_000_000).device(BDF, "mtty", 7).driver_get_state(STOP);
        script.records().iter().map(|record| GivenItem::Record(bytes(record))).collect::<Vec<_>>()
    };
    // The recorder tells the time once it has looked at all devices.
    let begun = std::iter::once(GivenItem::Time(3));
    let mut parts = record(&begun.chain((1..20).flat_map(seconds)).collect::<Vec<_>>(), 10);
    assert!(parts.len() > 3);
    for part in &mut parts[2..] {
        part.fill(0x55);
    }
    let early =
        of_stream(parts.concat(), Some(RecordingMoment::After(Duration::from_millis(2_500)))).unwrap();
    assert_eq!((state(&early, BDF), early.facts.complete), (Some(MigState::STOP), true));
    assert!(!of_stream(parts.concat(), None).unwrap().facts.complete);
}

#[test]
fn an_inventory_is_not_over_before_its_last_record() {
    let device = |nr: u64, ms: u64| {
        let script = RecordScript::new(nr).wait(ms * 1_000_000);
        let script = script.device_in(&format!("0000:75:00.{nr}"), "mtty", 7, Role::Inventory, None);
        script.records().iter().map(|record| GivenItem::Record(bytes(record))).collect::<Vec<_>>()
    };
    let given = |told_ns| {
        device(1, 0).into_iter().chain([GivenItem::Time(told_ns)]).chain(device(2, 5)).collect::<Vec<_>>()
    };
    let complete = |told_ns, ms| {
        let at = RecordingMoment::After(Duration::from_millis(ms));
        let past = of_stream(record(&given(told_ns), 100).concat(), Some(at)).unwrap();
        assert_eq!(past.facts.complete, past.unknown().is_none());
        past.facts.complete
    };
    // A backlog: all that is known to have been taken was there before it began, or its first device.
    for told_ns in [1, 2, 500_000] {
        assert!(!complete(told_ns, 3), "{told_ns}: a device was yet to be looked at");
        assert!(complete(told_ns, 10));
    }
    assert!(complete(2_500_000, 3), "another device comes later");
}

/// Reads a recording of an older recorder, which told the time before it had taken all records up to it.
#[test]
fn an_early_tick_of_an_older_recorder_does_not_end_an_inventory() {
    let device = |nr: u64, ms: u64| {
        let script = RecordScript::new(nr).wait(ms * 1_000_000);
        let script = script.device_in(&format!("0000:75:00.{nr}"), "mtty", 7, Role::Inventory, None);
        let records = script.records();
        records.iter().map(|record| BlockItem::Record(bytes(record).into())).collect::<Vec<_>>()
    };
    let complete = |second_ms: u64, tick_ms: u64, ms| {
        let header = PartHeader { settled_ticks: false, ..header() };
        let mut writer = PartWriter::new(Vec::new(), &header).unwrap();
        let event = RecordScript::new(9).wait(9_000_000_000).open(0).records();
        let event = BlockItem::Record(bytes(&event[0]).into());
        let tick = BlockItem::Tick(tick_ms * 1_000_000);
        for item in device(1, 0).iter().chain([&tick]).chain(&device(2, second_ms)).chain([&tick, &event]) {
            writer.push(item).unwrap();
        }
        let end =
            PartEnd { mono_ns: 10_000_000_000, reason: EndReason::Signal, records: 0, probes: Vec::new() };
        let at = RecordingMoment::After(Duration::from_millis(ms));
        let past = of_stream(writer.finish(end).unwrap().0, Some(at)).unwrap();
        (past.facts.complete, past.present().count())
    };
    for (second_ms, tick_ms) in [(20, 21), (20, 900), (900, 901), (900, 5_000)] {
        assert_eq!(complete(second_ms, tick_ms, 10), (false, 1), "{second_ms} {tick_ms}");
        assert_eq!(complete(second_ms, tick_ms, second_ms + 10), (true, 2), "{second_ms} {tick_ms}");
    }
}

proptest! {
    #[test]
    fn a_recording_gives_the_state_that_live_had(
        given in proptest::collection::vec(any_given(), 0..60),
        part_len in 1..80usize,
    ) {
        let PartHeader { start, began_ns, .. } = header();
        let origin = TraceOrigin {
            version: start.version,
            replayed_by: Some(env!("CARGO_PKG_VERSION").to_owned()),
            kernel: start.kernel,
            host: start.host,
            clock: start.clock.into(),
        };
        let mut live = HostState::new(origin, 100, began_ns);
        let mut last_ns = 9_000_000_000u64;
        for given in &given {
            match given {
                GivenItem::Record(bytes) => match WireRecord::decode(bytes) {
                    Ok(record) => {
                        if !matches!(record.body, RecordBody::Note(_)) {
                            last_ns = last_ns.max(record.header.end_ns);
                        }
                        live.push(Ok(&record));
                    },
                    Err(why) => live.push(Err(why)),
                },
                GivenItem::Time(ns) => {
                    last_ns = last_ns.max(*ns);
                    live.tick(*ns);
                },
            }
        }
        live.tick(last_ns.saturating_add(HOLD_NS));
        live.set_losses(Some(&[]));
        let past = of_stream(record(&given, part_len).concat(), None).unwrap();
        prop_assert_eq!(format!("{:?}", past.host), format!("{live:?}"));
    }
}
