//! Tests of two hosts with clocks of their own.

use std::slice::from_ref;

use proptest::prelude::*;
use vfio_trace_common::role::Role;

use super::*;
use crate::report::{
    document::{ClockMerge, MergeMethod, PairingReason},
    migrations::ClockShift,
};

/// Time of B's CLOCK_MONOTONIC when A's is 1 ms: B booted earlier by this.
pub(super) const BOOTED: u64 = 77_000 * MS;
/// Least time from a read to the write of its data, in a script.
pub(super) const SLACK: i64 = 5 * MS as i64 - READ as i64;
/// Beginning of the way back.
const BACK: u64 = 1_000 * MS;

pub(super) fn moved(records: Vec<WireRecord>, by: u64) -> Vec<WireRecord> {
    let moved = |mut record: WireRecord| {
        record.header.start_ns += by;
        record.header.end_ns += by;
        record
    };
    records.into_iter().map(moved).collect()
}

/// Makes two hosts; B's wall clock is ahead of A's by `skew_ns`. The VM migrates there, or with `back` there and back.
fn hosts(skew_ns: i64, errors: [Option<u64>; 2], back: bool) -> [HostHistory; 2] {
    let mut a = leave(device(0xd1, "a", 100), 0, MIB);
    let mut b = arrive(device(0xd2, "b", 200), 0, MIB);
    if back {
        a = arrive(a.close(1).thread(300, 300).open(1), BACK, 4096);
        b = leave(b, BACK, 4096);
    }
    let late = ClockAnchor { mono_ns: BOOTED, real_ns: ANCHOR.real_ns.checked_add_signed(skew_ns).unwrap() };
    [
        history_on(host("a"), ANCHOR, errors[0], &a.records()),
        history_on(host("b"), late, errors[1], &moved(b.records(), BOOTED)),
    ]
}

/// Returns true if the document's figures of a downtime are true.
pub(super) fn holds(downtime: &DowntimeBreakdown, truth_ns: u64) -> bool {
    match (downtime.bound, downtime.uncertainty_ns) {
        (DowntimeBound::Exact, _) => downtime.total_ns == truth_ns,
        (DowntimeBound::AtLeast, most) => {
            downtime.total_ns <= truth_ns && most.is_none_or(|most| truth_ns - downtime.total_ns <= most)
        },
        (DowntimeBound::About, Some(off)) => downtime.total_ns.abs_diff(truth_ns) <= off,
        (DowntimeBound::About, None) => true,
    }
}

fn merge(document: &MigrationDocument) -> &ClockMerge {
    assert_eq!(document.merge.len(), 1);
    &document.merge[0]
}

#[test]
fn clocks_that_agree() {
    let document = documented(&hosts(0, [Some(0), Some(0)], false));
    check(&document);
    let alone = traced(&[whole_source(), whole_destination()]);
    // The same as on one host, to the nanosecond.
    assert_eq!(downtime(&document).stages, downtime(&alone).stages);
    assert_eq!(downtime(&document).bound, DowntimeBound::Exact);
    assert_eq!((merge(&document).method, merge(&document).offset_ns), (MergeMethod::Realtime, 0));
    assert!(one(&document).text.contains("from a to b"), "{}", one(&document).text);
}

#[test]
fn a_clock_that_is_seconds_behind() {
    let skew = -5_000 * MS as i64;
    let document = documented(&hosts(skew, [None, None], false));
    check(&document);
    let merge = merge(&document);
    // B is moved so far that the write follows the read at once.
    assert_eq!((merge.method, merge.offset_ns), (MergeMethod::Causality, -skew - SLACK));
    assert_eq!((merge.causal_min_ns, merge.causal_max_ns), (Some(-skew - SLACK), None));
    // At the beginning of B's recording it may have been otherwise, by a sixth of the time since then.
    let late = (BOOTED + 125 * MS) * 166_668 / 1_000_000;
    assert_eq!((merge.early_ns, merge.late_ns, merge.clock_error_ns), (None, Some(late), None));
    let downtime = downtime(&document);
    assert_eq!(downtime.total_ns as i64, (50 * MS + ARC) as i64 - SLACK);
    assert_eq!((downtime.bound, downtime.uncertainty_ns), (DowntimeBound::AtLeast, None));
}

