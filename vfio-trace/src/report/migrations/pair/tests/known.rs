//! Tests of what is known of one pair: it counts for that pair, and for the others that are left.

use super::*;

fn of(role: SideRole, nr: u32, start_ns: u64, crc32: Option<u32>) -> SideAnalysis {
    let stream = crc32.map(|crc32| StreamHash { bytes: 4096, crc32 });
    SideAnalysis { stream, ..side(role, nr, nr, start_ns, start_ns + 100) }
}

/// Returns source, destination and reason of each pair, in the order of the sources, and true if others fit as well.
fn found(sides: &[SideAnalysis]) -> Vec<(usize, usize, PairingReason, bool)> {
    let devices: Vec<TracedDevice> = (0..8).map(|nr| device(nr, Some("mtty"))).collect();
    let (wholes, _) = paired(sides, &devices, &[]);
    let of = |whole: &GroupPair| {
        let one = whole.matched.first()?;
        Some((one.source, one.destination, one.by, whole.rivals))
    };
    let mut all: Vec<_> = wholes.iter().filter_map(of).collect();
    all.sort_by_key(|pair| pair.0);
    all
}

#[test]
fn an_equal_hash_is_stronger_than_a_nearer_stranger_with_as_many_bytes() {
    let (source, destination) = (SideRole::Source, SideRole::Destination);
    let hash = PairingReason::StreamHash;
    let of_one = |crc32| {
        found(&[of(source, 0, 0, Some(7)), of(destination, 1, 0, None), of(destination, 2, 10, Some(crc32))])
    };
    assert_eq!(of_one(7), [(0, 2, hash, false)]);
    // Another hash is another stream.
    assert_eq!(of_one(8), [(0, 1, PairingReason::StreamBytes, false)]);
    // The order of two VMs changes nothing.
    let crossed = [
        of(source, 0, 0, Some(7)),
        of(source, 1, 5, None),
        of(destination, 2, 20, Some(7)),
        of(destination, 3, 10, None),
    ];
    let pairs: Vec<_> = found(&crossed).into_iter().map(|pair| (pair.0, pair.1)).collect();
    assert_eq!(pairs, [(0, 2), (1, 3)]);
}

#[test]
fn an_equal_hash_of_several_is_no_proof() {
    let (source, destination) = (SideRole::Source, SideRole::Destination);
    let (bytes, order) = (PairingReason::StreamBytes, PairingReason::Order);
    let hash = Some(7);
    // Two attempts of one VM, or two VMs whose devices are alike.
    let two = [
        of(source, 0, 0, hash),
        of(source, 1, 5, hash),
        of(destination, 2, 0, hash),
        of(destination, 3, 5, hash),
    ];
    assert_eq!(found(&two), [(0, 2, order, true), (1, 3, order, true)]);
    // Of two sources only one is this destination's, and the clocks do not tell which.
    assert_eq!(found(&two[..3]), [(0, 2, order, true)]);
    // At another time it is no rival, as with equal bytes, but the clocks tell that alone.
    let later = [of(source, 0, 0, hash), of(source, 1, 5_000, hash), of(destination, 2, 0, hash)];
    assert_eq!(found(&later), [(0, 2, bytes, false)]);
    // So does a stream of as many bytes whose hash is not known.
    let near = [
        of(source, 0, 10, hash),
        of(source, 1, 5_000, hash),
        of(destination, 2, 20, hash),
        of(destination, 3, 0, None),
    ];
    assert!(matches!(found(&near)[..], [(0, 2 | 3, PairingReason::Order, true)]), "{:?}", found(&near));
    // Two devices of one VM have one partner.
    let alike = |role, nr, pid, hash| SideAnalysis { pid, ..of(role, nr, 0, hash) };
    let vm = [
        alike(source, 0, 0, hash),
        alike(source, 1, 0, hash),
        alike(destination, 2, 2, hash),
        alike(destination, 3, 2, hash),
        of(destination, 4, 0, None),
    ];
    assert_eq!(found(&vm).iter().map(|pair| pair.1).collect::<Vec<_>>(), [2]);
}

#[test]
fn a_group_whose_partner_is_known_is_no_rival() {
    let all = |crc32| {
        found(&[
            of(SideRole::Source, 0, 0, crc32),
            of(SideRole::Source, 1, 5, None),
            of(SideRole::Destination, 2, 0, crc32),
            of(SideRole::Destination, 3, 5, None),
        ])
    };
    let (hash, bytes, order) = (PairingReason::StreamHash, PairingReason::StreamBytes, PairingReason::Order);
    assert_eq!(all(Some(7)), [(0, 2, hash, false), (1, 3, bytes, false)]);
    // Without the hash each fits each.
    assert_eq!(all(None), [(0, 2, order, true), (1, 3, order, true)]);
}

#[test]
fn devices_that_are_alike_are_matched_in_any_order() {
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    for order in orders {
        let mut sides: Vec<SideAnalysis> =
            (0..3).map(|nr| side(SideRole::Source, nr, 1, nr.into(), 100)).collect();
        sides.extend((0..3).map(|nr| side(SideRole::Destination, 3 + nr, 2, order[nr as usize], 100)));
        let devices: Vec<TracedDevice> = (0..6).map(|nr| device(nr, Some("mtty"))).collect();
        // Data was written before it was read.
        let backwards = |source: usize, destination: usize| {
            sides[destination].side.start_ns < sides[source].side.start_ns
        };
        let context = PairingContext {
            devices: &devices,
            pairs: &[],
            apart_ns: &tolerance,
            promised: &|_| None,
            refused: &HashSet::new(),
            backwards: &backwards,
            shared: &HashSet::new(),
        };
        let (matched, _) = devices::devices(&sides, &[0, 1, 2], &[3, 4, 5], &context, true);
        assert_eq!(matched.len(), 3, "{order:?} {matched:?}");
        assert!(matched.iter().all(|one| !backwards(one.source, one.destination)), "{order:?} {matched:?}");
    }
}
