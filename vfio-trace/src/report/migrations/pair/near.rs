//! Selects the pairs of sources and destinations that are compared: those that are near each other in time, not all of
//! them.

use std::collections::HashMap;

use super::{PairingContext, SideAnalysis, SideGroup, SideRole, fit::LATER_NS};
use crate::report::windows::SpanIndex;

/// Number of groups of the other role that are compared in each way, the nearest ones.
pub(super) const NEAREST: usize = 16;

/// Trait that two sides may share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum SharedTrait {
    /// No trait: only the time decides.
    Any,
    /// Number of the stream's bytes, and their CRC32.
    Hash(u64, u32),
    Bytes(u64),
    /// Index of a pair that the user gave.
    Said(usize),
}

/// Drivers that fit. An unknown driver fits any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum DriverFilter<'a> {
    Any,
    Only(Option<&'a str>),
}

type TraitKey<'a> = (SharedTrait, u32, DriverFilter<'a>);

/// Groups of one role that share a trait.
#[derive(Default)]
struct TraitGroups {
    /// Groups in the order of their beginnings.
    groups: Vec<u32>,
    windows: SpanIndex,
    /// Groups in the order of their ends.
    by_end: Vec<u32>,
}

/// Returns source and destination of all pairs of groups that are to be compared, each once.
pub(super) fn pairs(
    sides: &[SideAnalysis],
    groups: &[SideGroup],
    taken: &[bool],
    context: &PairingContext<'_>,
) -> Vec<[u32; 2]> {
    let view = NearbySearch { sides, groups, context };
    let free = |role: SideRole| {
        let free = groups.iter().enumerate().filter(move |(at, group)| group.role == role && !taken[*at]);
        free.filter_map(|(at, _)| u32::try_from(at).ok()).collect::<Vec<u32>>()
    };
    let (sources, destinations) = (free(SideRole::Source), free(SideRole::Destination));
    let mut pairs = Vec::new();
    if sources.is_empty() || destinations.is_empty() {
        return pairs;
    }
    // The search goes in both directions: a group far down the list of one may be at the top of the other's.
    view.look(&sources, &destinations, &mut |source, destination| pairs.push([source, destination]));
    view.look(&destinations, &sources, &mut |destination, source| pairs.push([source, destination]));
    pairs.sort_unstable();
    pairs.dedup();
    pairs
}

struct NearbySearch<'a> {
    sides: &'a [SideAnalysis],
    groups: &'a [SideGroup],
    context: &'a PairingContext<'a>,
}

