//! A run's report on itself: its start, its probes, its end. Filled by the caller; the same in text and JSON.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vfio_trace_common::role::Role;

use super::{ClockAnchor, GapTotals};
use crate::units::schema::came_later;

/// One probe, and its counters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProbeReport {
    /// The kernel function.
    pub name: String,
    /// Role of the function.
    #[serde(serialize_with = "role_name", deserialize_with = "role_of")]
    #[schemars(with = "String")]
    pub role: Role,
    /// Module that has the function; `None` for the kernel image, or if not known.
    pub module: Option<String>,
    /// True if it is attached.
    pub attached: bool,
    /// Reason why it is not attached, or works only in part.
    pub reason: Option<String>,
    /// Calls that were looked at.
    pub hits: u64,
    /// Records handed over.
    pub records: u64,
    /// Records lost because the ring buffer was full.
    pub lost: u64,
    /// Calls that the kernel could not probe; `None` if this kernel does not tell.
    pub missed: Option<u64>,
    /// Calls whose return could not be matched.
    pub unmatched: u64,
    /// Devices and files that the programs could not remember, because a map was full. Left out of JSON if 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub no_room: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
pub(super) fn role_name<S: serde::Serializer>(role: &Role, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(role.name())
}

pub(super) fn role_of<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Role, D::Error> {
    let name = String::deserialize(deserializer)?;
    let role = Role::ALL.into_iter().find(|role| role.name() == name);
    role.ok_or_else(|| serde::de::Error::custom(format!("unknown role {name}")))
}

impl ProbeReport {
    /// Subtracts `before`, an earlier report of all probes.
    fn since(mut self, before: &[Self]) -> Self {
        let same =
            |other: &&Self| other.name == self.name && other.role == self.role && other.module == self.module;
        if let Some(before) = before.iter().find(same) {
            self.hits = self.hits.saturating_sub(before.hits);
            self.records = self.records.saturating_sub(before.records);
            self.lost = self.lost.saturating_sub(before.lost);
            self.unmatched = self.unmatched.saturating_sub(before.unmatched);
            self.no_room = self.no_room.saturating_sub(before.no_room);
            self.missed = self.missed.map(|missed| missed.saturating_sub(before.missed.unwrap_or(0)));
        }
        self
    }
}

/// Returns the counts of each probe from one report to a later one.
pub fn probes_since(before: &[ProbeReport], after: Vec<ProbeReport>) -> Vec<ProbeReport> {
    after.into_iter().map(|probe| probe.since(before)).collect()
}

/// First line of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = came_later(&["replayed_by"]))]
pub struct TraceStart {
    /// Version of the vfio-trace that traced.
    pub version: String,
    /// Version of the vfio-trace that replays a recording; `None`: the events are shown as they happen.
    #[serde(default)]
    pub replayed_by: Option<String>,
    /// Kernel release (`uname -r`).
    pub kernel: String,
    /// Machine (`uname -m`).
    pub machine: String,
    /// Host name.
    pub host: Option<String>,
    /// Command line, program first.
    pub command: Vec<String>,
    /// Pair of clock readings from which wall times are computed.
    pub clock: ClockAnchor,
    /// Probes as they are at the start.
    pub probes: Vec<ProbeReport>,
}

/// Last line of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TraceSummary {
    /// Events made, filtered ones included.
    pub events: u64,
    /// Events that were shown.
    pub shown: u64,
    /// Records lost on the way, all probes together.
    pub lost: u64,
    /// Calls missed by all probes together; `None` if one of them cannot tell.
    pub missed: Option<u64>,
    /// Calls whose return could not be matched, all probes together.
    pub unmatched: u64,
    /// Devices and files that the programs could not remember, all probes together. Left out of JSON if 0.
    #[serde(skip_serializing_if = "is_zero")]
    pub no_room: u64,
    /// Records that could not be decoded.
    pub undecoded: u64,
    /// Devices, sessions, threads and notes that the reader of the records has forgotten, because there were more at a
    /// time than are kept. Left out of JSON if 0.
    #[serde(skip_serializing_if = "is_zero")]
    pub forgotten: u64,
    /// Time traced, in ns.
    pub duration_ns: u64,
    /// Totals of the times in which functions were not probed: their calls are in none of the counts. `None`: the
    /// tracer did not report them.
    #[serde(flatten)]
    pub gaps: Option<GapTotals>,
    /// Probes as they are at the end.
    pub probes: Vec<ProbeReport>,
}

/// Losses of all probes together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LossTotals {
    /// Records lost because the ring buffer was full.
    pub lost: u64,
    /// Calls that the kernel could not probe; `None` if one of the probes cannot tell.
    pub missed: Option<u64>,
    /// Calls whose return could not be matched.
    pub unmatched: u64,
    /// Devices and files that the programs could not remember.
    pub no_room: u64,
}

impl LossTotals {
    /// Adds up `probes`: all that ever were, so that no figure goes down.
    pub fn of(probes: &[ProbeReport]) -> Self {
        // A probe that was never attached promised nothing, so it has missed nothing; one that was goes on counting
        // after it is gone.
        let mut served =
            probes.iter().filter(|probe| probe.attached || probe.hits > 0 || probe.missed.is_some());
        let sum = |count: fn(&ProbeReport) -> u64| probes.iter().map(count).fold(0, u64::saturating_add);
        Self {
            lost: sum(|probe| probe.lost),
            missed: served.try_fold(0u64, |sum, probe| Some(sum.saturating_add(probe.missed?))),
            unmatched: sum(|probe| probe.unmatched),
            no_room: sum(|probe| probe.no_room),
        }
    }
}

impl TraceSummary {
    /// Adds up `probes`, together with the caller's own counts. The caller sets `gaps` itself.
    pub fn new(probes: Vec<ProbeReport>, events: u64, shown: u64, undecoded: u64, duration_ns: u64) -> Self {
        let LossTotals { lost, missed, unmatched, no_room } = LossTotals::of(&probes);
        Self {
            events,
            shown,
            lost,
            missed,
            unmatched,
            no_room,
            undecoded,
            forgotten: 0,
            duration_ns,
            gaps: None,
            probes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(attached: bool, missed: Option<u64>) -> ProbeReport {
        ProbeReport {
            name: "f".to_owned(),
            role: Role::Read,
            module: Some("mtty".to_owned()),
            attached,
            reason: None,
            hits: 0,
            records: 0,
            lost: 0,
            missed,
            unmatched: 0,
            no_room: 0,
        }
    }

    fn missed(probes: Vec<ProbeReport>) -> Option<u64> {
        TraceSummary::new(probes, 0, 0, 0, 0).missed
    }

    #[test]
    fn what_a_probe_has_missed_counts_after_it_is_gone() {
        assert_eq!(missed(vec![probe(true, Some(2)), probe(true, Some(3))]), Some(5));
        assert_eq!(missed(vec![probe(true, Some(2)), probe(false, Some(3))]), Some(5));
        let gone = ProbeReport { hits: 1, ..probe(false, None) };
        assert_eq!(missed(vec![gone, probe(true, Some(3))]), None, "this kernel does not tell");
        assert_eq!(missed(vec![probe(false, None), probe(true, Some(3))]), Some(3), "it was never attached");
    }
}
