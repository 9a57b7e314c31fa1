//! Converts one host's CLOCK_MONOTONIC to that of the first host, over the times in which either slept.

use crate::report::history::HostClock;

/// Shift from a host's CLOCK_MONOTONIC to the document's clock. [`document_and_shifts`](super::document_and_shifts)
/// returns one per host; a replay of several hosts moves the times of events by it.
///
/// The offset, in ns, changes where either host slept. It never puts a later time before an earlier one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClockShift {
    /// Parts in order; the first holds also before its beginning. Never empty.
    parts: Vec<ShiftPart>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ShiftPart {
    from_ns: u64,
    by: i128,
    /// Time at which the first host fell asleep next: no later event comes before it has woken up.
    most: i128,
}

impl ClockShift {
    /// Makes a shift by the same offset for all times.
    pub(crate) fn always(by: i128) -> Self {
        Self { parts: vec![ShiftPart { from_ns: 0, by, most: i128::MAX }] }
    }

    /// Makes the shift between two hosts. `boot_by`: offset from this host's CLOCK_BOOTTIME to the first host's;
    /// `origin`: the document's time 0, on the first host's CLOCK_MONOTONIC.
    pub(super) fn between(host: &HostClock, first: &HostClock, boot_by: i128, origin: i128) -> Self {
        // Times at which this host woke up, and its times at which the first host did.
        let mut from: Vec<u64> = vec![0];
        from.extend(host.sleeps().map(|(at_ns, ..)| at_ns));
        let own: Vec<u64> = from.clone();
        for (at_ns, _, asleep) in first.sleeps() {
            let woken = i128::from(at_ns) + asleep - boot_by;
            for (number, begin) in own.iter().enumerate() {
                let end = own.get(number + 1).copied().unwrap_or(u64::MAX);
                let there = u64::try_from((woken - host.asleep_at(*begin)).max(0)).unwrap_or(u64::MAX);
                from.extend((*begin..end).contains(&there).then_some(there));
            }
        }
        from.sort_unstable();
        from.dedup();
        let part = |from_ns: u64| {
            let boot = i128::from(from_ns) + host.asleep_at(from_ns) + boot_by;
            let woken = |(at_ns, _, asleep): &(u64, i128, i128)| i128::from(*at_ns) + asleep <= boot;
            let before = first.sleeps().take_while(woken).last();
            let next = first.sleeps().find(|sleep| !woken(sleep));
            let asleep = before.map_or_else(|| first.asleep_at(0), |(_, _, asleep)| asleep);
            ShiftPart {
                from_ns,
                by: host.asleep_at(from_ns) + boot_by - asleep - origin,
                most: next.map_or(i128::MAX, |(at_ns, ..)| i128::from(at_ns) - origin),
            }
        };
        Self { parts: from.into_iter().map(part).collect() }
    }

    /// Returns a time of the host on the other clock; negative if it is before the document's origin.
    pub fn moved(&self, ns: u64) -> i128 {
        let later = self.parts.partition_point(|part| part.from_ns <= ns);
        let part = self.parts.get(later.saturating_sub(1));
        part.map_or(0, |part| (i128::from(ns) + part.by).min(part.most))
    }

    /// Returns the same, but 0 instead of negative times.
    pub(super) fn of(&self, ns: u64) -> u64 {
        u64::try_from(self.moved(ns).max(0)).unwrap_or(u64::MAX)
    }

    /// Returns the first time of the host that is not before a time of the other clock.
    fn first_at(&self, ns: u64) -> u64 {
        let (mut first, mut last) = (0, u64::MAX);
        while first < last {
            let middle = u64::midpoint(first, last);
            if self.of(middle) >= ns {
                last = middle;
            } else {
                first = middle + 1;
            }
        }
        first
    }

    /// Returns the first and the last time of the host that may be within a span of the other clock's times: while the
    /// first host slept, several of this one's are one there.
    pub(super) fn back(&self, first_ns: u64, last_ns: u64) -> (u64, u64) {
        (self.first_at(first_ns), self.first_at(last_ns.saturating_add(1)).saturating_sub(1))
    }

    /// Returns the first offset.
    pub fn first(&self) -> i128 {
        self.parts.first().map_or(0, |part| part.by)
    }
}
