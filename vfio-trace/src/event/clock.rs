//! From the kernel's monotonic clock to wall time: plain arithmetic on a pair taken by the caller.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The same moment on both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockAnchor {
    /// CLOCK_MONOTONIC in ns.
    pub mono_ns: u64,
    /// CLOCK_REALTIME in ns since 1970-01-01 UTC.
    pub real_ns: u64,
}

impl ClockAnchor {
    /// Wall time of a monotonic time, assuming that nobody has set the clock in between.
    pub fn wall(&self, mono_ns: u64) -> Timestamp {
        let ns = i128::from(self.real_ns) + i128::from(mono_ns) - i128::from(self.mono_ns);
        // Two u64 of nanoseconds stay within the years 1385 to 3139, which a Timestamp can hold.
        Timestamp::from_nanosecond(ns).unwrap_or(Timestamp::MAX)
    }

    /// [`Self::wall`] as RFC 3339 in UTC with nanoseconds.
    pub fn rfc3339(&self, mono_ns: u64) -> String {
        format!("{:.9}", self.wall(mono_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_time_before_and_after_the_anchor() {
        let anchor = ClockAnchor { mono_ns: 1_000, real_ns: 1_795_362_020_123_456_789 };
        assert_eq!(anchor.rfc3339(1_000), "2026-11-22T15:40:20.123456789Z");
        assert_eq!(anchor.rfc3339(0), "2026-11-22T15:40:20.123455789Z");
        assert_eq!(anchor.rfc3339(2_000_001_000), "2026-11-22T15:40:22.123456789Z");
    }

    #[test]
    fn extremes_do_not_panic() {
        for (mono_ns, real_ns, at) in [(u64::MAX, 0, 0), (0, u64::MAX, u64::MAX), (0, 0, 0)] {
            assert!(!ClockAnchor { mono_ns, real_ns }.rfc3339(at).is_empty());
        }
    }
}
