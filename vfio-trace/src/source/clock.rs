//! The clocks of this machine.

use rustix::time::{ClockId, clock_gettime};

use crate::event::ClockAnchor;

/// A clock's time in ns.
fn clock(id: ClockId) -> u64 {
    let now = clock_gettime(id);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// CLOCK_MONOTONIC in ns: the clock of the kernel's records.
pub fn mono_ns() -> u64 {
    clock(ClockId::Monotonic)
}

/// The pair of clocks, with the smallest of several gaps between the two readings.
pub fn anchor() -> ClockAnchor {
    let sample = || {
        let before = mono_ns();
        let real_ns = clock(ClockId::Realtime);
        let after = mono_ns();
        (after - before, ClockAnchor { mono_ns: before.midpoint(after), real_ns })
    };
    let mut best = sample();
    for _ in 0..4 {
        let next = sample();
        if next.0 < best.0 {
            best = next;
        }
    }
    best.1
}
