//! Failures and findings of devices outside of their migrations, and the overall result.

use schemars::JsonSchema;
use serde::Serialize;

use super::{DeviceFailure, MigrationDocument, MigrationVerdict, ReportFinding};
use crate::event::FindingSeverity;

/// Failures and findings of a device that belong to no migration: of a device that cannot be stopped, for instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct OutsideIssues {
    /// Place of the device in `devices`.
    pub device: u32,
    /// Failures in order.
    pub failures: Vec<DeviceFailure>,
    /// Findings of the driver's plug-in.
    pub findings: Vec<ReportFinding>,
}

impl OutsideIssues {
    /// Returns true if something failed: a warning or a note is no failure.
    pub fn failed(&self) -> bool {
        !self.failures.is_empty()
            || self.findings.iter().any(|finding| finding.severity == FindingSeverity::Error)
    }
}

impl MigrationDocument {
    /// Returns true if a migration failed, or something outside of all migrations, or among the events that were left
    /// out.
    pub fn failed(&self) -> bool {
        self.migrations.iter().any(|migration| migration.verdict == MigrationVerdict::Failed)
            || self.outside.iter().any(OutsideIssues::failed)
            || self.hosts.iter().any(|host| host.left_out.failed + host.left_out.errors > 0)
    }
}
