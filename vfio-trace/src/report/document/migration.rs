//! A migration in the document: made from the arcs of one VM's devices, on one host or on both.

use schemars::JsonSchema;
use serde::Serialize;

use super::{DowntimeBreakdown, StageOrder};
use crate::event::FindingSeverity;

/// Outcome of a migration, or of one side of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MigrationVerdict {
    /// Source: all data was read. Destination: all data was loaded and the device runs. As far as this side was seen.
    Completed,
    /// Something in VFIO failed.
    Failed,
    /// The migration was given up, and nothing in VFIO was seen to fail: on request, or because of something outside
    /// VFIO, or of something that was not seen, on the other side for instance.
    Cancelled,
    /// The migration was not over when tracing ended.
    Unfinished,
}

impl MigrationVerdict {
    /// Returns the name used in output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Unfinished => "unfinished",
        }
    }
}

/// Way in which a source went on after a migration that did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SourceRecovery {
    /// Arcs back to RUNNING.
    Arcs,
    /// A reset.
    Reset,
}

/// One migration of a VM, with all its devices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct VmMigration {
    /// Place of the migration in `migrations`.
    pub nr: u32,
    /// Outcome of the migration.
    pub verdict: MigrationVerdict,
    /// True if the source runs again; null if that was not seen, or is not to be expected.
    pub recovered: Option<bool>,
    /// Summary in one sentence.
    pub text: String,
    /// Start of the first arc.
    pub start_ns: u64,
    /// End of the last arc, or the last time that was seen.
    pub end_ns: u64,
    /// VMM on the source; null if it was not seen.
    pub source: Option<VmmProcess>,
    /// VMM on the destination; null if it was not seen.
    pub destination: Option<VmmProcess>,
    /// Devices of the VM.
    pub devices: Vec<DeviceMigration>,
    /// Downtime of all devices together: from the first that stops to the last that runs again. Null if nothing
    /// stopped.
    pub downtime: Option<DowntimeBreakdown>,
    /// Order in which several devices went through each stage; empty for one device.
    pub order: Vec<StageOrder>,
    /// Warnings about the migration.
    pub warnings: Vec<ReportWarning>,
}

/// Process of a virtual machine monitor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct VmmProcess {
    /// Place of its host in `hosts`.
    pub host: u32,
    /// PID of the process.
    pub pid: u32,
    /// Name of the thread that asked for the first transition.
    pub comm: String,
}

/// One device of a migration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DeviceMigration {
    /// Source side; null if it was not seen.
    pub source: Option<MigrationSide>,
    /// Destination side; null if it was not seen.
    pub destination: Option<MigrationSide>,
    /// Reason why the two sides belong together; null if there is one side only.
    pub paired_by: Option<PairingReason>,
    /// Outcome of the device's migration.
    pub verdict: MigrationVerdict,
    /// Downtime of the device; null if it did not stop.
    pub downtime: Option<DowntimeBreakdown>,
    /// Bytes that went from the source to the destination.
    pub stream: StreamTransfer,
}

/// Reason why a source and a destination are taken to belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PairingReason {
    /// As many bytes written as read, at a time that fits, and no other device has the same.
    StreamBytes,
    /// The hashes of the bytes are equal, and no other stream has the same.
    StreamHash,
    /// Several devices had the same number of bytes: paired in the order in which they began.
    Order,
    /// Same time, same driver.
    Time,
    /// The user paired them (`--pair`).
    Option,
}

/// One side of one device's migration: the source or the destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct MigrationSide {
    /// Place of the device in `devices`.
    pub device: u32,
    /// Places of its data sessions in `sessions`; usually one.
    pub sessions: Vec<u32>,
    /// Start of its first arc.
    pub start_ns: u64,
    /// End of its last arc, or the last time that was seen.
    pub end_ns: u64,
    /// Outcome of this side.
    pub verdict: MigrationVerdict,
    /// Way in which a source went on that did not leave.
    pub recovery: Option<SourceRecovery>,
    /// True if the beginning of this side was not seen.
    pub partial: bool,
    /// States and arcs in order.
    pub phases: Vec<MigrationPhase>,
    /// Failures in order.
    pub failures: Vec<DeviceFailure>,
    /// Findings of the driver's plug-in.
    pub findings: Vec<ReportFinding>,
}

/// A phase of one side: a state or an arc.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct MigrationPhase {
    /// Name of the state or arc: `PRE_COPY`, or `PRE_COPY → STOP_COPY`.
    pub name: String,
    /// True for an arc.
    pub arc: bool,
    /// Time at which the phase began.
    pub start_ns: u64,
    /// Time at which the phase ended.
    pub end_ns: u64,
    /// Bytes moved by calls that ended in this phase.
    pub bytes: u64,
}

/// A call or arc that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DeviceFailure {
    /// Time at which it ended.
    pub at_ns: u64,
    /// Name of the call or arc: `RESUMING → STOP`, `write()`, `DMA_LOGGING_START`.
    pub what: String,
    /// Error that user space got.
    pub errno: Option<String>,
    /// First step of the driver that failed within it.
    pub step: Option<String>,
    /// Error of that step.
    pub step_errno: Option<String>,
}

/// A finding of a driver's plug-in: a diagnosis made from steps, images and data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ReportFinding {
    /// Time of the finding.
    pub at_ns: u64,
    /// Place of the device in `devices`.
    pub device: u32,
    /// Place in `sessions` of the data session whose call led to the finding; null if no call on a data fd did.
    pub session: Option<u32>,
    /// Stable name of the kind of finding: `hisi_acc/mailbox-timeout`.
    pub code: String,
    /// Severity of the finding.
    pub severity: FindingSeverity,
    /// First step that failed.
    pub step: Option<String>,
    /// Error of that step.
    pub errno: Option<String>,
    /// Description in one plain sentence.
    pub text: String,
    /// Advice: the thing to check next.
    pub check: String,
}

/// A warning that no plug-in is needed for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ReportWarning {
    /// Stable name of the kind of warning: `initial-bytes-left`.
    pub code: &'static str,
    /// Severity of the warning.
    pub severity: FindingSeverity,
    /// Place of the device in `devices`; null if the warning is about no device in particular.
    pub device: Option<u32>,
    /// Time of the event; null if the warning is about no time in particular.
    pub at_ns: Option<u64>,
    /// Description in one plain sentence.
    pub text: String,
}

/// Bytes that went from a source to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct StreamTransfer {
    /// Bytes that the source's data fd gave; null without a source.
    pub read_bytes: Option<u64>,
    /// Bytes that the destination's data fd took; null without a destination.
    pub written_bytes: Option<u64>,
    /// Result of comparing the bytes of both sides.
    pub integrity: StreamIntegrity,
}

/// Result of comparing the bytes of both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StreamIntegrity {
    /// The hashes of all bytes are equal.
    Equal,
    /// The hashes differ.
    Differs,
    /// Not known: one of the sides was not seen, or not all of it, or not hashed.
    NotKnown,
}
