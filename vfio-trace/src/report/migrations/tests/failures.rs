//! Tests of migrations that fail or are cancelled: their failures, the source's recovery, the downtime.

use super::*;
use crate::{
    event::FindingSeverity,
    report::document::{DeviceFailure, MigrationSide, PairingReason, PartName, SessionEnd, SourceRecovery},
};

fn source(document: &MigrationDocument) -> &MigrationSide {
    one_device(document).source.as_ref().expect("a source")
}

fn destination(document: &MigrationDocument) -> &MigrationSide {
    one_device(document).destination.as_ref().expect("a destination")
}

fn told(failures: &[DeviceFailure]) -> Vec<(&str, Option<&str>)> {
    failures.iter().map(|failure| (failure.what.as_str(), failure.errno.as_deref())).collect()
}

fn pre_copying() -> RecordScript {
    leaving(7).until(10 * MS).set(&[RUNNING, PRE_COPY], FROM, 31).until(20 * MS).read(FROM, 1 << 20, 24, 0)
}

#[test]
fn what_is_to_be_called_again_fails_nothing() {
    for ret in [-4, -11, -512, -513] {
        let script = pre_copying().until(90 * MS).read(FROM, 1 << 20, ret, 24);
        let script = script.until(100 * MS).set(&[PRE_COPY, RUNNING], 0, -1).release(FROM, 24);
        let document = traced(&[script]);
        check(&document);
        assert_eq!(
            (one(&document).verdict, source(&document).failures.len()),
            (MigrationVerdict::Cancelled, 0)
        );
        let session = &document.sessions[0];
        assert_eq!((session.end, &session.errno), (SessionEnd::Arc, &None));
        assert_eq!((session.parts[0].empty, session.parts[0].failed), (1, 0));
    }
}

#[test]
fn save_fails_and_arcs_recover() {
    let script = pre_copying()
        .until(100 * MS)
        .set(&[PRE_COPY, PRE_COPY_P2P], 0, -1)
        .until(110 * MS)
        .set_fails(&[PRE_COPY_P2P, STOP_COPY], -5)
        .until(120 * MS)
        .set(&[PRE_COPY_P2P, RUNNING_P2P, RUNNING], 0, -1);
    let document = traced(&[script]);
    check(&document);
    let migration = one(&document);
    assert_eq!((migration.verdict, migration.recovered), (MigrationVerdict::Failed, Some(true)));
    assert_eq!(told(&source(&document).failures), [("PRE_COPY_P2P → STOP_COPY", Some("EIO"))]);
    assert_eq!(source(&document).recovery, Some(SourceRecovery::Arcs));
    // The device stood still from 100 ms on.
    let downtime = downtime(&document);
    assert_eq!((downtime.total_ns, downtime.bound), (20 * MS + 2 * ARC + 500, DowntimeBound::Exact));
    assert_eq!(
        shares(downtime),
        [(DowntimeStage::Stop, ARC), (DowntimeStage::Save, ARC), (DowntimeStage::Recover, 2 * ARC)]
    );
    assert!(
        migration.text.contains("failed: PRE_COPY_P2P → STOP_COPY EIO; the source runs again"),
        "{}",
        migration.text
    );
}

#[test]
fn save_fails_and_a_reset_recovers() {
    let script = pre_copying()
        .until(100 * MS)
        .set(&[PRE_COPY, PRE_COPY_P2P], 0, -1)
        .until(110 * MS)
        .set_fails(&[PRE_COPY_P2P, STOP_COPY], -5)
        .until(120 * MS)
        .set_fails(&[PRE_COPY_P2P, RUNNING_P2P, RUNNING], -5)
        .until(130 * MS)
        .reset(0);
    let document = traced(&[script]);
    check(&document);
    assert_eq!((one(&document).verdict, one(&document).recovered), (MigrationVerdict::Failed, Some(true)));
    assert_eq!(source(&document).recovery, Some(SourceRecovery::Reset));
    assert_eq!(downtime(&document).total_ns, 30 * MS + 2 * MS - LEAD);
}

