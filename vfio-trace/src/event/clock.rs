//! Conversion from the kernel's monotonic clock to wall time: plain arithmetic on pairs of times taken by the caller.

use std::collections::VecDeque;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Smallest difference that counts as a step of the wall clock. NTP slews CLOCK_MONOTONIC together with CLOCK_REALTIME,
/// so drift never adds up to a step: only the time between the two readings does.
const MIN_STEP_NS: u64 = 1_000_000;
/// Number of steps that are remembered. Beyond it, the oldest pair that is left also counts for all times before it.
const MAX_STEPS: usize = 1024;

/// The same moment on both clocks. `source::clock` reads it; a recording stores it; every output computes wall times
/// from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClockAnchor {
    /// CLOCK_MONOTONIC in ns.
    pub mono_ns: u64,
    /// CLOCK_REALTIME in ns since 1970-01-01 UTC.
    pub real_ns: u64,
}

impl ClockAnchor {
    /// Returns the wall time of a monotonic time, assuming that the clock was not set in between.
    pub fn wall(&self, mono_ns: u64) -> Timestamp {
        let ns = self.distance_ns() + i128::from(mono_ns);
        // Two u64 of nanoseconds stay within the years 1385 to 3139, which a Timestamp can hold.
        Timestamp::from_nanosecond(ns).unwrap_or(Timestamp::MAX)
    }

    /// Returns [`Self::wall`] as RFC 3339 in UTC with nanoseconds.
    pub fn rfc3339(&self, mono_ns: u64) -> String {
        format!("{:.9}", self.wall(mono_ns))
    }

    /// Returns the distance of the clocks, in ns: the number to add to CLOCK_MONOTONIC.
    pub fn distance_ns(&self) -> i128 {
        i128::from(self.real_ns) - i128::from(self.mono_ns)
    }
}

/// The wall clock over a time in which it may have been set, or the host suspended (CLOCK_MONOTONIC stands still then).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WallClock {
    first: ClockAnchor,
    /// Pairs read after each step, in the order of CLOCK_MONOTONIC.
    steps: VecDeque<ClockAnchor>,
}

impl From<ClockAnchor> for WallClock {
    fn from(first: ClockAnchor) -> Self {
        Self { first, steps: VecDeque::new() }
    }
}

impl WallClock {
    /// Takes in a later pair, read at most `error_ns` apart; returns true if there was a step since the last one.
    pub fn sample(&mut self, found: ClockAnchor, error_ns: u64) -> bool {
        let last = self.last();
        let step = found.distance_ns() - last.distance_ns();
        let least = i128::from(MIN_STEP_NS) + i128::from(error_ns);
        // 0: the clock was not read.
        if found.real_ns == 0 || found.mono_ns < last.mono_ns || step.abs() <= least {
            return false;
        }
        if self.steps.len() >= MAX_STEPS
            && let Some(oldest) = self.steps.pop_front()
        {
            self.first = oldest;
        }
        self.steps.push_back(found);
        true
    }

    /// Returns the pair that counts at a moment: the nearest one before it.
    pub fn at(&self, mono_ns: u64) -> ClockAnchor {
        let later = self.steps.partition_point(|step| step.mono_ns <= mono_ns);
        later.checked_sub(1).and_then(|at| self.steps.get(at)).copied().unwrap_or(self.first)
    }

    /// Returns the latest pair.
    pub fn last(&self) -> ClockAnchor {
        self.steps.back().copied().unwrap_or(self.first)
    }

    /// Returns the wall time of a moment.
    pub fn wall(&self, mono_ns: u64) -> Timestamp {
        self.at(mono_ns).wall(mono_ns)
    }

    /// Returns [`Self::wall`] as RFC 3339 in UTC with nanoseconds.
    pub fn rfc3339(&self, mono_ns: u64) -> String {
        self.at(mono_ns).rfc3339(mono_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000_000_000;
    const S: u64 = 1_000_000_000;
    const BEGAN: ClockAnchor = ClockAnchor { mono_ns: 1_000, real_ns: 1_795_362_020_123_456_789 };

    /// Returns a pair later by `mono`, with a wall clock that was put forward by `by`.
    fn later(mono: u64, by: u64) -> ClockAnchor {
        ClockAnchor { mono_ns: BEGAN.mono_ns + mono, real_ns: BEGAN.real_ns + mono + by }
    }

    #[test]
    fn wall_time_before_and_after_the_anchor() {
        assert_eq!(BEGAN.rfc3339(1_000), "2026-11-22T15:40:20.123456789Z");
        assert_eq!(BEGAN.rfc3339(0), "2026-11-22T15:40:20.123455789Z");
        assert_eq!(BEGAN.rfc3339(2_000_001_000), "2026-11-22T15:40:22.123456789Z");
    }

    #[test]
    fn extremes_do_not_panic() {
        for (mono_ns, real_ns, at) in [(u64::MAX, 0, 0), (0, u64::MAX, u64::MAX), (0, 0, 0)] {
            assert!(!ClockAnchor { mono_ns, real_ns }.rfc3339(at).is_empty());
            let mut clock = WallClock::from(ClockAnchor { mono_ns, real_ns });
            clock.sample(ClockAnchor { mono_ns: u64::MAX, real_ns: 1 }, u64::MAX);
            clock.sample(ClockAnchor { mono_ns: u64::MAX, real_ns: u64::MAX }, 0);
            assert!(!clock.rfc3339(at).is_empty());
        }
    }

    #[test]
    fn a_step_counts_from_the_next_sample_on() {
        let mut clock = WallClock::from(BEGAN);
        assert!(!clock.sample(later(10 * S, 0), 0));
        assert!(clock.sample(later(20 * S, HOUR), 0), "put forward");
        assert!(!clock.sample(later(30 * S, HOUR + 900_000), 0), "read somewhat apart");
        assert!(clock.sample(later(40 * S, 0), 0), "and back");
        let wall = |at: u64| clock.rfc3339(BEGAN.mono_ns + at);
        assert_eq!(wall(20 * S - 1), "2026-11-22T15:40:40.123456788Z");
        assert_eq!(wall(20 * S), "2026-11-22T16:40:40.123456789Z");
        assert_eq!(wall(39 * S), "2026-11-22T16:40:59.123456789Z");
        assert_eq!(wall(41 * S), "2026-11-22T15:41:01.123456789Z");
    }

    #[test]
    fn readings_far_apart_and_none_at_all_are_no_step() {
        let mut clock = WallClock::from(BEGAN);
        assert!(
            !clock.sample(later(S, 50_000_000), 60_000_000),
            "the recorder was preempted between two readings"
        );
        assert!(!clock.sample(ClockAnchor { mono_ns: 10 * S, real_ns: 0 }, 0));
        assert!(!clock.sample(ClockAnchor { mono_ns: 0, real_ns: 5 }, 0), "from before the first");
        assert_eq!(clock, WallClock::from(BEGAN));
    }

    #[test]
    fn steps_without_end_take_no_more_room() {
        let mut clock = WallClock::from(BEGAN);
        for n in 1..=10_000 {
            assert!(clock.sample(later(n * S, n * HOUR), 0));
        }
        assert_eq!(clock.steps.len(), MAX_STEPS);
        assert_eq!(clock.last(), later(10_000 * S, 10_000 * HOUR));
        assert_eq!(clock.at(BEGAN.mono_ns + 9_999 * S + 5), later(9_999 * S, 9_999 * HOUR));
    }
}
