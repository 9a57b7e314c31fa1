//! Tests that pairing gives the same result as a comparison of all sources with all destinations, with less work.

use std::cell::Cell;

use proptest::prelude::*;

use super::*;
use crate::{
    event::StreamHash,
    report::document::{MigrationSide, MigrationVerdict},
};

mod known;
mod oracle;

/// Makes a side as the walk over a device's arcs would find it.
fn side(role: SideRole, device: u32, pid: u32, start_ns: u64, end_ns: u64) -> SideAnalysis {
    SideAnalysis {
        role,
        host: 0,
        pid,
        side: MigrationSide {
            device,
            sessions: Vec::new(),
            start_ns,
            end_ns,
            verdict: MigrationVerdict::Completed,
            recovery: None,
            partial: false,
            phases: Vec::new(),
            failures: Vec::new(),
            findings: Vec::new(),
        },
        arcs: Vec::new(),
        stop_ns: None,
        stop_seen: false,
        stop_copy_ns: None,
        ran_ns: None,
        pre_copy: false,
        left_transfer: true,
        cut: None,
        eof: true,
        bytes: 4096,
        stream: None,
        data_failed: false,
        data_incomplete: false,
        bytes_missed: false,
        bytes_unseen: false,
        misses_uncounted: false,
        stopped_before: false,
        state_uncertain: false,
        over_ns: None,
        missed_arc: false,
        unprobed: false,
    }
}

fn device(nr: u32, driver: Option<&str>) -> TracedDevice {
    TracedDevice {
        nr,
        name: Some(format!("dev{nr}")),
        driver: driver.map(ToOwned::to_owned),
        ..TracedDevice::default()
    }
}

const fn tolerance(one: u32, two: u32) -> ClockTolerance {
    if one == two { ClockTolerance { guess: 0, sure: 0 } } else { ClockTolerance { guess: 20, sure: 40 } }
}

/// Returns the migrations, and the number of comparisons of two groups.
fn paired(
    sides: &[SideAnalysis],
    devices: &[TracedDevice],
    pairs: &[(String, String)],
) -> (Vec<GroupPair>, u64) {
    let groups = groups(sides);
    let compared = Cell::new(0);
    let apart_ns = |one: u32, two: u32| {
        compared.set(compared.get() + 1);
        tolerance(one, two)
    };
    let context = PairingContext {
        devices,
        pairs,
        apart_ns: &apart_ns,
        promised: &|_| None,
        refused: &HashSet::new(),
        backwards: &|_, _| false,
        shared: &shared_hashes(sides, &groups),
    };
    let wholes = pair_groups(sides, &groups, &context);
    (wholes, compared.get())
}

/// Makes `count` migrations, one each `apart` ns, of `takes` ns, each on devices of its own.
fn many(count: u32, apart: u64, takes: u64) -> (Vec<SideAnalysis>, Vec<TracedDevice>) {
    let mut sides = Vec::new();
    for nr in 0..count {
        let start = u64::from(nr) * apart;
        let stream = StreamHash { bytes: 4096, crc32: nr };
        for (role, at, later) in [(SideRole::Source, 0, 0), (SideRole::Destination, 1, apart / 2)] {
            let one = side(role, 2 * nr + at, 2 * nr + at, start + later, start + later + takes);
            sides.push(SideAnalysis { stream: Some(stream), ..one });
        }
    }
    (sides, (0..2 * count).map(|nr| device(nr, Some("mtty"))).collect())
}

#[test]
fn ten_thousand_migrations_are_not_compared_each_with_each() {
    // 1 s apart and 0.3 s long; and 1 ms apart and 30 s long, so that all overlap.
    for (apart, takes) in [(1_000_000_000, 300_000_000), (1_000_000, 30_000_000_000)] {
        let mut before = 0;
        for count in [1_000, 10_000u32] {
            let (sides, devices) = many(count, apart, takes);
            let (wholes, compared) = paired(&sides, &devices, &[]);
            assert_eq!(wholes.len(), count as usize, "apart {apart}");
            assert!(wholes.iter().all(|whole| whole.matched.len() == 1));
            let most = u64::from(count) * 200;
            assert!(compared <= most, "apart {apart}: {compared} of {}", u64::from(count).pow(2));
            // Ten times as many migrations: ten times the work.
            assert!(before == 0 || compared <= before * 11, "apart {apart}: {before}, then {compared}");
            before = compared;
        }
    }
}

#[test]
fn groups_of_one_process_are_looked_up() {
    // One process and one device, again and again; and one process with many devices at once.
    let again: Vec<SideAnalysis> =
        (0..100_000).map(|nr| side(SideRole::Source, 0, 1, nr * 10, nr * 10 + 5)).collect();
    assert_eq!(groups(&again).len(), 100_000);
    let at_once: Vec<SideAnalysis> =
        (0..1_000).map(|nr| side(SideRole::Source, nr, 1, nr.into(), 5_000)).collect();
    let groups = groups(&at_once);
    assert_eq!((groups.len(), groups[0].sides.len(), groups[0].end_ns), (1, 1_000, 5_000));
}