#[test]
fn a_reset_recovers_what_has_left_stop_copy() {
    // The way back fails after STOP.
    let script = read_source()
        .until(200 * MS)
        .set(&[STOP_COPY, STOP], 0, -1)
        .set_fails(&[STOP, RUNNING_P2P], -5)
        .until(300 * MS)
        .reset(0);
    let document = traced(&[script]);
    check(&document);
    let source = source(&document);
    assert_eq!(source.recovery, Some(SourceRecovery::Reset));
    assert_eq!((source.verdict, one(&document).recovered), (MigrationVerdict::Failed, Some(true)));
    assert_eq!(downtime(&document).total_ns, 200 * MS + 2 * MS - LEAD);
}

#[test]
fn the_first_arc_fails() {
    // PRE_COPY fails: the device never stops. The close long after does not belong to it.
    let script = leaving(7).until(10 * MS).set_fails(&[RUNNING, PRE_COPY], -12).until(900 * MS).close(1);
    let document = traced(&[script]);
    check(&document);
    let migration = one(&document);
    assert_eq!((migration.verdict, migration.recovered), (MigrationVerdict::Failed, Some(true)));
    assert_eq!(told(&source(&document).failures), [("RUNNING → PRE_COPY", Some("ENOMEM"))]);
    assert_eq!(migration.downtime, None);
    assert!(migration.end_ns < 20 * MS, "{}", migration.end_ns);
    assert_eq!(codes(migration), [""; 0]);
}

#[test]
fn the_stop_fails_before_anything_is_saved() {
    // Without PRE_COPY only the request's target shows the purpose of the stop.
    let start = 10 * MS;
    let script = leaving(1).until(start).wait(1_000).wait(1_000);
    let entered = script.now;
    let script = script
        .next(RUNNING, STOP_COPY, STOP, 0)
        .wait(100_000)
        .set_state(entered, STOP_COPY, -16, 0)
        .set_ioctl(start, STOP_COPY, -16, -1);
    let document = traced(&[script]);
    check(&document);
    let migration = one(&document);
    // Some drivers leave the device stopped then: it is not known if it runs.
    assert_eq!((migration.verdict, migration.recovered), (MigrationVerdict::Failed, None));
    assert!(!migration.text.contains("runs again"), "{}", migration.text);
    assert_eq!(told(&source(&document).failures), [("RUNNING → STOP", Some("EBUSY"))]);
    assert_eq!(migration.devices.len(), 1);
}

/// Lets RUNNING → STOP fail on the way to STOP_COPY.
fn stop_fails(script: RecordScript, at: u64) -> RecordScript {
    let script = script.until(at).wait(2_000);
    let entered = script.now;
    script
        .next(RUNNING, STOP_COPY, STOP, 0)
        .wait(100_000)
        .set_state(entered, STOP_COPY, -16, 0)
        .set_ioctl(at, STOP_COPY, -16, -1)
}

#[test]
fn a_stop_that_failed_counts_until_something_starts_the_device() {
    let again = |script: RecordScript| script.until(100 * MS).set(&[RUNNING, STOP, STOP_COPY], FROM, 31);
    let last = |document: &MigrationDocument| {
        let migration = document.migrations.last().unwrap();
        let failed = codes(migration).contains(&"stop-failed");
        (migration.devices[0].downtime.as_ref().unwrap().bound, failed)
    };
    let end = |script: RecordScript| script.until(200 * MS).set(&[STOP_COPY, STOP, RUNNING], 0, -1);
    let failed = || stop_fails(leaving(1), 10 * MS);
    assert_eq!(last(&traced(&[end(again(failed()))])), (DowntimeBound::AtLeast, true));
    assert_eq!(last(&traced(&[end(again(leaving(1)))])), (DowntimeBound::Exact, false));
    // A reset starts the device, and so does a later way back to RUNNING.
    assert_eq!(last(&traced(&[end(again(failed().until(50 * MS).reset(0)))])), (DowntimeBound::Exact, false));
    let started = failed().until(40 * MS).set(&[RUNNING, STOP], 0, -1).set(&[STOP, RUNNING], 0, -1);
    assert_eq!(last(&traced(&[end(again(started))])), (DowntimeBound::Exact, false));
}

