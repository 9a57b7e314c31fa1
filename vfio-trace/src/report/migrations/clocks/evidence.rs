//! Evidence about clocks from paired streams: nothing is written before it was read.

use std::collections::HashSet;

use super::{
    super::{
        details::ShiftedSession,
        pair::{DeviceMatch, GroupPair},
        side::SideAnalysis,
    },
    drift::DriftRate,
    facts::{ClockFacts, worst},
};
use crate::report::{
    document::{PairingReason, TracedDevice},
    history::HostHistory,
};

/// Most devices of one VM that are compared each with each if only their order distinguishes them; with more, nothing
/// is concluded.
const MOST_ALIKE: usize = 16;

/// All evidence about the clocks. `DocumentBuilder` makes it for each use.
#[derive(Clone, Copy)]
pub(in super::super) struct StreamEvidence<'a> {
    pub(in super::super) histories: &'a [HostHistory],
    pub(in super::super) facts: &'a ClockFacts,
    pub(in super::super) devices: &'a [TracedDevice],
    pub(in super::super) sides: &'a [SideAnalysis],
    pub(in super::super) streams: &'a [ShiftedSession<'a>],
}

/// Demand of one stream on a boot's offset from the first host's wall clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct OffsetConstraint {
    pub(super) pair: DeviceMatch,
    /// Index of the migration that the stream belongs to.
    pub(super) whole: usize,
    /// Sum of the kernels' promises for both sides, in ns; `None`: one of them promised nothing.
    pub(super) promised: Option<u64>,
    /// True if the offset must be at least `offset`, false if at most.
    pub(super) least: bool,
    pub(super) offset: i128,
    /// Demand at the end of the stream: the strictest one may have come long before.
    pub(super) then: i128,
    /// End of the stream: the destination's host, and its CLOCK_BOOTTIME in ns.
    pub(super) at: (u32, i128),
}

/// Times from reads to the writes of their data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct StreamSlack {
    /// The least one, in ns.
    pub(in super::super) least: i128,
    /// Bound for that time at the end of the stream: the least one of all, each with the drift until then.
    pub(in super::super) then: i128,
    /// End of the stream: time of the last write, on the CLOCK_BOOTTIME of the destination's host.
    pub(in super::super) until_ns: i128,
}

impl StreamSlack {
    /// Returns what both show of one time, if both are of pairs.
    pub(in super::super) fn and(self, other: Self) -> Self {
        self.with(other, i128::min)
    }

    /// Returns what both show if only one of them is of a pair.
    fn or(self, other: Self) -> Self {
        self.with(other, i128::max)
    }

    /// Chooses from both, as they are at the later end.
    fn with(self, other: Self, choose: fn(i128, i128) -> i128) -> Self {
        let until_ns = self.until_ns.max(other.until_ns);
        let then = |one: Self| one.then + DriftRate::APART.of(until_ns - one.until_ns);
        Self { least: choose(self.least, other.least), then: choose(then(self), then(other)), until_ns }
    }
}

impl OffsetConstraint {
    /// Returns true if the demand exceeds the kernels' promise by no more than `spare`. If certain pairs demand `by`,
    /// which exceeds the promise, the demand may exceed `by` by promise and spare.
    pub(super) fn keeps(&self, by: i128, spare: i128) -> bool {
        let Some(error) = self.promised.map(i128::from) else { return true };
        let by = if by.abs() > error { by } else { 0 };
        if self.least { self.offset <= by + error + spare } else { self.offset >= by - error - spare }
    }

    /// Returns the amount by which the demand exceeds `by`; negative if it leaves some room.
    pub(super) const fn excess(&self, by: i128) -> i128 {
        if self.least { self.offset - by } else { by - self.offset }
    }

    /// Returns the amount by which the demand exceeds `by`, less the drift in the time from the stream's end to when the
    /// clocks were apart by that. That time is uncertain by the excess itself.
    pub(super) fn excess_after(&self, by: i128, passed_ns: i128) -> i128 {
        let excess = if self.least { self.then - by } else { by - self.then };
        excess - DriftRate::APART.of(passed_ns + excess.max(0))
    }

