//! The clocks of this machine.

use rustix::time::{ClockId, DynamicClockId, Timespec, clock_gettime, clock_gettime_dynamic};

use crate::{event::ClockAnchor, recording::ClockSample, sys};

/// Returns a clock's time in ns.
fn clock(id: ClockId) -> u64 {
    ns(clock_gettime(id))
}

fn ns(time: Timespec) -> u64 {
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// Returns CLOCK_MONOTONIC in ns: the clock of the kernel's records.
pub fn mono_ns() -> u64 {
    clock(ClockId::Monotonic)
}

/// Reads the pair of clocks, with the smallest of several gaps between the two readings.
pub fn anchor() -> ClockAnchor {
    let ClockSample { mono_ns, real_ns, .. } = sample();
    ClockAnchor { mono_ns, real_ns }
}

/// Reads all clocks, with the smallest of several gaps between the readings.
pub fn sample() -> ClockSample {
    let once = || {
        let before = mono_ns();
        let [real_ns, boot_ns] = [ClockId::Realtime, ClockId::Boottime].map(clock);
        let tai_ns = clock_gettime_dynamic(DynamicClockId::Tai).map_or(real_ns, ns);
        let after = mono_ns();
        // Without the offset, CLOCK_TAI is CLOCK_REALTIME; with it, 37 s ahead since 2017.
        let tai_ns = (tai_ns.abs_diff(real_ns) >= 1_000_000_000).then_some(tai_ns);
        let error_ns = after.saturating_sub(before);
        ClockSample {
            mono_ns: before.midpoint(after),
            boot_ns,
            real_ns,
            tai_ns,
            error_ns,
            utc_error_ns: None,
        }
    };
    let best = (0..4)
        .map(|_| once())
        .fold(once(), |best, next| if next.error_ns < best.error_ns { next } else { best });
    ClockSample { utc_error_ns: sys::utc_error_ns(), ..best }
}
