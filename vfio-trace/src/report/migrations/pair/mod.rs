//! Which sides belong to one VM, and which source to which destination.

mod devices;
mod fit;
mod near;

use std::collections::{HashMap, HashSet};

use super::side::{Found, Role};
use crate::report::document::{Device, PairedBy};
use fit::fit;

/// How often those that are left over are looked at again.
const ROUNDS: usize = 8;
/// How often all pairs are looked at for those that cross.
const EXCHANGES: usize = 64;

/// A source and its destination, as places in the row of sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Matched {
    pub(super) source: usize,
    pub(super) destination: usize,
    pub(super) by: PairedBy,
}

impl Matched {
    /// Whether the two are known to belong together, whatever the clocks say.
    pub(super) const fn is_sure(&self) -> bool {
        matches!(self.by, PairedBy::Option | PairedBy::StreamHash)
    }
}

/// Sides of one VM that go on at the same time.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) role: Role,
    pub(super) sides: Vec<usize>,
    pub(super) start_ns: u64,
    pub(super) end_ns: u64,
}

/// A migration: groups by their place.
#[derive(Clone, Debug)]
pub(super) struct Whole {
    pub(super) source: Option<usize>,
    pub(super) destination: Option<usize>,
    pub(super) matched: Vec<Matched>,
    /// Another source or destination fits as well, and nothing tells that it is this one but the order.
    pub(super) rivals: bool,
}

impl Whole {
    /// One that has nothing in common with another.
    fn alone(at: usize, role: Role) -> Self {
        let (source, destination) = match role {
            Role::Source => (Some(at), None),
            Role::Destination => (None, Some(at)),
        };
        Self { source, destination, matched: Vec::new(), rivals: false }
    }
}

/// What is known of names and of clocks.
pub(super) struct Context<'a> {
    pub(super) devices: &'a [Device],
    /// Device of the source, of the destination: as the user says.
    pub(super) pairs: &'a [(String, String)],
    /// How far two hosts' clocks may be apart.
    pub(super) apart_ns: &'a dyn Fn(u32, u32) -> Tolerance,
    /// Sides that do not belong together, unless the user says so.
    pub(super) refused: &'a HashSet<(usize, usize)>,
}

/// How far apart two hosts' clocks may have what belongs together, in ns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tolerance {
    /// What is guessed to belong together.
    pub(super) guess: u64,
    /// What is known to.
    pub(super) sure: u64,
}