    /// Returns true if more than the time tells that the two belong together: else the stream shows nothing of the
    /// clocks.
    pub(super) fn shows(&self) -> bool {
        self.pair.by != PairingReason::Time
    }

    /// Returns the strictest demands in both directions; `all`: of all pairs but those by time alone, not of certain
    /// ones only.
    pub(super) fn bounds(demands: &[Self], all: bool) -> (Option<i128>, Option<i128>) {
        let (mut least, mut most) = (None::<i128>, None::<i128>);
        for demand in demands.iter().filter(|demand| demand.pair.is_sure() || all && demand.shows()) {
            if demand.least {
                least = least.max(Some(demand.offset));
            } else {
                most = Some(most.map_or(demand.offset, |most| most.min(demand.offset)));
            }
        }
        (least, most)
    }
}

impl StreamEvidence<'_> {
    fn side(&self, at: usize) -> &SideAnalysis {
        &self.sides[at]
    }

    /// Returns true if calls of a side are missing: the bytes that the others moved are not known then.
    fn lacks(&self, found: &SideAnalysis) -> bool {
        found.unprobed || self.histories[found.host as usize].host.losses.lacks_data()
    }

    /// Returns the sum of both sides' kernels' promises.
    pub(super) fn promised(&self, [source, destination]: [usize; 2]) -> Option<u64> {
        let of = |at: usize| self.facts.promised(self.side(at), self.histories, self.streams);
        of(source).zip(of(destination)).map(|(one, two)| one.saturating_add(two))
    }

    /// Returns the worst promise of all pairs of a migration.
    pub(in super::super) fn promised_of(&self, whole: &GroupPair) -> Option<u64> {
        worst(whole.matched.iter().map(|pair| self.promised([pair.source, pair.destination])))
    }

    /// Returns true if data was written before it was read, by the one clock that both sides have.
    pub(in super::super) fn is_backwards(&self, [source, destination]: [usize; 2]) -> bool {
        let (from, to) = (self.side(source), self.side(destination));
        // A side that begins after the other's end needs no further check.
        to.side.start_ns <= from.side.end_ns
            && self.facts.is_one_clock(from.host, to.host)
            && !from.side.partial
            && !to.side.partial
            && !self.lacks(from)
            && !self.lacks(to)
            // The check uses that clock itself: different times may be equal on the document's clock.
            && self.slack_by(from, to, |_, ns| ns).is_some_and(|slack| slack.least < 0)
    }

    /// Returns the times from reads to the writes of their data, on the document's clock; `None`: the streams do not show
    /// them.
    fn slack(&self, [source, destination]: [usize; 2]) -> Option<StreamSlack> {
        let (from, to) = (self.side(source), self.side(destination));
        if self.lacks(from) || self.lacks(to) {
            return None;
        }
        self.slack_by(from, to, ShiftedSession::at)
    }

    /// Returns the pairs of a migration that are as good as this one by their bytes, itself included: only the order
    /// distinguishes them.
    pub(super) fn alike<'a>(
        &'a self,
        pair: &'a DeviceMatch,
        whole: &'a GroupPair,
    ) -> impl Iterator<Item = &'a DeviceMatch> {
        let ordered = pair.by == PairingReason::Order;
        let fits = move |other: &&DeviceMatch| {
            other.source == pair.source
                || ordered
                    && other.by == PairingReason::Order
                    && self.fit(pair.source, other.destination)
                    && self.fit(other.source, pair.destination)
        };
        whole.matched.iter().filter(fits)
    }

    /// Returns true if a source and a destination are as good as a pair by their bytes.
    fn fit(&self, source: usize, destination: usize) -> bool {
        let (from, to) = (self.side(source), self.side(destination));
        let driver = |found: &SideAnalysis| self.devices[found.side.device as usize].driver.as_deref();
        let differs = |one: Option<_>, two: Option<_>| one.zip(two).is_some_and(|(one, two)| one != two);
        from.bytes == to.bytes
            && from.stream.zip(to.stream).is_none_or(|(one, two)| one == two)
            && !differs(driver(from), driver(to))
    }

    /// Returns the same as [`Self::slack`] for a pair of a migration: for several that are alike, the largest possible
    /// values.
    pub(in super::super) fn slack_of(&self, pair: &DeviceMatch, whole: &GroupPair) -> Option<StreamSlack> {
        let alike: Vec<usize> =
            self.alike(pair, whole).map(|other| other.destination).take(MOST_ALIKE + 1).collect();
        if alike.len() > MOST_ALIKE {
            return None;
        }
        let slacks = alike.iter().map(|destination| self.slack([pair.source, *destination]));
        let all: Vec<StreamSlack> = slacks.collect::<Option<_>>()?;
        all.into_iter().reduce(StreamSlack::or)
    }

    /// Returns the demand of a source and a destination, if they are a pair, where the boot is moved by `offset` now.
    pub(super) fn demand(
        &self,
        pair: DeviceMatch,
        whole: usize,
        (least, offset): (bool, i128),
        slack: StreamSlack,
    ) -> OffsetConstraint {
        let of = |slack: i128| if least { offset - slack } else { offset + slack };
        OffsetConstraint {
            pair,
            whole,
            promised: self.promised([pair.source, pair.destination]),
            least,
            offset: of(slack.least),
            then: of(slack.then),
            at: (self.side(pair.destination).host, slack.until_ns),
        }
    }

    /// Finds another pair of devices that are alike, if this pair exceeds the promise and both would keep it after an
    /// exchange. Returns both pairs, because neither is one.
    pub(super) fn crossed(
        &self,
        demand: &OffsetConstraint,
        whole: &GroupPair,
        moved: (bool, i128),
        by: i128,
        before: &HashSet<(usize, usize)>,
    ) -> Option<[(usize, usize); 2]> {
        let pair = demand.pair;
        let keeps = |source: usize, destination: usize| {
            !before.contains(&(source, destination))
                && self.slack([source, destination]).is_some_and(|slack| {
                    let pair = DeviceMatch { source, destination, by: PairingReason::Order };
                    self.demand(pair, demand.whole, moved, slack).keeps(by, 0)
                })
        };
        if pair.by != PairingReason::Order || whole.matched.len() < 2 || keeps(pair.source, pair.destination)
        {
            return None;
        }
        let mut others =
            self.alike(&pair, whole).filter(|other| other.source != pair.source).take(MOST_ALIKE);
        let other = others
            .find(|other| keeps(pair.source, other.destination) && keeps(other.source, pair.destination))?;
        Some([(pair.source, pair.destination), (other.source, other.destination)])
    }
}

