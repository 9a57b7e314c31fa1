//! Times in which functions were there and not probed: what happened in them was not seen.

use serde::{Deserialize, Serialize};
use vfio_trace_common::role::Role;

use super::report::{role_name, role_of};

/// Functions of one module that were not probed for a time while the run went on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeGap {
    /// The module; `None` for the kernel image.
    pub module: Option<String>,
    /// Its functions.
    pub functions: Vec<GapFunction>,
    /// Since when they could be called, CLOCK_MONOTONIC in ns.
    pub from_mono_ns: u64,
    /// Whether that is when the kernel says that the module was loaded; else it is the earliest possible.
    pub from_exact: bool,
    /// When all of them were probed; `None`: they are not.
    pub until_mono_ns: Option<u64>,
    /// How it came to it.
    pub why: GapCause,
}

/// A function that was not probed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GapFunction {
    /// Its symbol.
    pub function: String,
    /// What it is for.
    #[serde(serialize_with = "role_name", deserialize_with = "role_of")]
    pub role: Role,
}

/// Why functions were probed late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapCause {
    /// Their module was loaded while tracing.
    ModuleLoaded,
    /// They became known through a pointer only: their types are not in any BTF.
    FoundByPointer,
    /// The kernel refused the probe.
    Refused,
}

impl GapCause {
    /// Words for people.
    pub const fn text(self) -> &'static str {
        match self {
            Self::ModuleLoaded => "loaded while tracing",
            Self::FoundByPointer => "found through a pointer",
            Self::Refused => "the kernel refused the probe",
        }
    }
}

impl ProbeGap {
    /// How long it was, up to `now_ns` if it is not over.
    pub fn length_ns(&self, now_ns: u64) -> u64 {
        self.until_mono_ns.unwrap_or(now_ns).saturating_sub(self.from_mono_ns)
    }
}

/// What all gaps come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GapTotals {
    /// How many there were.
    #[serde(rename = "probe_gaps")]
    pub gaps: u64,
    /// The longest of them.
    #[serde(rename = "longest_probe_gap_ns")]
    pub longest_ns: u64,
    /// How many are not over.
    #[serde(rename = "open_probe_gaps")]
    pub open: u64,
}

impl GapTotals {
    /// Takes in one that was told at `now_ns`.
    pub fn add(&mut self, gap: &ProbeGap, now_ns: u64) {
        self.gaps += 1;
        self.longest_ns = self.longest_ns.max(gap.length_ns(now_ns));
        self.open += u64::from(gap.until_mono_ns.is_none());
    }
}
