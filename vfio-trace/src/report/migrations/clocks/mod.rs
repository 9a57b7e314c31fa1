//! Puts several hosts on one clock: first by their wall clocks, then by the smallest changes that causality demands.

mod correction;
mod drift;
mod evidence;
mod facts;
mod others;

use std::collections::HashSet;

pub(super) use self::{
    correction::OffsetCorrection,
    drift::{DriftBounds, DriftRate},
    evidence::{StreamEvidence, StreamSlack},
    facts::ClockFacts,
};
use self::{
    correction::{choose, describe, narrow},
    evidence::OffsetConstraint,
    others::{KeptConstraints, OpposedConstraints},
};
use super::{
    pair::{DeviceMatch, GroupPair},
    shift::ClockShift,
};
use crate::report::{
    document::{ClockMerge, MergeMethod, PairingReason},
    history::HostHistory,
};

/// Shifts from each host's CLOCK_MONOTONIC to the document's clock. `document_and_shifts` makes one by the wall clocks,
/// looks for pairs with it, and makes the final one with [`ClockAlignment::tighten`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClockAlignment {
    /// Offset that is added to each host's wall clock, in ns.
    offsets: Vec<i128>,
    /// Wall time of the origin on the first host's clock.
    pub(super) origin_ns: i128,
    /// Shift from each host's CLOCK_MONOTONIC to the document's clock.
    pub(super) shifts: Vec<ClockShift>,
}

impl ClockAlignment {
    /// Takes wall clocks as they are; hosts that share a clock get the same.
    pub(super) fn of(histories: &[HostHistory], facts: &ClockFacts) -> Self {
        Self::with(histories, facts, |_| 0)
    }

    /// Moves the boots. `by`: offset of a boot's times from its wall clock.
    fn with(histories: &[HostHistory], facts: &ClockFacts, by: impl Fn(usize) -> i128) -> Self {
        let offset = |host: usize| match facts.boot(host) {
            0 => facts.distance_ns(0) - facts.distance_ns(host),
            boot => by(boot) + facts.ahead_ns(boot) - facts.ahead_ns(host),
        };
        let offsets: Vec<i128> = (0..histories.len()).map(offset).collect();
        let Some(first) = histories.first() else {
            return Self { offsets, origin_ns: 0, shifts: Vec::new() };
        };
        // Shifts to the first host's CLOCK_MONOTONIC, on which `origin` becomes 0.
        let shifts = |origin: i128| -> Vec<ClockShift> {
            let of = |(host, history): (usize, &HostHistory)| {
                if facts.boot(host) == 0 {
                    return ClockShift::always(-origin);
                }
                let boot_by = facts.ahead_ns(host) + offsets[host] - facts.ahead_ns(0);
                ClockShift::between(&history.clocks, &first.clocks, boot_by, origin)
            };
            histories.iter().enumerate().map(of).collect()
        };
        let began = histories.iter().zip(shifts(0)).map(|(history, shift)| {
            let first =
                history.span().map_or(history.host.began_ns, |(first, _)| first.min(history.host.began_ns));
            shift.moved(first)
        });
        let origin = began.min().unwrap_or(0);
        let shifts = shifts(origin);
        Self { offsets, origin_ns: origin + facts.distance_ns(0), shifts }
    }

    /// Returns a time of a host's CLOCK_BOOTTIME on that of the first host, which does not stand still while it sleeps.
    pub(super) fn on_first(&self, (host, boot_ns): (u32, i128), facts: &ClockFacts) -> i128 {
        let host = host as usize;
        match facts.boot(host) {
            0 => boot_ns,
            _ => boot_ns + facts.ahead_ns(host) + self.offsets[host] - facts.ahead_ns(0),
        }
    }

    /// Returns the first and the last time of the first host's CLOCK_BOOTTIME that may be within a span of the
    /// document's times: all that others did while that host slept is at one time of the document.
    pub(super) fn span_on_first(
        &self,
        first_ns: u64,
        last_ns: u64,
        histories: &[HostHistory],
    ) -> (i128, i128) {
        let origin = self.shifts.first().map_or(0, |shift| -shift.first());
        let (first_ns, last_ns) = (i128::from(first_ns) + origin, i128::from(last_ns) + origin);
        let asleep = |ns: i128| {
            let ns = u64::try_from(ns.max(0)).unwrap_or(u64::MAX);
            histories.first().map_or(0, |history| history.clocks.asleep_at(ns))
        };
        (first_ns + asleep(first_ns - 1), last_ns + asleep(last_ns))
    }

