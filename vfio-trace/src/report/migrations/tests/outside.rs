//! Tests of failures and findings that belong to no migration, or come soon after one.

use std::sync::Arc;

use super::*;
use crate::event::{DeviceRef, DriverFinding, EventData, EventProcess, FindingSeverity, VfioEvent};

/// Makes the document of a script with these findings between its events: device, time, code.
fn found(script: &RecordScript, findings: &[(&str, u64, &'static str)]) -> MigrationDocument {
    let mut history = HostHistory::new(host("h"), ANCHOR, Some(0));
    let mut left: Vec<_> = findings.to_vec();
    left.sort_by_key(|(_, at, _)| *at);
    let mut left = left.into_iter().peekable();
    let mut put = |history: &mut HostHistory, until: u64| {
        while let Some((device, at, code)) = left.next_if(|(_, at, _)| *at <= until) {
            history.apply(&finding(device, at, code));
        }
    };
    for event in script.events() {
        put(&mut history, event.end_ns.saturating_sub(1));
        history.apply(&event);
    }
    put(&mut history, u64::MAX);
    documented(&[history])
}

pub(super) fn finding(device: &str, at_ns: u64, code: &'static str) -> VfioEvent {
    let finding = DriverFinding {
        code: code.into(),
        severity: FindingSeverity::Error,
        step: Some("a step".into()),
        errno: Some("EINVAL".into()),
        text: "It failed.".to_owned(),
        check: "dmesg".into(),
    };
    VfioEvent {
        start_ns: at_ns,
        end_ns: at_ns,
        duration_ns: None,
        device: Some(DeviceRef { nr: 1, name: Some(Arc::from(device)), driver: None }),
        process: EventProcess { pid: SOURCE, tid: SOURCE, ..EventProcess::default() },
        data: EventData::Finding(finding),
    }
}

/// Returns the codes of the findings of all migrations, and of those outside.
fn codes_of(document: &MigrationDocument) -> (Vec<&str>, Vec<&str>) {
    let sides = document.migrations.iter().flat_map(|migration| &migration.devices);
    let sides = sides.flat_map(|device| device.source.iter().chain(&device.destination));
    let inside = sides.flat_map(|side| &side.findings).map(|finding| finding.code.as_str()).collect();
    let outside = document.outside.iter().flat_map(|outside| &outside.findings);
    (inside, outside.map(|finding| finding.code.as_str()).collect())
}

fn told(document: &MigrationDocument) -> Vec<(&str, Option<&str>)> {
    let failures = document.outside.iter().flat_map(|outside| &outside.failures);
    failures.map(|failure| (failure.what.as_str(), failure.errno.as_deref())).collect()
}

#[test]
fn a_device_that_cannot_be_stopped() {
    let script =
        leaving(7).until(10 * MS).set_fails(&[RUNNING, STOP], -22).wait(MS).set(&[RUNNING, STOP], 0, -1);
    let at = 10 * MS + LEAD + ARC - 1_000;
    let document = found(&script, &[("a", at, "x/cannot-stop")]);
    check(&document);
    assert!(document.migrations.is_empty());
    assert_eq!(told(&document), [("RUNNING → STOP", Some("EINVAL"))]);
    assert_eq!(codes_of(&document).1, ["x/cannot-stop"]);
    assert!(document.failed(), "that is no success");
    let text = crate::output::report_text(&document, &jiff::tz::TimeZone::UTC, false);
    for said in
        ["no migration", "outside of migrations", "a: RUNNING → STOP EINVAL", "x/cannot-stop: It failed."]
    {
        assert!(text.contains(said), "{said}:\n{text}");
    }
    // A VM that is paused and goes on is not worth a line.
    let fine = traced(&[leaving(7).until(10 * MS).set(&[RUNNING, STOP], 0, -1).set(&[STOP, RUNNING], 0, -1)]);
    assert!(fine.outside.is_empty() && !fine.failed());
    let text = crate::output::report_text(&fine, &jiff::tz::TimeZone::UTC, false);
    assert!(!text.contains("outside"), "{text}");
}

#[test]
fn what_comes_after_a_migration_is_not_of_it() {
    let back = || {
        leaving(7).until(10 * MS).set(&[RUNNING, PRE_COPY], FROM, 31).until(90 * MS).set(
            &[PRE_COPY, RUNNING],
            0,
            -1,
        )
    };
    // Failures during the migration, with the request that ends it, and later: of the same user, or of another.
    let again = back().until(300 * MS).close(1).open(1).until(354 * MS).set_fails(&[RUNNING, STOP], -22);
    let findings = [
        ("a", 50 * MS, "x/during"),
        ("a", 90 * MS + 104_000, "x/with"),
        ("a", 200 * MS, "x/later"),
        ("a", 354 * MS, "x/other"),
    ];
    let document = found(&again, &findings);
    check(&document);
    assert_eq!(codes_of(&document), (vec!["x/during", "x/with"], vec!["x/later", "x/other"]));
    assert_eq!(told(&document), [("RUNNING → STOP", Some("EINVAL"))]);
    assert_eq!(one(&document).verdict, MigrationVerdict::Cancelled);
    // A side that is not over may get further findings.
    let open = found(&pre_copying(), &[("a", 5_000 * MS, "x/late")]);
    assert_eq!(codes_of(&open), (vec!["x/late"], vec![]));
}

fn pre_copying() -> RecordScript {
    leaving(7).until(10 * MS).set(&[RUNNING, PRE_COPY], FROM, 31)
}

#[test]
fn a_call_on_an_ended_file_is_its_migrations() {
    let script =
        pre_copying().until(90 * MS).set(&[PRE_COPY, RUNNING], 0, -1).until(900 * MS).read(FROM, 20, -19, 0);
    let at = script.events().last().map_or(0, |event| event.end_ns);
    let document = found(&script, &[("a", at, "x/session-over")]);
    check(&document);
    assert_eq!(codes_of(&document), (vec!["x/session-over"], vec![]));
}

#[test]
fn a_stop_that_failed_and_one_that_worked() {
    // Without P2P: the first attempt fails at 100 ms, the second one at 131 ms succeeds.
    let script = pre_copying()
        .until(100 * MS)
        .set_fails(&[PRE_COPY, STOP_COPY], -5)
        .until(131 * MS)
        .set(&[PRE_COPY, STOP_COPY], 0, -1)
        .until(132 * MS)
        .read(FROM, 1 << 20, 0, 0)
        .until(133 * MS)
        .set(&[STOP_COPY, STOP], 0, -1);
    let document = traced(&[script]);
    check(&document);
    let downtime = downtime(&document);
    // Up to the last read; the device may have run between the two attempts.
    assert_eq!(downtime.total_ns, MS + READ - LEAD);
    assert_eq!(downtime.bound, DowntimeBound::AtLeast);
    assert!(
        downtime.why.as_deref().is_some_and(|why| why.contains("had been stopped before, or that failed"))
    );
    // No stop is known.
    for then in [RUNNING, STOP_COPY] {
        let script = pre_copying().until(100 * MS).set_fails(&[PRE_COPY, STOP_COPY], -5).until(131 * MS);
        let script = if then == RUNNING { script.set(&[PRE_COPY, RUNNING], 0, -1) } else { script.reset(0) };
        let document = traced(&[script]);
        check(&document);
        assert_eq!(one(&document).downtime, None);
        assert_eq!(codes(one(&document)).iter().filter(|code| **code == "stop-failed").count(), 1);
    }
}
