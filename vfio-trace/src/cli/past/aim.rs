//! A wall time as a moment: the first at which the host's clock showed it, or had passed over it.

use jiff::Timestamp;

use crate::event::ClockAnchor;

/// A wall time that was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestedTime {
    wall: Timestamp,
    /// The moment that it is, CLOCK_MONOTONIC; `None`: the clock was ahead of it all the time, and may be put back.
    at_ns: Option<u64>,
}

impl RequestedTime {
    /// By the clock with which what is read begins, at `began_ns`.
    pub(super) fn new(wall: Timestamp, clock: ClockAnchor, began_ns: u64) -> Self {
        let ns = wall.as_nanosecond() - clock.distance_ns();
        let at_ns = (ns >= began_ns.into()).then(|| u64::try_from(ns).unwrap_or(u64::MAX));
        Self { wall, at_ns }
    }

    /// The clock shows this now; the moment has not passed.
    pub(super) fn step(&mut self, found: ClockAnchor) {
        let ns = self.wall.as_nanosecond() - found.distance_ns();
        let (now, ahead) = (i128::from(found.mono_ns), self.at_ns.is_none());
        if ns >= now || !ahead {
            // What the clock has left out came to pass when it did so.
            self.at_ns = Some(u64::try_from(ns.max(now)).unwrap_or(u64::MAX));
        }
    }
}

/// The first moment of all; the end of time if no clock has shown any yet.
pub(super) fn soonest(aims: &[RequestedTime]) -> u64 {
    aims.iter().filter_map(|aim| aim.at_ns).min().unwrap_or(u64::MAX)
}