    /// Finds guessed pairs that are none: on one clock data was written before it was read, or two hosts would be
    /// farther apart than their kernels promise. A pair whose VM fits no other, by the refusals in
    /// `before`, may exceed a promise by a little, if no other stream at about that time contradicts it.
    pub(super) fn find_refused(
        &self,
        evidence: StreamEvidence<'_>,
        wholes: &[GroupPair],
        before: &HashSet<(usize, usize)>,
    ) -> Vec<(usize, usize)> {
        let (sources, destinations): (HashSet<usize>, HashSet<usize>) = before.iter().copied().unzip();
        let alone = |demand: &OffsetConstraint| {
            let pair = &demand.pair;
            let by_bytes = match pair.by {
                PairingReason::StreamBytes => true,
                // Only another device of the same VM has the same number of bytes.
                PairingReason::Order => !wholes[demand.whole].rivals,
                _ => false,
            };
            by_bytes && !sources.contains(&pair.source) && !destinations.contains(&pair.destination)
        };
        let backwards = |pair: &&DeviceMatch| {
            // One clock is stronger evidence than an equal hash.
            let guess = !matches!(pair.by, PairingReason::Option | PairingReason::Time);
            guess && evidence.is_backwards([pair.source, pair.destination])
        };
        let matched = wholes.iter().flat_map(|whole| &whole.matched);
        let mut refused: Vec<(usize, usize)> =
            matched.filter(backwards).map(|pair| (pair.source, pair.destination)).collect();
        for [base, boot] in evidence.facts.boot_pairs() {
            let demands = self.demands([base, boot], evidence, wholes);
            let (least, most) = OffsetConstraint::bounds(&demands, false);
            let by = choose(least, most);
            let keeps = |demand: &OffsetConstraint| demand.pair.is_sure() || demand.keeps(by, 0);
            let others = KeptConstraints::of(&demands, by, evidence, wholes);
            let nearly = |demand: &OffsetConstraint| {
                alone(demand)
                    && demand.keeps(by, super::SPARE_NS.into())
                    && !others.contradict(demand, by, self, evidence)
            };
            let all: Vec<OffsetConstraint> =
                demands.iter().filter(|demand| keeps(demand) || nearly(demand)).copied().collect();
            let opposed = OpposedConstraints::of(&all, evidence);
            // Among devices that are alike, the first source need not belong to the first destination.
            let moved = |demand: &OffsetConstraint| (demand.least, self.offsets[boot] - self.offsets[base]);
            let crossed = demands.iter().filter_map(|demand| {
                evidence.crossed(demand, &wholes[demand.whole], moved(demand), by, before)
            });
            refused.extend(crossed.flatten());
            let wrong = demands.iter().filter(|demand| {
                !(keeps(demand) || nearly(demand) && !opposed.contradict(demand, self, evidence))
            });
            refused.extend(wrong.map(|demand| (demand.pair.source, demand.pair.destination)));
        }
        refused
    }

    /// Returns the demands of the streams between two boots on the second one's clock, relative to the first one's; for
    /// another recording of the first one's boot, only the demands of streams between these two recordings.
    fn demands(
        &self,
        [base, boot]: [usize; 2],
        evidence: StreamEvidence<'_>,
        wholes: &[GroupPair],
    ) -> Vec<OffsetConstraint> {
        let facts = evidence.facts;
        let own = facts.boot(boot) == base;
        let of = |host: u32| if own { host as usize } else { facts.boot(host as usize) };
        let all = wholes.iter().enumerate();
        let all = all.flat_map(|(at, whole)| whole.matched.iter().map(move |pair| (at, whole, pair)));
        let of_pair = |(at, whole, pair): (usize, &GroupPair, &DeviceMatch)| {
            let (from, to) = (&evidence.sides[pair.source], &evidence.sides[pair.destination]);
            let least = match (of(from.host), of(to.host)) {
                (one, other) if [one, other] == [base, boot] => true,
                (one, other) if [one, other] == [boot, base] => false,
                _ => return None,
            };
            let offset = self.offsets[boot] - self.offsets[base];
            let slack = evidence.slack_of(pair, whole)?;
            Some(evidence.demand(*pair, at, (least, offset), slack))
        };
        all.filter_map(of_pair).collect()
    }

