//! A check and the report of all of them: what they are, not how they look.

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

/// Makes the schema of the document, as kept in `docs/schema`.
pub fn doctor_schema() -> Value {
    schema_of::<DoctorReport>(&HEAD)
}

/// What a check is about, in the order of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckSection {
    /// What this process may do.
    Privileges,
    /// What the kernel lets anybody do.
    Kernel,
    /// Type information and struct members.
    Types,
    /// Migration drivers.
    Drivers,
    /// Each function to be probed.
    Probes,
    /// Each VFIO device.
    Devices,
}

/// How something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckStatus {
    /// As it should be.
    Ok,
    /// Something is lost without it.
    Degraded,
    /// It is not there.
    Missing,
    /// It cannot be told from here.
    Unknown,
}

/// Why `tail` cannot run at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckBlocker {
    /// This process may not.
    Permission,
    /// Nobody can, here.
    Support,
}

/// The whole in one word, and the exit code that goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckVerdict {
    /// Everything that `tail` needs works.
    Ready,
    /// Tracing works, but none of the devices can migrate.
    NoDeviceMigrates,
    /// A capability is missing.
    NotPermitted,
    /// The kernel cannot do it.
    NotSupported,
}

/// One thing that was looked at: a finding of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Check {
    /// The kind of thing, for programs; does not change between versions.
    #[schemars(regex(pattern = "^[a-z0-9]+(-[a-z0-9]+)*$"))]
    pub id: &'static str,
    /// Where it belongs.
    pub section: CheckSection,
    /// The one of its kind: a capability, a module, a function, a device.
    pub subject: String,
    /// How it stands.
    pub status: CheckStatus,
    /// A text for people, which may change: what was found.
    pub what: String,
    /// A text: what is lost, if something is.
    pub costs: Option<String>,
    /// A text: what can be done about it.
    #[serde(rename = "do")]
    pub todo: Option<String>,
    /// Set if `tail` cannot run because of it.
    pub blocks: Option<CheckBlocker>,
}

impl Check {
    /// Makes one of something that is as it should be.
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

    /// Gives it another status.
    #[must_use]
    pub fn with_status(self, status: CheckStatus) -> Self {
        Self { status, ..self }
    }

    /// Says what is lost.
    #[must_use]
    pub fn costs(self, costs: impl Into<String>) -> Self {
        Self { costs: Some(costs.into()), ..self }
    }

    /// Says what can be done.
    #[must_use]
    pub fn todo(self, todo: impl Into<String>) -> Self {
        Self { todo: Some(todo.into()), ..self }
    }

    /// Says that `tail` cannot run.
    #[must_use]
    pub fn blocks(self, blocks: CheckBlocker) -> Self {
        Self { blocks: Some(blocks), ..self }
    }
}

/// All that `doctor` found, as it is printed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DoctorReport {
    /// The name and version of this schema.
    pub schema: &'static str,
    /// Version of vfio-trace.
    pub version: &'static str,
    /// Kernel release; null if it cannot be read.
    pub kernel: Option<String>,
    /// Machine, as `uname -m`.
    pub machine: String,
    /// The whole in one word.
    pub verdict: CheckVerdict,
    /// The exit code of `doctor`.
    #[schemars(extend("enum" = CheckVerdict::ALL.map(CheckVerdict::exit_code)))]
    pub exit_code: u8,
    /// All checks, by section.
    pub findings: Vec<Check>,
}

impl CheckVerdict {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ready, Self::NoDeviceMigrates, Self::NotPermitted, Self::NotSupported];

    /// Returns the exit code that says the same, as docs/doctor.md has them.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Ready => 0,
            Self::NoDeviceMigrates => 1,
            Self::NotPermitted => 3,
            Self::NotSupported => 4,
        }
    }
}
