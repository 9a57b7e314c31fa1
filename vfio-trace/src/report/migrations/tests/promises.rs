//! What kernels promise of their clocks, when they do, and what is made of a promise that is not kept.

use super::{
    clocks::{BOOTED, moved},
    *,
};
use crate::report::document::PairingReason;

/// Two hosts whose wall clocks agree, and are not synchronised for the first 50 s.
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
    // Strangers, three quarters of an hour apart, with as many bytes.
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
    // Two that are minutes apart are no rivals.
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
