//! Series of bounded length: when it gets too long, every second point is dropped; the last point always stays.

/// A series of points, evenly thinned.
#[derive(Clone, Debug)]
pub(crate) struct SampledSeries<T> {
    kept: Vec<T>,
    last: Option<T>,
    every: u64,
    seen: u64,
    most: usize,
}

impl<T: Clone> SampledSeries<T> {
    /// Makes an empty series of at most `most` points and the last one.
    pub(crate) const fn new(most: usize) -> Self {
        Self { kept: Vec::new(), last: None, every: 1, seen: 0, most }
    }

    /// Adds a point.
    pub(crate) fn push(&mut self, point: T) {
        if self.seen.is_multiple_of(self.every) {
            if self.kept.len() >= self.most {
                let mut number = 0u64;
                self.kept.retain(|_| {
                    number += 1;
                    number % 2 == 1
                });
                self.every = self.every.saturating_mul(2);
            }
            if self.seen.is_multiple_of(self.every) {
                self.kept.push(point);
                self.last = None;
                self.seen += 1;
                return;
            }
        }
        self.last = Some(point);
        self.seen += 1;
    }

    /// Returns the points that are left.
    pub(crate) fn points(&self) -> impl Iterator<Item = &T> {
        self.kept.iter().chain(&self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evenly_spread_and_the_last_one() {
        let mut series = SampledSeries::new(4);
        for point in 0..20u32 {
            series.push(point);
            assert_eq!(series.points().last(), Some(&point));
        }
        let points: Vec<u32> = series.points().copied().collect();
        assert_eq!(points, [0, 8, 16, 19]);
        let mut short = SampledSeries::new(4);
        (0..3u32).for_each(|point| short.push(point));
        assert_eq!(short.points().copied().collect::<Vec<_>>(), [0, 1, 2]);
    }
}
