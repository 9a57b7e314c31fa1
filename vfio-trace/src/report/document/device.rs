//! A device in the document: its states, arcs, requests, steps and marks.

use schemars::JsonSchema;
use serde::Serialize;

use crate::event::{CallOutcome, KnownSpan, MarkKind, MigFlags, MigState};

/// One device on one host, with everything that was seen of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TracedDevice {
    /// Place of the device in `devices`.
    pub nr: u32,
    /// Place of its host in `hosts`.
    pub host: u32,
    /// PCI address or mdev UUID; null if it never became known.
    pub name: Option<String>,
    /// Driver of the device; null if it never became known.
    pub driver: Option<String>,
    /// The device's migration_flags: `stop-copy`, `p2p`, `pre-copy`.
    pub migration_flags: Option<MigFlags>,
    /// True if the device tracks dirty pages itself.
    pub dirty_tracking: Option<bool>,
    /// States of the device, in order. The time between two of them is that of an arc.
    pub states: Vec<StateSpan>,
    /// Arcs: steps of the state machine.
    pub arcs: Vec<ArcSpan>,
    /// Requests of user space to change the state.
    pub requests: Vec<StateRequest>,
    /// Steps of the driver; empty if no plug-in knows the driver.
    pub steps: Vec<StepSpan>,
    /// Number of steps that were left out, because there are too many.
    pub steps_left_out: u64,
    /// Marks at single times: open, close, reset, …
    pub marks: Vec<DeviceMark>,
    /// Number of marks that were left out. Marks that end the device's activity (last close, reset, removal) are never
    /// left out.
    pub marks_left_out: u64,
    /// Answers to VFIO_DEVICE_FEATURE_MIG_DATA_SIZE: estimates of the bytes that STOP_COPY would move.
    pub sizes: Vec<SizeSample>,
    /// Number of those answers that were left out.
    pub sizes_left_out: u64,
    /// Periods of dirty page tracking by the device.
    pub dirty_logs: Vec<DirtyLog>,
}

/// A period of time in one state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct StateSpan {
    /// The state; null if it is not certain.
    pub state: Option<MigState>,
    /// Time at which the state was entered, or first seen.
    pub start_ns: u64,
    /// Time at which the state was left, or last seen.
    pub end_ns: u64,
}

impl From<KnownSpan> for StateSpan {
    fn from(KnownSpan { state, start_ns, end_ns }: KnownSpan) -> Self {
        Self { state, start_ns, end_ns }
    }
}

/// One arc: a step of the state machine, which is one call of the driver's migration_set_state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ArcSpan {
    /// State in which the arc starts.
    pub from: MigState,
    /// State to which it leads; null if the core refused to name one.
    pub to: Option<MigState>,
    /// State that the request asked for in the end.
    pub target: MigState,
    /// Time at which the arc began.
    pub start_ns: u64,
    /// Time at which the arc ended; if `duration_ns` is null, the time at which that became known.
    pub end_ns: u64,
    /// Duration of the arc; null if its end was not seen.
    pub duration_ns: Option<u64>,
    /// PID of the process.
    pub pid: u32,
    /// TID of the thread.
    pub tid: u32,
    /// Outcome of the arc.
    #[serde(flatten)]
    pub outcome: CallOutcome,
}

/// A request of user space to change the state: VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE (struct
/// vfio_device_feature_mig_state, include/uapi/linux/vfio.h). The kernel splits it into arcs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct StateRequest {
    /// State that the request asked for.
    pub target: MigState,
    /// Time at which the request began.
    pub start_ns: u64,
    /// Time at which the request ended.
    pub end_ns: u64,
    /// Number of arcs seen to begin within the request.
    pub arcs: u32,
    /// Data session that the request started: its place in `sessions`.
    pub session: Option<u32>,
    /// PID of the process.
    pub pid: u32,
    /// TID of the thread.
    pub tid: u32,
    /// Name of the thread.
    pub comm: String,
    /// Outcome of the request, as user space got it.
    #[serde(flatten)]
    pub outcome: CallOutcome,
}

/// A step of a driver: a function of the driver, or one that the driver called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct StepSpan {
    /// Name that the driver's plug-in gives the step, or the function's name.
    pub name: String,
    /// Name of the function.
    pub function: Option<String>,
    /// Details that the plug-in reads from the function's arguments.
    pub detail: Option<String>,
    /// Time at which the step began.
    pub start_ns: u64,
    /// Time at which the step ended.
    pub end_ns: u64,
    /// TID of the thread.
    pub tid: u32,
    /// Outcome of the step.
    #[serde(flatten)]
    pub outcome: CallOutcome,
}

/// An event of a device at a single time: open, close, reset, …
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DeviceMark {
    /// Kind of the event.
    pub kind: MarkKind,
    /// Time of the event.
    pub at_ns: u64,
    /// Description of a few words.
    pub text: String,
    /// PID of the process; 0 if there is none.
    pub pid: u32,
    /// Outcome, for kinds that can fail.
    #[serde(flatten)]
    pub outcome: CallOutcome,
}

/// An answer to VFIO_DEVICE_FEATURE_MIG_DATA_SIZE (struct vfio_device_feature_mig_data_size, include/uapi/linux/vfio.h,
/// Linux 6.2 and later).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SizeSample {
    /// Time of the answer.
    pub at_ns: u64,
    /// The driver's estimate in bytes, including data that PRE_COPY would move; null if the request failed.
    pub stop_copy_bytes: Option<u64>,
}

/// A period of dirty page tracking: one DMA_LOGGING_START (struct vfio_device_feature_dma_logging_control,
/// include/uapi/linux/vfio.h) and the calls that followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DirtyLog {
    /// Time at which the log was asked for.
    pub start_ns: u64,
    /// Duration of the start.
    pub start_duration_ns: u64,
    /// Time at which the log was stopped: by DMA_LOGGING_STOP, a reset or the last close; null if it is still on.
    pub stop_ns: Option<u64>,
    /// Duration of DMA_LOGGING_STOP; null if another event stopped the log.
    pub stop_duration_ns: Option<u64>,
    /// Page size that user space asked for.
    pub page_size_bytes: Option<u64>,
    /// Page size that the driver chose.
    pub granted_page_size_bytes: Option<u64>,
    /// Number of IOVA ranges.
    pub ranges: Option<u32>,
    /// Distance from the lowest IOVA to the highest, in bytes.
    pub span_bytes: Option<u64>,
    /// Number of DMA_LOGGING_REPORT calls.
    pub reports: u64,
    /// Number of reports that failed: after one, the log must be taken as corrupted.
    pub reports_failed: u64,
    /// Time spent in the reports.
    pub reports_ns: u64,
    /// Number of dirty pages in the reports whose bitmap was counted.
    pub dirty_pages: u64,
    /// Number of reports that succeeded and whose bitmap was not counted.
    pub reports_uncounted: u64,
    /// The reports; a choice of them if there are many.
    pub series: Vec<DirtyReport>,
    /// Outcome of the start.
    #[serde(flatten)]
    pub outcome: CallOutcome,
}

/// One DMA_LOGGING_REPORT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DirtyReport {
    /// Time at which the report ended.
    pub at_ns: u64,
    /// Duration of the report.
    pub duration_ns: u64,
    /// Number of dirty pages; null if they were not counted.
    pub dirty_pages: Option<u64>,
}