#[test]
fn a_clock_that_is_microseconds_off() {
    let document = documented(&hosts(300_000, [Some(MS), Some(MS)], false));
    check(&document);
    let merge = merge(&document);
    assert_eq!((merge.method, merge.offset_ns), (MergeMethod::Realtime, 0));
    assert_eq!((merge.early_ns, merge.late_ns), (Some(2 * MS), Some(2 * MS)));
    assert_eq!(merge.causal_min_ns, Some(-SLACK - 300_000));
    let downtime = downtime(&document);
    assert_eq!(downtime.total_ns, 50 * MS + ARC + 300_000);
    assert_eq!((downtime.bound, downtime.uncertainty_ns), (DowntimeBound::About, Some(2 * MS)));
}

#[test]
fn a_clock_that_is_ahead_goes_unnoticed_one_way() {
    // Nothing is written before it was read; only the way back would show the skew.
    let document = documented(&hosts(20 * MS as i64, [None, None], false));
    assert_eq!((merge(&document).method, merge(&document).offset_ns), (MergeMethod::Realtime, 0));
    assert_eq!(downtime(&document).total_ns, 70 * MS + ARC);
    assert_eq!((downtime(&document).bound, downtime(&document).uncertainty_ns), (DowntimeBound::About, None));
}

#[test]
fn there_and_back_bounds_both_ways() {
    let skew = 20 * MS as i64;
    let document = documented(&hosts(skew, [None, None], true));
    check(&document);
    let merge = merge(&document);
    assert_eq!((merge.causal_min_ns, merge.causal_max_ns), (Some(-SLACK - skew), Some(SLACK - skew)));
    assert_eq!((merge.method, merge.offset_ns), (MergeMethod::Causality, SLACK - skew));
    // B was traced for long before: until then the clocks may have drifted from each other by a sixth.
    let drift = (BOOTED + BACK + 300 * MS) / 6;
    assert!(merge.early_ns.is_some_and(|early| early > 0 && early < drift), "{merge:?}");
    assert!(merge.late_ns.is_some_and(|late| late > 2 * SLACK as u64 && late < 2 * SLACK as u64 + drift));
    assert_eq!(document.migrations.len(), 2);
    let totals: Vec<_> = document
        .migrations
        .iter()
        .filter_map(|one| one.downtime.as_ref())
        .map(|downtime| {
            // From one to the other they drift by less.
            let error = downtime.uncertainty_ns.unwrap();
            assert!((2 * SLACK as u64..=2 * SLACK as u64 + BACK / 5).contains(&error), "{downtime:?}");
            assert!(holds(downtime, 50 * MS + ARC), "{downtime:?}");
            downtime.total_ns as i64
        })
        .collect();
    let true_ns = (50 * MS + ARC) as i64;
    assert_eq!(totals, [true_ns + SLACK, true_ns - SLACK]);
}

#[test]
fn one_boot_is_one_clock() {
    let [a, b] = [whole_source().records(), whole_destination().records()];
    let of = |other: TracedHost, ahead_ms: u64, error| {
        let later = ClockAnchor { real_ns: ANCHOR.real_ns + ahead_ms * MS, ..ANCHOR };
        let document =
            documented(&[history_on(host("a"), ANCHOR, error, &a), history_on(other, later, error, &b)]);
        check(&document);
        document
    };
    // Both recordings are of one machine.
    let document = of(host("a"), 0, None);
    assert_eq!(merge(&document).method, MergeMethod::SameClock);
    assert_eq!(
        (downtime(&document).total_ns, downtime(&document).bound),
        (50 * MS + ARC, DowntimeBound::Exact)
    );
    assert_eq!(merge(&of(host("a"), 30, Some(20 * MS))).method, MergeMethod::SameClock, "within the error");
    // Two machines that were resumed from one snapshot, without error bounds.
    let document = of(host("a"), 9_000, None);
    assert_eq!(merge(&document).method, MergeMethod::Realtime);
    assert_eq!((downtime(&document).bound, downtime(&document).uncertainty_ns), (DowntimeBound::About, None));
    let named = TracedHost { boot_id: host("a").boot_id, ..host("b") };
    assert_eq!(merge(&of(named, 0, None)).method, MergeMethod::Realtime);
}