#[test]
fn what_the_core_refuses_stops_nothing() {
    let at = 50 * MS;
    let script = pre_copying().until(at).wait(2_000);
    let entered = script.now;
    let script = script
        .next(PRE_COPY, RESUMING, PRE_COPY, -22)
        .wait(100_000)
        .set_state(entered, RESUMING, -22, 0)
        .set_ioctl(at, RESUMING, -22, -1);
    let script = script.until(100 * MS).set(&[PRE_COPY, STOP_COPY], 0, -1).until(200 * MS).set(
        &[STOP_COPY, STOP, RUNNING],
        0,
        -1,
    );
    let document = traced(&[script]);
    assert!(!codes(one(&document)).contains(&"stop-failed"), "{:?}", codes(one(&document)));
    assert_eq!(downtime(&document).bound, DowntimeBound::Exact, "{:?}", downtime(&document).why);
}

#[test]
fn the_destination_cannot_get_ready() {
    let script = arriving(3).until(10 * MS).wait(2_000);
    let entered = script.now;
    let script = script
        .next(RUNNING, RESUMING, RUNNING_P2P, 0)
        .wait(100_000)
        .set_state(entered, RESUMING, -5, 0)
        .set_ioctl(10 * MS, RESUMING, -5, -1);
    let document = traced(&[script]);
    check(&document);
    assert_eq!(one(&document).verdict, MigrationVerdict::Failed);
    assert_eq!(told(&destination(&document).failures), [("RUNNING → RUNNING_P2P", Some("EIO"))]);
}

#[test]
fn an_arc_fails_and_works_the_second_time() {
    let script = leaving(7).until(5 * MS).set_fails(&[RUNNING, PRE_COPY], -12).until(10 * MS).set(
        &[RUNNING, PRE_COPY],
        FROM,
        31,
    );
    let document = traced(&[script]);
    check(&document);
    let verdicts: Vec<MigrationVerdict> =
        document.migrations.iter().map(|migration| migration.verdict).collect();
    assert_eq!(verdicts, [MigrationVerdict::Failed, MigrationVerdict::Unfinished]);
}

#[test]
fn no_fd_is_left() {
    // The arcs succeed, and yet user space gets EMFILE.
    let script = leaving(7).until(10 * MS).set_without_fd(&[RUNNING, PRE_COPY], FROM).until(20 * MS).set(
        &[PRE_COPY, RUNNING],
        0,
        -1,
    );
    let document = traced(&[script]);
    check(&document);
    assert_eq!(told(&source(&document).failures), [("request for PRE_COPY", Some("EMFILE"))]);
    assert_eq!((one(&document).verdict, one(&document).recovered), (MigrationVerdict::Failed, Some(true)));
    assert_eq!(one(&document).downtime, None);
}

#[test]
fn a_read_fails() {
    let script = stopped_source().until(120 * MS).read(FROM, 1 << 20, -5, 24).until(130 * MS).set(
        &[STOP_COPY, STOP, RUNNING_P2P, RUNNING],
        0,
        -1,
    );
    let document = traced(&[script]);
    check(&document);
    assert_eq!(told(&source(&document).failures), [("read()", Some("EIO"))]);
    assert_eq!((one(&document).verdict, one(&document).recovered), (MigrationVerdict::Failed, Some(true)));
    let downtime = downtime(&document);
    assert_eq!(downtime.total_ns, 30 * MS + 3 * ARC + 1_000);
    assert_eq!(
        shares(downtime),
        [
            (DowntimeStage::Stop, ARC),
            (DowntimeStage::Save, ARC),
            (DowntimeStage::Read, READ),
            (DowntimeStage::Recover, 3 * ARC)
        ]
    );
}

