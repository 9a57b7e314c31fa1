//! Several hosts on one clock: wall clocks first, then no farther apart than causality allows.

use std::collections::HashSet;

use super::{details::ShiftedSession, pair::DeviceMatch, shift::ClockShift, side::SideAnalysis};
use crate::report::{
    document::{ClockMerge, MergeMethod, PairingReason},
    history::HostHistory,
};

/// From each host's CLOCK_MONOTONIC to the document's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClockAlignment {
    /// What is added to each host's wall clock, in ns.
    offsets: Vec<i128>,
    /// Wall time of the origin on the first host's clock.
    pub(super) origin_ns: i128,
    /// From each host's CLOCK_MONOTONIC to the document's clock.
    pub(super) shifts: Vec<ClockShift>,
}

/// Wall clocks of one boot are no farther apart than this where nothing is known of their errors, in ns.
const SAME_CLOCK: u64 = 10_000_000;

/// Whether two recordings are of one boot, so that their clock is the same. Machines that were resumed from one snapshot
/// share its id, but neither their names nor, once one clock is set, how far it is from CLOCK_BOOTTIME.
pub(super) fn same_clock(one: &HostHistory, two: &HostHistory) -> bool {
    let boot = one.host.boot_id.is_some() && one.host.boot_id == two.host.boot_id;
    let errors = one.clock_error_ns().zip(two.clock_error_ns());
    let error = errors.map_or(SAME_CLOCK, |(one, two)| one.saturating_add(two).max(SAME_CLOCK));
    boot && one.host.name == two.host.name && one.ahead_ns().abs_diff(two.ahead_ns()) <= error.into()
}

impl ClockAlignment {
    /// Wall clocks as they are, but one clock where it is one.
    pub(super) fn of(histories: &[HostHistory]) -> Self {
        let offset = |history: &HostHistory| match histories.first() {
            Some(first) if same_clock(first, history) => first.distance_ns() - history.distance_ns(),
            _ => 0,
        };
        Self::with(histories, histories.iter().map(offset).collect())
    }

    fn with(histories: &[HostHistory], offsets: Vec<i128>) -> Self {
        let Some(first) = histories.first() else {
            return Self { offsets, origin_ns: 0, shifts: Vec::new() };
        };
        // Onto the first host's CLOCK_MONOTONIC, of which `origin` will be 0.
        let shifts = |origin: i128| -> Vec<ClockShift> {
            let of = |(history, by): (&HostHistory, &i128)| {
                if same_clock(first, history) || std::ptr::eq(first, history) {
                    return ClockShift::always(-origin);
                }
                let boot_by = history.ahead_ns() + by - first.ahead_ns();
                ClockShift::between(&history.clocks, &first.clocks, boot_by, origin)
            };
            histories.iter().zip(&offsets).map(of).collect()
        };
        let began = histories.iter().zip(shifts(0)).map(|(history, shift)| {
            let first =
                history.span().map_or(history.host.began_ns, |(first, _)| first.min(history.host.began_ns));
            shift.moved(first)
        });
        let origin = began.min().unwrap_or(0);
        let shifts = shifts(origin);
        Self { offsets, origin_ns: origin + first.distance_ns(), shifts }
    }

