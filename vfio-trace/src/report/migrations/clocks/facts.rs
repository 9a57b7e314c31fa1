//! Facts about the hosts' clocks: which hosts share one, and the kernels' promises about their errors. They are
//! computed once, because pairing asks for them for each pair.

use std::collections::HashMap;

use super::{
    super::{details::ShiftedSession, side::SideAnalysis},
    drift::DriftRate,
};
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
    /// The worst promise at all times at which data was moved, and at that time.
    worst_ns: Option<u64>,
    /// The worst promise at all times.
    always_ns: Option<u64>,
    /// Distance of the wall clock from that of the first recording of the same boot, whose clock is used, in ns.
    off_ns: u64,
    /// Largest rate at which the clock drifted from true time.
    rate: DriftRate,
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
}

impl ClockFacts {
    /// Reads the clocks of all hosts.
    pub(in super::super) fn of(histories: &[HostHistory]) -> Self {
        let mut hosts: Vec<HostReading> = Vec::with_capacity(histories.len());
        // For each boot, by its id and the host's name, the first recordings of different clocks.
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
                always_ns: history.clocks.worst_error(),
                off_ns: 0,
                rate: if history.clocks.was_synchronised() { DriftRate::SLEWED } else { DriftRate::FREE },
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

    /// Returns true if two hosts have one clock.
    pub(in super::super) fn is_one_clock(&self, one: u32, two: u32) -> bool {
        self.boot(one as usize) == self.boot(two as usize)
    }

    /// Returns the largest rate at which a host's clock drifted from true time: by all recordings of its boot.
    pub(super) fn rate(&self, host: u32) -> DriftRate {
        let boot = self.boot(host as usize);
        let same = self.hosts.iter().filter(|host| host.boot == boot);
        same.fold(DriftRate::FREE, |rate, host| rate.max(host.rate))
    }

    /// Returns CLOCK_REALTIME minus CLOCK_BOOTTIME in ns.
    pub(super) fn ahead_ns(&self, host: usize) -> i128 {
        self.hosts[host].ahead_ns
    }

    /// Returns CLOCK_REALTIME minus CLOCK_MONOTONIC in ns.
    pub(in super::super) fn distance_ns(&self, host: usize) -> i128 {
        self.hosts[host].distance_ns
    }

    /// Returns the largest distance of two hosts' wall clocks, if both kernels keep their promises at all times at
    /// which data was moved; `None`: one of them promises nothing now, or promised nothing at some time.
    pub(in super::super) fn worst_apart(&self, one: u32, two: u32) -> Option<u64> {
        self.apart(one, two, |host| host.worst_ns)
    }

    /// Returns the same for all times of both recordings.
    pub(in super::super) fn always_apart(&self, one: u32, two: u32) -> Option<u64> {
        self.apart(one, two, |host| host.always_ns)
    }

    fn apart(&self, one: u32, two: u32, promise: fn(&HostReading) -> Option<u64>) -> Option<u64> {
        let of = |host: u32| {
            let host = &self.hosts[host as usize];
            promise(host).map(|ns| ns.saturating_add(host.off_ns))
        };
        of(one).zip(of(two)).map(|(one, two)| one.saturating_add(two))
    }

    /// Returns the promise of a host's kernel at the time that its clocks are taken from.
    pub(super) fn promised_now(&self, host: usize) -> Option<u64> {
        let host = &self.hosts[host];
        host.error_ns.map(|ns| ns.saturating_add(host.off_ns))
    }

    /// Returns the promise of a side's kernel: the worse of those while data was moved and when the clocks are taken
    /// from.
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

/// Returns the worst of several promises; `None`: one of them is none.
pub(super) fn worst(promises: impl Iterator<Item = Option<u64>>) -> Option<u64> {
    let mut promises = promises;
    promises.try_fold(0, |worst, error| Some(error?.max(worst)))
}
