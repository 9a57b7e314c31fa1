//! What is known of the hosts' clocks: which are one, and what their kernels promised. Looked up, as it is asked for each pair.

use std::collections::HashMap;

use super::super::{details::ShiftedSession, side::SideAnalysis};
use crate::report::history::HostHistory;

/// Wall clocks of one boot are no farther apart than this where nothing is known of their errors, in ns.
const SAME_CLOCK: u64 = 10_000_000;

/// The clocks of all hosts.
pub(in super::super) struct ClockFacts {
    hosts: Vec<HostReading>,
}

/// A host's clocks at the moment that its wall times are computed from.
struct HostReading {
    /// The first recording of the same boot.
    boot: usize,
    /// CLOCK_REALTIME less CLOCK_BOOTTIME, and less CLOCK_MONOTONIC.
    ahead_ns: i128,
    distance_ns: i128,
    /// What its kernel promised then, and at worst whenever data was moved.
    error_ns: Option<u64>,
    worst_ns: Option<u64>,
    /// How far its wall clock is from that of the first recording of the same boot, which is the one that counts.
    off_ns: u64,
}

impl HostReading {
    /// Returns true if two are of one boot, so that their clock is the same. Machines that were resumed from one snapshot share
    /// its id, but neither their names nor, once one clock is set, how far it is from CLOCK_BOOTTIME.
    fn is_same_clock(&self, other: &Self) -> bool {
        let errors = self.error_ns.zip(other.error_ns);
        let error = errors.map_or(SAME_CLOCK, |(one, two)| one.saturating_add(two).max(SAME_CLOCK));
        self.ahead_ns.abs_diff(other.ahead_ns) <= error.into()
    }
}

impl ClockFacts {
    /// Reads the clocks of all hosts.
    pub(in super::super) fn of(histories: &[HostHistory]) -> Self {
        let mut hosts: Vec<HostReading> = Vec::with_capacity(histories.len());
        // Of each boot, by its id and the host's name, the first recordings of what are different clocks.
        let mut boots: HashMap<(&str, Option<&str>), Vec<usize>> = HashMap::new();
        for (at, history) in histories.iter().enumerate() {
            let error_ns = history.clock_error_ns();
            let then = history.sessions.iter().map(|session| history.clocks.error_at(session.doc.start_ns));
            let mut host = HostReading {
                boot: at,
                ahead_ns: history.ahead_ns(),
                distance_ns: history.distance_ns(),
                error_ns,
                worst_ns: worst(then.chain([error_ns])),
                off_ns: 0,
            };
            if let Some(id) = &history.host.boot_id {
                let known = boots.entry((id, history.host.name.as_deref())).or_default();
                match known.iter().find(|boot| hosts[**boot].is_same_clock(&host)) {
                    Some(boot) => {
                        host.boot = *boot;
                        let off = hosts[*boot].ahead_ns.abs_diff(host.ahead_ns);
                        host.off_ns = u64::try_from(off).unwrap_or(u64::MAX);
                    },
                    None => known.push(at),
                }
            }
            hosts.push(host);
        }
        Self { hosts }
    }

    /// Returns the first recording of a host's boot.
    pub(super) fn boot(&self, host: usize) -> usize {
        self.hosts[host].boot
    }

    /// Returns all boots but the first host's, by their first recordings.
    pub(super) fn other_boots(&self) -> impl Iterator<Item = usize> {
        self.hosts.iter().enumerate().skip(1).filter(|(at, host)| host.boot == *at).map(|(at, _)| at)
    }

    /// Returns true if two hosts have one clock.
    pub(in super::super) fn is_one_clock(&self, one: u32, two: u32) -> bool {
        self.boot(one as usize) == self.boot(two as usize)
    }

    /// Returns CLOCK_REALTIME less CLOCK_BOOTTIME.
    pub(super) fn ahead_ns(&self, host: usize) -> i128 {
        self.hosts[host].ahead_ns
    }

    /// Returns CLOCK_REALTIME less CLOCK_MONOTONIC.
    pub(in super::super) fn distance_ns(&self, host: usize) -> i128 {
        self.hosts[host].distance_ns
    }

    /// Returns how far two hosts' wall clocks are apart at most, if both kernels keep what they promised whenever data was
    /// moved; `None`: they promise nothing now, or promised nothing once.
    pub(in super::super) fn worst_apart(&self, one: u32, two: u32) -> Option<u64> {
        let worst = |host: u32| {
            let host = &self.hosts[host as usize];
            host.worst_ns.map(|ns| ns.saturating_add(host.off_ns))
        };
        worst(one).zip(worst(two)).map(|(one, two)| one.saturating_add(two))
    }

    /// Returns what a host's kernel promised at the moment that its clocks are taken from.
    pub(super) fn promised_now(&self, host: usize) -> Option<u64> {
        let host = &self.hosts[host];
        host.error_ns.map(|ns| ns.saturating_add(host.off_ns))
    }

    /// Returns what a side's kernel promised: while its data was moved, and when the clocks are taken from.
    pub(in super::super) fn promised(
        &self,
        found: &SideAnalysis,
        histories: &[HostHistory],
        streams: &[ShiftedSession<'_>],
    ) -> Option<u64> {
        let (history, host) = (&histories[found.host as usize], &self.hosts[found.host as usize]);
        let then = found.streams(streams).map(|stream| history.clocks.error_at(stream.history.doc.start_ns));
        worst(then.chain([host.error_ns])).map(|ns| ns.saturating_add(host.off_ns))
    }
}

/// Returns the worst of several promises; `None`: nothing was promised once.
pub(super) fn worst(promises: impl Iterator<Item = Option<u64>>) -> Option<u64> {
    let mut promises = promises;
    promises.try_fold(0, |worst, error| Some(error?.max(worst)))
}
