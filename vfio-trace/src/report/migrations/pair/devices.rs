//! Matches the devices of a source with those of a destination: by the strongest evidence first, then in their order.

use std::collections::{HashMap, HashSet, VecDeque};

use super::{DeviceMatch, EXCHANGES, PairingContext, hash_of};
use crate::report::{
    document::{MigrationVerdict, PairingReason},
    migrations::side::{SideAnalysis, SideRole},
};

/// Drivers that fit a device. An unknown driver fits any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum DriverMatch<'a> {
    Any,
    Only(Option<&'a str>),
}

/// Returns true if all of a side was seen, and it succeeded.
pub(super) fn is_whole(found: &SideAnalysis) -> bool {
    let all = found.role == SideRole::Destination || found.eof;
    found.side.verdict == MigrationVerdict::Completed && all && !found.data_incomplete && !found.bytes_missed
}

/// Returns the devices that belong together, and the number of comparisons. `at_once`: both groups may have been in
/// progress at the same time.
pub(super) fn devices(
    sides: &[SideAnalysis],
    from: &[usize],
    to: &[usize],
    context: &PairingContext<'_>,
    at_once: bool,
) -> (Vec<DeviceMatch>, u64) {
    let (mut sources, mut destinations) = (from.to_vec(), to.to_vec());
    let mut matched = said(sides, &mut sources, &mut destinations, context);
    let mut pairs = DeviceMatcher {
        sides,
        context,
        taken: vec![false; destinations.len()],
        destinations,
        looked: (from.len() + to.len()) as u64,
    };
    // Numbers of sides that are equally good: sides that are taken later count, too, unless their partner is certain.
    let length = |found: &SideAnalysis| Some((found.bytes, found.stream.is_some()));
    let ends = [&sources, &pairs.destinations];
    let hashes = ends.map(|all| counted(sides, all, hash_of));
    let mut lengths = ends.map(|all| counted(sides, all, length));

    sources = pairs.by_key(
        &sources,
        |found| hash_of(found).into_iter().collect(),
        hash_of,
        |one| {
            let found = &sides[one.source];
            let mut choices =
                hash_of(found).map_or([0; 2], |key| hashes.each_ref().map(|counts| count_of(counts, key)));
            let by = if hash_of(found).is_some_and(|hash| context.shared.contains(&hash)) {
                // Streams whose hash is not known are as good then.
                let unknown = lengths.each_ref().map(|counts| count_of(counts, (found.bytes, false)));
                choices = [choices[0] + unknown[0], choices[1] + unknown[1]];
                PairingReason::StreamBytes
            } else {
                PairingReason::StreamHash
            };
            let by = named(by, choices);
            if by == PairingReason::StreamHash {
                for (counts, at) in lengths.iter_mut().zip([one.source, one.destination]) {
                    if let Some(count) = length(&sides[at]).and_then(|key| counts.get_mut(&key)) {
                        *count -= 1;
                    }
                }
            }
            matched.push(DeviceMatch { by, ..one });
        },
    );
    // Two known hashes that differ are of two streams, even with the same number of bytes.
    let others = |known: bool| if known { &[false][..] } else { &[false, true] };
    let wanted = |found: &SideAnalysis| {
        let known = others(found.stream.is_some()).iter();
        known.filter(|_| found.bytes > 0).map(|known| (found.bytes, *known)).collect()
    };
    sources = pairs.by_key(&sources, wanted, length, |one| {
        let as_good = |counts: &HashMap<(u64, bool), u32>, found: &SideAnalysis| {
            others(found.stream.is_some())
                .iter()
                .fold(0u32, |sum, known| sum + count_of(counts, (found.bytes, *known)))
        };
        let choices =
            [as_good(&lengths[0], &sides[one.destination]), as_good(&lengths[1], &sides[one.source])];
        matched.push(DeviceMatch { by: named(PairingReason::StreamBytes, choices), ..one });
    });
    if at_once {
        pairs.by_time(&sources, &mut matched);
    }
    (matched, pairs.looked)
}

/// Returns the reason for a match with so many equally good sides on either end.
fn named(by: PairingReason, as_good: [u32; 2]) -> PairingReason {
    if as_good.iter().any(|count| *count > 1) { PairingReason::Order } else { by }
}