    /// Moves the boots as far as the streams of matched sides demand. Returns the bounds of each host's offset over time,
    /// and the description of its correction for the document.
    pub(super) fn tighten(
        &self,
        evidence: StreamEvidence<'_>,
        wholes: &[GroupPair],
    ) -> (Self, Vec<DriftBounds>, Vec<ClockMerge>) {
        let (histories, facts) = (evidence.histories, evidence.facts);
        // Smallest and largest change of a boot's times.
        let bounds = |boot: usize, demands: &[OffsetConstraint]| {
            let (least, most) = OffsetConstraint::bounds(demands, true);
            [least, most].map(|bound| bound.map(|bound| bound - self.offsets[boot]))
        };
        let mut by = vec![0; histories.len()];
        let mut demands = vec![Vec::new(); histories.len()];
        for boot in facts.other_boots().filter(|boot| facts.boot(*boot) != 0) {
            demands[boot] = self.demands([0, boot], evidence, wholes);
            let [least, most] = bounds(boot, &demands[boot]);
            by[boot] = choose(least, most);
        }
        let clocks = Self::with(histories, facts, |boot| self.offsets[boot] + by[boot]);
        let time = |demand: &OffsetConstraint| clocks.on_first(demand.at, facts);
        let unsure = |demand: &OffsetConstraint| wholes[demand.whole].rivals;
        let drift =
            |boot: usize| DriftBounds::of(self.offsets[boot] + by[boot], &demands[boot], time, unsure);
        let drifts: Vec<DriftBounds> = (0..histories.len()).map(drift).collect();
        let mut merges = Vec::new();
        for (host, _) in histories.iter().enumerate().skip(1) {
            let number = u32::try_from(host).unwrap_or(u32::MAX);
            let (boot, before) = (facts.boot(host), self.offsets[host]);
            if boot == 0 {
                let [least, most] = bounds(host, &self.demands([0, host], evidence, wholes));
                merges.push(ClockMerge {
                    host: number,
                    method: MergeMethod::SameClock,
                    offset_ns: narrow(before),
                    early_ns: Some(0),
                    late_ns: Some(0),
                    causal_min_ns: least.map(|least| narrow(before + least)),
                    causal_max_ns: most.map(|most| narrow(before + most)),
                    clock_error_ns: Some(0),
                    text: "one clock: both recordings are of one boot".to_owned(),
                });
                continue;
            }
            let demands = &demands[boot];
            let [least, most] = bounds(boot, demands);
            let error = facts.always_apart_from(boot);
            // The error is that of all times of both recordings.
            let spans = [0, host].map(|host| clocks.span(host, &histories[host], facts));
            let (first, last) = (spans[0].0.min(spans[1].0), spans[0].1.max(spans[1].1));
            let chosen = drifts[boot].over(first, last);
            let told = error.map_or(chosen, |error| chosen.or_as_always_promised(error));
            // If a promise was broken, others may have been kept, unless it is certain that nothing else moves the
            // clock.
            let by = self.offsets[boot] + chosen.by;
            let kept = demands.iter().filter(|demand| !(demand.pair.is_sure() && demand.excess(by) == 0));
            let kept = kept.filter_map(|demand| demand.promised);
            let kept = kept.filter(|promised| u128::from(*promised) < chosen.by.unsigned_abs()).max();
            let told = kept.map_or(told, |promised| told.or_as_promised(promised));
            let unpromised = demands.iter().any(|demand| demand.promised.is_none() && demand.excess(by) < 0);
            let told = if unpromised { told.or_unpromised() } else { told };
            let mut merge = describe(number, before, told, (least, most), error);
            if boot != host {
                merge.text = format!("one clock with another recording, of the same boot; {}", merge.text);
            }
            merges.push(merge);
        }
        (clocks, drifts, merges)
    }

    /// Returns the first and the last time of a host, on the first host's CLOCK_BOOTTIME.
    fn span(&self, host: usize, history: &HostHistory, facts: &ClockFacts) -> (i128, i128) {
        let (began, ended) = (history.host.began_ns, history.host.ended_ns);
        let (first, last) = history.span().unwrap_or((began, ended));
        let number = u32::try_from(host).unwrap_or(u32::MAX);
        let at = |ns: u64| self.on_first((number, i128::from(ns) + history.clocks.asleep_at(ns)), facts);
        (at(first.min(began)), at(last.max(ended)))
    }
}