/// Puts sides of one process together that overlap in time.
pub(super) fn groups(sides: &[Found]) -> Vec<Group> {
    let mut order: Vec<usize> = (0..sides.len()).collect();
    order.sort_by_key(|at| (sides[*at].side.start_ns, *at));
    let mut groups: Vec<Group> = Vec::new();
    // Of each process the groups that the next side may belong to, and which devices each group has.
    let mut open: HashMap<(Role, u32, u32), Vec<usize>> = HashMap::new();
    let mut members: HashSet<(usize, u32)> = HashSet::new();
    for at in order {
        let found = &sides[at];
        let open = open.entry((found.role, found.host, found.pid)).or_default();
        open.retain(|group| groups[*group].end_ns >= found.side.start_ns);
        let device = found.side.device;
        let known = open.iter().rev().find(|group| !members.contains(&(**group, device))).copied();
        let group = known.unwrap_or_else(|| {
            open.push(groups.len());
            groups.push(Group {
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
struct Candidate {
    source: u32,
    destination: u32,
    /// The less, the better: not as the user says, devices of which only the time tells, time between them, between
    /// their beginnings.
    key: (bool, u32, u64, u64),
    /// At one time and with as many bytes: whoever else has that is as good.
    vague: bool,
}

impl Candidate {
    fn of(
        sides: &[Found],
        groups: &[Group],
        [source, destination]: [u32; 2],
        context: &Context<'_>,
    ) -> Option<Self> {
        let (from, to) = (&groups[source as usize], &groups[destination as usize]);
        let (matched, apart) = fit(sides, from, to, context)?;
        let said = matched.iter().any(|one| one.by == PairedBy::Option);
        let sure = matched.iter().filter(|one| one.by != PairedBy::Time).count();
        let sure = u32::try_from(sure).unwrap_or(u32::MAX);
        let by_bytes = |one: &Matched| matches!(one.by, PairedBy::StreamBytes | PairedBy::Order);
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
pub(super) fn wholes(sides: &[Found], groups: &[Group], context: &Context<'_>) -> Vec<Whole> {
    let mut taken = vec![false; groups.len()];
    let mut pool: Vec<Candidate> = Vec::new();
    // Sources with their destinations, in the order in which they were chosen.
    let mut chosen: Vec<[u32; 2]> = Vec::new();
    for _ in 0..ROUNDS {
        let pairs = near::pairs(sides, groups, &taken, context);
        let mut new: Vec<Candidate> =
            pairs.into_iter().filter_map(|pair| Candidate::of(sides, groups, pair, context)).collect();
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
    pool.sort_unstable_by_key(Candidate::ends);
    uncross(&mut chosen, &pool, sides, groups);
    let rivals = Rivals::of(&pool, groups.len());
    let mut wholes = Vec::new();
    for [source, destination] in chosen {
        let (from, to) = (&groups[source as usize], &groups[destination as usize]);
        let (mut matched, _) = fit(sides, from, to, context).unwrap_or_default();
        // Bytes alone say nothing if another one at that time has as many.
        let rivals = find(&pool, [source, destination]).is_some_and(|one| rivals.has(one));
        if rivals {
            for one in matched.iter_mut().filter(|one| one.by == PairedBy::StreamBytes) {
                one.by = PairedBy::Order;
            }
        }
        let (source, destination) = (Some(source as usize), Some(destination as usize));
        let rivals = rivals && !matched.iter().any(Matched::is_sure);
        wholes.push(Whole { source, destination, matched, rivals });
    }
    for (at, group) in groups.iter().enumerate().filter(|(at, _)| !taken[*at]) {
        wholes.push(Whole::alone(at, group.role));
    }
    in_order(&mut wholes, groups);
    wholes
}

/// Takes apart what has nothing left that belongs together.
pub(super) fn split(wholes: &mut Vec<Whole>, groups: &[Group]) {
    let all = std::mem::take(wholes);
    for whole in all {
        match (whole.source, whole.destination) {
            (Some(source), Some(destination)) if whole.matched.is_empty() => {
                wholes.push(Whole::alone(source, Role::Source));
                wholes.push(Whole::alone(destination, Role::Destination));
            },
            _ => wholes.push(whole),
        }
    }
    in_order(wholes, groups);
}

fn in_order(wholes: &mut [Whole], groups: &[Group]) {
    let start = |whole: &Whole| {
        [whole.source, whole.destination].iter().flatten().map(|at| groups[*at].start_ns).min()
    };
    wholes.sort_by_key(start);
}

/// A candidate of a row that is ordered by its ends.
fn find(pool: &[Candidate], ends: [u32; 2]) -> Option<&Candidate> {
    pool.get(pool.binary_search_by_key(&ends, Candidate::ends).ok()?)
}

/// How many candidates of each group are vague.
struct Rivals(Vec<u32>);

impl Rivals {
    fn of(pool: &[Candidate], groups: usize) -> Self {
        let mut vague = vec![0; groups];
        for at in pool.iter().filter(|one| one.vague).flat_map(Candidate::ends) {
            vague[at as usize] += 1;
        }
        Self(vague)
    }

    /// Whether one end of this candidate is the end of another vague one.
    fn has(&self, one: &Candidate) -> bool {
        one.ends().iter().any(|at| self.0[*at as usize] > u32::from(one.vague))
    }
}

/// Of two pairs the one that began first on one side began first on the other: pairs that cross are exchanged, if what
/// comes of it is as good.
fn uncross(chosen: &mut [[u32; 2]], pool: &[Candidate], sides: &[Found], groups: &[Group]) {
    let start = |at: u32| groups[at as usize].start_ns;
    let hosts = |pair: [u32; 2]| pair.map(|at| sides[groups[at as usize].sides[0]].host);
    let instead = |ends: [u32; 2], like: &Candidate| {
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
