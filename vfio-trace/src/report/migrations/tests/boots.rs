//! Tests of several recordings of one boot, and of hosts with very many migrations.

use std::time::{Duration, Instant};

use super::{
    clocks::{BOOTED, document_of, holds, moved},
    *,
};
use crate::report::document::MergeMethod;

#[test]
fn recordings_of_one_boot_move_together() {
    let late = ClockAnchor { mono_ns: BOOTED, real_ns: ANCHOR.real_ns - 5_000 * MS };
    let later = |nr: u64| nr * 10_000 * MS;
    // The device that the user pairs is in B's first recording; the second has one that is guessed, and the end of what
    // began in the first.
    let a =
        [leave(device(0xd1, "a", 100), 0, MIB), leave(device(0xd3, "c", 300), later(1), 8192).other_files()];
    let first = [
        arrive(device(0xd2, "b", 200), 0, MIB),
        leave(device(0xd5, "e", 500), later(2), 16384).other_files(),
    ];
    let second = [
        arrive(device(0xd4, "d", 400), later(1), 8192),
        arrive(device(0xd6, "f", 600), later(2), 16384).other_files(),
    ];
    let on_b = |scripts| history_on(host("b"), late, Some(MS), &moved(together(scripts), BOOTED));
    let histories = [history_on(host("a"), ANCHOR, Some(MS), &together(&a)), on_b(&first), on_b(&second)];
    let document = document_of(&histories, &[("a".to_owned(), "b".to_owned())]);
    check(&document);
    assert_eq!(document.migrations.len(), 3, "{:#?}", document.merge);
    let [one, two] = &document.merge[..] else { panic!("{:#?}", document.merge) };
    assert_eq!((one.method, two.method), (MergeMethod::Causality, MergeMethod::Causality));
    assert_eq!((one.offset_ns, one.late_ns), (two.offset_ns, two.late_ns));
    assert!(two.text.contains("one clock with another") && two.text.ends_with(&one.text), "{}", two.text);
    for migration in &document.migrations {
        let downtime = migration.downtime.as_ref().unwrap();
        assert!(holds(downtime, 50 * MS + ARC), "{downtime:?}");
        let hosts = [&migration.source, &migration.destination].map(|side| side.as_ref().unwrap().host);
        assert_eq!(downtime.bound == DowntimeBound::Exact, hosts == [1, 2], "{downtime:?}");
    }
}

#[test]
fn ten_thousand_migrations_between_two_hosts() {
    let all = |script: RecordScript, of: fn(RecordScript, u64, i64) -> RecordScript| {
        let one = |script: RecordScript, nr: u32| {
            of(script, u64::from(nr) * 1_000 * MS, 4096 + i64::from(nr)).close(1).open(1)
        };
        (0..10_000).fold(script, one).records()
    };
    let (a, b) = (all(device(0xd1, "a", 100), leave), all(device(0xd2, "b", 200), arrive));
    let late = ClockAnchor { mono_ns: BOOTED, ..ANCHOR };
    let both = [
        history_on(host("a"), ANCHOR, Some(MS), &a),
        history_on(host("b"), late, Some(MS), &moved(b, BOOTED)),
    ];
    let begun = Instant::now();
    let document = documented(&both);
    assert_eq!(document.migrations.len(), 10_000);
    assert!(document.migrations.iter().all(|one| one.source.is_some() && one.destination.is_some()));
    // A few seconds on a slow machine; an algorithm that looks at all sessions for each session takes minutes.
    assert!(begun.elapsed() < Duration::from_mins(1), "{:?}", begun.elapsed());
}