fn count_of<K: Eq + std::hash::Hash>(counts: &HashMap<K, u32>, key: K) -> u32 {
    counts.get(&key).copied().unwrap_or(0)
}

fn counted<K: Eq + std::hash::Hash>(
    sides: &[SideAnalysis],
    all: &[usize],
    key: impl Fn(&SideAnalysis) -> Option<K>,
) -> HashMap<K, u32> {
    let mut counts = HashMap::new();
    for key in all.iter().filter_map(|at| key(&sides[*at])) {
        *counts.entry(key).or_insert(0) += 1;
    }
    counts
}

/// Returns the pairs that the user gave; their sides are not matched with others.
fn said(
    sides: &[SideAnalysis],
    sources: &mut Vec<usize>,
    destinations: &mut Vec<usize>,
    context: &PairingContext<'_>,
) -> Vec<DeviceMatch> {
    let name = |at: usize| context.devices[sides[at].side.device as usize].name.as_deref();
    let mut matched = Vec::new();
    let mut taken = HashSet::new();
    for (source_name, destination_name) in context.pairs {
        let find = |all: &[usize], wanted: &str, taken: &HashSet<usize>| {
            all.iter().copied().find(|at| name(*at) == Some(wanted) && !taken.contains(at))
        };
        let source = find(sources, source_name, &taken);
        let destination = find(destinations, destination_name, &taken);
        if let (Some(source), Some(destination)) = (source, destination) {
            taken.extend([source, destination]);
            matched.push(DeviceMatch { source, destination, by: PairingReason::Option });
        }
    }
    let named: [HashSet<&str>; 2] = [
        context.pairs.iter().map(|pair| pair.0.as_str()).collect(),
        context.pairs.iter().map(|pair| pair.1.as_str()).collect(),
    ];
    sources.retain(|at| name(*at).is_none_or(|name| !named[0].contains(name)));
    destinations.retain(|at| name(*at).is_none_or(|name| !named[1].contains(name)));
    matched
}

struct DeviceMatcher<'a> {
    sides: &'a [SideAnalysis],
    context: &'a PairingContext<'a>,
    destinations: Vec<usize>,
    /// True for the destinations that are matched, by place.
    taken: Vec<bool>,
    looked: u64,
}

