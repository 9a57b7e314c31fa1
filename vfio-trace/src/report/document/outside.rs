//! What happened to devices outside of their migrations, and whether all went well.

use schemars::JsonSchema;
use serde::Serialize;

use super::{DeviceFailure, MigrationDocument, MigrationVerdict, ReportFinding};
use crate::event::FindingSeverity;

/// What failed and what was found on a device, and belongs to no migration: a device that cannot be stopped, say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct OutsideIssues {
    /// Place in `devices`.
    pub device: u32,
    /// What failed, in order.
    pub failures: Vec<DeviceFailure>,
    /// What the driver's plug-in makes of it.
    pub findings: Vec<ReportFinding>,
}

impl OutsideIssues {
    /// Whether something failed, and not only caught an eye.
    pub fn failed(&self) -> bool {
        !self.failures.is_empty()
            || self.findings.iter().any(|finding| finding.severity == FindingSeverity::Error)
    }
}

impl MigrationDocument {
    /// Whether a migration failed, or something outside of all, or among what there was no room for.
    pub fn failed(&self) -> bool {
        self.migrations.iter().any(|migration| migration.verdict == MigrationVerdict::Failed)
            || self.outside.iter().any(OutsideIssues::failed)
            || self.hosts.iter().any(|host| host.left_out.failed + host.left_out.errors > 0)
    }
}
