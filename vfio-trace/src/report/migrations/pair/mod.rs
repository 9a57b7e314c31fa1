//! Groups the sides of one VM, and pairs sources with destinations.

mod devices;
mod fit;
mod near;

use std::collections::{HashMap, HashSet};

use super::side::{SideAnalysis, SideRole};
use crate::report::document::{PairingReason, TracedDevice};
use fit::fit;

/// Most rounds of looking for pairs among the groups that are left.
const ROUNDS: usize = 8;
/// Most rounds of looking for pairs that cross; and most sources that are asked to exchange their destination.
const EXCHANGES: usize = 64;

/// A source and its destination, as indexes of sides. [`pair_groups`] makes it; verdicts, downtimes and clock evidence
/// use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DeviceMatch {
    pub(super) source: usize,
    pub(super) destination: usize,
    pub(super) by: PairingReason,
}

impl DeviceMatch {
    /// Returns true if the two are known to belong together, whatever the clocks say.
    pub(super) const fn is_sure(&self) -> bool {
        matches!(self.by, PairingReason::Option | PairingReason::StreamHash)
    }
}

/// Sides of one VM that are in progress at the same time, with the same role.
#[derive(Clone, Debug)]
pub(super) struct SideGroup {
    pub(super) role: SideRole,
    pub(super) sides: Vec<usize>,
    pub(super) start_ns: u64,
    pub(super) end_ns: u64,
}

/// A migration: its source and destination, as indexes of groups. [`pair_groups`] makes it.
#[derive(Clone, Debug)]
pub(super) struct GroupPair {
    pub(super) source: Option<usize>,
    pub(super) destination: Option<usize>,
    pub(super) matched: Vec<DeviceMatch>,
    /// True if another source or destination fits as well, so that only the order decided.
    pub(super) rivals: bool,
}

impl GroupPair {
    /// Makes a migration of one group without a partner.
    fn alone(at: usize, role: SideRole) -> Self {
        let (source, destination) = match role {
            SideRole::Source => (Some(at), None),
            SideRole::Destination => (None, Some(at)),
        };
        Self { source, destination, matched: Vec::new(), rivals: false }
    }
}

/// Facts about names and clocks that pairing needs.
pub(super) struct PairingContext<'a> {
    pub(super) devices: &'a [TracedDevice],
    /// Pairs that the user gave: device of the source, device of the destination.
    pub(super) pairs: &'a [(String, String)],
    /// Function that returns the largest distance of two hosts' clocks.
    pub(super) apart_ns: &'a dyn Fn(u32, u32) -> ClockTolerance,
    /// Function that returns the kernel's bound for a side's wall clock, in ns: its largest distance from UTC.
    pub(super) promised: &'a dyn Fn(usize) -> Option<u64>,
    /// Sides that do not belong together, unless the user says so.
    pub(super) refused: &'a HashSet<(usize, usize)>,
    /// Function that returns true if a source and a destination with the same bytes, or as many, do not belong together,
    /// because the one clock that both have shows data written before it was read.
    pub(super) backwards: &'a dyn Fn(usize, usize) -> bool,
    /// Hashes that prove nothing, see [`shared_hashes`].
    pub(super) shared: &'a HashSet<HashKey>,
}

/// Number of a stream's bytes, and their CRC32.
pub(super) type HashKey = (u64, u32);

/// Returns the hash of a side's stream, if it is known.
fn hash_of(found: &SideAnalysis) -> Option<HashKey> {
    found.stream.map(|stream| (stream.bytes, stream.crc32))
}

/// Returns the hashes that streams of several groups of one role have: of several attempts, or of devices that are
/// alike. They are worth as much as an equal number of bytes.
pub(super) fn shared_hashes(sides: &[SideAnalysis], groups: &[SideGroup]) -> HashSet<HashKey> {
    let mut first: HashMap<(SideRole, HashKey), usize> = HashMap::new();
    let mut shared = HashSet::new();
    for (at, group) in groups.iter().enumerate() {
        for hash in group.sides.iter().filter_map(|side| hash_of(&sides[*side])) {
            if *first.entry((group.role, hash)).or_insert(at) != at {
                shared.insert(hash);
            }
        }
    }
    shared
}