impl<'a> DeviceMatcher<'a> {
    fn driver(&self, at: usize) -> Option<&'a str> {
        self.context.devices[self.sides[at].side.device as usize].driver.as_deref()
    }

    /// Returns the keys under which a destination is stored.
    fn own_drivers(&self, at: usize) -> [DriverMatch<'a>; 2] {
        [DriverMatch::Any, DriverMatch::Only(self.driver(at))]
    }

    /// Returns the keys under which a source looks for destinations.
    fn drivers(&self, at: usize) -> Vec<DriverMatch<'a>> {
        match self.driver(at) {
            Some(driver) => vec![DriverMatch::Only(Some(driver)), DriverMatch::Only(None)],
            None => vec![DriverMatch::Any],
        }
    }

    fn refused(&self, source: usize, place: usize) -> bool {
        self.context.refuses(source, self.destinations[place])
    }

    /// Gives each source the first destination that has one of the keys that it wants; returns the sources that got
    /// none.
    fn by_key<K: Copy + Eq + std::hash::Hash>(
        &mut self,
        sources: &[usize],
        wanted: impl Fn(&SideAnalysis) -> Vec<K>,
        has: impl Fn(&SideAnalysis) -> Option<K>,
        mut tell: impl FnMut(DeviceMatch),
    ) -> Vec<usize> {
        let mut queues: HashMap<(K, DriverMatch<'a>), VecDeque<usize>> = HashMap::new();
        for (place, at) in self.destinations.iter().enumerate().filter(|(place, _)| !self.taken[*place]) {
            let Some(key) = has(&self.sides[*at]) else { continue };
            for driver in self.own_drivers(*at) {
                queues.entry((key, driver)).or_default().push_back(place);
            }
        }
        let mut left = Vec::new();
        // Sources with the places that they were given.
        let mut given: Vec<(usize, usize)> = Vec::new();
        for source in sources {
            let (first, refused) = self.first_free(*source, &wanted, &mut queues);
            if let Some(place) = first {
                self.taken[place] = true;
                given.push((*source, place));
                continue;
            }
            // The rest was refused for this source: a source that got a place which fits this one may take one of the
            // rest, or the place of yet another source.
            let exchanged =
                if refused { self.exchange(*source, &given, &wanted, &has, &mut queues) } else { None };
            let Some((owners, free)) = exchanged else {
                left.push(*source);
                continue;
            };
            self.taken[free] = true;
            let mut place = free;
            for at in owners {
                std::mem::swap(&mut given[at].1, &mut place);
            }
            given.push((*source, place));
        }
        for (source, place) in given {
            let destination = self.destinations[place];
            tell(DeviceMatch { source, destination, by: PairingReason::Order });
        }
        left
    }

    /// Finds sources that can pass on their places so that one of them becomes free for another source: each gets the
    /// place of the one before it, the first one a free place. Returns their indexes in `given`, and the free place.
    fn exchange<K: Copy + Eq + std::hash::Hash>(
        &mut self,
        source: usize,
        given: &[(usize, usize)],
        wanted: impl Fn(&SideAnalysis) -> Vec<K>,
        has: impl Fn(&SideAnalysis) -> Option<K>,
        queues: &mut HashMap<(K, DriverMatch<'a>), VecDeque<usize>>,
    ) -> Option<(Vec<usize>, usize)> {
        // For each source that is asked, the one whose place it would give up its own for; the last ones are asked
        // first.
        let first = given.len().saturating_sub(EXCHANGES);
        let mut asked: Vec<Option<Option<usize>>> = vec![None; given.len() - first];
        let mut waiting = VecDeque::from([(source, None)]);
        let most = self.looked + 16 * EXCHANGES as u64;
        while let Some((one, via)) = waiting.pop_front() {
            for (at, (owner, place)) in given.iter().enumerate().skip(first).rev() {
                if self.looked >= most {
                    return None;
                }
                if asked[at - first].is_some() {
                    continue;
                }
                self.looked += 1;
                if !self.fits(one, *place, &wanted, &has) || self.refused(one, *place) {
                    continue;
                }
                asked[at - first] = Some(via);
                if let (Some(free), _) = self.first_free(*owner, &wanted, queues) {
                    let next = |at: &usize| asked[*at - first].flatten();
                    return Some((std::iter::successors(Some(at), next).collect(), free));
                }
                waiting.push_back((*owner, Some(at)));
            }
        }
        None
    }

    /// Returns true if a destination has one of the keys that a source wants, and its driver.
    fn fits<K: Eq>(
        &self,
        source: usize,
        place: usize,
        wanted: impl Fn(&SideAnalysis) -> Vec<K>,
        has: impl Fn(&SideAnalysis) -> Option<K>,
    ) -> bool {
        let at = self.destinations[place];
        let drivers = self.driver(source).zip(self.driver(at));
        let key = has(&self.sides[at]);
        drivers.is_none_or(|(one, two)| one == two)
            && key.is_some_and(|key| wanted(&self.sides[source]).contains(&key))
    }

    /// Returns the first destination that a source may have. The flag is true if a destination that has one of the keys
    /// was refused for it.
    fn first_free<K: Copy + Eq + std::hash::Hash>(
        &mut self,
        source: usize,
        wanted: impl Fn(&SideAnalysis) -> Vec<K>,
        queues: &mut HashMap<(K, DriverMatch<'a>), VecDeque<usize>>,
    ) -> (Option<usize>, bool) {
        let (mut first, mut refused): (Option<usize>, bool) = (None, false);
        for key in wanted(&self.sides[source]) {
            for driver in self.drivers(source) {
                self.looked += 1;
                let Some(queue) = queues.get_mut(&(key, driver)) else { continue };
                while queue.pop_front_if(|place| self.taken[*place]).is_some() {
                    self.looked += 1;
                }
                let mut fits = None;
                for place in queue.iter().copied().filter(|place| !self.taken[*place]) {
                    self.looked += 1;
                    if !self.refused(source, place) {
                        fits = Some(place);
                        break;
                    }
                    refused = true;
                }
                first = [first, fits].into_iter().flatten().min();
            }
        }
        (first, refused)
    }

    /// Gives each source the first destination that may be its own by time alone: no bytes and no hash decide.
    fn by_time(&mut self, sources: &[usize], matched: &mut Vec<DeviceMatch>) {
        // The key decides the number of bytes that a destination may have.
        let mut rows: HashMap<(DriverMatch<'_>, bool, bool), Vec<usize>> = HashMap::new();
        for (place, at) in self.destinations.iter().enumerate().filter(|(place, _)| !self.taken[*place]) {
            let found = &self.sides[*at];
            for driver in self.own_drivers(*at) {
                rows.entry((driver, found.stream.is_some(), is_whole(found))).or_default().push(place);
            }
        }
        let bytes = |place: &usize| self.sides[self.destinations[*place]].bytes;
        let mut rows: HashMap<_, DestinationTree> =
            rows.into_iter().map(|(key, places)| (key, DestinationTree::new(&places, bytes))).collect();
        for source in sources {
            let found = &self.sides[*source];
            let (known, all) = (found.stream.is_some(), is_whole(found));
            let mut first: Option<usize> = None;
            for driver in self.drivers(*source) {
                for (other_known, other_all) in [(false, false), (false, true), (true, false), (true, true)] {
                    // If both sides were seen as a whole, the bytes would have matched them.
                    if all && other_all {
                        continue;
                    }
                    let most = match (known && other_known, found.data_incomplete || found.bytes_missed) {
                        // The same number of bytes with another hash is another stream.
                        (true, _) => found.bytes.checked_sub(1),
                        // Reads that were not seen may have been written all the same.
                        (false, true) => Some(u64::MAX),
                        (false, false) => Some(found.bytes),
                    };
                    let row = rows.get_mut(&(driver, other_known, other_all));
                    let (Some(most), Some(row)) = (most, row) else { continue };
                    let fits = self.first_of(row, *source, most);
                    first = [first, fits].into_iter().flatten().min();
                }
            }
            if let Some(place) = first {
                self.taken[place] = true;
                let (source, destination) = (*source, self.destinations[place]);
                matched.push(DeviceMatch { source, destination, by: PairingReason::Time });
            }
        }
    }

    fn first_of(&mut self, row: &mut DestinationTree, source: usize, most: u64) -> Option<usize> {
        let mut after = 0;
        loop {
            let slot = row.first(after, most, &mut self.looked)?;
            let place = row.places[slot];
            if self.taken[place] {
                row.remove(slot);
            } else if self.refused(source, place) {
                after = slot + 1;
            } else {
                return Some(place);
            }
        }
    }
}

/// Destinations in order. The first one with at most a given number of bytes is found in logarithmic time.
struct DestinationTree {
    places: Vec<usize>,
    /// Tree of the least number of bytes, with the root at 1; `None`: no destination below the node.
    least: Vec<Option<u64>>,
    leaves: usize,
}

impl DestinationTree {
    fn new(places: &[usize], bytes: impl Fn(&usize) -> u64) -> Self {
        let leaves = places.len().next_power_of_two();
        let mut row = Self { places: places.to_vec(), least: vec![None; 2 * leaves], leaves };
        for (slot, place) in places.iter().enumerate() {
            row.least[leaves + slot] = Some(bytes(place));
        }
        (1..leaves).rev().for_each(|node| row.sum(node));
        row
    }

    fn sum(&mut self, node: usize) {
        let both = [self.least[2 * node], self.least[2 * node + 1]];
        self.least[node] = both.into_iter().flatten().min();
    }

    fn remove(&mut self, slot: usize) {
        let mut node = self.leaves + slot;
        self.least[node] = None;
        while node > 1 {
            node /= 2;
            self.sum(node);
        }
    }

    /// Returns the first slot from `after` on that has at most `most` bytes.
    fn first(&self, after: usize, most: u64, looked: &mut u64) -> Option<usize> {
        let fits = |node: usize| self.least[node].is_some_and(|least| least <= most);
        if after >= self.leaves {
            return None;
        }
        let mut node = self.leaves + after;
        *looked += 1;
        // Goes up until a node at or after the place fits, then down to its first slot.
        while !fits(node) {
            *looked += 1;
            while node % 2 == 1 {
                node /= 2;
            }
            if node == 0 {
                return None;
            }
            node += 1;
        }
        while node < self.leaves {
            *looked += 1;
            node = if fits(2 * node) { 2 * node } else { 2 * node + 1 };
        }
        Some(node - self.leaves)
    }
}