impl<'a> StreamEvidence<'a> {
    /// Returns the times from a byte's `read()` on the source to its `write()` on the destination, by the clocks: negative
    /// if it was written before it was read. `None`: the streams do not show it. `time` converts a host's time of a
    /// stream's call.
    fn slack_by(
        &self,
        from: &SideAnalysis,
        to: &SideAnalysis,
        time: fn(&ShiftedSession<'a>, u64) -> u64,
    ) -> Option<StreamSlack> {
        let of = |found: &SideAnalysis| {
            let [nr] = found.side.sessions[..] else { return None };
            let stream = self.streams.get(nr as usize)?;
            // The order of simultaneous calls is not known.
            let known =
                stream.doc.missed_bytes.is_none_or(|missed| missed == 0) && stream.doc.concurrent_calls <= 1;
            known.then_some(stream)
        };
        let clocks = &self.histories[to.host as usize].clocks;
        let (from, to) = (of(from)?, of(to)?);
        let mut reads = from.history.calls().peekable();
        let mut read = None;
        let mut found: Option<StreamSlack> = None;
        for write in to.history.calls() {
            // The last read whose bytes all come before the write's first byte, or with it. If not all calls are kept, this
            // is an earlier read than the one that gave the byte, so that the figure stays a bound.
            while let Some(next) = reads.next_if(|next| next.before <= write.before) {
                read = Some(next);
            }
            let Some(read) = read else { continue };
            let passed = i128::from(time(to, write.start_ns)) - i128::from(time(from, read.end_ns));
            let until_ns = i128::from(write.start_ns) + clocks.asleep_at(write.start_ns);
            let here = StreamSlack { least: passed, then: passed, until_ns };
            found = Some(found.map_or(here, |before| before.and(here)));
        }
        found
    }
}
