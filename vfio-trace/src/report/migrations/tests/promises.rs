//! Tests of the kernels' error bounds of their clocks: bounds that hold at some times only, and bounds that are
//! exceeded.

use super::{
    clocks::{BOOTED, holds, moved},
    *,
};
use crate::report::document::{MigrationSide, PairingReason};

/// Makes two hosts whose wall clocks agree, and are not synchronised for the first 50 s.
fn unsynchronised_at_first(a: &[RecordScript], b: &[RecordScript]) -> [HostHistory; 2] {
    let late = ClockAnchor { mono_ns: BOOTED, ..ANCHOR };
    let mut both = [
        history_on(host("a"), ANCHOR, None, &together(a)),
        history_on(host("b"), late, None, &moved(together(b), BOOTED)),
    ];
    for (history, began) in both.iter_mut().zip([0, BOOTED]) {
        let distance = history.distance_ns();
        for (at, error) in [(MS, None), (100_000 * MS, Some(MS))] {
            let mono_ns = began + at;
            let real_ns = u64::try_from(i128::from(mono_ns) + distance).unwrap();
            history.sample(ClockAnchor { mono_ns, real_ns }, mono_ns, 0, error);
        }
    }
    both
}

#[test]
fn a_promise_that_was_not_made_once_is_no_matter_of_others() {
    let first = [leave(device(0xd1, "a", 100), 0, 4096), arrive(device(0xd2, "b", 200), 0, 4096)];
    // Two unrelated devices, three quarters of an hour apart, with the same number of bytes.
    let [early, later] = [200_000 * MS, 2_900_000 * MS];
    for (leaves, arrives) in [(early, later), (later, early)] {
        let away = leave(device(0xd3, "c", 300), leaves, MIB).other_files();
        let strange = arrive(device(0xd4, "d", 400), arrives, MIB).other_files();
        let [a, b] = first.clone();
        let document = documented(&unsynchronised_at_first(&[a, away], &[b, strange]));
        check(&document);
        assert_eq!(document.migrations.len(), 3, "{:#?}", document.merge);
        assert_eq!(document.merge[0].offset_ns, 0);
    }
    // Two VMs that are minutes apart are no rivals.
    let pair = |nr: u64| {
        let (at, pid) = ((200 + 300 * nr) * 1_000 * MS, 1_000 + 2 * nr as u32);
        let names = [format!("x{nr}"), format!("y{nr}")];
        let files = |script: RecordScript| (0..=nr).fold(script, |script, _| script.other_files());
        (
            files(leave(device(0x1d1 + 2 * nr, &names[0], pid), at, MIB)),
            files(arrive(device(0x1d2 + 2 * nr, &names[1], pid + 1), at, MIB)),
        )
    };
    let ([a, b], (one, two)) = (first, (pair(0), pair(1)));
    let document = documented(&unsynchronised_at_first(&[a, one.0, two.0], &[b, one.1, two.1]));
    check(&document);
    let by: Vec<_> = document.migrations.iter().map(|one| one.devices[0].paired_by).collect();
    assert_eq!(by, [Some(PairingReason::StreamBytes); 3]);
}

/// Makes the scripts of A's VM, which goes to B, whose clocks are 400 ms behind, and of a second one that goes there
/// `later`, when they are right.
fn slewed(later: u64) -> [Vec<RecordScript>; 2] {
    let (at, second) = (1_000 * MS, 1_000 * MS + later);
    let a = vec![
        leave(device(0xd1, "a", 100), at, MIB),
        leave(device(0xd3, "c", 300), second, 8192).other_files(),
    ];
    let b = vec![
        arrive(device(0xd2, "b", 200), at - 400 * MS, MIB),
        arrive(device(0xd4, "d", 400), second, 8192).other_files(),
    ];
    [a, b]
}

/// Returns the downtime of the device `c`.
fn second(document: &MigrationDocument) -> &DowntimeBreakdown {
    let c = document.devices.iter().position(|device| device.name.as_deref() == Some("c")).unwrap();
    let is = |migration: &&VmMigration| {
        migration.devices[0].source.as_ref().is_some_and(|side| side.device as usize == c)
    };
    document.migrations.iter().find(is).unwrap().downtime.as_ref().unwrap()
}

#[test]
fn a_promise_that_was_broken_once_may_be_kept_at_other_times() {
    let late = ClockAnchor { mono_ns: BOOTED, ..ANCHOR };
    let with = |error, later: u64| {
        let [a, b] = slewed(later);
        [
            history_on(host("a"), ANCHOR, error, &together(&a)),
            history_on(host("b"), late, error, &moved(together(&b), BOOTED)),
        ]
    };
    let unpromised = || {
        let [a, b] = slewed(200_000 * MS);
        unsynchronised_at_first(&a, &b)
    };
    for mut both in [with(Some(MS), 60_000 * MS), unpromised(), with(None, 60_000 * MS)] {
        for _ in 0..2 {
            let document = documented(&both);
            check(&document);
            assert_eq!(document.migrations.len(), 2, "{:#?}", document.merge);
            let merge = &document.merge[0];
            // 400 ms minus the time that a stream takes.
            let by = merge.offset_ns.abs();
            assert!((390 * MS as i64..400 * MS as i64).contains(&by), "{merge:#?}");
            let off = if merge.offset_ns > 0 { merge.late_ns } else { merge.early_ns };
            assert!(off.is_none_or(|off| off as i64 >= by), "{merge:#?}");
            let downtime = second(&document);
            assert!(downtime.bound == DowntimeBound::About && holds(downtime, 50 * MS + ARC), "{downtime:?}");
            both.reverse();
        }
    }
    // In four seconds an NTP daemon may slew a clock by that.
    let document = documented(&with(Some(MS), 4_000 * MS));
    check(&document);
    assert_eq!(document.migrations.len(), 2, "{:#?}", document.merge);
    // At about the same time clocks cannot be both right and wrong.
    let document = documented(&with(Some(MS), 1_000 * MS));
    check(&document);
    assert_eq!((document.migrations.len(), document.merge[0].offset_ns), (3, 0));
    assert_eq!((second(&document).total_ns, second(&document).uncertainty_ns), (50 * MS + ARC, Some(2 * MS)));
}

