//! What pairs were before only near ones were looked at: all sources with all destinations. Slow, and plain to see.

use super::super::{Context, Group, Matched, Whole, devices::whole, fit::fit};
use crate::report::{
    document::PairedBy,
    migrations::side::{Found, Role},
};

/// Puts sides of one process together that overlap in time.
pub(super) fn groups(sides: &[Found]) -> Vec<Group> {
    let mut order: Vec<usize> = (0..sides.len()).collect();
    order.sort_by_key(|at| (sides[*at].side.start_ns, *at));
    let mut groups: Vec<Group> = Vec::new();
    for at in order {
        let found = &sides[at];
        let same = |group: &&mut Group| {
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
            None => groups.push(Group {
                role: found.role,
                sides: vec![at],
                start_ns: found.side.start_ns,
                end_ns: found.side.end_ns,
            }),
        }
    }
    groups
}

/// Puts groups together.
pub(super) fn wholes(sides: &[Found], groups: &[Group], context: &Context<'_>) -> Vec<Whole> {
    struct Candidate {
        key: (bool, usize, u64, u64),
        source: usize,
        destination: usize,
        matched: Vec<Matched>,
    }
    let mut candidates = Vec::new();
    let of = |role: Role| groups.iter().enumerate().filter(move |(_, group)| group.role == role);
    for (source, from) in of(Role::Source) {
        for (destination, to) in of(Role::Destination) {
            let Some((matched, apart)) = fit(sides, from, to, context) else { continue };
            let said = matched.iter().any(|one| one.by == PairedBy::Option);
            let sure = matched.iter().filter(|one| one.by != PairedBy::Time).count();
            let key = (!said, usize::MAX - sure, apart, from.start_ns.abs_diff(to.start_ns));
            candidates.push(Candidate { key, source, destination, matched });
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
        let hosts = |one: &Candidate| [one.source, one.destination].map(|at| sides[groups[at].sides[0]].host);
        let start = |at: usize| groups[at].start_ns;
        let crossed = (start(one.source) < start(other.source)
            && start(one.destination) > start(other.destination))
            || (start(one.source) > start(other.source) && start(one.destination) < start(other.destination));
        if !crossed || hosts(one) != hosts(other) {
            return None;
        }
        let instead = |source: usize, destination: usize, like: &Candidate| {
            candidates.iter().position(|new| {
                (new.source, new.destination) == (source, destination)
                    && (new.key.0, new.key.1, new.key.2) <= (like.key.0, like.key.1, like.key.2)
            })
        };
        let first = instead(one.source, other.destination, one)?;
        Some([first, instead(other.source, one.destination, other)?])
    });
    let mut wholes = Vec::new();
    for at in chosen {
        let one = &candidates[at];
        // Bytes alone say nothing if another one at that time has as many.
        let rivals = candidates.iter().any(|other| {
            (other.source == one.source) != (other.destination == one.destination)
                && other.key.2 == 0
                && other.matched.iter().any(|pair| matches!(pair.by, PairedBy::StreamBytes | PairedBy::Order))
        });
        let mut matched = one.matched.clone();
        for one in matched.iter_mut().filter(|one| rivals && one.by == PairedBy::StreamBytes) {
            one.by = PairedBy::Order;
        }
        let rivals = rivals && !matched.iter().any(Matched::is_sure);
        wholes.push(Whole { source: Some(one.source), destination: Some(one.destination), matched, rivals });
    }
    for (at, group) in groups.iter().enumerate().filter(|(at, _)| !taken[*at]) {
        let (source, destination) = match group.role {
            Role::Source => (Some(at), None),
            Role::Destination => (None, Some(at)),
        };
        wholes.push(Whole { source, destination, matched: Vec::new(), rivals: false });
    }
    let start = |whole: &Whole| {
        [whole.source, whole.destination].iter().flatten().map(|at| groups[*at].start_ns).min()
    };
    wholes.sort_by_key(start);
    wholes
}

/// Of two pairs the one that began first on one side began first on the other: pairs that cross are exchanged.
fn uncross(chosen: &mut [usize], exchange: impl Fn([usize; 2]) -> Option<[usize; 2]>) {
    // Each exchange leaves fewer that cross.
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

/// Which devices belong together: each source is compared with all destinations.
pub(super) fn devices(
    sides: &[Found],
    from: &[usize],
    to: &[usize],
    context: &Context<'_>,
    at_once: bool,
) -> Vec<Matched> {
    let name = |at: usize| context.devices[sides[at].side.device as usize].name.as_deref();
    let driver = |at: usize| context.devices[sides[at].side.device as usize].driver.as_deref();
    let (all_from, all_to) = (from, to);
    let (mut from, mut to) = (from.to_vec(), to.to_vec());
    let mut matched = Vec::new();
    let mut take = |from: &mut Vec<usize>, to: &mut Vec<usize>, source, destination, by| {
        from.retain(|at| *at != source);
        to.retain(|at| *at != destination);
        matched.push(Matched { source, destination, by });
    };
    for (source_name, destination_name) in context.pairs {
        let source = from.iter().copied().find(|at| name(*at) == Some(source_name));
        let destination = to.iter().copied().find(|at| name(*at) == Some(destination_name));
        if let (Some(source), Some(destination)) = (source, destination) {
            take(&mut from, &mut to, source, destination, PairedBy::Option);
        }
    }
    let said = |names: &dyn Fn(&(String, String)) -> &String, at: usize| {
        context.pairs.iter().any(|pair| name(at) == Some(names(pair).as_str()))
    };
    from.retain(|at| !said(&|pair| &pair.0, *at));
    to.retain(|at| !said(&|pair| &pair.1, *at));
    let drivers_fit =
        |one: usize, two: usize| driver(one).is_none() || driver(two).is_none() || driver(one) == driver(two);
    for by in [PairedBy::StreamHash, PairedBy::StreamBytes, PairedBy::Time] {
        let same = |one: &Found, two: &Found| {
            let known = one.stream.is_some() && two.stream.is_some();
            match by {
                PairedBy::StreamHash => known && one.stream == two.stream,
                PairedBy::Time => {
                    at_once
                        && (two.bytes < one.bytes || !known && (two.bytes == one.bytes || one.blind))
                        && !(whole(one) && whole(two))
                },
                _ => two.bytes == one.bytes && one.bytes > 0 && !known,
            }
        };
        for source in from.clone() {
            let fits = |at: &usize| {
                drivers_fit(source, *at)
                    && same(&sides[source], &sides[*at])
                    && !context.refused.contains(&(source, *at))
            };
            let Some(destination) = to.iter().copied().find(fits) else { continue };
            let rivals = all_from.iter().filter(|at| same(&sides[**at], &sides[destination])).count();
            let choices = all_to.iter().filter(|at| same(&sides[source], &sides[**at])).count();
            let by = match by {
                PairedBy::Time => by,
                _ if choices > 1 || rivals > 1 => PairedBy::Order,
                by => by,
            };
            take(&mut from, &mut to, source, destination, by);
        }
    }
    matched
}
