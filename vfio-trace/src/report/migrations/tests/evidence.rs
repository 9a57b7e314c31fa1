//! Tests of what a pair shows of the clocks, and of the times for which a promise counts.

use super::{
    clocks::{BOOTED, holds, moved},
    *,
};
use crate::{
    driver::fixture,
    event::{CaptureMoment, DriverImage, EventData, StreamHash, VfioEvent},
    report::{document::PairingReason, migrations::clocks::StreamSlack},
};

const LATE: ClockAnchor = ClockAnchor { mono_ns: BOOTED, ..ANCHOR };

/// Adds clock readings to B's history: time of CLOCK_MONOTONIC, change of the wall clock, the kernel's bound.
fn sampled(mut history: HostHistory, samples: &[(u64, u64, Option<u64>)]) -> HostHistory {
    for (mono_ns, ahead_ns, error_ns) in samples {
        let real_ns = LATE.real_ns + (mono_ns - LATE.mono_ns) + ahead_ns;
        history.sample(ClockAnchor { mono_ns: *mono_ns, real_ns }, *mono_ns, 0, *error_ns);
    }
    history
}

#[test]
fn one_clock_is_stronger_than_an_equal_hash() {
    let hashed = |script: &RecordScript| {
        let mut history = HostHistory::new(host("a"), ANCHOR, None);
        for event in script.events() {
            history.apply(&event);
            let EventData::SetState(request) = &event.data else { continue };
            let Some(session) = request.session else { continue };
            let layout = fixture::layout("saving_migf", &[("a", 4, 1)], &[]);
            let image = fixture::image(&layout, CaptureMoment::SetState, &[]);
            let stream = Some(StreamHash { bytes: 24 + MIB as u64, crc32: 7 });
            let data = EventData::Image(DriverImage { stream, session: Some(session), ..image });
            history.apply(&VfioEvent { data, ..event.clone() });
        }
        history
    };
    let paired = |written_at: u64| {
        let both = [
            hashed(&leave(device(0xd1, "a", 100), 20 * MS, MIB)),
            hashed(&arrive(device(0xd2, "b", 200), written_at, MIB)),
        ];
        let document = documented(&both);
        check(&document);
        document.migrations.iter().find_map(|one| one.devices[0].paired_by)
    };
    assert_eq!(paired(20 * MS), Some(PairingReason::StreamHash));
    // The data was written before it was read.
    assert_eq!(paired(12 * MS), None);
}

#[test]
fn a_device_by_time_alone_moves_no_clock() {
    // Of two devices of a VM one is known by its bytes. The other one's stream was cut off; what its partner was given
    // by then was written before it was read.
    let c = stop(device(0xd3, "c", SOURCE).thread(SOURCE, 450), 50 * MS);
    let c = c.until(170 * MS).read(FROM, 1 << 20, 8192, 24).until(250 * MS).set(&[STOP_COPY, STOP], 0, -1);
    let d = arrive(device(0xd4, "d", DESTINATION).thread(DESTINATION, 850), 0, 4096);
    let a = [leave(device(0xd1, "a", SOURCE), 0, MIB), c.other_files()];
    let b = [arrive(device(0xd2, "b", DESTINATION), 0, MIB), d.other_files()];
    for error in [None, Some(MS), Some(50 * MS)] {
        let mut both = [
            history_on(host("a"), ANCHOR, error, &together(&a)),
            history_on(host("b"), LATE, error, &moved(together(&b), BOOTED)),
        ];
        for _ in 0..2 {
            let document = documented(&both);
            check(&document);
            assert_eq!(document.merge[0].offset_ns, 0, "{:#?}", document.merge);
            let vm = document.migrations.iter().find(|one| one.devices.len() > 1).unwrap();
            let by: Vec<_> = vm.devices.iter().filter_map(|device| device.paired_by).collect();
            assert_eq!(by[0], PairingReason::StreamBytes);
            assert!(holds(vm.devices[0].downtime.as_ref().unwrap(), 50 * MS + ARC), "{vm:?}");
            // A promise is one for a guess, too.
            let time = (error != Some(MS)).then_some(&PairingReason::Time);
            assert_eq!(by.get(1), time, "{error:?}");
            both.reverse();
        }
    }
}

#[test]
fn what_two_streams_show_holds_at_the_end_of_the_later_one() {
    let second = 1_000_000_000i128;
    let early = StreamSlack { least: 5, then: 5, until_ns: 0 };
    let later = |slack| StreamSlack { least: slack, then: slack, until_ns: 6 * second };
    let both = early.and(later(7));
    assert_eq!((both, later(7).and(early)), (StreamSlack { least: 5, ..later(7) }, both));
    // The clocks may have drifted from each other by a sixth of the time.
    let both = early.and(later(4 * second));
    assert_eq!((both.least, both.until_ns), (5, 6 * second));
    assert!((second + 5..second + second / 1_000).contains(&both.then), "{both:?}");
}