#[test]
fn a_write_fails_and_the_destination_is_closed() {
    let script = arriving(7)
        .until(5 * MS)
        .set(&[RUNNING, RUNNING_P2P, STOP, RESUMING], TO, 40)
        .until(30 * MS)
        .write(TO, 24, 0)
        .write(TO, -14, 24)
        .until(40 * MS)
        .close(1);
    let document = traced(&[script]);
    check(&document);
    assert_eq!(one(&document).verdict, MigrationVerdict::Failed);
    assert_eq!(told(&destination(&document).failures), [("write()", Some("EFAULT"))]);
}

#[test]
fn a_write_fails_and_what_came_is_loaded() {
    // Some drivers load data that they refused. That migration did not succeed.
    let script = arriving(7)
        .until(5 * MS)
        .set(&[RUNNING, RUNNING_P2P, STOP, RESUMING], TO, 40)
        .until(30 * MS)
        .write(TO, 24, 0)
        .write(TO, -14, 24)
        .until(40 * MS)
        .set(&[RESUMING, STOP, RUNNING_P2P, RUNNING], 0, -1);
    let document = traced(&[script]);
    check(&document);
    assert_eq!(one(&document).verdict, MigrationVerdict::Failed);
}

#[test]
fn a_write_is_interrupted_and_done_again() {
    let script = arriving(7)
        .until(5 * MS)
        .set(&[RUNNING, RUNNING_P2P, STOP, RESUMING], TO, 40)
        .until(30 * MS)
        .write(TO, -4, 0)
        .write(TO, 24, 0)
        .until(40 * MS)
        .set(&[RESUMING, STOP, RUNNING_P2P, RUNNING], 0, -1);
    let document = traced(&[script]);
    check(&document);
    assert_eq!(one(&document).verdict, MigrationVerdict::Completed);
}

#[test]
fn load_fails() {
    let script =
        written_destination().until(140 * MS).set_fails(&[RESUMING, STOP], -5).until(150 * MS).close(1);
    let back = read_source().until(200 * MS).set(&[STOP_COPY, STOP, RUNNING_P2P, RUNNING], 0, -1);
    let document = traced(&[back, script]);
    check(&document);
    let migration = one(&document);
    assert_eq!((migration.verdict, migration.recovered), (MigrationVerdict::Failed, Some(true)));
    assert_eq!(told(&destination(&document).failures), [("RESUMING → STOP", Some("EIO"))]);
    // The downtime is the source's until it runs again; the destination has no part in it.
    assert_eq!(downtime(&document).total_ns, 100 * MS + 3 * ARC + 1_000);
    assert_eq!(downtime(&document).stage(DowntimeStage::Load), None);
}

#[test]
fn loaded_and_never_run() {
    // The source ends with its stream read; the destination loads, and is closed.
    let script = written_destination()
        .until(140 * MS)
        .set(&[RESUMING, STOP, RUNNING_P2P], 0, -1)
        .release(TO, 24 + MIB)
        .until(160 * MS)
        .close(1);
    let document = traced(&[script]);
    check(&document);
    assert_eq!(one(&document).verdict, MigrationVerdict::Cancelled);
    assert_eq!(codes(one(&document)), ["cut-off"]);
}

#[test]
fn cancelled_in_pre_copy() {
    let document = traced(&[pre_copying().until(90 * MS).set(&[PRE_COPY, RUNNING], 0, -1)]);
    check(&document);
    let migration = one(&document);
    assert_eq!((migration.verdict, migration.recovered), (MigrationVerdict::Cancelled, Some(true)));
    assert_eq!(migration.downtime, None);
    assert_eq!(source(&document).recovery, Some(SourceRecovery::Arcs));
}

