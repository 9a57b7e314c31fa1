//! Bounds of a clock's offset at any time: what streams show at their times, less what clocks may drift in between.

use super::{correction::OffsetCorrection, evidence::OffsetConstraint};

/// Largest rate at which a clock drifts from another, in parts per million.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct DriftRate(u32);

impl DriftRate {
    /// Rate at which two hosts' clocks drift from each other, of which each is slewed by a twelfth at most, as chrony
    /// does. That a clock counts as not synchronised does not mean that nothing slews it.
    pub(in super::super) const APART: Self = Self(2 * 83_334);

    /// Returns the drift in parts of a nanosecond, see [`PARTS`].
    fn parts(self, ns: i128) -> i128 {
        ns * i128::from(self.0)
    }

    /// Returns the drift in some time, in ns.
    pub(in super::super) fn of(self, ns: i128) -> i128 {
        self.parts(ns.max(0)).div_euclid(PARTS) + i128::from(ns > 0)
    }
}

/// Parts of a nanosecond in which bounds are computed.
const PARTS: i128 = 1_000_000;

/// Bounds of a boot's offset over time. [`ClockAlignment::tighten`](super::ClockAlignment::tighten) makes it; the error
/// of times between two hosts is computed from it. Times are those of the first host's CLOCK_BOOTTIME: clocks drift while
/// that host sleeps, too.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct DriftBounds {
    /// Offset that was chosen.
    by: i128,
    /// Least and largest offset that any stream demands, or the chosen one.
    demanded: (i128, i128),
    least: TimedBounds,
    /// Upper bounds, negated.
    most: TimedBounds,
}

impl DriftBounds {
    /// Makes the bounds of a boot that is moved by `by`. `time`: time of a demand; `unsure`: true for a demand that
    /// counts for the choice only, because its pair may be another's.
    pub(super) fn of(
        by: i128,
        demands: &[OffsetConstraint],
        time: impl Fn(&OffsetConstraint) -> i128,
        unsure: impl Fn(&OffsetConstraint) -> bool,
    ) -> Self {
        let (least, most) = OffsetConstraint::bounds(demands, true);
        let known = |demand: &&OffsetConstraint| demand.pair.is_sure() || demand.shows() && !unsure(demand);
        let of = |least: bool| {
            let all = demands.iter().filter(known).filter(|demand| demand.least == least);
            let sign = if least { 1 } else { -1 };
            TimedBounds::new(all.map(|demand| (time(demand), sign * demand.then)).collect(), DriftRate::APART)
        };
        let demanded = (most.map_or(by, |most| most.min(by)), least.map_or(by, |least| least.max(by)));
        Self { by, demanded, least: of(true), most: of(false) }
    }

    /// Returns the correction with its error at all times from one time to another.
    pub(in super::super) fn over(&self, first_ns: i128, last_ns: i128) -> OffsetCorrection {
        let least = self.least.over(first_ns, last_ns);
        let most = self.most.over(first_ns, last_ns).map(|most| -most);
        OffsetCorrection::bounded(self.by, (least, most), self.demanded)
    }
}

/// Lower bounds at some times, in the order of time.
#[derive(Clone, Debug, Default)]
struct TimedBounds {
    rate: DriftRate,
    times: Vec<i128>,
    /// For each time, the strictest bound up to it, in parts and as if it had been found at time 0.
    before: Vec<i128>,
    /// The same for bounds from it on.
    after: Vec<i128>,
}

impl TimedBounds {
    fn new(mut all: Vec<(i128, i128)>, rate: DriftRate) -> Self {
        all.sort_unstable();
        let strictest = |most: &mut i128, next: i128| {
            *most = next.max(*most);
            Some(*most)
        };
        let before = all.iter().map(|(at, bound)| bound * PARTS + rate.parts(*at));
        let before = before.scan(i128::MIN, strictest).collect();
        let after = all.iter().rev().map(|(at, bound)| bound * PARTS - rate.parts(*at));
        let mut after: Vec<i128> = after.scan(i128::MIN, strictest).collect();
        after.reverse();
        Self { rate, times: all.into_iter().map(|(at, _)| at).collect(), before, after }
    }

    /// Returns the bound that holds at all times from one time to another.
    fn over(&self, first_ns: i128, last_ns: i128) -> Option<i128> {
        let middle = (first_ns + last_ns).div_euclid(2);
        // Of a bound up to the middle the last time is the farther end, of others the first one.
        let next = self.times.partition_point(|at| *at <= middle);
        let before = next.checked_sub(1).and_then(|last| self.before.get(last));
        let before = before.map(|bound| bound - self.rate.parts(last_ns));
        let after = self.after.get(next).map(|bound| bound + self.rate.parts(first_ns));
        Some(before.max(after)?.div_euclid(PARTS))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_bound_holds_at_its_time_and_is_wider_at_others() {
        let bounds = TimedBounds::new(vec![(5_000_000, 7)], DriftRate(2));
        let at = |ns| bounds.over(ns, ns);
        assert_eq!([at(5_000_000), at(6_000_000), at(4_000_000)], [Some(7), Some(5), Some(5)]);
        assert_eq!(bounds.over(4_000_000, 6_000_000), Some(5));
        assert_eq!(bounds.over(5_000_000, 6_000_000), Some(5));
        assert_eq!(TimedBounds::new(Vec::new(), DriftRate(2)).over(0, 9), None);
        let of = |ns| DriftRate(500).of(ns);
        assert_eq!([of(-7), of(0), of(1_000_000)], [0, 0, 501]);
    }

    proptest! {
        #[test]
        fn as_if_all_were_looked_at(
            all in proptest::collection::vec((0..2_000i128, -50..50i128), 1..20),
            first in 0..2_000i128,
            length in 0..500i128,
        ) {
            let all: Vec<(i128, i128)> = all.into_iter().map(|(at, bound)| (at * 1_000_000, bound)).collect();
            let (first, last) = (first * 1_000_000, (first + length) * 1_000_000);
            let rate = DriftRate(3);
            let most = |at: i128| (at - first).abs().max((at - last).abs());
            let expected = all.iter().map(|(at, bound)| (bound * PARTS - rate.parts(most(*at))).div_euclid(PARTS)).max();
            let got = TimedBounds::new(all, rate).over(first, last);
            prop_assert_eq!(got, expected);
        }
    }
}
