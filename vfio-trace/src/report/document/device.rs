//! A device: what it went through.

use schemars::JsonSchema;
use serde::Serialize;

use crate::event::{CallOutcome, MarkKind, MigFlags, MigState};

/// One device on one host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TracedDevice {
    /// Its place in `devices`.
    pub nr: u32,
    /// Place of its host in `hosts`.
    pub host: u32,
    /// PCI address or mdev UUID; null if it never became known.
    pub name: Option<String>,
    /// Its driver.
    pub driver: Option<String>,
    /// What its migration can do: `stop-copy`, `p2p`, `pre-copy`.
    pub migration_flags: Option<MigFlags>,
    /// Whether it tracks dirty pages itself.
    pub dirty_tracking: Option<bool>,
    /// The states it was in, in order. The time between two of them is that of an arc.
    pub states: Vec<StateSpan>,
    /// Steps of the state machine.
    pub arcs: Vec<ArcSpan>,
    /// Requests of user space to change the state.
    pub requests: Vec<StateRequest>,
    /// Steps of its driver; empty without a plug-in for the driver.
    pub steps: Vec<StepSpan>,
    /// Steps that were left out, because there are too many.
    pub steps_left_out: u64,
    /// Single moments: open, close, reset, …
    pub marks: Vec<DeviceMark>,
    /// Marks that were left out. Those that end what a device was doing (last close, reset, removal) are not.
    pub marks_left_out: u64,
    /// What the driver said STOP_COPY would move.
    pub sizes: Vec<SizeSample>,
    /// Answers about that which were left out.
    pub sizes_left_out: u64,
    /// Dirty page tracking by the device.
    pub dirty_logs: Vec<DirtyLog>,
}

/// Time in one state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct StateSpan {
    /// The state; null: not certain.
    pub state: Option<MigState>,
    /// When it was entered, or first seen in it.
    pub start_ns: u64,
    /// When it was left, or last seen in it.
    pub end_ns: u64,
}

/// One step of the state machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ArcSpan {
    /// State it starts from.
    pub from: MigState,
    /// State it leads to; null if the core refused to name one.
    pub to: Option<MigState>,
    /// State that was asked for in the end.
    pub target: MigState,
    /// When it began.
    pub start_ns: u64,
    /// When it ended; if `duration_ns` is null, when that became known.
    pub end_ns: u64,
    /// How long it took; null if its end was not seen.
    pub duration_ns: Option<u64>,
    /// The process.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: CallOutcome,
}

/// A request to change the state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct StateRequest {
    /// State asked for.
    pub target: MigState,
    /// When it began.
    pub start_ns: u64,
    /// When it ended.
    pub end_ns: u64,
    /// Arcs seen to begin within it.
    pub arcs: u32,
    /// The data session that it started: place in `sessions`.
    pub session: Option<u32>,
    /// The process.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
    /// Name of the thread.
    pub comm: String,
    /// How the request ended: what user space got.
    #[serde(flatten)]
    pub outcome: CallOutcome,
}

/// A step of a driver: a function of it, or one that it called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct StepSpan {
    /// What the driver's plug-in calls it, or the function.
    pub name: String,
    /// The function.
    pub function: Option<String>,
    /// What the plug-in reads from its arguments.
    pub detail: Option<String>,
    /// When it began.
    pub start_ns: u64,
    /// When it ended.
    pub end_ns: u64,
    /// The thread.
    pub tid: u32,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: CallOutcome,
}

/// A moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DeviceMark {
    /// What.
    pub kind: MarkKind,
    /// When.
    pub at_ns: u64,
    /// A few words.
    pub text: String,
    /// The process; 0 if none.
    pub pid: u32,
    /// How it ended, for those that can fail.
    #[serde(flatten)]
    pub outcome: CallOutcome,
}

/// An answer to VFIO_DEVICE_FEATURE_MIG_DATA_SIZE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SizeSample {
    /// When.
    pub at_ns: u64,
    /// The driver's estimate, what PRE_COPY would move included; null if it failed.
    pub stop_copy_bytes: Option<u64>,
}

/// One DMA_LOGGING_START and what followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DirtyLog {
    /// When it was asked for.
    pub start_ns: u64,
    /// How long the start took.
    pub start_duration_ns: u64,
    /// When it was stopped: by DMA_LOGGING_STOP, a reset or the last close; null: it is still on.
    pub stop_ns: Option<u64>,
    /// How long DMA_LOGGING_STOP took; null if that was not what stopped it.
    pub stop_duration_ns: Option<u64>,
    /// Granularity asked for.
    pub page_size_bytes: Option<u64>,
    /// Granularity that the driver chose.
    pub granted_page_size_bytes: Option<u64>,
    /// Ranges.
    pub ranges: Option<u32>,
    /// From the lowest address to the highest.
    pub span_bytes: Option<u64>,
    /// DMA_LOGGING_REPORT calls.
    pub reports: u64,
    /// Reports that failed: after one, the log must be taken as corrupted.
    pub reports_failed: u64,
    /// Time within the reports.
    pub reports_ns: u64,
    /// Dirty pages in the reports whose bitmap was counted.
    pub dirty_pages: u64,
    /// Reports that worked and whose bitmap was not counted.
    pub reports_uncounted: u64,
    /// The reports, up to a number.
    pub series: Vec<DirtyReport>,
    /// How the start ended.
    #[serde(flatten)]
    pub outcome: CallOutcome,
}

/// One DMA_LOGGING_REPORT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DirtyReport {
    /// When.
    pub at_ns: u64,
    /// How long it took.
    pub duration_ns: u64,
    /// Dirty pages; null if not counted.
    pub dirty_pages: Option<u64>,
}