fn any_side() -> impl Strategy<Value = SideAnalysis> {
    let who = (any::<bool>(), 0..2u32, 0..6u32, 0..4u32);
    let when = (0..100u64, 0..60u64);
    let what = (0..4u64, proptest::option::of(0..3u32), any::<bool>(), any::<bool>());
    (who, when, what).prop_map(|((source, host, device, pid), (start, took), (bytes, hash, eof, blind))| {
        let role = if source { SideRole::Source } else { SideRole::Destination };
        let one = side(role, device, pid, start, start + took);
        let stream = hash.map(|crc32| StreamHash { bytes, crc32 });
        SideAnalysis { host, eof, bytes, stream, data_incomplete: blind, ..one }
    })
}

/// Makes devices with drivers, and the user's pairs of them.
fn named(drivers: &[Option<u8>], pairs: &[(u32, u32)]) -> (Vec<TracedDevice>, Vec<(String, String)>) {
    let name = |driver: u8| if driver == 0 { "mtty" } else { "mlx5" };
    let devices = (0..).zip(drivers).map(|(nr, driver)| device(nr, driver.map(name))).collect();
    let pairs = pairs.iter().map(|(from, to)| (format!("dev{from}"), format!("dev{to}"))).collect();
    (devices, pairs)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn as_if_all_were_compared(
        sides in proptest::collection::vec(any_side(), 0..=12),
        drivers in proptest::collection::vec(proptest::option::of(0..2u8), 6),
        pairs in proptest::collection::vec((0..7u32, 0..7u32), 0..3),
        refused in proptest::collection::vec((0..12usize, 0..12usize), 0..8),
    ) {
        let (devices, pairs) = named(&drivers, &pairs);
        let refused: HashSet<(usize, usize)> = refused.into_iter().collect();
        let was = oracle::groups(&sides);
        let is = groups(&sides);
        let shared = shared_hashes(&sides, &is);
        prop_assert_eq!(&shared, &oracle::shared_hashes(&sides, &was));
        let context = PairingContext { devices: &devices, pairs: &pairs, apart_ns: &tolerance, promised: &|_| None, refused: &refused, backwards: &|_, _| false, shared: &shared };
        let members = |groups: &[SideGroup]| groups.iter().map(|group| (group.sides.clone(), group.start_ns, group.end_ns)).collect::<Vec<_>>();
        prop_assert_eq!(members(&was), members(&is));
        let shown = |wholes: Vec<GroupPair>| {
            let one = |whole: GroupPair| (whole.source, whole.destination, whole.matched, whole.rivals);
            wholes.into_iter().map(one).collect::<Vec<_>>()
        };
        prop_assert_eq!(shown(oracle::wholes(&sides, &was, &context)), shown(pair_groups(&sides, &is, &context)));
    }

    #[test]
    fn devices_as_if_all_were_compared(
        sides in proptest::collection::vec(any_side(), 0..=24),
        drivers in proptest::collection::vec(proptest::option::of(0..2u8), 6),
        pairs in proptest::collection::vec((0..7u32, 0..7u32), 0..3),
        refused in proptest::collection::vec((0..24usize, 0..24usize), 0..40),
        at_once in any::<bool>(),
        shared in proptest::collection::hash_set((0..4u64, 0..3u32), 0..6),
    ) {
        let (devices, pairs) = named(&drivers, &pairs);
        let refused: HashSet<(usize, usize)> = refused.into_iter().collect();
        let context = PairingContext { devices: &devices, pairs: &pairs, apart_ns: &tolerance, promised: &|_| None, refused: &refused, backwards: &|_, _| false, shared: &shared };
        let of = |role| (0..sides.len()).filter(|at| sides[*at].role == role).collect::<Vec<_>>();
        let (from, to) = (of(SideRole::Source), of(SideRole::Destination));
        let (is, _) = devices::devices(&sides, &from, &to, &context, at_once);
        prop_assert_eq!(oracle::devices(&sides, &from, &to, &context, at_once), is);
    }
}

