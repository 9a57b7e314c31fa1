//! A migration: what the arcs of one VM's devices add up to, on one host or on both.

use schemars::JsonSchema;
use serde::Serialize;

use super::{DowntimeBreakdown, StageOrder};
use crate::event::FindingSeverity;

/// How a migration, or one side of it, ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MigrationVerdict {
    /// All was read; all was loaded and the device runs, as far as this side was seen.
    Completed,
    /// Something in VFIO failed.
    Failed,
    /// It was given up, and nothing in VFIO was seen to fail: on request, or because of something outside VFIO, or of what
    /// was not seen, the other side for instance.
    Cancelled,
    /// It was not over when tracing ended.
    Unfinished,
}

impl MigrationVerdict {
    /// The name used in output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Unfinished => "unfinished",
        }
    }
}

/// How a source went on after a migration that did not come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SourceRecovery {
    /// By arcs back to RUNNING.
    Arcs,
    /// By a reset.
    Reset,
}

/// One migration of a VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct VmMigration {
    /// Its place in `migrations`.
    pub nr: u32,
    /// How it ended.
    pub verdict: MigrationVerdict,
    /// Whether the source runs again; null if it was not seen, or if that is not to be expected.
    pub recovered: Option<bool>,
    /// What happened, in one sentence.
    pub text: String,
    /// Start of the first arc.
    pub start_ns: u64,
    /// End of the last arc, or the last that was seen.
    pub end_ns: u64,
    /// The VM that leaves; null if it was not seen.
    pub source: Option<VmmProcess>,
    /// The VM that arrives; null if it was not seen.
    pub destination: Option<VmmProcess>,
    /// Its devices.
    pub devices: Vec<DeviceMigration>,
    /// Of all devices together: from the first that stops to the last that runs again. Null if nothing stopped.
    pub downtime: Option<DowntimeBreakdown>,
    /// How several devices took their turns; empty for one device.
    pub order: Vec<StageOrder>,
    /// What is worth a look.
    pub warnings: Vec<ReportWarning>,
}

/// A VMM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct VmmProcess {
    /// Place of its host in `hosts`.
    pub host: u32,
    /// Its process.
    pub pid: u32,
    /// Name of the thread that asked for the first transition.
    pub comm: String,
}

/// One device of a migration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DeviceMigration {
    /// Where it leaves.
    pub source: Option<MigrationSide>,
    /// Where it arrives.
    pub destination: Option<MigrationSide>,
    /// Why these two belong together; null if there is one only.
    pub paired_by: Option<PairingReason>,
    /// How it ended.
    pub verdict: MigrationVerdict,
    /// Where the time went; null if it did not stop.
    pub downtime: Option<DowntimeBreakdown>,
    /// What went from one to the other.
    pub stream: StreamTransfer,
}

/// Why a source and a destination are taken to belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PairingReason {
    /// As many bytes written as read, at a time that fits, and no other device has that.
    StreamBytes,
    /// The hash of the bytes.
    StreamHash,
    /// Several had the same number of bytes: in the order in which they began.
    Order,
    /// At the same time, by the same driver.
    Time,
    /// The user said so.
    Option,
}

/// One side of one device's migration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct MigrationSide {
    /// Place in `devices`.
    pub device: u32,
    /// Places in `sessions` of its data sessions, usually one.
    pub sessions: Vec<u32>,
    /// Start of its first arc.
    pub start_ns: u64,
    /// End of its last arc, or the last that was seen.
    pub end_ns: u64,
    /// How it ended.
    pub verdict: MigrationVerdict,
    /// How it went on, for a source that did not leave.
    pub recovery: Option<SourceRecovery>,
    /// Whether its beginning was not seen.
    pub partial: bool,
    /// What came after what.
    pub phases: Vec<MigrationPhase>,
    /// What failed, in order.
    pub failures: Vec<DeviceFailure>,
    /// What the driver's plug-in makes of it.
    pub findings: Vec<ReportFinding>,
}

/// A part of one side: a state, or an arc.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct MigrationPhase {
    /// `PRE_COPY`, or `PRE_COPY → STOP_COPY`.
    pub name: String,
    /// Whether it is an arc.
    pub arc: bool,
    /// When it began.
    pub start_ns: u64,
    /// When it ended.
    pub end_ns: u64,
    /// Bytes that calls moved which ended in it.
    pub bytes: u64,
}

/// Something that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DeviceFailure {
    /// When it was over.
    pub at_ns: u64,
    /// What: `RESUMING → STOP`, `write()`, `DMA_LOGGING_START`.
    pub what: String,
    /// What user space got.
    pub errno: Option<String>,
    /// The first step of the driver that failed within it.
    pub step: Option<String>,
    /// That step's own error.
    pub step_errno: Option<String>,
}

/// What a driver's plug-in makes of what happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ReportFinding {
    /// When.
    pub at_ns: u64,
    /// Place in `devices`.
    pub device: u32,
    /// Place in `sessions` of the data session whose call led to it; null: no call on a data fd did.
    pub session: Option<u32>,
    /// A stable name: `hisi_acc/mailbox-timeout`.
    pub code: String,
    /// How bad it is.
    pub severity: FindingSeverity,
    /// The first step that failed.
    pub step: Option<String>,
    /// The error of that step.
    pub errno: Option<String>,
    /// One plain sentence.
    pub text: String,
    /// What to look at.
    pub check: String,
}

/// Something worth a look that no plug-in is needed for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ReportWarning {
    /// A stable name: `initial-bytes-left`.
    pub code: &'static str,
    /// How bad it is.
    pub severity: FindingSeverity,
    /// Place in `devices`; null: none in particular.
    pub device: Option<u32>,
    /// When; null: no moment in particular.
    pub at_ns: Option<u64>,
    /// One plain sentence.
    pub text: String,
}

/// What went from a source to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct StreamTransfer {
    /// Bytes that the source's data fd gave; null without a source.
    pub read_bytes: Option<u64>,
    /// Bytes that the destination's data fd took; null without a destination.
    pub written_bytes: Option<u64>,
    /// Whether both sides had the same bytes.
    pub integrity: StreamIntegrity,
}

/// Whether both sides had the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StreamIntegrity {
    /// The hashes of all bytes are equal.
    Equal,
    /// They are not.
    Differs,
    /// One of the sides was not seen, or not all of it, or not hashed.
    NotKnown,
}
