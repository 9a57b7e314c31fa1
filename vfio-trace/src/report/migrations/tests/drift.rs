//! Tests of clocks that drift within their promises, or without one: what a stream shows of them holds at its time.

use super::{
    clocks::{BOOTED, holds, moved},
    *,
};

/// Offset of B's clock in most tests: it is so much behind at first.
const OFF: u64 = 30 * MS;

/// Makes both hosts of these scripts. Their kernels' bounds, each from a time on, are the same.
fn bounded(a: &[RecordScript], b: &[RecordScript], errors: &[(u64, Option<u64>)]) -> [HostHistory; 2] {
    let late = ClockAnchor { mono_ns: BOOTED, ..ANCHOR };
    let mut both = [
        history_on(host("a"), ANCHOR, errors[0].1, &together(a)),
        history_on(host("b"), late, errors[0].1, &moved(together(b), BOOTED)),
    ];
    for (history, began) in both.iter_mut().zip([0, BOOTED]) {
        let distance = history.distance_ns();
        for (at, error) in errors {
            let mono_ns = began + at;
            let real_ns = u64::try_from(i128::from(mono_ns) + distance).unwrap();
            history.sample(ClockAnchor { mono_ns, real_ns }, mono_ns, 0, *error);
        }
    }
    both
}

/// Makes two VMs that go from A to B, the second one so much later, when B's clock is right.
fn two_ways(later: u64) -> [[RecordScript; 2]; 2] {
    let (at, second) = (1_000 * MS, 1_000 * MS + later);
    let a =
        [leave(device(0xd1, "a", 100), at, MIB), leave(device(0xd3, "c", 300), second, 8192).other_files()];
    let b = [
        arrive(device(0xd2, "b", 200), at - OFF, MIB),
        arrive(device(0xd4, "d", 400), second, 8192).other_files(),
    ];
    [a, b]
}

/// Makes the document in both orders of the hosts.
fn both_orders(mut both: [HostHistory; 2]) -> [MigrationDocument; 2] {
    let one = documented(&both);
    both.reverse();
    [one, documented(&both)]
}

/// Checks that all downtimes are true, and returns them in order.
fn true_downtimes(document: &MigrationDocument) -> Vec<&DowntimeBreakdown> {
    check(document);
    let all: Vec<_> = document.migrations.iter().filter_map(|one| one.downtime.as_ref()).collect();
    assert_eq!(all.len(), document.migrations.len(), "{:#?}", document.merge);
    for downtime in &all {
        assert!(holds(downtime, 50 * MS + ARC), "{downtime:?}");
    }
    all
}

/// Returns the largest errors of the second host's times: in the direction in which it was moved, and the other one.
fn errors(document: &MigrationDocument) -> [Option<u64>; 2] {
    let merge = &document.merge[0];
    if merge.offset_ns >= 0 { [merge.late_ns, merge.early_ns] } else { [merge.early_ns, merge.late_ns] }
}

#[test]
fn what_one_stream_shows_is_not_certain_hours_later() {
    let [a, b] = two_ways(10_000_000 * MS);
    for document in both_orders(bounded(&a, &b, &[(0, Some(50 * MS))])) {
        let all = true_downtimes(&document);
        assert_eq!(all.len(), 2);
        // The stream itself shows that its VM did not stand still for less.
        assert_eq!(all[0].bound, DowntimeBound::AtLeast);
        assert_eq!(all[1].bound, DowntimeBound::About);
        let off = document.merge[0].offset_ns.unsigned_abs();
        assert!((OFF - 5 * MS..OFF).contains(&off), "{:#?}", document.merge);
        // The promise is the sum of both.
        assert_eq!(errors(&document), [Some(100 * MS + off), Some(100 * MS - off)]);
        assert!(!document.merge[0].text.contains(" 0.000 ms"), "{}", document.merge[0].text);
    }
}

#[test]
fn what_nobody_promised_then_shows_nothing_of_what_is_promised_later() {
    let [a, b] = two_ways(10_000_000 * MS);
    for promise in [MS, 50 * MS] {
        let both = bounded(&a, &b, &[(0, None), (5_000_000 * MS, Some(promise))]);
        for document in both_orders(both) {
            let all = true_downtimes(&document);
            assert_eq!((all.len(), all[1].bound), (2, DowntimeBound::About), "{promise}");
        }
    }
}

