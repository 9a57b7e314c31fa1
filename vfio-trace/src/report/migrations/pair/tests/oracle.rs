//! Reference implementation of pairing: it compares all sources with all destinations. Slow, but simple.

use std::collections::HashSet;

use super::super::{DeviceMatch, GroupPair, PairingContext, SideGroup, devices::is_whole, fit::fit};
use crate::{
    event::StreamHash,
    report::{
        document::PairingReason,
        migrations::side::{SideAnalysis, SideRole},
    },
};

/// Groups sides of one process that overlap in time.
pub(super) fn groups(sides: &[SideAnalysis]) -> Vec<SideGroup> {
    let mut order: Vec<usize> = (0..sides.len()).collect();
    order.sort_by_key(|at| (sides[*at].side.start_ns, *at));
    let mut groups: Vec<SideGroup> = Vec::new();
    for at in order {
        let found = &sides[at];
        let same = |group: &&mut SideGroup| {
            let first = &sides[group.sides[0]];
            group.role == found.role
                && (first.host, first.pid) == (found.host, found.pid)
                && found.side.start_ns <= group.end_ns
                && !group.sides.iter().any(|other| sides[*other].side.device == found.side.device)
        };
        match groups.iter_mut().rev().find(same) {
            Some(group) => {
                group.sides.push(at);
                group.end_ns = group.end_ns.max(found.side.end_ns);
            },
            None => groups.push(SideGroup {
                role: found.role,
                sides: vec![at],
                start_ns: found.side.start_ns,
                end_ns: found.side.end_ns,
            }),
        }
    }
    groups
}

/// Returns the hashes that streams of several groups of one role have.
pub(super) fn shared_hashes(sides: &[SideAnalysis], groups: &[SideGroup]) -> HashSet<(u64, u32)> {
    let has = |group: &SideGroup, hash| group.sides.iter().any(|at| sides[*at].stream == Some(hash));
    let several = |hash: &StreamHash| {
        [SideRole::Source, SideRole::Destination]
            .into_iter()
            .any(|role| groups.iter().filter(|group| group.role == role && has(group, *hash)).count() > 1)
    };
    let all = sides.iter().filter_map(|found| found.stream).filter(several);
    all.map(|hash| (hash.bytes, hash.crc32)).collect()
}

