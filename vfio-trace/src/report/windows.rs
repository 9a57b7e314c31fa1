//! Index of time spans that finds those that overlap a span without a look at all of them.

use std::ops::Range;

/// Spans in the order in which they were put in. If that is nearly the order of time, a look-up takes time in
/// proportion to its answer and to the logarithm of the number of spans. Indexes in answers are places in that order.
#[derive(Clone, Debug, Default)]
pub(crate) struct SpanIndex {
    count: usize,
    /// Tree in an array: each node has the earliest start and the latest end below it; the children of `n` are `2n` and
    /// `2n + 1`.
    nodes: Vec<(u64, u64)>,
    leaves: usize,
}

/// Value of a node with nothing below it: no span overlaps it.
const NOTHING: (u64, u64) = (u64::MAX, 0);

impl SpanIndex {
    /// Makes the index of spans, each a start and an end.
    pub(crate) fn new(spans: impl Iterator<Item = (u64, u64)>) -> Self {
        let spans: Vec<(u64, u64)> = spans.collect();
        let (count, leaves) = (spans.len(), spans.len().next_power_of_two());
        let mut nodes = vec![NOTHING; 2 * leaves];
        nodes[leaves..leaves + count].copy_from_slice(&spans);
        let mut windows = Self { count, nodes, leaves };
        (1..leaves).rev().for_each(|node| windows.join(node));
        windows
    }

    fn join(&mut self, node: usize) {
        let (one, two) = (self.nodes[2 * node], self.nodes[2 * node + 1]);
        self.nodes[node] = (one.0.min(two.0), one.1.max(two.1));
    }

    /// Changes one span.
    pub(crate) fn set(&mut self, at: usize, span: (u64, u64)) {
        if at >= self.count {
            return;
        }
        let mut node = self.leaves + at;
        self.nodes[node] = span;
        while node > 1 {
            node /= 2;
            self.join(node);
        }
    }

    /// Returns the places of the spans that overlap a span or touch its ends, in order.
    pub(crate) fn overlapping(&self, start: u64, end: u64) -> impl Iterator<Item = usize> {
        self.walk(0..self.count, start, end, false)
    }

    /// Returns the same, the last one first.
    pub(crate) fn overlapping_backwards(&self, start: u64, end: u64) -> impl Iterator<Item = usize> {
        self.walk(0..self.count, start, end, true)
    }

    /// Returns those from a place on, in order.
    pub(crate) fn overlapping_from(&self, at: usize, start: u64, end: u64) -> impl Iterator<Item = usize> {
        self.walk(at..self.count, start, end, false)
    }

    /// Returns those before a place, the last one first.
    pub(crate) fn overlapping_before(&self, at: usize, start: u64, end: u64) -> impl Iterator<Item = usize> {
        self.walk(0..at, start, end, true)
    }

    fn walk(
        &self,
        places: Range<usize>,
        start: u64,
        end: u64,
        backwards: bool,
    ) -> impl Iterator<Item = usize> {
        let mut open = if self.count == 0 { Vec::new() } else { vec![1] };
        std::iter::from_fn(move || {
            while let Some(node) = open.pop() {
                let (earliest, latest) = self.nodes[node];
                // The first of the node's leaves, and the end of their range.
                let height = self.leaves.ilog2() - node.ilog2();
                let first = (node << height) - self.leaves;
                let outside = first >= places.end || first + (1 << height) <= places.start;
                if outside || earliest > end || latest < start || (earliest, latest) == NOTHING {
                    continue;
                }
                if node >= self.leaves {
                    return Some(node - self.leaves);
                }
                let (first, second) = if backwards { (1, 0) } else { (0, 1) };
                open.extend([2 * node + second, 2 * node + first]);
            }
            None
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn none_and_one() {
        assert_eq!(SpanIndex::new([].into_iter()).overlapping(0, u64::MAX).count(), 0);
        let one = SpanIndex::new([(5, 7)].into_iter());
        for (start, end, found) in [(0, 4, 0), (0, 5, 1), (6, 6, 1), (7, 9, 1), (8, 9, 0)] {
            assert_eq!(one.overlapping(start, end).count(), found, "{start} {end}");
        }
    }

    proptest! {
        #[test]
        fn as_if_all_were_looked_at(
            spans in proptest::collection::vec((0..60u64, 0..20u64), 0..40),
            changes in proptest::collection::vec((0..40usize, 0..60u64, 0..20u64), 0..5),
            start in 0..70u64,
            length in 0..30u64,
            place in 0..45usize,
        ) {
            let mut spans: Vec<(u64, u64)> = spans.into_iter().map(|(at, len)| (at, at + len)).collect();
            let mut windows = SpanIndex::new(spans.iter().copied());
            for (at, start, length) in changes {
                if let Some(span) = spans.get_mut(at) {
                    *span = (start, start + length);
                }
                windows.set(at, (start, start + length));
            }
            let end = start + length;
            let all: Vec<usize> = (0..spans.len()).filter(|at| spans[*at].0 <= end && spans[*at].1 >= start).collect();
            let back: Vec<usize> = all.iter().rev().copied().collect();
            let (before, from): (Vec<usize>, Vec<usize>) = all.iter().partition(|at| **at < place);
            prop_assert_eq!(windows.overlapping_from(place, start, end).collect::<Vec<_>>(), from);
            prop_assert_eq!(windows.overlapping_before(place, start, end).collect::<Vec<_>>(), before.into_iter().rev().collect::<Vec<_>>());
            prop_assert_eq!(windows.overlapping(start, end).collect::<Vec<_>>(), all);
            prop_assert_eq!(windows.overlapping_backwards(start, end).collect::<Vec<_>>(), back);
        }
    }
}
