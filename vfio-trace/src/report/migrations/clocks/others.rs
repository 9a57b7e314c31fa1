//! Demands of other streams at about the same time, with which guessed pairs are compared that exceed a promise.

use super::{
    super::pair::{DeviceMatch, GroupPair},
    ClockAlignment,
    evidence::{OffsetConstraint, StreamEvidence},
};
use crate::report::{document::PairingReason, windows::SpanIndex};

/// Largest time between streams that are compared, in ns: in more, the clocks may drift by as much as a guess may exceed
/// the promise.
const SLEW_NS: u64 = 10_000_000_000;

/// Returns the time in which a stream was read.
fn span(demand: &OffsetConstraint, evidence: StreamEvidence<'_>) -> (u64, u64) {
    let from = &evidence.sides[demand.pair.source].side;
    (from.start_ns, from.end_ns)
}

/// Returns the time in which other streams are compared with a stream.
fn about(demand: &OffsetConstraint, evidence: StreamEvidence<'_>) -> (u64, u64) {
    let (start, end) = span(demand, evidence);
    (start.saturating_sub(SLEW_NS), end.saturating_add(SLEW_NS))
}

/// Returns the time between the ends of two streams.
fn between(
    one: &OffsetConstraint,
    other: &OffsetConstraint,
    clocks: &ClockAlignment,
    evidence: StreamEvidence<'_>,
) -> i128 {
    let end = |demand: &OffsetConstraint| clocks.on_first(demand.at, evidence.facts);
    (end(one) - end(other)).abs()
}

/// Demands of streams that are within the kernels' promises; demands beyond them are compared with these.
pub(super) struct KeptConstraints<'a> {
    /// Demands in the order of their beginnings.
    all: Vec<&'a OffsetConstraint>,
    spans: SpanIndex,
}

impl<'a> KeptConstraints<'a> {
    /// Selects them from all demands.
    pub(super) fn of(
        demands: &'a [OffsetConstraint],
        by: i128,
        evidence: StreamEvidence<'_>,
        wholes: &[GroupPair],
    ) -> Self {
        let known = |pair: &DeviceMatch| pair.is_sure() || pair.by == PairingReason::StreamBytes;
        let kept = |demand: &&OffsetConstraint| {
            known(&demand.pair)
                && demand.promised.is_some()
                && demand.keeps(by, 0)
                && !wholes[demand.whole].rivals
        };
        let mut all: Vec<&OffsetConstraint> = demands.iter().filter(kept).collect();
        all.sort_by_key(|demand| span(demand, evidence).0);
        let spans = SpanIndex::new(all.iter().map(|demand| span(demand, evidence)));
        Self { all, spans }
    }

    /// Returns true if another VM's stream went the same way at about the same time and arrived at once, by the clocks:
    /// if the clocks were as this demand says, less what they may have drifted in between, that stream would have taken
    /// ten times as long.
    pub(super) fn contradict(
        &self,
        demand: &OffsetConstraint,
        by: i128,
        clocks: &ClockAlignment,
        evidence: StreamEvidence<'_>,
    ) -> bool {
        let (start, end) = about(demand, evidence);
        self.spans.overlapping(start, end).map(|at| self.all[at]).any(|other| {
            other.whole != demand.whole
                && other.least == demand.least
                && -other.excess(by) * 10 < demand.excess_after(by, between(demand, other, clocks, evidence))
        })
    }
}

/// Demands by direction, to find those that cannot be met together with one of the other direction.
pub(super) struct OpposedConstraints<'a> {
    least: DirectedConstraints<'a>,
    most: DirectedConstraints<'a>,
}

/// Demands of one direction.
struct DirectedConstraints<'a> {
    /// Demands in the order of their beginnings.
    all: Vec<&'a OffsetConstraint>,
    spans: SpanIndex,
    strictest: Option<&'a OffsetConstraint>,
}

impl<'a> OpposedConstraints<'a> {
    /// Sorts the demands.
    pub(super) fn of(demands: &'a [OffsetConstraint], evidence: StreamEvidence<'_>) -> Self {
        let directed = |least: bool| {
            let mut all: Vec<&OffsetConstraint> =
                demands.iter().filter(|demand| demand.least == least && demand.shows()).collect();
            all.sort_by_key(|demand| span(demand, evidence).0);
            DirectedConstraints {
                spans: SpanIndex::new(all.iter().map(|demand| span(demand, evidence))),
                strictest: all.iter().copied().max_by_key(|demand| demand.excess(0)),
                all,
            }
        };
        Self { least: directed(true), most: directed(false) }
    }

    /// Returns true if a stream that went the other way at about the same time demands the contrary: by more than the
    /// clocks may have drifted in between.
    pub(super) fn contradict(
        &self,
        demand: &OffsetConstraint,
        clocks: &ClockAlignment,
        evidence: StreamEvidence<'_>,
    ) -> bool {
        let others = if demand.least { &self.most } else { &self.least };
        let contrary = |other: &OffsetConstraint| {
            other.excess_after(demand.then, between(demand, other, clocks, evidence)) > 0
        };
        // Most recordings have none at any time.
        if others.strictest.is_none_or(|other| other.excess(demand.offset) <= 0) {
            return false;
        }
        let (start, end) = about(demand, evidence);
        others.spans.overlapping(start, end).any(|at| contrary(others.all[at]))
    }
}