/// Makes the histories of two hosts whose wall clocks agree.
fn on_two_hosts(a: &[RecordScript], b: &[RecordScript], error: Option<u64>) -> [HostHistory; 2] {
    let late = ClockAnchor { mono_ns: BOOTED, ..ANCHOR };
    [
        history_on(host("a"), ANCHOR, error, &together(a)),
        history_on(host("b"), late, error, &moved(together(b), BOOTED)),
    ]
}

#[test]
fn strangers_move_no_clock() {
    let at = 700_000 * MS;
    let leaves = leave(device(0xd1, "a", 100), at, MIB);
    let arrives = arrive(device(0xd2, "b", 200), at, MIB);
    // Ten minutes apart: one VM migrates to a host that was not traced, the other comes from one.
    let away = leave(device(0xd3, "c", 300), at + 1_000 * MS, 8192).other_files();
    let strange = arrive(device(0xd4, "d", 400), at - 600_000 * MS, 8192).other_files();
    let document = documented(&on_two_hosts(&[leaves, away.clone()], &[strange.clone(), arrives], Some(MS)));
    check(&document);
    assert_eq!((merge(&document).method, merge(&document).offset_ns), (MergeMethod::Realtime, 0));
    assert!(!merge(&document).text.contains("promise"), "{}", merge(&document).text);
    let paired: Vec<_> =
        document.migrations.iter().filter(|one| one.devices[0].paired_by.is_some()).collect();
    assert_eq!((document.migrations.len(), paired.len()), (3, 1));
    let downtime = paired[0].downtime.as_ref().unwrap();
    assert_eq!((downtime.total_ns, downtime.uncertainty_ns), (50 * MS + ARC, Some(2 * MS)));
    // The wrong pair is refused without the right one, too; without error bounds it may be a pair.
    let alone = |error| documented(&on_two_hosts(from_ref(&away), from_ref(&strange), error));
    let document = alone(Some(MS));
    check(&document);
    assert_eq!((document.migrations.len(), merge(&document).offset_ns), (2, 0));
    assert_eq!(alone(None).migrations.len(), 1);
}

const BROKEN: &str = "although the kernels promise that they are no farther apart than 2.000 ms";

#[test]
fn a_guess_without_another_breaks_a_promise_by_a_little() {
    // The kernel's error bound does not include the part that an NTP daemon is still slewing.
    let document = documented(&hosts(-400 * MS as i64, [Some(MS), Some(MS)], false));
    check(&document);
    let (merge, migration) = (merge(&document), one(&document));
    assert_eq!((merge.method, merge.offset_ns), (MergeMethod::Causality, 400 * MS as i64 - SLACK));
    assert!(merge.text.contains(BROKEN), "{}", merge.text);
    // The bound does not hold then, but the clocks count as synchronised. If the guess is wrong, the bound held.
    assert_eq!((merge.early_ns, merge.late_ns), (None, Some(402 * MS - SLACK as u64)));
    let downtime = downtime(&document);
    assert_eq!(downtime.total_ns as i64, (50 * MS + ARC) as i64 - SLACK);
    assert_eq!((downtime.bound, downtime.uncertainty_ns), (DowntimeBound::AtLeast, None));
    let unknown = "how much too early is not known, because a";
    assert!(merge.text.ends_with(&format!("{unknown} kernel's promise is broken")), "{}", merge.text);
    let unsynchronised = documented(&hosts(-400 * MS as i64, [None, Some(MS)], false));
    let text = &unsynchronised.merge[0].text;
    assert!(text.ends_with(&format!("{unknown} clock was not synchronised at some time")), "{text}");
    assert_eq!(migration.devices[0].paired_by, Some(PairingReason::StreamBytes));
    // Two pairs that contradict each other break no bound.
    let there = leave(device(0xd1, "a", 100), 0, MIB);
    let back = arrive(device(0xd5, "e", 500), 400 * MS, 8192).other_files();
    let arrives = arrive(device(0xd2, "b", 200), 0, MIB);
    let leaves = leave(device(0xd6, "f", 600), 0, 8192).other_files();
    let late = ClockAnchor { mono_ns: BOOTED, real_ns: ANCHOR.real_ns - 200 * MS };
    let both = [
        history_on(host("a"), ANCHOR, Some(MS), &together(&[there, back])),
        history_on(host("b"), late, Some(MS), &moved(together(&[arrives, leaves]), BOOTED)),
    ];
    assert_eq!(documented(&both).migrations.len(), 2, "both ways agree");
    let arrives = arrive(device(0xd2, "b", 200), 0, MIB);
    let leaves = leave(device(0xd6, "f", 600), 1_000 * MS, 8192).other_files();
    let both = [
        both[0].clone(),
        history_on(host("b"), late, Some(MS), &moved(together(&[arrives, leaves]), BOOTED)),
    ];
    let document = documented(&both);
    check(&document);
    assert_eq!((document.migrations.len(), document.merge[0].offset_ns), (4, 0));
}