#[test]
fn what_goes_the_other_way_at_another_time_refuses_nothing() {
    // B's clock is 400 ms behind, more than promised, while a VM goes there; it is right when another one comes back.
    let with = |later: u64| {
        let (at, second) = (1_000 * MS, 1_000 * MS + later);
        let a = [
            leave(device(0xd1, "a", 100), at, MIB),
            arrive(device(0xd3, "c", 300), second, 8192).other_files(),
        ];
        let b = [
            arrive(device(0xd2, "b", 200), at - 400 * MS, MIB),
            leave(device(0xd4, "d", 400), second, 8192).other_files(),
        ];
        let late = ClockAnchor { mono_ns: BOOTED, ..ANCHOR };
        let mut both = [
            history_on(host("a"), ANCHOR, Some(MS), &together(&a)),
            history_on(host("b"), late, Some(MS), &moved(together(&b), BOOTED)),
        ];
        let one = documented(&both);
        both.reverse();
        [one, documented(&both)]
    };
    for document in [with(60_000 * MS), with(4_000 * MS)].concat() {
        check(&document);
        assert_eq!(document.migrations.len(), 2, "{:#?}", document.merge);
        let merge = &document.merge[0];
        assert!(merge.offset_ns.abs().abs_diff(200 * MS as i64) < MS, "{merge:#?}");
        assert!(merge.text.contains("which is not possible at one time"), "{merge:#?}");
        for migration in &document.migrations {
            let downtime = migration.downtime.as_ref().unwrap();
            assert!(holds(downtime, 50 * MS + ARC), "{downtime:?}");
        }
    }
    // At about the same time it does.
    for document in with(1_000 * MS) {
        check(&document);
        assert_eq!((document.migrations.len(), document.merge[0].offset_ns), (3, 0));
        assert!(!document.merge[0].text.contains("which is not possible"), "{:#?}", document.merge);
    }
}

/// Makes two devices of one VM with the same number of bytes, the second 20 ms after the first; the second arrives
/// first.
fn crosswise() -> [Vec<RecordScript>; 2] {
    let a = vec![
        leave(device(0xd1, "a", SOURCE), 0, MIB),
        leave(device(0xd3, "c", SOURCE).thread(SOURCE, 450), 20 * MS, MIB).other_files(),
    ];
    let b =
        device(0xd2, "b", DESTINATION).until(10 * MS).set(&[RUNNING, RUNNING_P2P, STOP, RESUMING], TO, 40);
    let b = b.until(31 * MS).write(TO, 24, 0).until(125 * MS).write(TO, MIB, 24);
    let d = device(0xd4, "d", DESTINATION).thread(DESTINATION, 850);
    let d = d.until(5 * MS).set(&[RUNNING, RUNNING_P2P, STOP, RESUMING], TO, 41);
    let d = d.until(50 * MS).write(TO, 24, 0).until(145 * MS).write(TO, MIB, 24);
    let over = |script: RecordScript, at: u64| {
        let script = script.until(at).set(&[RESUMING, STOP, RUNNING_P2P], 0, -1).release(TO, 24 + MIB);
        script.until(at + 10 * MS).set(&[RUNNING_P2P, RUNNING], 0, -1)
    };
    [a, vec![over(b, 150 * MS), over(d, 160 * MS).other_files()]]
}

#[test]
fn devices_that_are_alike_are_not_paired_crosswise() {
    let [a, b] = crosswise();
    let late = ClockAnchor { mono_ns: BOOTED, ..ANCHOR };
    let two = |error| {
        [
            history_on(host("a"), ANCHOR, error, &together(&a)),
            history_on(host("b"), late, error, &moved(together(&b), BOOTED)),
        ]
    };
    let one = history(&[a.clone(), b.clone()].concat());
    for histories in [&[one][..], &two(Some(MS)), &two(Some(500 * MS)), &two(None)] {
        let document = documented(histories);
        check(&document);
        assert_eq!(document.migrations.len(), 1, "{:#?}", document.merge);
        let migration = &document.migrations[0];
        let by: Vec<_> = migration.devices.iter().map(|device| device.paired_by).collect();
        assert_eq!(by, [Some(PairingReason::Order); 2]);
        // No clock has to be moved, however the devices are paired.
        assert!(document.merge.iter().all(|merge| merge.offset_ns == 0), "{:#?}", document.merge);
        let downtime = migration.downtime.as_ref().unwrap();
        assert!(holds(downtime, 70 * MS + ARC), "{downtime:?}");
        let name = |side: &MigrationSide| document.devices[side.device as usize].name.clone();
        let names = |device: &DeviceMigration| {
            [&device.source, &device.destination].map(|side| side.as_ref().and_then(name))
        };
        // One clock, or clocks with small enough error bounds, decide.
        if histories.len() == 1 || document.merge[0].clock_error_ns == Some(2 * MS) {
            let all: Vec<_> = migration.devices.iter().map(names).collect();
            let pair = |from: &str, to: &str| [Some(from.to_owned()), Some(to.to_owned())];
            assert_eq!(all, [pair("a", "b"), pair("c", "d")]);
        }
    }
}