/// Pairs source groups with destination groups.
pub(super) fn wholes(
    sides: &[SideAnalysis],
    groups: &[SideGroup],
    context: &PairingContext<'_>,
) -> Vec<GroupPair> {
    struct OracleCandidate {
        key: (u8, usize, u64, u64),
        source: usize,
        destination: usize,
        matched: Vec<DeviceMatch>,
    }
    let mut candidates = Vec::new();
    let of = |role: SideRole| groups.iter().enumerate().filter(move |(_, group)| group.role == role);
    for (source, from) in of(SideRole::Source) {
        for (destination, to) in of(SideRole::Destination) {
            let Some((matched, apart)) = fit(sides, from, to, context) else { continue };
            let said = matched.iter().any(|one| one.by == PairingReason::Option);
            let hash = matched.iter().any(|one| {
                let [one, two] = [one.source, one.destination].map(|at| sides[at].stream);
                one.zip(two)
                    .is_some_and(|(one, two)| one == two && !context.shared.contains(&(one.bytes, one.crc32)))
            });
            let rank = if said { 0 } else { 2 - u8::from(hash) };
            let sure = matched.iter().filter(|one| one.by != PairingReason::Time).count();
            let key = (rank, usize::MAX - sure, apart, from.start_ns.abs_diff(to.start_ns));
            candidates.push(OracleCandidate { key, source, destination, matched });
        }
    }
    candidates.sort_by_key(|candidate| (candidate.key, candidate.source, candidate.destination));
    let mut taken = vec![false; groups.len()];
    let mut chosen: Vec<usize> = Vec::new();
    for (at, one) in candidates.iter().enumerate() {
        if !taken[one.source] && !taken[one.destination] {
            (taken[one.source], taken[one.destination]) = (true, true);
            chosen.push(at);
        }
    }
    uncross(&mut chosen, |[one, other]: [usize; 2]| {
        let (one, other) = (&candidates[one], &candidates[other]);
        let hosts =
            |one: &OracleCandidate| [one.source, one.destination].map(|at| sides[groups[at].sides[0]].host);
        let start = |at: usize| groups[at].start_ns;
        let crossed = (start(one.source) < start(other.source)
            && start(one.destination) > start(other.destination))
            || (start(one.source) > start(other.source) && start(one.destination) < start(other.destination));
        if !crossed || hosts(one) != hosts(other) {
            return None;
        }
        let instead = |source: usize, destination: usize, like: &OracleCandidate| {
            candidates.iter().position(|new| {
                (new.source, new.destination) == (source, destination)
                    && (new.key.0, new.key.1, new.key.2) <= (like.key.0, like.key.1, like.key.2)
            })
        };
        let first = instead(one.source, other.destination, one)?;
        Some([first, instead(other.source, one.destination, other)?])
    });
    let known = |one: &OracleCandidate| one.matched.iter().any(DeviceMatch::is_sure);
    let sure: Vec<usize> = chosen.iter().copied().filter(|at| known(&candidates[*at])).collect();
    let is_taken = |other: &OracleCandidate| {
        let ends = |at: &usize| (candidates[*at].source, candidates[*at].destination);
        sure.iter().map(ends).any(|(source, to)| other.source == source || other.destination == to)
    };
    let mut wholes = Vec::new();
    for at in chosen {
        let one = &candidates[at];
        // The number of bytes decides nothing if another group at that time has the same.
        let known = one.matched.iter().any(DeviceMatch::is_sure);
        let rivals = !known
            && candidates.iter().any(|other| {
                (other.source == one.source) != (other.destination == one.destination)
                    && other.key.2 == 0
                    && !is_taken(other)
                    && other
                        .matched
                        .iter()
                        .any(|pair| matches!(pair.by, PairingReason::StreamBytes | PairingReason::Order))
            });
        let mut matched = one.matched.clone();
        for one in matched.iter_mut().filter(|one| rivals && one.by == PairingReason::StreamBytes) {
            one.by = PairingReason::Order;
        }
        wholes.push(GroupPair {
            source: Some(one.source),
            destination: Some(one.destination),
            matched,
            rivals,
        });
    }
    for (at, group) in groups.iter().enumerate().filter(|(at, _)| !taken[*at]) {
        let (source, destination) = match group.role {
            SideRole::Source => (Some(at), None),
            SideRole::Destination => (None, Some(at)),
        };
        wholes.push(GroupPair { source, destination, matched: Vec::new(), rivals: false });
    }
    let start = |whole: &GroupPair| {
        [whole.source, whole.destination].iter().flatten().map(|at| groups[*at].start_ns).min()
    };
    wholes.sort_by_key(start);
    wholes
}

/// Exchanges the destinations of pairs that cross.
fn uncross(chosen: &mut [usize], exchange: impl Fn([usize; 2]) -> Option<[usize; 2]>) {
    // Each exchange reduces the number of crossings.
    for _ in 0..chosen.len() {
        let mut changed = false;
        for one in 0..chosen.len() {
            for other in one + 1..chosen.len() {
                if let Some(new) = exchange([chosen[one], chosen[other]]) {
                    [chosen[one], chosen[other]] = new;
                    changed = true;
                }
            }
        }
        if !changed {
            break;
        }
    }
}

