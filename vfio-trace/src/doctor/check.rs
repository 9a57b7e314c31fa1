//! Types of a check and of the report of all checks, without their presentation.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::units::schema::{SchemaHead, schema_of};

/// Value of the field `schema`. The number changes when a field goes away or changes its meaning.
pub const DOCTOR_SCHEMA: &str = "vfio-trace.doctor/1";

const HEAD: SchemaHead = SchemaHead {
    name: DOCTOR_SCHEMA,
    title: "The document of vfio-trace doctor --json",
    description: "docs/doctor.md explains the fields. Readers ignore fields and ids that they do not know: version 1 may gain some.",
};

/// Makes the JSON Schema of the document, as kept in `docs/schema`.
pub fn doctor_schema() -> Value {
    schema_of::<DoctorReport>(&HEAD)
}

/// Subject of a check. The order is that of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckSection {
    /// Privileges of this process.
    Privileges,
    /// Features and settings of the kernel that are the same for all processes.
    Kernel,
    /// Type information and struct members.
    Types,
    /// Migration drivers that are loaded.
    Drivers,
    /// Functions to be probed, one check each.
    Probes,
    /// VFIO devices, one check each.
    Devices,
}

/// Status of the thing that was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckStatus {
    /// As it should be.
    Ok,
    /// Works, but something is lost.
    Degraded,
    /// Not there.
    Missing,
    /// Cannot be determined by this process.
    Unknown,
}

/// Reason why `tail` cannot run at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckBlocker {
    /// This process lacks a permission.
    Permission,
    /// This kernel lacks the support: no process can run `tail` here.
    Support,
}

/// Overall result of `doctor`, and the exit code that goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckVerdict {
    /// Everything that `tail` needs works.
    Ready,
    /// Tracing works, but none of the devices can migrate.
    NoDeviceMigrates,
    /// A capability is missing.
    NotPermitted,
    /// The kernel lacks something that `tail` needs.
    NotSupported,
}

/// One thing that was checked: a finding of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Check {
    /// Name of the kind of check, for programs; does not change between versions.
    #[schemars(regex(pattern = "^[a-z0-9]+(-[a-z0-9]+)*$"))]
    pub id: &'static str,
    /// Section of the report that the check belongs to.
    pub section: CheckSection,
    /// Name of the thing that was checked: a capability, a module, a function, a device.
    pub subject: String,
    /// Status of the thing.
    pub status: CheckStatus,
    /// Text for people, which may change: the result of the check.
    pub what: String,
    /// Text for people: what is lost, if something is.
    pub costs: Option<String>,
    /// Text for people: advice on a remedy.
    #[serde(rename = "do")]
    pub todo: Option<String>,
    /// Reason why `tail` cannot run because of this thing; null if it can.
    pub blocks: Option<CheckBlocker>,
}

impl Check {
    /// Makes a check of something that is as it should be.
    pub fn ok(
        section: CheckSection,
        id: &'static str,
        subject: impl Into<String>,
        what: impl Into<String>,
    ) -> Self {
        Self {
            id,
            section,
            subject: subject.into(),
            status: CheckStatus::Ok,
            what: what.into(),
            costs: None,
            todo: None,
            blocks: None,
        }
    }

    /// Sets the status.
    #[must_use]
    pub fn with_status(self, status: CheckStatus) -> Self {
        Self { status, ..self }
    }

    /// Sets the text that says what is lost.
    #[must_use]
    pub fn costs(self, costs: impl Into<String>) -> Self {
        Self { costs: Some(costs.into()), ..self }
    }

    /// Sets the text that gives advice.
    #[must_use]
    pub fn todo(self, todo: impl Into<String>) -> Self {
        Self { todo: Some(todo.into()), ..self }
    }

    /// Marks the check as one because of which `tail` cannot run.
    #[must_use]
    pub fn blocks(self, blocks: CheckBlocker) -> Self {
        Self { blocks: Some(blocks), ..self }
    }
}

/// Report of `doctor` as it is printed: all checks and the verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DoctorReport {
    /// Name and version of this schema.
    pub schema: &'static str,
    /// Version of vfio-trace.
    pub version: &'static str,
    /// Kernel release; null if it cannot be read.
    pub kernel: Option<String>,
    /// Machine, as `uname -m`.
    pub machine: String,
    /// Overall result.
    pub verdict: CheckVerdict,
    /// The exit code of `doctor`.
    #[schemars(extend("enum" = CheckVerdict::ALL.map(CheckVerdict::exit_code)))]
    pub exit_code: u8,
    /// All checks, ordered by section.
    pub findings: Vec<Check>,
}

impl CheckVerdict {
    /// All verdicts.
    pub const ALL: [Self; 4] = [Self::Ready, Self::NoDeviceMigrates, Self::NotPermitted, Self::NotSupported];

    /// Returns the exit code for this verdict, as listed in docs/doctor.md.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Ready => 0,
            Self::NoDeviceMigrates => 1,
            Self::NotPermitted => 3,
            Self::NotSupported => 4,
        }
    }
}
