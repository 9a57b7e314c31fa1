//! The account of one or several recordings as plain data: what `report` and `export` are made from.
//!
//! All times are in ns since the document's origin, on one clock for all hosts. Sums are exact unless the field says
//! otherwise; what is not known is `None`.

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

/// Value of [`Document::schema`]. The number changes when a field goes away or changes its meaning.
pub const DOCUMENT_SCHEMA: &str = "vfio-trace.migration/1";

/// The number in [`DOCUMENT_SCHEMA`].
pub const DOCUMENT_SCHEMA_VERSION: u32 = 1;

/// The migrations of one host, or of several on one clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct MigrationDocument {
    /// `vfio-trace.migration/1`.
    pub schema: &'static str,
    /// The number in `schema`.
    pub schema_version: u32,
    /// Version of the vfio-trace that wrote this.
    pub version: String,
    /// Wall time of 0, RFC 3339, on the clock of the first host.
    pub origin: String,
    /// From the origin to the end of what was traced.
    pub duration_ns: u64,
    /// Where it was traced: one entry per recording.
    pub hosts: Vec<TracedHost>,
    /// How the clocks of the other hosts were brought to the first one's; empty for one recording.
    pub merge: Vec<ClockMerge>,
    /// All devices of all hosts.
    pub devices: Vec<TracedDevice>,
    /// All data sessions: what went over data fds.
    pub sessions: Vec<DataSession>,
    /// What the devices' state transitions add up to, in order of their beginning.
    pub migrations: Vec<VmMigration>,
    /// What failed and what was found on devices outside of their migrations: one entry per device that has any.
    pub outside: Vec<OutsideIssues>,
    /// What is worth a look and belongs to no migration.
    pub warnings: Vec<ReportWarning>,
    /// What a page has no room for.
    pub omitted: OmittedCounts,
}

/// What is not in a page, because it would be too large. Zero everywhere else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct OmittedCounts {
    /// Migrations: those that failed go before others, earlier ones before later ones.
    pub migrations: u64,
    /// Devices that no migration of the page has.
    pub devices: u64,
    /// Sessions that no migration of the page has.
    pub sessions: u64,
    /// Entries of `outside`.
    pub outside: u64,
    /// Entries of the devices' lists at times of no migration of the page, and of those that are too long.
    pub entries: u64,
}

/// One recording.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TracedHost {
    /// Its place in `hosts`.
    pub nr: u32,
    /// Host name.
    pub name: Option<String>,
    /// What to call it among the others: its name, with its number if another has the same.
    pub label: String,
    /// Kernel release.
    pub kernel: String,
    /// Machine (`uname -m`).
    pub machine: String,
    /// Boot id of its kernel.
    pub boot_id: Option<String>,
    /// Where this was read from: the file as the user gave it; of more than four parts the first, `…`, the last, and their
    /// number.
    pub source: String,
    /// Version of the vfio-trace that traced.
    pub traced_by: String,
    /// Command line of the tracer.
    pub command: Vec<String>,
    /// When tracing began.
    pub began_ns: u64,
    /// When it ended, or the last that was seen of it.
    pub ended_ns: u64,
    /// CLOCK_MONOTONIC of this host at the origin. Negative if it booted later.
    pub mono_at_origin_ns: i64,
    /// CLOCK_REALTIME of this host at the origin, RFC 3339.
    pub real_at_origin: String,
    /// Events that this is made from.
    pub events: u64,
    /// What is missing.
    pub losses: HostLosses,
    /// What is left out, because there is too much of it.
    pub left_out: LeftOutCounts,
}

/// What a document has no room for. Zero and null of nearly all recordings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LeftOutCounts {
    /// From when on nothing is in the document; null: all of the time is.
    pub from_ns: Option<u64>,
    /// Of what there were too many then: `arcs`, `sessions`, …
    pub full: Option<String>,
    /// Events from then on.
    pub events: u64,
    /// Those of them that tell of a failure.
    pub failed: u64,
    /// Events of devices for which there was no room.
    pub device_events: u64,
    /// Devices, sessions, threads and notes of which there were more at a time than are kept, so that what came of them later
    /// may be told apart.
    pub forgotten: u64,
    /// Findings for which there was no room.
    pub findings: u64,
    /// Those of them that are errors.
    pub errors: u64,
}

/// What is missing of a recording.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct HostLosses {
    /// Whether the recording's end is there, not only that of a part. Without it the counters are those of up to 10 s before.
    pub complete: bool,
    /// Records lost because the ring buffer was full; null: not known.
    pub lost: Option<u64>,
    /// Calls that the kernel could not probe; null: not known.
    pub missed: Option<u64>,
    /// Calls whose return could not be matched; null: not known.
    pub unmatched: Option<u64>,
    /// Devices and data fds that the eBPF programs could not remember, because a map was full: what happens to them has no
    /// device; null: not known.
    pub no_room: Option<u64>,
    /// Records that could not be decoded.
    pub undecoded: u64,
    /// Damage to the recording, a sentence each.
    pub damage: Vec<String>,
    /// Functions whose state transitions or requests are lacking: `function: 3 lost`.
    pub control: Vec<String>,
    /// Functions whose reads or writes of data fds are lacking.
    pub data: Vec<String>,
    /// Functions of which other events are lacking, from which no time and no byte is made.
    pub other: Vec<String>,
}

impl HostLosses {
    /// Whether state transitions, and so downtimes, may be lacking.
    pub const fn lacks_transitions(&self) -> bool {
        !self.control.is_empty() || !self.damage.is_empty() || self.undecoded > 0
    }

    /// Whether calls may have come and gone without a word: the kernel did not count those that its probes missed.
    pub const fn has_uncounted_misses(&self) -> bool {
        self.missed.is_none()
    }

    /// Whether reads or writes, and so bytes, may be lacking.
    pub const fn lacks_data(&self) -> bool {
        !self.data.is_empty() || !self.damage.is_empty() || self.undecoded > 0
    }
}

/// How a host's clock was brought to that of the first host, whose times are taken as they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ClockMerge {
    /// Place of the host in `hosts`.
    pub host: u32,
    /// How.
    pub method: MergeMethod,
    /// What was added to its CLOCK_REALTIME to put it on the first host's. In ns, signed.
    pub offset_ns: i64,
    /// Its times may be too early by this much; null: not known.
    pub early_ns: Option<u64>,
    /// Its times may be too late by this much; null: not known.
    pub late_ns: Option<u64>,
    /// The least offset at which nothing is written before it was read; null: no stream from the first host tells.
    pub causal_min_ns: Option<i64>,
    /// The largest such offset; null: no stream to the first host tells.
    pub causal_max_ns: Option<i64>,
    /// What the hosts' kernels promise their clocks are off UTC at most, together; null: one of them is not synchronised.
    pub clock_error_ns: Option<u64>,
    /// The same in one sentence.
    pub text: String,
}

/// How clocks were brought together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MergeMethod {
    /// Both recordings are of one boot of one kernel: one clock.
    SameClock,
    /// The hosts' wall clocks were taken as right.
    Realtime,
    /// The wall clocks would have had data written before it was read: moved as far as causality demands.
    Causality,
}