#[test]
fn two_devices_of_one_vm_with_as_many_bytes_break_a_promise_by_a_little() {
    let late = ClockAnchor { mono_ns: BOOTED, real_ns: ANCHOR.real_ns - 400 * MS };
    let a = together(&[
        leave(device(0xd1, "a", SOURCE), 0, MIB),
        leave(device(0xd3, "c", SOURCE).thread(SOURCE, 450), 2 * MS, MIB).other_files(),
    ]);
    let b = together(&[
        arrive(device(0xd2, "b", DESTINATION), 0, MIB),
        arrive(device(0xd4, "d", DESTINATION).thread(DESTINATION, 850), 2 * MS, MIB).other_files(),
    ]);
    let document = documented(&[
        history_on(host("a"), ANCHOR, Some(MS), &a),
        history_on(host("b"), late, Some(MS), &moved(b, BOOTED)),
    ]);
    check(&document);
    let devices = &one(&document).devices;
    let by: Vec<_> = devices.iter().map(|device| device.paired_by).collect();
    assert_eq!(by, [Some(PairingReason::Order), Some(PairingReason::Order)]);
    assert_eq!(merge(&document).offset_ns, 400 * MS as i64 - SLACK);
}

#[test]
fn recordings_of_one_boot_that_is_not_the_first_hosts_have_one_clock() {
    // The wall clock was set by `ahead_ms` between the two recordings of B.
    let paired = |written_at: u64, ahead_ms: u64| {
        let other = RecordScript::new(0xd9).device("other", "mtty", 7).open(1);
        let a = leave(device(0xd1, "a", 100), 20 * MS, MIB);
        let b = arrive(device(0xd2, "b", 200), written_at, MIB);
        let first = ClockAnchor { mono_ns: BOOTED, ..ANCHOR };
        let second = ClockAnchor { mono_ns: BOOTED, real_ns: ANCHOR.real_ns - ahead_ms * MS };
        let document = documented(&[
            history_on(host("a"), ANCHOR, Some(MS), &other.records()),
            history_on(host("b"), first, Some(MS), &moved(a.records(), BOOTED)),
            history_on(host("b"), second, Some(MS), &moved(b.records(), BOOTED)),
        ]);
        check(&document);
        document.migrations.len() == 1
    };
    assert!(paired(20 * MS, 0));
    // The data was written before it was read.
    assert!(!paired(12 * MS, 0));
    // The wall clock does not matter.
    assert!(paired(20 * MS, 8));
}

