//! The document: one or several recordings as plain data, from which `report` and `export` are made.
//!
//! All times are in ns since the document's origin, on one clock for all hosts. Sums are exact unless the field says
//! otherwise; unknown values are `None`.

mod device;
mod downtime;
mod migration;
mod outside;
mod schema;
mod session;
mod shift;

use schemars::JsonSchema;
use serde::Serialize;

pub(crate) use self::shift::TimeFields;
pub use crate::event::MarkKind;

pub use self::{
    device::{
        ArcSpan, DeviceMark, DirtyLog, DirtyReport, SizeSample, StateRequest, StateSpan, StepSpan,
        TracedDevice,
    },
    downtime::{DeviceConcurrency, DowntimeBound, DowntimeBreakdown, DowntimeStage, StageOrder, StageTime},
    migration::{
        DeviceFailure, DeviceMigration, MigrationPhase, MigrationSide, MigrationVerdict, PairingReason,
        ReportFinding, ReportWarning, SourceRecovery, StreamIntegrity, StreamTransfer, VmMigration,
        VmmProcess,
    },
    outside::OutsideIssues,
    schema::json_schema,
    session::{
        BytesSample, DataSession, HistogramBucket, Log2Histogram, PartName, PrecopySample, SessionEnd,
        SessionPart,
    },
};

/// Value of [`MigrationDocument::schema`]. The number changes when a field goes away or changes its meaning.
pub const DOCUMENT_SCHEMA: &str = "vfio-trace.migration/1";

/// The number in [`DOCUMENT_SCHEMA`].
pub const DOCUMENT_SCHEMA_VERSION: u32 = 1;

/// The migrations of one host, or of several on one clock.
///
/// Made once from the events of all recordings, and not changed afterwards. `report` shows it as text or as an HTML
/// page, `merge` uses its corrections of clocks, and `export` writes it as JSON, as CSV, or for timeline viewers.
/// Places are indexes into its lists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct MigrationDocument {
    /// Name and version of this schema: `vfio-trace.migration/1`.
    pub schema: &'static str,
    /// The number in `schema`.
    pub schema_version: u32,
    /// Version of the vfio-trace that wrote this.
    pub version: String,
    /// Wall time of time 0, RFC 3339, on the clock of the first host.
    pub origin: String,
    /// Time from the origin to the end of the traced period.
    pub duration_ns: u64,
    /// Recordings, one entry each, with the host on which each was made.
    pub hosts: Vec<TracedHost>,
    /// Corrections that brought the clocks of the other hosts to the first host's; empty for one recording.
    pub merge: Vec<ClockMerge>,
    /// All devices of all hosts.
    pub devices: Vec<TracedDevice>,
    /// All data sessions of all hosts, each with the data that went over one data fd.
    pub sessions: Vec<DataSession>,
    /// Migrations, made from the devices' arcs, in order of their beginning.
    pub migrations: Vec<VmMigration>,
    /// Failures and findings of devices outside of their migrations: one entry per device that has any.
    pub outside: Vec<OutsideIssues>,
    /// Warnings that belong to no migration.
    pub warnings: Vec<ReportWarning>,
    /// Numbers of items for which an HTML page has no room.
    pub omitted: OmittedCounts,
}

/// Numbers of items that an HTML page leaves out, because it would be too large. All are 0 in other formats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct OmittedCounts {
    /// Number of migrations. Those that failed stay before others, earlier ones before later ones.
    pub migrations: u64,
    /// Number of devices that no migration of the page has.
    pub devices: u64,
    /// Number of sessions that no migration of the page has.
    pub sessions: u64,
    /// Number of entries of `outside`.
    pub outside: u64,
    /// Number of entries of the devices' lists at times of no migration of the page, and of lists that are too long.
    pub entries: u64,
}

/// One recording, and the host on which it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TracedHost {
    /// Place of the recording in `hosts`.
    pub nr: u32,
    /// Host name.
    pub name: Option<String>,
    /// Name of the host in texts: its host name, with `nr` if another host has the same.
    pub label: String,
    /// Kernel release.
    pub kernel: String,
    /// Machine (`uname -m`).
    pub machine: String,
    /// Boot id of its kernel.
    pub boot_id: Option<String>,
    /// Origin of the recording: the file as the user gave it; of more than four parts the first, `…`, the last, and
    /// their number.
    pub source: String,
    /// Version of the vfio-trace that recorded.
    pub traced_by: String,
    /// Command line of the recording vfio-trace.
    pub command: Vec<String>,
    /// Time at which tracing began.
    pub began_ns: u64,
    /// Time at which tracing ended, or the last time that was seen.
    pub ended_ns: u64,
    /// CLOCK_MONOTONIC of this host at the origin. Negative if it booted later.
    pub mono_at_origin_ns: i64,
    /// CLOCK_REALTIME of this host at the origin, RFC 3339.
    pub real_at_origin: String,
    /// Number of events that the document is made from.
    pub events: u64,
    /// Data missing from the recording.
    pub losses: HostLosses,
    /// Data left out of the document, because there is too much of it.
    pub left_out: LeftOutCounts,
}