#[test]
fn one_way_bounds_the_other_at_about_that_time() {
    // B's clock drifts by 20 ms in an hour and 20 minutes.
    let back = 5_000_000 * MS;
    for (ahead, behind) in [(20 * MS, 0), (0, 20 * MS), (2 * MS, 0), (0, 0)] {
        let a = [leave(device(0xd1, "a", 100), 0, MIB), arrive(device(0xd3, "c", 300), back + behind, 4096)];
        let b = [arrive(device(0xd2, "b", 200), 0, MIB), leave(device(0xd4, "d", 400), back + ahead, 4096)];
        let [a, b] = [a, b].map(|[one, other]| [one, other.other_files()]);
        for document in both_orders(bounded(&a, &b, &[(0, None)])) {
            let all = true_downtimes(&document);
            assert_eq!(all.len(), 2);
        }
    }
    // B's clock was 20 ms behind at first, which a stream that took longer hides.
    let a = [leave(device(0xd1, "a", 100), 0, MIB), arrive(device(0xd3, "c", 300), back, 4096)];
    let b = [arrive(device(0xd2, "b", 200), 10 * MS, MIB), leave(device(0xd4, "d", 400), back, 4096)];
    let [a, b] = [a, b].map(|[one, other]| [one, other.other_files()]);
    for document in both_orders(bounded(&a, &b, &[(0, None)])) {
        check(&document);
        let all = document.migrations.iter().map(|one| one.downtime.as_ref().unwrap());
        for (downtime, truth) in all.zip([80, 50]) {
            assert!(holds(downtime, truth * MS + ARC), "{downtime:?}");
        }
    }
    // At once it bounds it well.
    let a = [leave(device(0xd1, "a", 100), 0, MIB), arrive(device(0xd3, "c", 300), 400 * MS, 4096)];
    let b = [arrive(device(0xd2, "b", 200), 0, MIB), leave(device(0xd4, "d", 400), 400 * MS, 4096)];
    let [a, b] = [a, b].map(|[one, other]| [one, other.other_files()]);
    for document in both_orders(bounded(&a, &b, &[(0, None)])) {
        let all = true_downtimes(&document);
        let most = 15 * MS + 400 * MS / 6;
        assert!(all.iter().all(|one| one.uncertainty_ns.is_some_and(|off| off < most)), "{all:?}");
    }
}

#[test]
fn what_there_and_back_show_is_less_certain_a_day_later() {
    let (back, day) = (1_000 * MS, 86_400_000 * MS);
    let a = [
        leave(device(0xd1, "a", 100), 0, MIB),
        arrive(device(0xd3, "c", 300), back, 4096).other_files(),
        leave(device(0xd5, "e", 500), day, 8192).other_files().other_files(),
    ];
    for drift in [-3_000 * MS as i64, 3_000 * MS as i64] {
        let b = [
            arrive(device(0xd2, "b", 200), 0, MIB),
            leave(device(0xd4, "d", 400), back, 4096).other_files(),
            arrive(device(0xd6, "f", 600), day.checked_add_signed(drift).unwrap(), 8192)
                .other_files()
                .other_files(),
        ];
        for document in both_orders(bounded(&a, &b, &[(0, None)])) {
            assert_eq!(true_downtimes(&document).len(), 3);
        }
    }
}

#[test]
fn a_device_that_was_gone_by_then_does_not_run_too() {
    // The destination runs for 150 ms; the source runs again 20 ms after that.
    let second = 10_001_000 * MS;
    let both_run = |second: u64, off: u64| {
        let [[a, _], [b, _]] = two_ways(0);
        let c = device(0xd3, "c", 300);
        let c = read_all(stop(c, second), second, 8192).until(second + 160 * MS);
        let c = c.set(&[STOP_COPY, STOP], 0, -1).until(second + 320 * MS);
        let c = c.set(&[STOP, RUNNING_P2P, RUNNING], 0, -1).wait(500 * MS).other_files();
        let d = arrive(device(0xd4, "d", 400), second, 8192).until(second + 300 * MS + off).close(1);
        let both = bounded(&[a, c], &[b, d.other_files()], &[(0, Some(50 * MS))]);
        both_orders(both).map(|document| {
            check(&document);
            let [_, second] = &document.migrations[..] else { panic!("{:#?}", document.migrations) };
            codes(second).contains(&"both-run")
        })
    };
    assert_eq!(both_run(second, 0), [false; 2]);
    // It would have to have run for much longer.
    assert_eq!(both_run(second, 300 * MS), [true; 2]);
}

#[test]
fn what_runs_again_a_day_later_is_as_uncertain_as_the_clocks_are_then() {
    // The destination was closed 20 ms before; B's clock is ahead by 300 ms then.
    let (back, day) = (1_000 * MS, 86_400_000 * MS);
    let both_run = |closed: u64| {
        let a = leave(device(0xd1, "a", 100), 0, MIB).until(day).set(&[STOP, RUNNING_P2P, RUNNING], 0, -1);
        let b = arrive(device(0xd2, "b", 200), 0, MIB).until(closed).close(1);
        let a = [a, arrive(device(0xd3, "c", 300), back, 4096).other_files()];
        let b = [b, leave(device(0xd4, "d", 400), back, 4096).other_files()];
        both_orders(bounded(&a, &b, &[(0, None)])).map(|document| {
            check(&document);
            codes(&document.migrations[0]).contains(&"both-run")
        })
    };
    assert_eq!(both_run(day - 20 * MS + 300 * MS), [false; 2]);
    // It ran for hours more.
    assert_eq!(both_run(day + day / 5), [true; 2]);
}
