//! Which sides belong to one VM, and which source to which destination.

mod devices;
mod fit;
mod near;

use std::collections::{HashMap, HashSet};

use super::side::{SideAnalysis, SideRole};
use crate::report::document::{PairingReason, TracedDevice};
use fit::fit;

/// How often those that are left over are looked at again.
const ROUNDS: usize = 8;
/// How often all pairs are looked at for those that cross; and how many devices are asked to give up what they were given.
const EXCHANGES: usize = 64;

/// A source and its destination, as places in the row of sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DeviceMatch {
    pub(super) source: usize,
    pub(super) destination: usize,
    pub(super) by: PairingReason,
}

impl DeviceMatch {
    /// Whether the two are known to belong together, whatever the clocks say.
    pub(super) const fn is_sure(&self) -> bool {
        matches!(self.by, PairingReason::Option | PairingReason::StreamHash)
    }
}

/// Sides of one VM that go on at the same time.
#[derive(Clone, Debug)]
pub(super) struct SideGroup {
    pub(super) role: SideRole,
    pub(super) sides: Vec<usize>,
    pub(super) start_ns: u64,
    pub(super) end_ns: u64,
}

/// A migration: groups by their place.
#[derive(Clone, Debug)]
pub(super) struct GroupPair {
    pub(super) source: Option<usize>,
    pub(super) destination: Option<usize>,
    pub(super) matched: Vec<DeviceMatch>,
    /// Another source or destination fits as well, and nothing tells that it is this one but the order.
    pub(super) rivals: bool,
}

impl GroupPair {
    /// One that has nothing in common with another.
    fn alone(at: usize, role: SideRole) -> Self {
        let (source, destination) = match role {
            SideRole::Source => (Some(at), None),
            SideRole::Destination => (None, Some(at)),
        };
        Self { source, destination, matched: Vec::new(), rivals: false }
    }
}

/// What is known of names and of clocks.
pub(super) struct PairingContext<'a> {
    pub(super) devices: &'a [TracedDevice],
    /// Device of the source, of the destination: as the user says.
    pub(super) pairs: &'a [(String, String)],
    /// How far two hosts' clocks may be apart.
    pub(super) apart_ns: &'a dyn Fn(u32, u32) -> ClockTolerance,
    /// What a side's kernel promised that its wall clock was off at most, in ns.
    pub(super) promised: &'a dyn Fn(usize) -> Option<u64>,
    /// Sides that do not belong together, unless the user says so.
    pub(super) refused: &'a HashSet<(usize, usize)>,
    /// Tells of a source and a destination with as many bytes if they are none, by the one clock that both have.
    pub(super) backwards: &'a dyn Fn(usize, usize) -> bool,
}

impl PairingContext<'_> {
    /// Returns true if a source and a destination do not belong together, whatever it looks like.
    fn refuses(&self, source: usize, destination: usize) -> bool {
        self.refused.contains(&(source, destination)) || (self.backwards)(source, destination)
    }

    /// Returns how far apart the clocks may have two groups. Not all that the hosts were apart once: that is only how far pairs
    /// are looked for.
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

/// How far apart two hosts' clocks may have what belongs together, in ns.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClockTolerance {
    /// What is guessed to belong together.
    pub(super) guess: u64,
    /// What is known to.
    pub(super) sure: u64,
}

/// Puts sides of one process together that overlap in time.
pub(super) fn groups(sides: &[SideAnalysis]) -> Vec<SideGroup> {
    let mut order: Vec<usize> = (0..sides.len()).collect();
    order.sort_by_key(|at| (sides[*at].side.start_ns, *at));
    let mut groups: Vec<SideGroup> = Vec::new();
    // Of each process the groups that the next side may belong to, and which devices each group has.
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

/// A source and a destination that fit, by their places among the groups.
#[derive(Clone, Copy, Debug)]
struct PairCandidate {
    source: u32,
    destination: u32,
    /// The less, the better: not as the user says, devices of which only the time tells, time between them, between
    /// their beginnings.
    key: (bool, u32, u64, u64),
    /// At one time and with as many bytes: whoever else has that is as good.
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
        let said = matched.iter().any(|one| one.by == PairingReason::Option);
        let sure = matched.iter().filter(|one| one.by != PairingReason::Time).count();
        let sure = u32::try_from(sure).unwrap_or(u32::MAX);
        let by_bytes =
            |one: &DeviceMatch| matches!(one.by, PairingReason::StreamBytes | PairingReason::Order);
        Some(Self {
            source,
            destination,
            key: (!said, u32::MAX - sure, apart, from.start_ns.abs_diff(to.start_ns)),
            vague: apart == 0 && matched.iter().any(by_bytes),
        })
    }

    const fn ends(&self) -> [u32; 2] {
        [self.source, self.destination]
    }
}

/// Puts groups together.
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
        // All that were near may have gone to others: those that are left may be far from each other.
        if chosen.len() == before {
            break;
        }
    }
    pool.sort_unstable_by_key(PairCandidate::ends);
    uncross(&mut chosen, &pool, sides, groups);
    let rivals = RivalCounts::of(&pool, groups.len());
    let mut wholes = Vec::new();
    for [source, destination] in chosen {
        let (from, to) = (&groups[source as usize], &groups[destination as usize]);
        let (mut matched, _) = fit(sides, from, to, context).unwrap_or_default();
        // Bytes alone say nothing if another one at that time has as many; of a VM that is known by one of its devices, the
        // others are known, too.
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

/// Takes apart what has nothing left that belongs together.
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

/// A candidate of a row that is ordered by its ends.
fn find(pool: &[PairCandidate], ends: [u32; 2]) -> Option<&PairCandidate> {
    pool.get(pool.binary_search_by_key(&ends, PairCandidate::ends).ok()?)
}

/// How many candidates of each group are vague.
struct RivalCounts(Vec<u32>);

impl RivalCounts {
    fn of(pool: &[PairCandidate], groups: usize) -> Self {
        let mut vague = vec![0; groups];
        for at in pool.iter().filter(|one| one.vague).flat_map(PairCandidate::ends) {
            vague[at as usize] += 1;
        }
        Self(vague)
    }

    /// Whether one end of this candidate is the end of another vague one.
    fn has(&self, one: &PairCandidate) -> bool {
        one.ends().iter().any(|at| self.0[*at as usize] > u32::from(one.vague))
    }
}

/// Of two pairs the one that began first on one side began first on the other: pairs that cross are exchanged, if what
/// comes of it is as good.
fn uncross(chosen: &mut [[u32; 2]], pool: &[PairCandidate], sides: &[SideAnalysis], groups: &[SideGroup]) {
    let start = |at: u32| groups[at as usize].start_ns;
    let hosts = |pair: [u32; 2]| pair.map(|at| sides[groups[at as usize].sides[0]].host);
    let instead = |ends: [u32; 2], like: &PairCandidate| {
        find(pool, ends)
            .is_some_and(|new| (new.key.0, new.key.1, new.key.2) <= (like.key.0, like.key.1, like.key.2))
    };
    // Whose a destination is.
    let mut owner: HashMap<u32, usize> = chosen.iter().enumerate().map(|(at, pair)| (pair[1], at)).collect();
    // Each exchange leaves fewer that cross.
    for _ in 0..chosen.len().min(EXCHANGES) {
        let mut changed = false;
        for at in 0..chosen.len() {
            let source = chosen[at][0];
            let first = pool.partition_point(|one| one.source < source);
            let mine = pool[first..].iter().take_while(|one| one.source == source);
            // Only what this source may have instead is worth a look.
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