/// Numbers of events and entries for which the document has no room. All are 0 and null for nearly all recordings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LeftOutCounts {
    /// Time from which on the document has no events; null if it has events of the whole period.
    pub from_ns: Option<u64>,
    /// Name of the list that was full at that time: `arcs`, `sessions`, …
    pub full: Option<String>,
    /// Number of events after that time.
    pub events: u64,
    /// Number of those events that tell of a failure.
    pub failed: u64,
    /// Number of events of devices for which there was no room.
    pub device_events: u64,
    /// Number of devices, sessions, threads and notes that had to be forgotten, because more were in use at a time than
    /// are kept; later events of them may be taken for those of another.
    pub forgotten: u64,
    /// Number of findings for which there was no room.
    pub findings: u64,
    /// Number of those findings that are errors.
    pub errors: u64,
}

/// Data missing from a recording.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct HostLosses {
    /// True if the recording's end is there, not only that of a part. Without it the counters are up to 10 s old.
    pub complete: bool,
    /// Number of records lost because the ring buffer was full; null if not known.
    pub lost: Option<u64>,
    /// Number of calls that the kernel could not probe; null if not known.
    pub missed: Option<u64>,
    /// Number of calls whose return could not be matched; null if not known.
    pub unmatched: Option<u64>,
    /// Number of devices and data fds that the eBPF programs could not remember, because a map was full: their events
    /// have no device; null if not known.
    pub no_room: Option<u64>,
    /// Number of records that could not be decoded.
    pub undecoded: u64,
    /// Damage to the recording, one sentence each.
    pub damage: Vec<String>,
    /// Functions whose arcs or requests are missing: `function: 3 lost`.
    pub control: Vec<String>,
    /// Functions whose reads or writes of data fds are missing.
    pub data: Vec<String>,
    /// Functions whose other events are missing; no time and no byte count is made from those.
    pub other: Vec<String>,
}

impl HostLosses {
    /// Returns true if arcs, and so downtimes, may be missing.
    pub const fn lacks_transitions(&self) -> bool {
        !self.control.is_empty() || !self.damage.is_empty() || self.undecoded > 0
    }

    /// Returns true if calls may be missing without a trace: the kernel did not count the calls that its probes missed.
    pub const fn has_uncounted_misses(&self) -> bool {
        self.missed.is_none()
    }

    /// Returns true if reads or writes, and so bytes, may be missing.
    pub const fn lacks_data(&self) -> bool {
        !self.data.is_empty() || !self.damage.is_empty() || self.undecoded > 0
    }
}

/// Correction that brought a host's clock to that of the first host, whose times are taken as they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ClockMerge {
    /// Place of the host in `hosts`.
    pub host: u32,
    /// Method of the correction.
    pub method: MergeMethod,
    /// Offset that was added to the host's CLOCK_REALTIME to put it on the first host's. In ns, signed.
    pub offset_ns: i64,
    /// Largest amount by which the host's times may be too early; null if not known.
    pub early_ns: Option<u64>,
    /// Largest amount by which the host's times may be too late; null if not known.
    pub late_ns: Option<u64>,
    /// Smallest offset at which nothing is written before it was read; null if there is no stream from the first host.
    pub causal_min_ns: Option<i64>,
    /// Largest such offset; null if there is no stream to the first host.
    pub causal_max_ns: Option<i64>,
    /// Sum of the kernels' worst bounds for the two clocks' distance from UTC; null if one of them was not synchronised
    /// at some time.
    pub clock_error_ns: Option<u64>,
    /// Description of the correction in one sentence.
    pub text: String,
}

/// Method by which clocks were brought together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MergeMethod {
    /// Both recordings are of one boot of one kernel: they have one clock.
    SameClock,
    /// The hosts' wall clocks were taken as right.
    Realtime,
    /// With the wall clocks alone, data would have been written before it was read: the clock was moved as far as
    /// causality demands.
    Causality,
}