    /// Pairs that are a guess and are none: on one clock data was written before it was read, or the first host and another
    /// one had to be farther apart than the kernels promise. One whose VM has none else to belong to, as far as is known from
    /// `before` and `rivals`, the sources of which others fit as well, may break a promise by a little, if all that is demanded
    /// can be so.
    pub(super) fn find_refused(
        &self,
        histories: &[HostHistory],
        sides: &[SideAnalysis],
        matched: &[DeviceMatch],
        streams: &[ShiftedSession<'_>],
        before: &HashSet<(usize, usize)>,
        rivals: &HashSet<usize>,
    ) -> Vec<(usize, usize)> {
        let (sources, destinations): (HashSet<usize>, HashSet<usize>) = before.iter().copied().unzip();
        let alone = |pair: &DeviceMatch| {
            let by_bytes = match pair.by {
                PairingReason::StreamBytes => true,
                // Only another device of the same VM has as many.
                PairingReason::Order => !rivals.contains(&pair.source),
                _ => false,
            };
            by_bytes && !sources.contains(&pair.source) && !destinations.contains(&pair.destination)
        };
        let first_clock = |host: u32| same_clock(&histories[0], &histories[host as usize]);
        let backwards = |pair: &&DeviceMatch| {
            let (from, to) = (&sides[pair.source], &sides[pair.destination]);
            let [one, two] = [from, to].map(|found| &histories[found.host as usize]);
            let one_clock = from.host == to.host
                || first_clock(from.host) && first_clock(to.host)
                || same_clock(one, two);
            let by_bytes = matches!(pair.by, PairingReason::StreamBytes | PairingReason::Order);
            let partial = from.side.partial || to.side.partial;
            by_bytes
                && one_clock
                && !partial
                && !lacking(from, histories)
                && !lacking(to, histories)
                // By that clock itself: where it is not the first host's, each recording of it was moved by itself.
                && slack(from, to, streams, |_, ns| ns).is_some_and(|slack| slack < 0)
        };
        let mut refused: Vec<(usize, usize)> =
            matched.iter().filter(backwards).map(|pair| (pair.source, pair.destination)).collect();
        for (at, history) in histories.iter().enumerate().skip(1) {
            if same_clock(&histories[0], history) {
                continue;
            }
            let demands = self.demands(at, histories, sides, matched, streams);
            let (least, most) = OffsetConstraint::bounds(&demands, false);
            let OffsetCorrection { by, .. } = choose(least, most, None);
            let keeps = |demand: &OffsetConstraint| demand.pair.is_sure() || demand.keeps(by, 0);
            let nearly =
                |demand: &OffsetConstraint| alone(&demand.pair) && demand.keeps(by, super::SPARE_NS.into());
            let all: Vec<OffsetConstraint> =
                demands.iter().filter(|demand| keeps(demand) || nearly(demand)).copied().collect();
            let agree = match OffsetConstraint::bounds(&all, true) {
                (Some(least), Some(most)) => least <= most,
                _ => true,
            };
            let wrong = demands.iter().filter(|demand| !(keeps(demand) || agree && nearly(demand)));
            refused.extend(wrong.map(|demand| (demand.pair.source, demand.pair.destination)));
        }
        refused
    }

    /// What the streams between the first host and another one demand of that one's clock.
    fn demands(
        &self,
        at: usize,
        histories: &[HostHistory],
        sides: &[SideAnalysis],
        matched: &[DeviceMatch],
        streams: &[ShiftedSession<'_>],
    ) -> Vec<OffsetConstraint> {
        let host = u32::try_from(at).unwrap_or(u32::MAX);
        let of_pair = |pair: &DeviceMatch| {
            let (from, to) = (&sides[pair.source], &sides[pair.destination]);
            let least = match (from.host, to.host) {
                (0, there) if there == host => true,
                (there, 0) if there == host => false,
                _ => return None,
            };
            if lacking(from, histories) || lacking(to, histories) {
                return None;
            }
            let slack = slack(from, to, streams, ShiftedSession::at)?;
            let offset = self.offsets[at];
            let promised = promised_of(from, histories, streams).zip(promised_of(to, histories, streams));
            let promised = promised.map(|(one, two)| one.saturating_add(two));
            Some(OffsetConstraint {
                pair: *pair,
                promised,
                least,
                offset: if least { offset - slack } else { offset + slack },
            })
        };
        matched.iter().filter_map(of_pair).collect()
    }

    /// Moved as far as the streams of matched sides demand, and how sure that is.
    pub(super) fn tighten(
        &self,
        histories: &[HostHistory],
        sides: &[SideAnalysis],
        matched: &[DeviceMatch],
        streams: &[ShiftedSession<'_>],
    ) -> (Self, Vec<ClockMerge>) {
        let mut offsets = self.offsets.clone();
        let mut merges = Vec::new();
        for (at, history) in histories.iter().enumerate().skip(1) {
            let host = u32::try_from(at).unwrap_or(u32::MAX);
            let demands = self.demands(at, histories, sides, matched, streams);
            // How much later the host's times have to be, and may be at most.
            let (least, most) = OffsetConstraint::bounds(&demands, true);
            let [least, most] = [least, most].map(|bound| bound.map(|bound| bound - offsets[at]));
            let merge = if same_clock(&histories[0], history) {
                ClockMerge {
                    host,
                    method: MergeMethod::SameClock,
                    offset_ns: narrow(offsets[at]),
                    early_ns: Some(0),
                    late_ns: Some(0),
                    causal_min_ns: least.map(|least| narrow(offsets[at] + least)),
                    causal_max_ns: most.map(|most| narrow(offsets[at] + most)),
                    clock_error_ns: Some(0),
                    text: "one clock: both recordings are of one boot".to_owned(),
                }
            } else {
                let error = promised_for(at, histories, sides, matched, streams);
                let chosen = choose(least, most, error);
                let merge = describe(host, offsets[at], chosen, (least, most), error);
                offsets[at] += chosen.by;
                merge
            };
            merges.push(merge);
        }
        (Self::with(histories, offsets), merges)
    }
}

/// How far two hosts' wall clocks are apart at most, if both kernels keep what they promised whenever data was moved; `None`:
/// they promise nothing now, or promised nothing once.
pub(super) fn worst_clock_error(one: &HostHistory, two: &HostHistory) -> Option<u64> {
    let worst = |history: &HostHistory| {
        let then = history.sessions.iter().map(|session| history.clocks.error_at(session.doc.start_ns));
        then.chain([history.clock_error_ns()]).try_fold(0, |worst, error| Some(error?.max(worst)))
    };
    worst(one).zip(worst(two)).map(|(one, two)| one.saturating_add(two))
}

/// What a side's kernel promised: while its data was moved, and when the clocks are taken from.
fn promised_of(
    found: &SideAnalysis,
    histories: &[HostHistory],
    streams: &[ShiftedSession<'_>],
) -> Option<u64> {
    let history = &histories[found.host as usize];
    let then = found.streams(streams).map(|stream| history.clocks.error_at(stream.history.doc.start_ns));
    then.chain([history.clock_error_ns()]).try_fold(0, |worst, error| Some(error?.max(worst)))
}

/// How far the wall clocks of the first host and another one are apart at most, if both kernels keep what they promise for all
/// that went from host to host.
fn promised_for(
    at: usize,
    histories: &[HostHistory],
    sides: &[SideAnalysis],
    matched: &[DeviceMatch],
    streams: &[ShiftedSession<'_>],
) -> Option<u64> {
    let across = matched.iter().filter(|pair| sides[pair.source].host != sides[pair.destination].host);
    let all: Vec<&SideAnalysis> =
        across.flat_map(|pair| [&sides[pair.source], &sides[pair.destination]]).collect();
    let of = |host: usize| {
        let mine = all.iter().filter(|found| found.host as usize == host);
        let then = mine.map(|found| promised_of(found, histories, streams));
        then.chain([histories[host].clock_error_ns()]).try_fold(0, |worst, error| Some(error?.max(worst)))
    };
    of(0).zip(of(at)).map(|(one, two): (u64, u64)| one.saturating_add(two))
}

/// Whether calls of a side are lacking: nobody knows then which bytes the others moved.
fn lacking(found: &SideAnalysis, histories: &[HostHistory]) -> bool {
    found.unprobed || histories[found.host as usize].host.losses.lacks_data()
}

/// What one stream demands of a host's offset from the first host's wall clock.
#[derive(Clone, Copy, Debug)]
struct OffsetConstraint {
    pair: DeviceMatch,
    /// What the kernels promised of both sides together.
    promised: Option<u64>,
    /// At least so much; or at most.
    least: bool,
    offset: i128,
}

impl OffsetConstraint {
    /// Whether it demands no more than the kernels promise, and `spare` beyond; or if that is not so by what is sure, which
    /// demands `by`, no more beyond that.
    fn keeps(&self, by: i128, spare: i128) -> bool {
        let Some(error) = self.promised.map(i128::from) else { return true };
        let by = if by.abs() > error { by } else { 0 };
        if self.least { self.offset <= by + error + spare } else { self.offset >= by - error - spare }
    }

    /// The most that is demanded, both ways; `all`: not only by what is sure.
    fn bounds(demands: &[Self], all: bool) -> (Option<i128>, Option<i128>) {
        let (mut least, mut most) = (None::<i128>, None::<i128>);
        for demand in demands.iter().filter(|demand| all || demand.pair.is_sure()) {
            if demand.least {
                least = least.max(Some(demand.offset));
            } else {
                most = Some(most.map_or(demand.offset, |most| most.min(demand.offset)));
            }
        }
        (least, most)
    }
}

/// A change of an offset, and how wrong it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct OffsetCorrection {
    by: i128,
    /// The truth may be so much larger.
    early: Option<i128>,
    /// The truth may be so much smaller.
    late: Option<i128>,
}

/// The change that is nearest to none within what causality allows; `error`: what the wall clocks may be off.
fn choose(least: Option<i128>, most: Option<i128>, error: Option<u64>) -> OffsetCorrection {
    // Causality that contradicts itself is noise in a part that was not seen: the middle is as good as any.
    if let (Some(least), Some(most)) = (least, most)
        && least > most
    {
        let (by, off) = (i128::midpoint(least, most), least - most);
        return OffsetCorrection { by, early: Some(off), late: Some(off) };
    }
    let by = least.map_or(0, |least| least.max(0));
    let by = most.map_or(by, |most| by.min(most));
    let error = error.map(i128::from);
    // A promise that causality breaks is none.
    let kept =
        |error: i128| least.is_none_or(|least| least <= error) && most.is_none_or(|most| most >= -error);
    let error = error.filter(|error| kept(*error));
    let nearer = |one: Option<i128>, two: Option<i128>| match (one, two) {
        (Some(one), Some(two)) => Some(one.min(two)),
        (one, two) => one.or(two),
    };
    OffsetCorrection {
        by,
        early: nearer(most.map(|most| most - by), error.map(|error| error - by)),
        late: nearer(least.map(|least| by - least), error.map(|error| error + by)),
    }
}

fn describe(
    host: u32,
    before: i128,
    chosen: OffsetCorrection,
    (least, most): (Option<i128>, Option<i128>),
    error: Option<u64>,
) -> ClockMerge {
    let moved = chosen.by != 0;
    let broken = error.filter(|error| chosen.by.unsigned_abs() > u128::from(*error));
    let broken = broken.map_or_else(String::new, |error| {
        format!(", although the kernels promise that they are no farther apart than {}", ms(error.into()))
    });
    let how = match (moved, least.is_some() || most.is_some()) {
        (true, _) => format!(
            "the wall clocks would have had data written before it was read: moved by {}, as far as causality demands{broken}",
            ms(chosen.by)
        ),
        (false, true) => {
            "the wall clocks agree with causality: nothing was written before it was read".to_owned()
        },
        (false, false) => {
            "by the wall clocks; no stream between the hosts was seen that could tell".to_owned()
        },
    };
    // What causality demands breaks a promise, or nothing was promised.
    let unknown = match error {
        Some(_) => "because a kernel's promise is broken",
        None => "because a clock is not synchronised",
    };
    let sure = match (chosen.early, chosen.late) {
        (Some(early), Some(late)) => {
            format!("times may be {} too early or {} too late", ms(early), ms(late))
        },
        (None, Some(late)) => {
            format!("times may be {} too late; how much too early is not known, {unknown}", ms(late))
        },
        (Some(early), None) => {
            format!("times may be {} too early; how much too late is not known, {unknown}", ms(early))
        },
        (None, None) => format!("how far apart they are is not known, {unknown}"),
    };
    ClockMerge {
        host,
        method: if moved { MergeMethod::Causality } else { MergeMethod::Realtime },
        offset_ns: narrow(before + chosen.by),
        early_ns: chosen.early.map(unsigned),
        late_ns: chosen.late.map(unsigned),
        causal_min_ns: least.map(|least| narrow(before + least)),
        causal_max_ns: most.map(|most| narrow(before + most)),
        clock_error_ns: error,
        text: format!("{how}; {sure}"),
    }
}

/// In milliseconds, for people.
fn ms(ns: i128) -> String {
    let us = ns / 1_000;
    format!("{}{}.{:03} ms", if us < 0 { "-" } else { "" }, us.abs() / 1_000, us.abs() % 1_000)
}

fn narrow(ns: i128) -> i64 {
    i64::try_from(ns).unwrap_or(if ns < 0 { i64::MIN } else { i64::MAX })
}

fn unsigned(ns: i128) -> u64 {
    u64::try_from(ns.max(0)).unwrap_or(u64::MAX)
}

/// The least time from a byte's `read()` on the source to its `write()` on the destination, as the clocks are: negative
/// if it was written before it was read. `None`: the streams do not tell. `time`: of a stream's call, from its host's.
fn slack<'a>(
    from: &SideAnalysis,
    to: &SideAnalysis,
    streams: &[ShiftedSession<'a>],
    time: fn(&ShiftedSession<'a>, u64) -> u64,
) -> Option<i128> {
    let of = |found: &SideAnalysis| {
        let [nr] = found.side.sessions[..] else { return None };
        let stream = streams.get(nr as usize)?;
        // Of calls at the same time, nobody knows which was first.
        let known =
            stream.doc.missed_bytes.is_none_or(|missed| missed == 0) && stream.doc.concurrent_calls <= 1;
        known.then_some(stream)
    };
    let (from, to) = (of(from)?, of(to)?);
    let mut reads = from.history.calls().peekable();
    let mut read = None;
    let mut least: Option<i128> = None;
    for write in to.history.calls() {
        // The last read that only gave bytes which come no later than this write's first: where not all calls are
        // kept, an earlier one than the one in question, so that the figure stays a bound.
        while let Some(next) = reads.next_if(|next| next.before <= write.before) {
            read = Some(next);
        }
        let Some(read) = read else { continue };
        let passed = i128::from(time(to, write.start_ns)) - i128::from(time(from, read.end_ns));
        least = Some(least.map_or(passed, |least| least.min(passed)));
    }
    least
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_nearest_that_causality_allows() {
        let chosen = |by, early, late| OffsetCorrection { by, early, late };
        assert_eq!(choose(None, None, None), chosen(0, None, None));
        assert_eq!(choose(None, None, Some(5)), chosen(0, Some(5), Some(5)));
        assert_eq!(choose(Some(-3), None, None), chosen(0, None, Some(3)));
        assert_eq!(choose(Some(4), None, Some(9)), chosen(4, Some(5), Some(0)));
        assert_eq!(choose(Some(-3), Some(8), Some(5)), chosen(0, Some(5), Some(3)));
        assert_eq!(choose(None, Some(-8), None), chosen(-8, Some(0), None));
        // A promise that is not kept.
        assert_eq!(choose(Some(20), None, Some(5)), chosen(20, None, Some(0)));
        // A contradiction.
        assert_eq!(choose(Some(6), Some(2), None), chosen(4, Some(4), Some(4)));
    }

    proptest! {
        #[test]
        fn within_the_bounds(least in -100..100i128, room in 0..100i128, error in proptest::option::of(0..200u64)) {
            let most = least + room;
            let chosen = choose(Some(least), Some(most), error);
            prop_assert!((least..=most).contains(&chosen.by));
            prop_assert!(chosen.early.is_some_and(|early| early >= 0 && chosen.by + early <= most));
            prop_assert!(chosen.late.is_some_and(|late| late >= 0 && chosen.by - late >= least));
            // From the other host's point of view everything is the other way round.
            let other = choose(Some(-most), Some(-least), error);
            prop_assert_eq!((other.by, other.early, other.late), (-chosen.by, chosen.late, chosen.early));
        }
    }
}