impl PairingContext<'_> {
    /// Returns true if a source and a destination do not belong together, whatever their bytes and times are.
    fn refuses(&self, source: usize, destination: usize) -> bool {
        self.refused.contains(&(source, destination)) || (self.backwards)(source, destination)
    }

    /// Returns the distance that the clocks allow between two groups. The largest distance that the hosts' clocks ever
    /// had is more: it only limits the search for pairs.
    fn tolerance(&self, sides: &[SideAnalysis], from: &SideGroup, to: &SideGroup) -> ClockTolerance {
        let host = |group: &SideGroup| sides[group.sides[0]].host;
        let promised = |group: &SideGroup| {
            let mut all = group.sides.iter().map(|side| (self.promised)(*side));
            all.try_fold(0, |worst, ns| Some(ns?.max(worst)))
        };
        let hosts = (self.apart_ns)(host(from), host(to));
        let both = promised(from).zip(promised(to)).map(|(one, two): (u64, u64)| one.saturating_add(two));
        let most = both.map_or(u64::MAX, |ns| ns.saturating_add(super::SPARE_NS));
        ClockTolerance { guess: hosts.guess.min(most), sure: hosts.sure }
    }
}

/// Largest distance of two hosts' clocks for sides that belong together, in ns.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClockTolerance {
    /// Largest distance for a guessed pair.
    pub(super) guess: u64,
    /// Largest distance for a pair that is known to belong together.
    pub(super) sure: u64,
}

/// Groups sides of one process that overlap in time.
pub(super) fn groups(sides: &[SideAnalysis]) -> Vec<SideGroup> {
    let mut order: Vec<usize> = (0..sides.len()).collect();
    order.sort_by_key(|at| (sides[*at].side.start_ns, *at));
    let mut groups: Vec<SideGroup> = Vec::new();
    // For each process, groups that the next side may belong to; and the devices of each group.
    let mut open: HashMap<(SideRole, u32, u32), Vec<usize>> = HashMap::new();
    let mut members: HashSet<(usize, u32)> = HashSet::new();
    for at in order {
        let found = &sides[at];
        let open = open.entry((found.role, found.host, found.pid)).or_default();
        open.retain(|group| groups[*group].end_ns >= found.side.start_ns);
        let device = found.side.device;
        let known = open.iter().rev().find(|group| !members.contains(&(**group, device))).copied();
        let group = known.unwrap_or_else(|| {
            open.push(groups.len());
            groups.push(SideGroup {
                role: found.role,
                sides: Vec::new(),
                start_ns: found.side.start_ns,
                end_ns: found.side.end_ns,
            });
            groups.len() - 1
        });
        members.insert((group, device));
        groups[group].sides.push(at);
        groups[group].end_ns = groups[group].end_ns.max(found.side.end_ns);
    }
    groups
}

/// Rank of the evidence that two groups belong together, the strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum EvidenceRank {
    Said,
    /// The streams of two devices have the same hash, and no others have it.
    Hash,
    /// Bytes and times: other groups may have the same.
    Other,
}

impl EvidenceRank {
    fn of(sides: &[SideAnalysis], matched: &[DeviceMatch], context: &PairingContext<'_>) -> Self {
        let hash = |one: &DeviceMatch| {
            let hash = hash_of(&sides[one.source]);
            hash == hash_of(&sides[one.destination])
                && hash.is_some_and(|hash| !context.shared.contains(&hash))
        };
        if matched.iter().any(|one| one.by == PairingReason::Option) {
            Self::Said
        } else if matched.iter().any(hash) {
            Self::Hash
        } else {
            Self::Other
        }
    }
}

/// A source and a destination that fit, as indexes of groups.
#[derive(Clone, Copy, Debug)]
struct PairCandidate {
    source: u32,
    destination: u32,
    /// Sort key, the best first: rank of the evidence; number of devices matched by time alone; time between the groups;
    /// time between their beginnings.
    key: (EvidenceRank, u32, u64, u64),
    /// True if the groups match by time and number of bytes only: other groups with the same are as good.
    vague: bool,
}

