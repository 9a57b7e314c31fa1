//! Time stamps of the evidence, on both clocks: the tracer's (monotonic) and the wall clock.

use rustix::time::{ClockId, Timespec, clock_gettime};
use serde::Serialize;

/// One moment on both clocks, read back to back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Stamp {
    /// `CLOCK_MONOTONIC`, the clock of `bpf_ktime_get_ns` and, but for small drifts, of the kernel log.
    pub(crate) monotonic_ns: u64,
    /// `CLOCK_REALTIME`, the clock of QMP events and of QEMU's `-msg timestamp=on`.
    pub(crate) realtime_ns: u64,
}

impl Stamp {
    pub(crate) fn now() -> Self {
        Self { monotonic_ns: monotonic_ns(), realtime_ns: nanoseconds(clock_gettime(ClockId::Realtime)) }
    }
}

pub(crate) fn monotonic_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::Monotonic))
}

/// Returns a time in nanoseconds. Neither clock is ever before its epoch here, so the sign carries nothing.
const fn nanoseconds(time: Timespec) -> u64 {
    (time.tv_sec as u64) * 1_000_000_000 + (time.tv_nsec as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monotonic_clock_does_not_go_back() {
        let first = monotonic_ns();
        assert!(Stamp::now().monotonic_ns >= first);
    }
}
