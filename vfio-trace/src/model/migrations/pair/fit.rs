//! Whether a source and a destination can be of one migration, and which devices of theirs then belong together.

use super::{Context, Group, Matched};
use crate::model::{
    document::{PairedBy, Verdict},
    migrations::side::Found,
};

/// How long after its source a destination may begin that does not overlap with it, in ns: a stream may be a file.
pub(super) const LATER_NS: u64 = 60_000_000_000;

/// Whether two groups can be of one migration: their devices, and the time between them.
pub(super) fn fit(
    sides: &[Found],
    from: &Group,
    to: &Group,
    context: &Context<'_>,
) -> Option<(Vec<Matched>, u64)> {
    let hosts = (sides[from.sides[0]].host, sides[to.sides[0]].host);
    let tolerance = (context.apart_ns)(hosts.0, hosts.1);
    let after = to.start_ns.saturating_sub(from.end_ns);
    let before = from.start_ns.saturating_sub(to.end_ns);
    let apart = after.max(before).saturating_sub(tolerance);
    let at_once = apart == 0;
    let matched = devices(sides, &from.sides, &to.sides, context, at_once);
    let said = matched.iter().any(|one| one.by == PairedBy::Option);
    if matched.is_empty() || (!at_once && !said && !later(sides, &matched, after, tolerance)) {
        return None;
    }
    Some((matched, apart))
}

/// Whether all that was read may have been written later, out of a file.
fn later(sides: &[Found], matched: &[Matched], after: u64, tolerance: u64) -> bool {
    after > 0
        && after <= LATER_NS.saturating_add(tolerance)
        && matched.iter().all(|one| {
            let (from, to) = (&sides[one.source], &sides[one.destination]);
            from.eof && from.bytes == to.bytes && from.side.verdict == Verdict::Completed
        })
}

fn devices(
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
    // What the user has paired otherwise is nobody else's.
    let said = |names: &dyn Fn(&(String, String)) -> &String, at: usize| {
        context.pairs.iter().any(|pair| name(at) == Some(names(pair).as_str()))
    };
    from.retain(|at| !said(&|pair| &pair.0, *at));
    to.retain(|at| !said(&|pair| &pair.1, *at));
    let drivers_fit =
        |one: usize, two: usize| driver(one).is_none() || driver(two).is_none() || driver(one) == driver(two);
    // How many are as good, those included that are taken by then.
    for by in [PairedBy::StreamHash, PairedBy::StreamBytes, PairedBy::Time] {
        let same = |one: &Found, two: &Found| match by {
            PairedBy::StreamHash => one.stream.is_some() && one.stream == two.stream,
            // What was not seen to be read may have been written all the same.
            PairedBy::Time => at_once && (two.bytes <= one.bytes || one.blind),
            _ => two.bytes == one.bytes && one.bytes > 0,
        };
        for source in from.clone() {
            let fits = |at: &usize| drivers_fit(source, *at) && same(&sides[source], &sides[*at]);
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