impl<'a> NearbySearch<'a> {
    fn group(&self, at: u32) -> &'a SideGroup {
        &self.groups[at as usize]
    }

    /// Returns the traits of a side that another may share.
    fn traits(&self, found: &SideAnalysis) -> Vec<SharedTrait> {
        let mut traits = vec![SharedTrait::Any];
        traits.extend(found.stream.map(|stream| SharedTrait::Hash(stream.bytes, stream.crc32)));
        traits.extend((found.bytes > 0).then_some(SharedTrait::Bytes(found.bytes)));
        let name = self.context.devices[found.side.device as usize].name.as_deref();
        for (at, (source, destination)) in self.context.pairs.iter().enumerate() {
            let mine = if found.role == SideRole::Source { source } else { destination };
            traits.extend((name == Some(mine)).then_some(SharedTrait::Said(at)));
        }
        traits
    }

    fn driver(&self, found: &SideAnalysis) -> Option<&'a str> {
        self.context.devices[found.side.device as usize].driver.as_deref()
    }

    fn rows(&self, groups: &[u32]) -> (HashMap<TraitKey<'a>, TraitGroups>, Vec<u32>) {
        let mut rows: HashMap<TraitKey<'a>, TraitGroups> = HashMap::new();
        let mut hosts = Vec::new();
        for at in groups {
            for side in &self.group(*at).sides {
                let found = &self.sides[*side];
                if !hosts.contains(&found.host) {
                    hosts.push(found.host);
                }
                for one in self.traits(found) {
                    for driver in [DriverFilter::Any, DriverFilter::Only(self.driver(found))] {
                        let row = rows.entry((one, found.host, driver)).or_default();
                        if row.groups.last() != Some(at) {
                            row.groups.push(*at);
                        }
                    }
                }
            }
        }
        for row in rows.values_mut() {
            let span = |at: &u32| (self.group(*at).start_ns, self.group(*at).end_ns);
            row.windows = SpanIndex::new(row.groups.iter().map(span));
            row.by_end.clone_from(&row.groups);
            row.by_end.sort_by_key(|at| self.group(*at).end_ns);
        }
        (rows, hosts)
    }

    /// Calls `tell` for each of `mine` with the groups near it among the others.
    fn look(&self, mine: &[u32], others: &[u32], tell: &mut impl FnMut(u32, u32)) {
        let (rows, hosts) = self.rows(others);
        let mut keys: Vec<TraitKey<'a>> = Vec::new();
        for at in mine {
            let group = self.group(*at);
            keys.clear();
            for side in &group.sides {
                let found = &self.sides[*side];
                let drivers = match self.driver(found) {
                    Some(driver) => vec![DriverFilter::Only(Some(driver)), DriverFilter::Only(None)],
                    None => vec![DriverFilter::Any],
                };
                for one in self.traits(found) {
                    // Pairs that the user gave do not depend on drivers.
                    let drivers =
                        if matches!(one, SharedTrait::Said(_)) { &[DriverFilter::Any][..] } else { &drivers };
                    for host in &hosts {
                        keys.extend(drivers.iter().map(|driver| (one, *host, *driver)));
                    }
                }
            }
            if group.sides.len() > 1 {
                let mut seen = std::collections::HashSet::new();
                keys.retain(|key| seen.insert(*key));
            }
            let host = self.sides[group.sides[0]].host;
            for key in &keys {
                let Some(row) = rows.get(key) else { continue };
                let tolerance = (self.context.apart_ns)(host, key.1);
                let mut tell = |other| tell(*at, other);
                match key.0 {
                    // Pairs that the user gave cannot be refused.
                    SharedTrait::Said(_) => self.nearest(group, row, u64::MAX, false, &mut tell),
                    SharedTrait::Any => self.nearest(group, row, tolerance.guess, true, &mut tell),
                    SharedTrait::Hash(..) => {
                        self.nearest(group, row, tolerance.sure, true, &mut tell);
                        self.later(group, row, tolerance.sure, &mut tell);
                    },
                    SharedTrait::Bytes(_) => {
                        self.nearest(group, row, tolerance.guess, true, &mut tell);
                        self.later(group, row, tolerance.guess, &mut tell);
                    },
                }
            }
        }
    }

    /// Returns true if it is known that no sides of two groups belong together.
    fn refused(&self, one: &SideGroup, other: u32) -> bool {
        let other = self.group(other);
        let (from, to) = if one.role == SideRole::Source { (one, other) } else { (other, one) };
        from.sides.iter().all(|from| to.sides.iter().all(|to| self.context.refuses(*from, *to)))
    }

    /// Calls `tell` for the nearest groups that are in progress at the same time, or not farther away than `tolerance`,
    /// in order of the distance of their beginnings; `ask`: without those that were refused.
    fn nearest(
        &self,
        group: &SideGroup,
        row: &TraitGroups,
        tolerance: u64,
        ask: bool,
        tell: &mut impl FnMut(u32),
    ) {
        let (start, end) = (group.start_ns.saturating_sub(tolerance), group.end_ns.saturating_add(tolerance));
        let begun = |place: &usize| self.group(row.groups[*place]).start_ns.abs_diff(group.start_ns);
        let at = row.groups.partition_point(|other| self.group(*other).start_ns < group.start_ns);
        let (mut before, mut after) = (
            row.windows.overlapping_before(at, start, end).peekable(),
            row.windows.overlapping_from(at, start, end).peekable(),
        );
        let mut left = NEAREST;
        while left > 0 {
            let earlier = match (before.peek(), after.peek()) {
                (Some(one), Some(two)) => begun(one) <= begun(two),
                (one, _) => one.is_some(),
            };
            let Some(place) = (if earlier { before.next() } else { after.next() }) else { break };
            let other = row.groups[place];
            if !(ask && self.refused(group, other)) {
                tell(other);
                left -= 1;
            }
        }
    }

    /// Calls `tell` for destinations that begin after the source's end, or sources that end before the destination
    /// begins.
    fn later(&self, group: &SideGroup, row: &TraitGroups, tolerance: u64, tell: &mut impl FnMut(u32)) {
        let most = LATER_NS.saturating_add(tolerance);
        match group.role {
            SideRole::Source => {
                let begins = |at: &&u32| self.group(**at).start_ns;
                let first = row.groups.partition_point(|at| begins(&at) <= group.end_ns);
                let near = row.groups[first..].iter().take_while(|at| begins(at) - group.end_ns <= most);
                near.filter(|at| !self.refused(group, **at)).take(NEAREST).for_each(|at| tell(*at));
            },
            SideRole::Destination => {
                let ends = |at: &&u32| self.group(**at).end_ns;
                let over = row.by_end.partition_point(|at| ends(&at) < group.start_ns);
                let near = row.by_end[..over].iter().rev().take_while(|at| group.start_ns - ends(at) <= most);
                near.filter(|at| !self.refused(group, **at)).take(NEAREST).for_each(|at| tell(*at));
            },
        }
    }
}