#[test]
fn cancelled_in_pre_copy_p2p() {
    let stopped = pre_copying().until(100 * MS).set(&[PRE_COPY, PRE_COPY_P2P], 0, -1).until(110 * MS);
    // With PRE_COPY the device may do all that it did before: it does not stand still any more.
    let by_pre_copy = stopped.clone().set(&[PRE_COPY_P2P, PRE_COPY], 0, -1).until(500 * MS);
    let document = traced(&[by_pre_copy.set(&[PRE_COPY, RUNNING], 0, -1)]);
    check(&document);
    assert_eq!((one(&document).verdict, &one(&document).downtime), (MigrationVerdict::Cancelled, &None));
    // With RUNNING_P2P it stands still until it runs.
    let document = traced(&[stopped.set(&[PRE_COPY_P2P, RUNNING_P2P, RUNNING], 0, -1)]);
    check(&document);
    let downtime = downtime(&document);
    assert_eq!(downtime.total_ns, 10 * MS + 2 * ARC + 500);
    assert_eq!(shares(downtime), [(DowntimeStage::Stop, ARC), (DowntimeStage::Recover, 2 * ARC)]);
    assert_eq!((one(&document).verdict, one(&document).recovered), (MigrationVerdict::Cancelled, Some(true)));
}

#[test]
fn closed_in_pre_copy() {
    let document = traced(&[pre_copying().until(90 * MS).close(1)]);
    check(&document);
    assert_eq!(
        (one(&document).verdict, one(&document).recovered),
        (MigrationVerdict::Cancelled, Some(false))
    );
    assert_eq!(codes(one(&document)), ["cut-off"]);
    assert_eq!(one(&document).downtime, None);
}

#[test]
fn closed_in_resuming() {
    let document = traced(&[written_destination().until(139 * MS).close(1)]);
    check(&document);
    assert_eq!(one(&document).verdict, MigrationVerdict::Cancelled);
    assert_eq!(codes(one(&document)), ["cut-off"]);
}

#[test]
fn not_over_yet() {
    for script in [pre_copying(), read_source(), written_destination()] {
        let document = traced(&[script]);
        check(&document);
        assert_eq!(one(&document).verdict, MigrationVerdict::Unfinished);
    }
}

#[test]
fn the_source_runs_again_while_the_destination_runs() {
    let source = whole_source().until(900 * MS).set(&[STOP, RUNNING_P2P, RUNNING], 0, -1);
    let document = traced(&[source, whole_destination()]);
    check(&document);
    let migration = one(&document);
    // The migration had succeeded; the downtime was over when the destination ran.
    assert_eq!((migration.verdict, migration.recovered), (MigrationVerdict::Completed, None));
    assert_eq!(downtime(&document).total_ns, 50 * MS + ARC);
    assert_eq!(codes(migration), ["both-run"]);
}

#[test]
fn the_destination_runs_although_the_source_does() {
    // The source gives up at 145 ms, and the destination goes on without it.
    let source = read_source().until(145 * MS).set(&[STOP_COPY, STOP, RUNNING_P2P, RUNNING], 0, -1);
    let document = traced(&[source, whole_destination()]);
    check(&document);
    assert_eq!(codes(one(&document)), ["both-run"]);
    assert_eq!(downtime(&document).total_ns, 45 * MS + 3 * ARC + 1_000);
}