#[test]
fn a_guess_breaks_no_promise_by_much() {
    // If another side fits, the bound must not be exceeded at all.
    let rival = || leave(device(0xd3, "c", 300), 2 * MS, MIB).other_files();
    let late = ClockAnchor { mono_ns: BOOTED, real_ns: ANCHOR.real_ns - 400 * MS };
    let a = together(&[leave(device(0xd1, "a", 100), 0, MIB), rival()]);
    let b = moved(arrive(device(0xd2, "b", 200), 0, MIB).records(), BOOTED);
    let document =
        documented(&[history_on(host("a"), ANCHOR, Some(MS), &a), history_on(host("b"), late, Some(MS), &b)]);
    check(&document);
    assert_eq!((document.migrations.len(), merge(&document).offset_ns), (3, 0));
    let both = hosts(-1_010 * MS as i64, [Some(MS), Some(MS)], false);
    let guessed = documented(&both);
    check(&guessed);
    assert_eq!((guessed.migrations.len(), merge(&guessed).offset_ns), (2, 0));
    // Unless the user pairs the devices.
    let pairs = vec![("a".to_owned(), "b".to_owned())];
    let said = document_of(&both, &pairs);
    check(&said);
    let (merge, migration) = (merge(&said), one(&said));
    assert_eq!((merge.method, merge.offset_ns), (MergeMethod::Causality, 1_010 * MS as i64 - SLACK));
    assert!(merge.text.contains(BROKEN), "{}", merge.text);
    assert_eq!(migration.verdict, MigrationVerdict::Completed);
}

pub(super) fn document_of(both: &[HostHistory], pairs: &[(String, String)]) -> MigrationDocument {
    document(both, &DocumentOptions { pairs: pairs.to_vec(), ..DocumentOptions::default() })
}

#[test]
fn each_pair_has_the_promise_of_its_time() {
    // The bound was 5 s at the first migration, and 1 ms at the time that the clocks are taken from.
    let of = |first: u64, error: Option<u64>| {
        let mut both = hosts(-2_500 * MS as i64, [Some(MS), Some(first)], true);
        let mono_ns = BOOTED + 100 * MS;
        let real_ns = both[1].distance_ns() + i128::from(mono_ns);
        let read =
            |mono_ns: u64, real_ns: i128| ClockAnchor { mono_ns, real_ns: u64::try_from(real_ns).unwrap() };
        both[1].sample(read(mono_ns, real_ns), mono_ns, 0, Some(first));
        let later = 800 * MS;
        both[1].sample(read(mono_ns + later, real_ns + i128::from(later)), mono_ns + later, 0, error);
        let document = documented(&both);
        check(&document);
        document
    };
    let document = of(5_000 * MS, Some(MS));
    let there = document.migrations.iter().find(|one| one.source.as_ref().is_some_and(|from| from.host == 0));
    assert!(there.unwrap().devices[0].destination.is_some(), "{:#?}", document.merge);
    assert_eq!(merge(&document).clock_error_ns, Some(5_001 * MS));
    let document = of(MS, Some(MS));
    assert!(document.migrations.iter().all(|one| one.source.is_none()
        || one.destination.is_none()
        || one.source.as_ref().unwrap().host == 1));
}

#[test]
fn what_was_not_promised_at_first_is_far_apart_at_most() {
    // B was 5 s off at the first migration; there was no bound before the second one.
    let mut both = hosts(-5_000 * MS as i64, [Some(MS), None], true);
    let distance = both[1].distance_ns();
    for (at, error) in [(100 * MS, None), (900 * MS, Some(MS))] {
        let mono_ns = BOOTED + at;
        let real_ns = u64::try_from(i128::from(mono_ns) + distance).unwrap();
        both[1].sample(ClockAnchor { mono_ns, real_ns }, mono_ns, 0, error);
    }
    let document = documented(&both);
    check(&document);
    assert_eq!(document.migrations.len(), 2, "{:#?}", document.merge);
    assert_eq!(merge(&document).clock_error_ns, None);
}

pub(super) const HOUR: u64 = 3_600_000 * MS;

/// Adds clock readings to a history: CLOCK_REALTIME `ahead_ns` of the true time, after so long asleep.
fn sampled(mut history: HostHistory, samples: &[(u64, i64, u64)]) -> HostHistory {
    let (distance, promise) = (history.distance_ns(), history.clock_error_ns());
    for (mono_ns, ahead_ns, asleep_ns) in samples {
        let boot_ns = mono_ns + asleep_ns;
        let real_ns = u64::try_from(i128::from(boot_ns) + distance + i128::from(*ahead_ns)).unwrap();
        history.sample(ClockAnchor { mono_ns: *mono_ns, real_ns }, boot_ns, 0, promise);
    }
    history
}

