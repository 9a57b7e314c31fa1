//! Facts about the hosts' clocks: which hosts share one, and the kernels' promises about their errors. They are
//! computed once, because pairing asks for them for each pair.

use std::collections::HashMap;

use super::super::{details::ShiftedSession, side::SideAnalysis};
use crate::report::history::HostHistory;

/// Largest distance of wall clocks of one boot if nothing is known of their errors, in ns.
const SAME_CLOCK: u64 = 10_000_000;

/// The clocks of all hosts. `document_and_shifts` makes it once per document.
pub(in super::super) struct ClockFacts {
    hosts: Vec<HostReading>,
}

/// A host's clocks at the time that its wall times are computed from.
struct HostReading {
    /// Index of the first recording of the same boot.
    boot: usize,
    /// CLOCK_REALTIME minus CLOCK_BOOTTIME in ns.
    ahead_ns: i128,
    /// CLOCK_REALTIME minus CLOCK_MONOTONIC in ns.
    distance_ns: i128,
    /// The kernel's promise at that time: largest error of the wall clock, in ns.
    error_ns: Option<u64>,
    /// The worst promise for wall times that are computed from this, at all times.
    always_ns: Option<u64>,
    /// Distance of the wall clock from that of the first recording of the same boot, whose clock is used, in ns.
    off_ns: u64,
}

impl HostReading {
    /// Returns true if two recordings are of one boot, so that their clock is the same. Machines that were resumed from
    /// one snapshot share the boot id, but neither their names nor, once one clock is set, its distance from
    /// CLOCK_BOOTTIME.
    fn is_same_clock(&self, other: &Self) -> bool {
        let errors = self.error_ns.zip(other.error_ns);
        let error = errors.map_or(SAME_CLOCK, |(one, two)| one.saturating_add(two).max(SAME_CLOCK));
        self.ahead_ns.abs_diff(other.ahead_ns) <= error.into()
    }

    /// Returns the worst promise at all times.
    fn always(&self) -> Option<u64> {
        self.always_ns.map(|ns| ns.saturating_add(self.off_ns))
    }
}

impl ClockFacts {
    /// Reads the clocks of all hosts.
    pub(in super::super) fn of(histories: &[HostHistory]) -> Self {
        let mut hosts: Vec<HostReading> = Vec::with_capacity(histories.len());
        // For each boot, by its id and the host's name, the first recordings of different clocks.
        let mut boots: HashMap<(&str, Option<&str>), Vec<usize>> = HashMap::new();
        for (at, history) in histories.iter().enumerate() {
            let (ahead_ns, error_ns) = (history.ahead_ns(), history.clock_error_ns());
            let mut host = HostReading {
                boot: at,
                ahead_ns,
                distance_ns: history.distance_ns(),
                error_ns,
                always_ns: history.clocks.worst_error(0, u64::MAX, ahead_ns),
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
    pub(in super::super) fn boot(&self, host: usize) -> usize {
        self.hosts[host].boot
    }

    /// Returns all boots but the first host's, as indexes of their first recordings.
    pub(super) fn other_boots(&self) -> impl Iterator<Item = usize> {
        self.hosts.iter().enumerate().skip(1).filter(|(at, host)| host.boot == *at).map(|(at, _)| at)
    }

    /// Returns all pairs of different boots, as indexes of their first recordings.
    pub(super) fn boot_pairs(&self) -> impl Iterator<Item = [usize; 2]> {
        let firsts = || std::iter::once(0).chain(self.other_boots());
        firsts().flat_map(move |one| firsts().filter(move |two| one < *two).map(move |two| [one, two]))
    }

    /// Returns true if two hosts have one clock.
    pub(in super::super) fn is_one_clock(&self, one: u32, two: u32) -> bool {
        self.boot(one as usize) == self.boot(two as usize)
    }

    /// Returns CLOCK_REALTIME minus CLOCK_BOOTTIME in ns.
    pub(super) fn ahead_ns(&self, host: usize) -> i128 {
        self.hosts[host].ahead_ns
    }

    /// Returns CLOCK_REALTIME minus CLOCK_MONOTONIC in ns.
    pub(in super::super) fn distance_ns(&self, host: usize) -> i128 {
        self.hosts[host].distance_ns
    }

    /// Returns the largest distance of two hosts' wall clocks, if both kernels keep their promises at all times of both
    /// recordings; `None`: one of them promised nothing at some time.
    pub(in super::super) fn always_apart(&self, one: u32, two: u32) -> Option<u64> {
        let of = |host: u32| self.hosts[host as usize].always();
        of(one).zip(of(two)).map(|(one, two)| one.saturating_add(two))
    }

    /// Returns the same for all recordings of the first host's boot and of another one.
    pub(super) fn always_apart_from(&self, boot: usize) -> Option<u64> {
        let of = |boot: usize| {
            let same = self.hosts.iter().filter(|host| host.boot == boot);
            worst(same.map(HostReading::always))
        };
        of(0).zip(of(boot)).map(|(one, two): (u64, u64)| one.saturating_add(two))
    }

    /// Returns the promise of a side's kernel: the worst one while the side went on and when the clocks are taken from.
    /// If nothing shows the side's time on its host's own clock, it is the worst one at all times.
    pub(in super::super) fn promised(
        &self,
        found: &SideAnalysis,
        histories: &[HostHistory],
        streams: &[ShiftedSession<'_>],
    ) -> Option<u64> {
        let (history, host) = (&histories[found.host as usize], &self.hosts[found.host as usize]);
        let Some(stream) = found.streams(streams).next() else { return host.always() };
        let (first_ns, last_ns) = stream.shift.back(found.side.start_ns, found.side.end_ns);
        let then = history.clocks.worst_error(first_ns, last_ns, host.ahead_ns);
        worst([then, host.error_ns].into_iter()).map(|ns| ns.saturating_add(host.off_ns))
    }
}

/// Returns the worst of several promises; `None`: one of them is none.
pub(super) fn worst(promises: impl Iterator<Item = Option<u64>>) -> Option<u64> {
    let mut promises = promises;
    promises.try_fold(0, |worst, error| Some(error?.max(worst)))
}