#[test]
fn whether_both_run_is_said_if_it_is_known() {
    // A device in ERROR, or in a state that was not seen, does not run.
    let back_at = |at| read_source().until(at).set(&[STOP_COPY, STOP, RUNNING_P2P, RUNNING], 0, -1);
    let back = || back_at(141 * MS);
    let lost = back().until(147 * MS).set_fails(&[RUNNING, RUNNING_P2P], -5);
    let error = back().until(147 * MS).get_state(0);
    let stopped = back().until(147 * MS).set(&[RUNNING, RUNNING_P2P, STOP], 0, -1);
    let still =
        back().until(147 * MS).set(&[RUNNING, RUNNING_P2P], 0, -1).until(300 * MS).get_state(RUNNING_P2P);
    for (script, run) in [(lost, false), (error, false), (stopped, false), (still, true)] {
        let document = traced(&[script, whole_destination()]);
        check(&document);
        let codes = codes(&document.migrations[0]);
        assert_eq!(codes.contains(&"both-run"), run, "{codes:?}");
    }
    // On two hosts the order is certain only if it exceeds the clocks' error.
    let both = |error: u64| {
        let source = back_at(147 * MS).until(400 * MS).get_state(RUNNING);
        let of = |name, records: &[WireRecord]| history_on(host(name), ANCHOR, Some(error), records);
        let pairs = vec![("a".to_owned(), "b".to_owned())];
        let histories = [of("a", &source.records()), of("b", &whole_destination().records())];
        let document = document(&histories, &DocumentOptions { pairs, ..DocumentOptions::default() });
        check(&document);
        codes(&document.migrations[0]).contains(&"both-run")
    };
    assert!(both(MS));
    assert!(!both(10 * MS));
}

#[test]
fn of_guesses_it_is_no_error_that_both_run() {
    let source = whole_source().until(900 * MS).set(&[STOP, RUNNING_P2P, RUNNING], 0, -1);
    let histories = [history(&[source, whole_destination()])];
    let told = |pairs: &[(&str, &str)]| {
        let pairs = pairs.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect();
        let document = document(&histories, &DocumentOptions { pairs, ..DocumentOptions::default() });
        let [warning] = &one(&document).warnings[..] else { panic!("{:?}", codes(one(&document))) };
        (warning.severity, warning.text.contains("or these two do not belong together"))
    };
    assert_eq!(told(&[]), (FindingSeverity::Warning, true));
    assert_eq!(told(&[("a", "b")]), (FindingSeverity::Error, false));
}

#[test]
fn who_stopped_meanwhile_may_have_stood_still_when_the_other_ran() {
    // The destination ran at 150 ms, or up to 5 ms earlier or 40 ms later; the source stood still from 160 to 170.
    let both = |stops: bool| {
        let source = read_source().until(131 * MS).set(&[STOP_COPY, STOP, RUNNING_P2P, RUNNING], 0, -1);
        let source = if stops {
            let stopped = source.until(160 * MS).set(&[RUNNING, RUNNING_P2P, STOP], 0, -1);
            stopped.until(170 * MS).set(&[STOP, RUNNING_P2P, RUNNING], 0, -1)
        } else {
            source
        };
        let source = source.until(300 * MS).get_state(RUNNING);
        let of = |name, records: &[WireRecord]| history_on(host(name), ANCHOR, Some(20 * MS), records);
        let pairs = vec![("a".to_owned(), "b".to_owned())];
        let histories = [of("a", &source.records()), of("b", &whole_destination().records())];
        let document = document(&histories, &DocumentOptions { pairs, ..DocumentOptions::default() });
        check(&document);
        codes(&document.migrations[0]).contains(&"both-run")
    };
    assert!(both(false));
    assert!(!both(true));
}

#[test]
fn who_stops_again_may_have_stopped_before_the_other_ran() {
    // The clocks' error is limited by causality in one direction, and by the kernels' bounds in the other.
    let both = |error: Option<u64>, stops_at: u64| {
        let source = read_source().until(131 * MS).set(&[STOP_COPY, STOP, RUNNING_P2P, RUNNING], 0, -1);
        let source = source.until(stops_at).set(&[RUNNING, RUNNING_P2P, STOP], 0, -1);
        let of = |name, records: &[WireRecord]| history_on(host(name), ANCHOR, error, records);
        let pairs = vec![("a".to_owned(), "b".to_owned())];
        let histories = [of("a", &source.records()), of("b", &whole_destination().records())];
        let document = document(&histories, &DocumentOptions { pairs, ..DocumentOptions::default() });
        check(&document);
        let merge = &document.merge[0];
        // At other times, what the stream shows is worth a little less.
        assert!(merge.late_ns.is_some_and(|late| (5 * MS - READ..40 * MS).contains(&late)), "{merge:?}");
        (merge.early_ns, codes(&document.migrations[0]).contains(&"both-run"))
    };
    assert_eq!(both(Some(20 * MS), 250 * MS), (Some(40 * MS), true));
    // The destination may have begun up to 40 ms later, when the source stood still.
    assert_eq!(both(Some(20 * MS), 170 * MS), (Some(40 * MS), false));
    // It is not known how much later.
    assert_eq!(both(None, 250 * MS), (None, false));
}