#[test]
fn a_clock_that_is_set_after_the_migration_moves_nothing() {
    let [a, b] = hosts(0, [Some(0), Some(0)], false);
    let plain = documented(&[a.clone(), b.clone()]);
    for (ahead, moved) in [(HOUR as i64, 0), (-(HOUR as i64), 1), (40_000 * MS as i64, 0)] {
        let samples =
            |began: u64| [(began, 0, 0), (began + 10_000 * MS, ahead, 0), (began + 20_000 * MS, ahead, 0)];
        let mut both = [a.clone(), b.clone()];
        both[moved] = sampled(both[moved].clone(), &samples(if moved == 1 { BOOTED } else { 0 }));
        // An event comes long after it.
        let last = RecordScript::new(0xd9).until(25_000 * MS).device("late", "mtty", 7).open(1);
        let records = if moved == 1 { self::moved(last.records(), BOOTED) } else { last.records() };
        let mut assembler = EventAssembler::new();
        for record in &records {
            assembler.push(record).iter().for_each(|event| both[moved].apply(event));
        }
        let document = documented(&both);
        check(&document);
        assert_eq!(
            (merge(&document).method, merge(&document).offset_ns),
            (MergeMethod::Realtime, 0),
            "{ahead}"
        );
        assert_eq!(downtime(&document), downtime(&plain), "{ahead}");
    }
}

#[test]
fn a_clock_that_was_wrong_before_the_migration_is_taken_when_it_is_right() {
    // NTP set the clock right some seconds before; it had been 2 hours ahead, which is too far to find a pair.
    let [a, b] = hosts(0, [None, None], false);
    let plain = documented(&[a.clone(), b]);
    let late = ClockAnchor { mono_ns: 0, real_ns: ANCHOR.real_ns - BOOTED + 2 * HOUR };
    let mut wrong = HostHistory::new(host("b"), late, None);
    for (mono_ns, ahead) in [(1_000 * MS, 2 * HOUR), (60_000 * MS, 0), (BOOTED + 10_000 * MS, 0)] {
        let real_ns = ANCHOR.real_ns - BOOTED + mono_ns + ahead;
        wrong.sample(ClockAnchor { mono_ns, real_ns }, mono_ns, 0, None);
    }
    let records = moved(arrive(device(0xd2, "b", 200), 0, MIB).records(), BOOTED);
    let mut assembler = EventAssembler::new();
    for record in &records {
        assembler.push(record).iter().for_each(|event| wrong.apply(event));
    }
    let document = documented(&[a, wrong]);
    assert_eq!(downtime(&document).total_ns, downtime(&plain).total_ns);
}

/// Makes a migration there and back, while one of the hosts sleeps for an hour in between.
fn slept(first_sleeps: bool) -> [HostHistory; 2] {
    let [there, back] = [(BACK + HOUR), BACK];
    let (mine, other) = if first_sleeps { (back, there) } else { (there, back) };
    let a = arrive(leave(device(0xd1, "a", 100), 0, MIB).close(1).thread(300, 300).open(1), mine, 4096);
    let b = leave(arrive(device(0xd2, "b", 200), 0, MIB), other, 4096);
    let late = ClockAnchor { mono_ns: BOOTED, real_ns: ANCHOR.real_ns };
    let a = history_on(host("a"), ANCHOR, None, &a.records());
    let b = history_on(host("b"), late, None, &moved(b.records(), BOOTED));
    let samples = |began: u64| [(began + MS, 0, 0), (began + 400 * MS, 0, 0), (began + 800 * MS, 0, HOUR)];
    if first_sleeps { [sampled(a, &samples(0)), b] } else { [a, sampled(b, &samples(BOOTED))] }
}

