//! What a run says about itself: its start, its probes, its end. Filled by the caller; the same in text and JSON.

use serde::Serialize;
use vfio_trace_common::role::Role;

use super::ClockAnchor;

/// One probe, and what it counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProbeReport {
    /// The kernel function.
    pub name: String,
    /// What the function is for.
    #[serde(serialize_with = "role_name")]
    pub role: Role,
    /// Module that has the function; `None` for the kernel image, or if not known.
    pub module: Option<String>,
    /// Whether it is attached.
    pub attached: bool,
    /// Why it is not attached, or is less than it could be.
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
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn role_name<S: serde::Serializer>(role: &Role, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(role.name())
}

/// First line of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Start {
    /// Version of vfio-trace.
    pub version: String,
    /// Kernel release (`uname -r`).
    pub kernel: String,
    /// Machine (`uname -m`).
    pub machine: String,
    /// Host name.
    pub host: Option<String>,
    /// Command line, program first.
    pub command: Vec<String>,
    /// What wall times are computed from.
    pub clock: ClockAnchor,
    /// Probes as they are at the start.
    pub probes: Vec<ProbeReport>,
}

/// Last line of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
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
    /// Records that could not be decoded.
    pub undecoded: u64,
    /// Time traced, in ns.
    pub duration_ns: u64,
    /// Probes as they are at the end.
    pub probes: Vec<ProbeReport>,
}

impl Summary {
    /// The sums over `probes`, with what only the caller has counted.
    pub fn new(probes: Vec<ProbeReport>, events: u64, shown: u64, undecoded: u64, duration_ns: u64) -> Self {
        let attached = || probes.iter().filter(|probe| probe.attached);
        Self {
            events,
            shown,
            lost: probes.iter().fold(0, |sum, probe| sum.saturating_add(probe.lost)),
            missed: attached().try_fold(0u64, |sum, probe| Some(sum.saturating_add(probe.missed?))),
            unmatched: probes.iter().fold(0, |sum, probe| sum.saturating_add(probe.unmatched)),
            undecoded,
            duration_ns,
            probes,
        }
    }
}