impl PairCandidate {
    fn of(
        sides: &[SideAnalysis],
        groups: &[SideGroup],
        [source, destination]: [u32; 2],
        context: &PairingContext<'_>,
    ) -> Option<Self> {
        let (from, to) = (&groups[source as usize], &groups[destination as usize]);
        let (matched, apart) = fit(sides, from, to, context)?;
        let sure = matched.iter().filter(|one| one.by != PairingReason::Time).count();
        let sure = u32::try_from(sure).unwrap_or(u32::MAX);
        let by_bytes =
            |one: &DeviceMatch| matches!(one.by, PairingReason::StreamBytes | PairingReason::Order);
        Some(Self {
            source,
            destination,
            key: (
                EvidenceRank::of(sides, &matched, context),
                u32::MAX - sure,
                apart,
                from.start_ns.abs_diff(to.start_ns),
            ),
            vague: apart == 0 && matched.iter().any(by_bytes),
        })
    }

    const fn ends(&self) -> [u32; 2] {
        [self.source, self.destination]
    }
}

/// Pairs source groups with destination groups. Groups without a partner become migrations of one side.
pub(super) fn pair_groups(
    sides: &[SideAnalysis],
    groups: &[SideGroup],
    context: &PairingContext<'_>,
) -> Vec<GroupPair> {
    let mut taken = vec![false; groups.len()];
    let mut pool: Vec<PairCandidate> = Vec::new();
    // Sources with their destinations, in the order in which they were chosen.
    let mut chosen: Vec<[u32; 2]> = Vec::new();
    for _ in 0..ROUNDS {
        let pairs = near::pairs(sides, groups, &taken, context);
        let mut new: Vec<PairCandidate> =
            pairs.into_iter().filter_map(|pair| PairCandidate::of(sides, groups, pair, context)).collect();
        new.sort_unstable_by_key(|one| (one.key, one.ends()));
        let before = chosen.len();
        for one in &new {
            let [source, destination] = one.ends().map(|at| at as usize);
            if !taken[source] && !taken[destination] {
                (taken[source], taken[destination]) = (true, true);
                chosen.push(one.ends());
            }
        }
        pool.append(&mut new);
        // The nearest groups may all have gone to others: those that are left may be far from each other.
        if chosen.len() == before {
            break;
        }
    }
    pool.sort_unstable_by_key(PairCandidate::ends);
    uncross(&mut chosen, &pool, sides, groups);
    let fitted = chosen.into_iter().map(|[source, destination]| {
        let (from, to) = (&groups[source as usize], &groups[destination as usize]);
        let (matched, _) = fit(sides, from, to, context).unwrap_or_default();
        ([source, destination], matched)
    });
    let fitted: Vec<([u32; 2], Vec<DeviceMatch>)> = fitted.collect();
    // The partner of such a group is known: it cannot be another's.
    let mut sure = vec![false; groups.len()];
    for (ends, _) in fitted.iter().filter(|(_, matched)| matched.iter().any(DeviceMatch::is_sure)) {
        for at in ends {
            sure[*at as usize] = true;
        }
    }
    let rivals = RivalCounts::of(&pool, &sure);
    let mut wholes = Vec::new();
    for ([source, destination], mut matched) in fitted {
        // The number of bytes decides nothing if another group at that time has the same. If one device of a VM is
        // certain, its other devices are, too.
        let known = matched.iter().any(DeviceMatch::is_sure);
        let rivals = !known && find(&pool, [source, destination]).is_some_and(|one| rivals.has(one));
        if rivals {
            for one in matched.iter_mut().filter(|one| one.by == PairingReason::StreamBytes) {
                one.by = PairingReason::Order;
            }
        }
        let (source, destination) = (Some(source as usize), Some(destination as usize));
        wholes.push(GroupPair { source, destination, matched, rivals });
    }
    for (at, group) in groups.iter().enumerate().filter(|(at, _)| !taken[*at]) {
        wholes.push(GroupPair::alone(at, group.role));
    }
    in_order(&mut wholes, groups);
    wholes
}