#[test]
fn time_asleep_is_counted() {
    let awake = documented(&hosts(0, [None, None], true));
    let stages = |document: &MigrationDocument, drift: u64| -> Vec<_> {
        let downtimes = document.migrations.iter().filter_map(|one| one.downtime.as_ref());
        downtimes
            .map(|downtime| {
                // The clocks may drift while either host is asleep.
                assert!(downtime.uncertainty_ns.is_some_and(|off| off >= drift), "{downtime:?}");
                assert!(holds(downtime, 50 * MS + ARC));
                (downtime.total_ns, downtime.stages.clone())
            })
            .collect()
    };
    for first_sleeps in [false, true] {
        let [a, b] = slept(first_sleeps);
        for both in [[a.clone(), b.clone()], [b, a]] {
            let document = documented(&both);
            check(&document);
            assert_eq!((merge(&document).method, merge(&document).offset_ns), (MergeMethod::Realtime, 0));
            assert_eq!(stages(&document, HOUR / 6), stages(&awake, 0), "{first_sleeps}");
        }
    }
}

#[test]
fn lost_reads_move_no_clock() {
    // The first read was lost: the data of the second seems to come too early in the stream.
    let a = stop(leaving(7), 0).until(124 * MS).read(FROM, 1 << 20, MIB, 24 + 4096).read(
        FROM,
        1 << 20,
        0,
        24 + MIB,
    );
    let a = a.until(200 * MS).set(&[STOP_COPY, STOP], 0, -1);
    let b = write_all(arriving(7), 0, 4096).until(130 * MS).write(TO, MIB - 4096, 24 + 4096).until(140 * MS);
    let b = b.set(&[RESUMING, STOP, RUNNING_P2P, RUNNING], 0, -1);
    let lacking = TracedHost {
        losses: HostLosses {
            complete: true,
            data: vec!["mtty_save_read: 1 lost".to_owned()],
            ..HostLosses::default()
        },
        ..host("a")
    };
    let histories =
        [history_on(lacking, ANCHOR, None, &a.records()), history_on(host("b"), ANCHOR, None, &b.records())];
    let document = documented(&histories);
    check(&document);
    assert_eq!((merge(&document).method, merge(&document).causal_min_ns), (MergeMethod::Realtime, None));
}

