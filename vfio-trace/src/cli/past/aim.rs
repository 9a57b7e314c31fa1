//! A wall time as a moment: the first at which the host's clock showed it, or was put forward over it.

use jiff::Timestamp;

use crate::event::ClockAnchor;

/// Requested wall time, and its moment by the clock samples read so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestedTime {
    wall: Timestamp,
    /// Its moment on CLOCK_MONOTONIC; `None` if the clock was ahead of it all the time: it may still be put back.
    at_ns: Option<u64>,
}

impl RequestedTime {
    /// Finds the moment by the first clock of what is read, which begins at `began_ns`.
    pub(super) fn new(wall: Timestamp, clock: ClockAnchor, began_ns: u64) -> Self {
        let ns = wall.as_nanosecond() - clock.distance_ns();
        let at_ns = (ns >= began_ns.into()).then(|| u64::try_from(ns).unwrap_or(u64::MAX));
        Self { wall, at_ns }
    }

    /// Takes in that the clock shows `found` now. The moment must not have passed.
    pub(super) fn step(&mut self, found: ClockAnchor) {
        let ns = self.wall.as_nanosecond() - found.distance_ns();
        let (now, ahead) = (i128::from(found.mono_ns), self.at_ns.is_none());
        if ns >= now || !ahead {
            // Times that the clock has left out passed when it was put forward.
            self.at_ns = Some(u64::try_from(ns.max(now)).unwrap_or(u64::MAX));
        }
    }
}

/// Returns the first moment of all; `u64::MAX` if no clock has shown any yet.
pub(super) fn soonest(aims: &[RequestedTime]) -> u64 {
    aims.iter().filter_map(|aim| aim.at_ns).min().unwrap_or(u64::MAX)
}