/// Splits migrations that have no matched devices left.
pub(super) fn split(wholes: &mut Vec<GroupPair>, groups: &[SideGroup]) {
    let all = std::mem::take(wholes);
    for whole in all {
        match (whole.source, whole.destination) {
            (Some(source), Some(destination)) if whole.matched.is_empty() => {
                wholes.push(GroupPair::alone(source, SideRole::Source));
                wholes.push(GroupPair::alone(destination, SideRole::Destination));
            },
            _ => wholes.push(whole),
        }
    }
    in_order(wholes, groups);
}

fn in_order(wholes: &mut [GroupPair], groups: &[SideGroup]) {
    let start = |whole: &GroupPair| {
        [whole.source, whole.destination].iter().flatten().map(|at| groups[*at].start_ns).min()
    };
    wholes.sort_by_key(start);
}

/// Returns the candidate with these ends from a list that is sorted by ends.
fn find(pool: &[PairCandidate], ends: [u32; 2]) -> Option<&PairCandidate> {
    pool.get(pool.binary_search_by_key(&ends, PairCandidate::ends).ok()?)
}

/// Number of vague candidates of each group, without those that have an end in a pair that is known.
struct RivalCounts(Vec<u32>);

impl RivalCounts {
    fn of(pool: &[PairCandidate], sure: &[bool]) -> Self {
        let mut vague = vec![0; sure.len()];
        let free = |one: &&PairCandidate| one.vague && one.ends().iter().all(|at| !sure[*at as usize]);
        for at in pool.iter().filter(free).flat_map(PairCandidate::ends) {
            vague[at as usize] += 1;
        }
        Self(vague)
    }

    /// Returns true if one end of this candidate is the end of another vague one.
    fn has(&self, one: &PairCandidate) -> bool {
        one.ends().iter().any(|at| self.0[*at as usize] > u32::from(one.vague))
    }
}

/// Exchanges the destinations of pairs that cross, if the new pairs are as good: of two pairs, the one that began first
/// on one side then began first on the other.
fn uncross(chosen: &mut [[u32; 2]], pool: &[PairCandidate], sides: &[SideAnalysis], groups: &[SideGroup]) {
    let start = |at: u32| groups[at as usize].start_ns;
    let hosts = |pair: [u32; 2]| pair.map(|at| sides[groups[at as usize].sides[0]].host);
    let instead = |ends: [u32; 2], like: &PairCandidate| {
        find(pool, ends)
            .is_some_and(|new| (new.key.0, new.key.1, new.key.2) <= (like.key.0, like.key.1, like.key.2))
    };
    // Index of the pair that each destination is in.
    let mut owner: HashMap<u32, usize> = chosen.iter().enumerate().map(|(at, pair)| (pair[1], at)).collect();
    // Each exchange reduces the number of crossings.
    for _ in 0..chosen.len().min(EXCHANGES) {
        let mut changed = false;
        for at in 0..chosen.len() {
            let source = chosen[at][0];
            let first = pool.partition_point(|one| one.source < source);
            let mine = pool[first..].iter().take_while(|one| one.source == source);
            // Only destinations that this source may have are compared.
            let mut others: Vec<usize> = mine
                .filter_map(|one| owner.get(&one.destination).copied())
                .filter(|other| *other > at)
                .collect();
            others.sort_unstable();
            for other in others {
                let (one, two) = (chosen[at], chosen[other]);
                let crossed = (start(one[0]) < start(two[0]) && start(one[1]) > start(two[1]))
                    || (start(one[0]) > start(two[0]) && start(one[1]) < start(two[1]));
                let (Some(like), Some(like_too)) = (find(pool, one), find(pool, two)) else { continue };
                if crossed
                    && hosts(one) == hosts(two)
                    && instead([one[0], two[1]], like)
                    && instead([two[0], one[1]], like_too)
                {
                    (chosen[at][1], chosen[other][1]) = (two[1], one[1]);
                    owner.extend([(two[1], at), (one[1], other)]);
                    changed = true;
                }
            }
        }
        if !changed {
            break;
        }
    }
}

#[cfg(test)]
mod tests;