#[test]
fn twenty_thousand_devices_of_one_process_are_not_compared_each_with_each() {
    let count = 20_000u32;
    let sides = |source: &dyn Fn(u32, SideAnalysis) -> SideAnalysis,
                 destination: &dyn Fn(u32, SideAnalysis) -> SideAnalysis| {
        let sources = (0..count).map(|nr| source(nr, side(SideRole::Source, 2 * nr, 1, 0, 100)));
        let destinations =
            (0..count).map(|nr| destination(nr, side(SideRole::Destination, 2 * nr + 1, 2, 0, 100)));
        sources.chain(destinations).collect::<Vec<SideAnalysis>>()
    };
    let devices: Vec<TracedDevice> = (0..2 * count).map(|nr| device(nr, Some("mtty"))).collect();
    let (from, to): (Vec<usize>, Vec<usize>) = ((0..20_000).collect(), (20_000..40_000).collect());
    let context = PairingContext {
        devices: &devices,
        pairs: &[],
        apart_ns: &tolerance,
        promised: &|_| None,
        refused: &HashSet::new(),
        backwards: &|_, _| false,
        shared: &HashSet::new(),
    };
    let hash = |nr, one| SideAnalysis { stream: Some(StreamHash { bytes: 4096, crc32: nr }), ..one };
    let bytes = |nr: u32, one| SideAnalysis { bytes: 4096 + u64::from(count - nr), ..one };
    let fewer = |nr: u32, one| SideAnalysis {
        bytes: 4096 + 2 * u64::from(nr),
        eof: false,
        data_incomplete: nr.is_multiple_of(2),
        ..one
    };
    let less = |nr: u32, one| SideAnalysis { bytes: 1 + 2 * u64::from(nr), ..one };
    for (sides, by) in [
        (sides(&hash, &hash), PairingReason::StreamHash),
        (sides(&bytes, &bytes), PairingReason::StreamBytes),
        (sides(&|_, one| one, &|_, one| one), PairingReason::Order),
        (sides(&fewer, &less), PairingReason::Time),
    ] {
        let (matched, looked) = devices::devices(&sides, &from, &to, &context, true);
        let told = matched.iter().filter(|one| one.by == by).count();
        assert!(told > 15_000, "{told} {by:?}");
        assert!(looked < u64::from(count) * 200, "{looked} {by:?}");
    }
}

#[test]
fn a_search_for_an_exchange_ends_within_its_limit() {
    // The last source may have any place that was given, and no owner another one than its own.
    let (count, places) = (65, 4_000);
    let sides: Vec<SideAnalysis> = (0..count)
        .map(|nr| side(SideRole::Source, nr, 1, 0, 100))
        .chain((0..places).map(|nr| side(SideRole::Destination, count + nr, 2, 0, 100)))
        .collect();
    let devices: Vec<TracedDevice> = (0..count + places).map(|nr| device(nr, Some("mtty"))).collect();
    let all: Vec<usize> = (0..sides.len()).collect();
    let (from, to) = all.split_at(count as usize);
    let context = PairingContext {
        devices: &devices,
        pairs: &[],
        apart_ns: &tolerance,
        promised: &|_| None,
        refused: &HashSet::new(),
        backwards: &|_, destination| destination >= to[64],
        shared: &HashSet::new(),
    };
    let (matched, looked) = devices::devices(&sides, from, to, &context, true);
    assert_eq!(matched.len(), 64);
    assert!(looked < 4 * u64::from(places), "{looked}");
}

#[test]
fn what_cannot_be_of_one_stream_is_no_pair() {
    let whole = |from: SideAnalysis, to: SideAnalysis| {
        let devices = [device(0, Some("mtty")), device(1, Some("mtty"))];
        let (wholes, _) = paired(&[from, to], &devices, &[]);
        wholes.iter().find_map(|whole| whole.matched.first().map(|one| one.by))
    };
    let from = |bytes| SideAnalysis { bytes, ..side(SideRole::Source, 0, 1, 0, 10) };
    let to = |bytes| SideAnalysis { bytes, ..side(SideRole::Destination, 1, 2, 0, 10) };
    let hash = |crc32, one: SideAnalysis| SideAnalysis {
        stream: Some(StreamHash { bytes: one.bytes, crc32 }),
        ..one
    };
    assert_eq!(whole(from(50), to(50)), Some(PairingReason::StreamBytes));
    // All was seen on both sides, and the data differs.
    assert_eq!(whole(from(50), to(8)), None);
    let cut = SideAnalysis { eof: false, ..from(50) };
    assert_eq!(whole(cut.clone(), to(8)), Some(PairingReason::Time));
    assert_eq!(whole(SideAnalysis { data_incomplete: true, ..from(8) }, to(50)), Some(PairingReason::Time));
    assert_eq!(whole(hash(1, from(50)), hash(1, to(50))), Some(PairingReason::StreamHash));
    assert_eq!(whole(hash(1, from(50)), hash(2, to(50))), None);
    assert_eq!(whole(hash(1, cut.clone()), hash(2, to(50))), None);
    // A stream that was cut off has another hash.
    assert_eq!(whole(hash(1, cut), hash(2, to(8))), Some(PairingReason::Time));
}