#[test]
fn an_error_at_all_times_is_that_of_the_worst_promise() {
    let scripts = [leave(device(0xd1, "a", 100), 0, MIB), arrive(device(0xd2, "b", 200), 0, MIB)];
    for (worst, error_ns) in [(Some(40 * MS), Some(41 * MS)), (None, None)] {
        let b = history_on(host("b"), LATE, Some(MS), &moved(scripts[1].records(), BOOTED));
        // Minutes after the only stream.
        let samples = [(BOOTED, 0, Some(MS)), (BOOTED + 600_000 * MS, 0, worst)];
        let mut both = [history_on(host("a"), ANCHOR, Some(MS), &scripts[0].records()), sampled(b, &samples)];
        for _ in 0..2 {
            let document = documented(&both);
            check(&document);
            let merge = &document.merge[0];
            assert_eq!(merge.clock_error_ns, error_ns, "{merge:?}");
            // At the time of the stream it is less.
            let downtime = downtime(&document);
            assert!(downtime.uncertainty_ns.is_some_and(|off| off <= 2 * MS), "{downtime:?}");
            both.reverse();
        }
    }
}

#[test]
fn a_promise_is_one_for_the_clock_as_it_was_set_then() {
    // B's clock runs slow by 2 s in ten minutes, and is set right between two migrations.
    let (second, off) = (600_000 * MS, 2_000 * MS);
    let a =
        [leave(device(0xd1, "a", 100), 0, MIB), leave(device(0xd3, "c", 300), second, 8192).other_files()];
    let b = [
        arrive(device(0xd2, "b", 200), 0, MIB),
        arrive(device(0xd4, "d", 400), second - off, 8192).other_files(),
    ];
    let b = history_on(host("b"), LATE, Some(MS), &moved(together(&b), BOOTED));
    let samples = [0, 0, off, off].into_iter().zip([0, 200_000, 400_000, 700_000]);
    let samples: Vec<_> = samples.map(|(ahead, at)| (BOOTED + at * MS, ahead, Some(MS))).collect();
    let mut both = [history_on(host("a"), ANCHOR, Some(MS), &together(&a)), sampled(b, &samples)];
    for _ in 0..2 {
        let document = documented(&both);
        check(&document);
        assert_eq!(document.migrations.len(), 2, "{:#?}", document.merge);
        for migration in &document.migrations {
            let downtime = migration.downtime.as_ref().unwrap();
            assert!(holds(downtime, 50 * MS + ARC), "{downtime:?}");
        }
        let error = document.merge[0].clock_error_ns;
        assert_eq!(error, Some(off + 2 * MS));
        both.reverse();
    }
}

#[test]
fn a_promise_counts_if_it_was_kept_up_for_the_whole_side() {
    let scripts = [leave(device(0xd1, "a", 100), 0, MIB), arrive(device(0xd2, "b", 200), 0, MIB)];
    for (later, off) in [(Some(MS), Some(2 * MS)), (Some(30 * MS), Some(31 * MS)), (None, None)] {
        let b = history_on(host("b"), LATE, Some(MS), &moved(scripts[1].records(), BOOTED));
        // From 70 ms on: after the destination's fd was made, and before it runs.
        let b = sampled(b, &[(BOOTED, 0, Some(MS)), (BOOTED + 140 * MS, 0, later)]);
        let mut both = [history_on(host("a"), ANCHOR, Some(MS), &scripts[0].records()), b];
        for _ in 0..2 {
            let document = documented(&both);
            check(&document);
            assert_eq!(downtime(&document).uncertainty_ns, off, "{:#?}", document.merge);
            both.reverse();
        }
    }
}

#[test]
fn a_promise_is_one_for_two_hosts_after_the_first() {
    // The data is written 10 s before it is read.
    let a = device(0xd1, "a", 100).until(10 * MS).set(&[RUNNING, PRE_COPY], FROM, 31);
    let a =
        a.until(20 * MS).read(FROM, 1 << 20, 24, 0).until(10_100 * MS).set(&[PRE_COPY, PRE_COPY_P2P], 0, -1);
    let a = read_all(a.until(10_110 * MS).set(&[PRE_COPY_P2P, STOP_COPY], 0, -1), 10_000 * MS, MIB);
    let a = a.until(10_200 * MS).set(&[STOP_COPY, STOP], 0, -1).release(FROM, 24 + MIB);
    let b = write_all(device(0xd2, "b", 200), 0, MIB).until(10_140 * MS);
    let b = b.set(&[RESUMING, STOP, RUNNING_P2P], 0, -1).release(TO, 24 + MIB);
    let b = b.until(10_150 * MS).set(&[RUNNING_P2P, RUNNING], 0, -1);
    let other = RecordScript::new(0xd9).device("other", "mtty", 7).open(1);
    let both = [
        history_on(host("a"), ANCHOR, Some(MS), &a.records()),
        history_on(host("b"), LATE, Some(MS), &moved(b.records(), BOOTED)),
    ];
    let other = history_on(host("o"), ANCHOR, Some(MS), &other.records());
    let [a, b] = both;
    for all in [&[a.clone(), b.clone()][..], &[other.clone(), a.clone(), b.clone()], &[other, b, a]] {
        let document = documented(all);
        check(&document);
        assert_eq!(document.migrations.len(), 2, "{:#?}", document.merge);
    }
}
