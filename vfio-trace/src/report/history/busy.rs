//! Times in which something was in progress, as intervals; few of them even after millions of calls.

/// Number of intervals that are left after gaps were filled; twice as many may gather before that.
const KEEP: usize = 4096;

/// Times in which at least one call was in progress, in ns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BusyIntervals {
    /// Intervals in order, without overlaps.
    spans: Vec<(u64, u64)>,
    /// Total length of gaps that were filled to reduce the number of intervals, in ns.
    filled_ns: u64,
    /// Time in which calls were in progress, in ns; without the gaps that were filled.
    covered_ns: u64,
}

impl BusyIntervals {
    /// Adds an interval. Most come in order of their ends.
    pub(crate) fn add(&mut self, start: u64, end: u64) {
        let (mut start, mut end) = (start, end.max(start));
        let mut covered = 0u64;
        // All intervals that begin after the end of the new one come after those that touch it.
        let after = self.spans.partition_point(|&(from, _)| from <= end);
        let mut first = after;
        while first > 0 && self.spans[first - 1].1 >= start {
            let (from, to) = self.spans[first - 1];
            covered += to - from;
            start = start.min(from);
            end = end.max(to);
            first -= 1;
        }
        self.covered_ns = self.covered_ns.saturating_add((end - start).saturating_sub(covered));
        self.spans.splice(first..after, [(start, end)]);
        if self.spans.len() > 2 * KEEP {
            self.fill();
        }
    }

    /// Fills the smallest gaps until at most [`KEEP`] intervals are left.
    fn fill(&mut self) {
        let mut gaps: Vec<u64> = self.spans.windows(2).map(|pair| pair[1].0 - pair[0].1).collect();
        let nth = self.spans.len() - KEEP;
        let (_, &mut limit, _) = gaps.select_nth_unstable(nth);
        let mut kept: Vec<(u64, u64)> = Vec::with_capacity(KEEP);
        for &(start, end) in &self.spans {
            match kept.last_mut() {
                Some(last) if start - last.1 <= limit => {
                    self.filled_ns = self.filled_ns.saturating_add(start - last.1);
                    last.1 = end;
                },
                _ => kept.push((start, end)),
            }
        }
        self.spans = kept;
    }

    /// Returns the intervals, with the gaps that were filled.
    pub(crate) fn spans(&self) -> &[(u64, u64)] {
        &self.spans
    }

    /// Returns the part of the intervals that no call covers, in ns.
    pub(crate) const fn filled_ns(&self) -> u64 {
        self.filled_ns
    }

    /// Returns the time covered by calls, in ns.
    pub(crate) const fn busy_ns(&self) -> u64 {
        self.covered_ns
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn overlaps_count_once() {
        let mut busy = BusyIntervals::default();
        for (start, end) in [(10, 20), (30, 40), (15, 32), (50, 50), (60, 55), (5, 6)] {
            busy.add(start, end);
        }
        assert_eq!(busy.spans(), [(5, 6), (10, 40), (50, 50), (60, 60)]);
        assert_eq!((busy.busy_ns(), busy.filled_ns()), (31, 0));
    }

    #[test]
    fn many_calls_few_intervals() {
        let mut busy = BusyIntervals::default();
        for call in 0..100_000u64 {
            let start = call * 100 + u64::from(call % 1000 == 0) * 40;
            busy.add(start, start + 10);
        }
        assert!(busy.spans().len() <= 2 * KEEP, "{}", busy.spans().len());
        assert_eq!(busy.busy_ns(), 1_000_000);
        let covered: u64 = busy.spans().iter().map(|(start, end)| end - start).sum();
        assert_eq!(covered - busy.filled_ns(), 1_000_000);
    }

    proptest! {
        #[test]
        fn what_is_covered_is_what_a_bitmap_says(calls in proptest::collection::vec((0..200u64, 0..20u64), 0..60)) {
            let mut busy = BusyIntervals::default();
            let mut map = [false; 256];
            for (start, length) in &calls {
                busy.add(*start, start + length);
                (*start..start + length).for_each(|at| map[at as usize] = true);
            }
            prop_assert_eq!(busy.busy_ns(), map.iter().filter(|bit| **bit).count() as u64);
            prop_assert!(busy.spans().windows(2).all(|pair| pair[0].1 < pair[1].0));
        }
    }
}
