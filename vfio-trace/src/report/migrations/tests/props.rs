//! Tests of properties that hold for any actions in any order, and for any records at all.

use proptest::prelude::*;

use super::*;

/// Adds a step that a VMM may try, sensible or not.
fn act(script: RecordScript, what: u8) -> RecordScript {
    match what {
        0 => script.set(&[RUNNING, PRE_COPY], FROM, 31),
        1 => script.set(&[PRE_COPY, PRE_COPY_P2P], 0, -1),
        2 => script.set(&[PRE_COPY_P2P, STOP_COPY], 0, -1),
        3 => script.set(&[STOP_COPY, STOP], 0, -1),
        4 => script.set(&[RUNNING, RUNNING_P2P, STOP, RESUMING], TO, 40),
        5 => script.set(&[RESUMING, STOP, RUNNING_P2P], 0, -1),
        6 => script.set(&[RUNNING_P2P, RUNNING], 0, -1),
        7 => script.set(&[PRE_COPY_P2P, RUNNING_P2P, RUNNING], 0, -1),
        8 => script.set_fails(&[PRE_COPY, STOP_COPY], -5),
        9 => script.set_fails(&[RUNNING, STOP], -16),
        10 => script.read(FROM, 1 << 20, 4096, 0),
        11 => script.read(FROM, 1 << 20, 0, 4096),
        12 => script.read(FROM, 1 << 20, -5, 0),
        13 => script.write(TO, 4096, 0),
        14 => script.write(TO, -14, 0),
        15 => script.reset(0),
        16 => script.close(1).open(1),
        17 => script.precopy_info(FROM, 24, 5),
        18 => script.release(FROM, 4096),
        19 => script.set_without_fd(&[STOP, STOP_COPY], FROM),
        20 => script.set(&[STOP, RUNNING_P2P, RUNNING], 0, -1),
        21 => script.set(&[RUNNING, RUNNING_P2P, STOP, STOP_COPY], FROM, 31),
        22 => script.data_size(4096),
        _ => script.get_state(RUNNING),
    }
}

/// Makes two devices of one VM, or of two, at any time.
fn any_actions() -> impl Strategy<Value = [RecordScript; 2]> {
    let actions = || proptest::collection::vec((0..24u8, 0..50_000_000u64), 0..30);
    (actions(), actions(), any::<bool>()).prop_map(|(one, other, same)| {
        let run = |script: RecordScript, actions: Vec<(u8, u64)>| {
            actions.into_iter().fold(script, |script, (what, wait)| act(script.wait(wait), what))
        };
        let pid = if same { 100 } else { 200 };
        [run(device(0xd1, "a", 100), one), run(device(0xd2, "b", pid).thread(pid, 201), other).other_files()]
    })
}

proptest! {
    #[test]
    fn any_interleaving(scripts in any_actions()) {
        let document = traced(&scripts);
        check(&document);
        let again = serde_json::to_string(&traced(&scripts)).unwrap();
        prop_assert_eq!(serde_json::to_string(&document).unwrap(), again);
        let starts: Vec<u64> = document.migrations.iter().map(|migration| migration.start_ns).collect();
        prop_assert!(starts.is_sorted());
        for (nr, migration) in (0..).zip(&document.migrations) {
            prop_assert_eq!(migration.nr, nr);
            prop_assert!(!migration.devices.is_empty());
            prop_assert!(migration.source.is_some() || migration.destination.is_some());
        }
        // A session moved what its parts moved.
        for session in &document.sessions {
            prop_assert_eq!(session.bytes, session.parts.iter().map(|part| part.bytes).sum::<u64>());
        }
        let sink = crate::output::report_text;
        prop_assert!(!sink(&document, &jiff::tz::TimeZone::UTC, false).is_empty());
    }

    #[test]
    fn any_interleaving_on_two_hosts(scripts in any_actions(), skew in -1_000_000_000..1_000_000_000i64) {
        let anchor = ClockAnchor { mono_ns: 0, real_ns: ANCHOR.real_ns.checked_add_signed(skew).unwrap() };
        let [a, b] = scripts.map(|script| script.records());
        let histories = [
            history_on(host("a"), ANCHOR, Some(5), &a),
            history_on(host("b"), anchor, None, &b),
        ];
        check(&documented(&histories));
    }

    #[test]
    fn any_records(
        one in proptest::collection::vec(any_record(), 0..80),
        other in proptest::collection::vec(any_record(), 0..20),
    ) {
        let histories = [
            history_on(host("a"), ANCHOR, None, &one),
            history_on(host("b"), ClockAnchor::default(), Some(u64::MAX), &other),
        ];
        for histories in [&histories[..1], &histories[..]] {
            let document = documented(histories);
            for migration in &document.migrations {
                for downtime in migration.devices.iter().filter_map(|device| device.downtime.as_ref()) {
                    let shares = downtime.stages.iter().map(|time| time.share_ns);
                    prop_assert_eq!(shares.sum::<u64>(), downtime.total_ns);
                }
            }
            prop_assert!(!crate::output::report_text(&document, &jiff::tz::TimeZone::UTC, true).is_empty());
        }
    }
}