/// Matches the devices of two groups: each source is compared with all destinations.
pub(super) fn devices(
    sides: &[SideAnalysis],
    from: &[usize],
    to: &[usize],
    context: &PairingContext<'_>,
    at_once: bool,
) -> Vec<DeviceMatch> {
    let name = |at: usize| context.devices[sides[at].side.device as usize].name.as_deref();
    let driver = |at: usize| context.devices[sides[at].side.device as usize].driver.as_deref();
    let (mut from, mut to) = (from.to_vec(), to.to_vec());
    let mut matched = Vec::new();
    let take = |from: &mut Vec<usize>, to: &mut Vec<usize>, source: usize, destination: usize| {
        from.retain(|at| *at != source);
        to.retain(|at| *at != destination);
    };
    for (source_name, destination_name) in context.pairs {
        let source = from.iter().copied().find(|at| name(*at) == Some(source_name));
        let destination = to.iter().copied().find(|at| name(*at) == Some(destination_name));
        if let (Some(source), Some(destination)) = (source, destination) {
            take(&mut from, &mut to, source, destination);
            matched.push(DeviceMatch { source, destination, by: PairingReason::Option });
        }
    }
    let said = |names: &dyn Fn(&(String, String)) -> &String, at: usize| {
        context.pairs.iter().any(|pair| name(at) == Some(names(pair).as_str()))
    };
    from.retain(|at| !said(&|pair| &pair.0, *at));
    to.retain(|at| !said(&|pair| &pair.1, *at));
    // A side whose partner is known is no choice for others.
    let (mut all_from, mut all_to) = (from.clone(), to.clone());
    let drivers_fit =
        |one: usize, two: usize| driver(one).is_none() || driver(two).is_none() || driver(one) == driver(two);
    for by in [PairingReason::StreamHash, PairingReason::StreamBytes, PairingReason::Time] {
        let same = |one: &SideAnalysis, two: &SideAnalysis| {
            let known = one.stream.is_some() && two.stream.is_some();
            match by {
                PairingReason::StreamHash => known && one.stream == two.stream,
                PairingReason::Time => {
                    at_once
                        && (two.bytes < one.bytes
                            || !known && (two.bytes == one.bytes || one.data_incomplete))
                        && !(is_whole(one) && is_whole(two))
                },
                _ => two.bytes == one.bytes && one.bytes > 0 && !known,
            }
        };
        let fits = |source: usize, at: usize| {
            drivers_fit(source, at)
                && same(&sides[source], &sides[at])
                && !context.refused.contains(&(source, at))
        };
        let mut given: Vec<(usize, usize)> = Vec::new();
        for source in from.clone() {
            if let Some(destination) = to.iter().copied().find(|at| fits(source, *at)) {
                take(&mut from, &mut to, source, destination);
                given.push((source, destination));
                continue;
            }
            // A destination refused for this source may belong to another, whose own is this one's.
            let refused = to.iter().any(|at| drivers_fit(source, *at) && same(&sides[source], &sides[*at]));
            // The shortest chain of exchanges, each of the latest pairs first.
            let mut chains: Vec<Vec<usize>> = vec![Vec::new()];
            let mut seen = vec![false; given.len()];
            let mut exchange = None;
            'search: while let Some(chain) = (!chains.is_empty()).then(|| chains.remove(0)) {
                let asks = chain.last().map_or(source, |at| given[*at].0);
                for (at, (owner, destination)) in given.iter().enumerate().rev() {
                    if seen[at] || !fits(asks, *destination) {
                        continue;
                    }
                    seen[at] = true;
                    let chain = [&chain[..], &[at]].concat();
                    if let Some(free) = to.iter().copied().find(|free| fits(*owner, *free)) {
                        exchange = Some((chain, free));
                        break 'search;
                    }
                    chains.push(chain);
                }
            }
            if let Some((chain, free)) = exchange.filter(|_| refused && by != PairingReason::Time) {
                take(&mut from, &mut to, source, free);
                let mut destination = free;
                for at in chain.into_iter().rev() {
                    destination = std::mem::replace(&mut given[at].1, destination);
                }
                given.push((source, destination));
            }
        }
        let mut sure = Vec::new();
        for (source, destination) in given {
            let shared = by == PairingReason::StreamHash
                && sides[source]
                    .stream
                    .is_some_and(|hash| context.shared.contains(&(hash.bytes, hash.crc32)));
            // A hash that others have, too, is worth as much as the number of bytes.
            let as_good = |one: &SideAnalysis, two: &SideAnalysis| {
                let known = one.stream.is_some() && two.stream.is_some();
                same(one, two) || shared && one.bytes == two.bytes && !known
            };
            let rivals = all_from.iter().filter(|at| as_good(&sides[**at], &sides[destination])).count();
            let choices = all_to.iter().filter(|at| as_good(&sides[source], &sides[**at])).count();
            let by = if shared { PairingReason::StreamBytes } else { by };
            let by = match by {
                PairingReason::Time => by,
                _ if choices > 1 || rivals > 1 => PairingReason::Order,
                by => by,
            };
            matched.push(DeviceMatch { source, destination, by });
            sure.extend((by == PairingReason::StreamHash).then_some((source, destination)));
        }
        for (source, destination) in sure {
            all_from.retain(|at| *at != source);
            all_to.retain(|at| *at != destination);
        }
    }
    matched
}