proptest! {
    #[test]
    fn no_sleep_turns_times_around(
        sleeps in proptest::array::uniform2(proptest::collection::vec((1..50u64, 0..20u64), 0..5)),
        boot_by in -100..100i128,
        mut times in proptest::collection::vec(0..400u64, 2..40),
    ) {
        let [host, first] = sleeps.map(|sleeps| {
            let (mut mono, mut asleep) = (1, 0);
            let samples: Vec<(u64, i64, u64)> = std::iter::once((0, 0)).chain(sleeps).map(|(awake, slept)| {
                (mono, asleep) = (mono + awake, asleep + slept);
                (mono * 1_000 * MS, 0, asleep * 1_000 * MS)
            }).collect();
            sampled(HostHistory::new(host("h"), ANCHOR, None), &samples)
        });
        let shift = ClockShift::between(&host.clocks, &first.clocks, boot_by * 1_000_000_000, 7);
        times.sort_unstable();
        let moved: Vec<i128> = times.iter().map(|time| shift.moved(time * 500 * MS)).collect();
        prop_assert!(moved.is_sorted(), "{:?} {:?}", moved, shift);
        // While both hosts are awake, a time is the same on both hosts' CLOCK_BOOTTIME.
        for (time, moved) in times.iter().zip(moved) {
            let time = time * 500 * MS;
            let boot = i128::from(time) + host.clocks.asleep_at(time) + boot_by * 1_000_000_000;
            let there = u64::try_from(moved + 7).unwrap_or(0);
            let [early, late] = [there.saturating_sub(1), there].map(|at| i128::from(there) + first.clocks.asleep_at(at));
            prop_assert!(moved + 7 < 0 || (early..=late).contains(&boot), "{} {} {} {:?}", boot, early, late, shift);
        }
    }

    #[test]
    fn symmetric(
        skew_ms in -10_000..10_000i64,
        skew_ns in 0..MS as i64,
        errors in proptest::array::uniform2(proptest::option::of(0..20_000 * MS)),
        back in any::<bool>(),
    ) {
        let [a, b] = hosts(skew_ms * MS as i64 + skew_ns, errors, back);
        let one = documented(&[a.clone(), b.clone()]);
        let other = documented(&[b, a]);
        check(&one);
        check(&other);
        let (here, there) = (merge(&one), merge(&other));
        prop_assert_eq!(here.method, there.method);
        prop_assert_eq!(here.offset_ns, -there.offset_ns);
        prop_assert_eq!((here.early_ns, here.late_ns), (there.late_ns, there.early_ns));
        prop_assert_eq!(here.causal_min_ns, there.causal_max_ns.map(|most| -most));
        prop_assert_eq!(here.causal_max_ns, there.causal_min_ns.map(|least| -least));
        // A guess that exceeds a bound by more than a second is refused.
        let skew = skew_ms * MS as i64 + skew_ns;
        let broken = errors[0].zip(errors[1]).is_some_and(|(one, two)| skew.abs() - SLACK > (one + two + 1_000 * MS) as i64);
        let unpaired = broken && (skew < 0 || back);
        prop_assert_eq!(one.migrations.len(), 1 + usize::from(back) + usize::from(unpaired));
        prop_assert_eq!(one.migrations.len(), other.migrations.len());
        for (one, other) in one.migrations.iter().zip(&other.migrations) {
            prop_assert_eq!(one.verdict, other.verdict);
            let [mine, theirs] = [one, other].map(|migration| migration.downtime.as_ref().unwrap());
            prop_assert_eq!(mine.total_ns, theirs.total_ns);
            prop_assert_eq!(&mine.stages, &theirs.stages);
            prop_assert_eq!((mine.bound, mine.uncertainty_ns), (theirs.bound, theirs.uncertainty_ns));
        }
        // The truth must lie within the document's error if the clocks keep their bounds.
        let honest = errors.iter().all(|error| error.is_none_or(|error| error as i64 >= (skew_ms.abs() + 1) * MS as i64));
        if honest {
            let off = -(skew_ms * MS as i64 + skew_ns) - here.offset_ns;
            prop_assert!(here.early_ns.is_none_or(|early| off <= early as i64), "{} {:?}", off, here);
            prop_assert!(here.late_ns.is_none_or(|late| -off <= late as i64), "{} {:?}", off, here);
            for migration in &one.migrations {
                let downtime = migration.downtime.as_ref().unwrap();
                prop_assert!(holds(downtime, 50 * MS + ARC), "{:?}", downtime);
            }
        }
    }

    #[test]
    fn at_least_is_no_more_than_the_truth(
        skew in -60 * MS as i64..60 * MS as i64,
        more in proptest::array::uniform2(proptest::option::of(0..20 * MS)),
        runs in any::<bool>(),
        stop_seen in any::<bool>(),
        swapped in any::<bool>(),
    ) {
        let a = leave(device(0xd1, "a", 100), 0, MIB);
        let a = if stop_seen { a } else {
            let source = RecordScript::new(0xd1).device_in("a", "mtty", 7, Role::Inventory, Some((PRE_COPY_P2P, 1)));
            let source = source.until(110 * MS).set(&[PRE_COPY_P2P, STOP_COPY], 0, -1);
            read_all(source, 0, MIB).until(200 * MS).set(&[STOP_COPY, STOP], 0, -1)
        };
        let b = device(0xd2, "b", 200);
        let b = if runs { arrive(b, 0, MIB) } else {
            write_all(b, 0, MIB).until(140 * MS).set(&[RESUMING, STOP, RUNNING_P2P], 0, -1)
        };
        // The device stood still at least from 100 ms to 150 ms.
        let truth = 50 * MS + ARC;
        let late = ClockAnchor { mono_ns: 0, real_ns: ANCHOR.real_ns.checked_add_signed(skew).unwrap() };
        // Neither figure is off by more than its error.
        let errors = more.map(|more| more.map(|more| more + skew.unsigned_abs()));
        let mut both = [
            history_on(host("a"), ANCHOR, errors[0], &a.records()),
            history_on(host("b"), late, errors[1], &b.records()),
        ];
        if swapped {
            both.reverse();
        }
        let document = documented(&both);
        check(&document);
        for migration in &document.migrations {
            for downtime in migration.devices.iter().filter_map(|device| device.downtime.as_ref()).chain(&migration.downtime) {
                prop_assert!(holds(downtime, truth), "{:?}", downtime);
            }
        }
    }
}