#[test]
fn a_guess_may_be_wrong() {
    // All data was read, and fewer bytes were written; then the source goes on.
    let source = read_source().until(200 * MS).set(&[STOP_COPY, STOP, RUNNING_P2P, RUNNING], 0, -1);
    let scripts = [source, arrive(arriving(7), 0, MIB - 1)];
    let guessed = traced(&scripts);
    check(&guessed);
    assert_eq!(one_device(&guessed).paired_by, Some(PairingReason::Time));
    let differs = |document: &MigrationDocument| {
        let warnings = &document.migrations[0].warnings;
        let found = warnings.iter().find(|warning| warning.code == "bytes-differ").unwrap();
        (found.severity, found.text.contains("or these two do not belong together"))
    };
    assert_eq!(differs(&guessed), (FindingSeverity::Warning, true));
    let downtime = downtime(&guessed);
    assert_eq!((downtime.bound, downtime.uncertainty_ns), (DowntimeBound::About, None));
    let text =
        |document: &MigrationDocument| crate::output::report_text(document, &jiff::tz::TimeZone::UTC, false);
    assert!(text(&guessed).contains("a → b: nothing but the time tells"), "{}", text(&guessed));
    let pairs = vec![("a".to_owned(), "b".to_owned())];
    let said = document(&[history(&scripts)], &DocumentOptions { pairs, ..DocumentOptions::default() });
    check(&said);
    assert_eq!(differs(&said), (FindingSeverity::Error, false));
    assert!(!text(&said).contains("nothing but the time"));
    // Two sides that succeeded with different data are two migrations.
    let strangers = traced(&[whole_source(), arrive(arriving(7), 0, MIB - 1)]);
    check(&strangers);
    assert_eq!(strangers.migrations.len(), 2);
}

#[test]
fn the_source_runs_again_once_the_destination_is_gone() {
    let source = whole_source().until(900 * MS).set(&[STOP, RUNNING_P2P, RUNNING], 0, -1);
    let document = traced(&[source, whole_destination().until(800 * MS).close(1)]);
    check(&document);
    assert_eq!(one(&document).verdict, MigrationVerdict::Completed);
    assert_eq!(codes(one(&document)), [""; 0]);
}

#[test]
fn initial_bytes_are_counted_by_stream_whatever_the_state() {
    // Attached in a state that is not known: data read in it was read before STOP_COPY all the same.
    let script = |read: i64| {
        let script = RecordScript::new(0xd1)
            .device("a", "mtty", 7)
            .until(10 * MS)
            .next(RUNNING, PRE_COPY, PRE_COPY, 0);
        let script =
            script.until(20 * MS).set_state(10 * MS, PRE_COPY, 0, FROM).set_ioctl(10 * MS, PRE_COPY, 0, 31);
        let script = script.until(30 * MS).set_fails(&[PRE_COPY, PRE_COPY_P2P], -5).precopy_info(FROM, 24, 0);
        let script = script.until(40 * MS).read(FROM, 64, read, 0);
        script.until(100 * MS).set(&[PRE_COPY, PRE_COPY_P2P], 0, -1).set(&[PRE_COPY_P2P, STOP_COPY], 0, -1)
    };
    for (read, left) in [(24, false), (23, true)] {
        let document = traced(&[script(read)]);
        check(&document);
        assert_eq!(document.sessions[0].parts[0].part, PartName::Unknown);
        assert_eq!(codes(one(&document)).contains(&"initial-bytes-left"), left, "{read}");
    }
}
