//! `doctor`: checks what can be traced on this host and what cannot, with reasons and advice.
//!
//! [`DoctorFacts`] are gathered once; each check is a pure function of them, and [`CHECKS`] lists them all.

mod attempt;
mod check;
mod devices;
mod drivers;
mod facts;
mod inventory;
mod kernel;
mod losses;
mod privileges;
mod probes;
mod types;
mod variants;

#[cfg(test)]
mod tests;

use vfio_trace_common::role::Role;

pub use self::{
    attempt::{AttemptResult, ProbeAttempt},
    check::{
        Check, CheckBlocker, CheckSection, CheckStatus, CheckVerdict, DOCTOR_SCHEMA, DoctorReport,
        doctor_schema,
    },
    facts::{DeviceFindings, DoctorFacts, MemoryFacts},
    inventory::InventoryAttempt,
};

/// Checks that one function makes, as the report has them.
struct CheckGroup {
    /// Section of the report that the checks belong to.
    section: CheckSection,
    /// Ids that the checks may have; those of probes are in the table of roles.
    ids: &'static [&'static str],
    /// Function that makes the checks; the facts decide which ones there are.
    make: fn(&DoctorFacts) -> Vec<Check>,
}

/// All checks, in the order of the report. docs/doctor.md explains each id.
const CHECKS: [CheckGroup; 14] = [
    group(CheckSection::Privileges, &["user-namespace"], privileges::user_namespace),
    group(CheckSection::Privileges, &["cap-bpf", "cap-perfmon"], privileges::needed),
    group(CheckSection::Privileges, &["cap-sys-admin"], privileges::admin),
    group(CheckSection::Privileges, &["cap-syslog"], privileges::syslog),
    group(CheckSection::Kernel, &["lockdown"], kernel::lockdown),
    group(CheckSection::Kernel, &["bpf"], kernel::bpf),
    group(CheckSection::Kernel, &["kprobes"], kernel::kprobes),
    group(CheckSection::Kernel, &["kallsyms", "kernel-addresses"], kernel::symbols),
    group(CheckSection::Kernel, &["kernel-defect"], kernel::defects),
    group(
        CheckSection::Types,
        &["btf-vmlinux", "btf-vfio", "btf-module", "layout", "layout-field"],
        types::types,
    ),
    group(CheckSection::Drivers, &["migration-driver", "driver-state", "driver-image"], drivers::drivers),
    group(CheckSection::Probes, &["vfio-core"], probes::probes),
    group(CheckSection::Probes, &[], inventory::inventory),
    group(
        CheckSection::Devices,
        &["device-migration", "device-p2p", "device-dirty-tracking", "device"],
        devices::devices,
    ),
];

impl CheckGroup {
    /// Returns true if the table says that such a check may be made here.
    fn lists(&self, check: &Check) -> bool {
        let is_probe = || Role::ALL.into_iter().any(|role| role.check_id() == check.id);
        check.section == self.section
            && (self.ids.contains(&check.id) || (self.section == CheckSection::Probes && is_probe()))
    }
}

const fn group(
    section: CheckSection,
    ids: &'static [&'static str],
    make: fn(&DoctorFacts) -> Vec<Check>,
) -> CheckGroup {
    CheckGroup { section, ids, make }
}

/// Makes all checks, and the verdict.
pub fn examine(facts: &DoctorFacts) -> DoctorReport {
    let mut findings = Vec::new();
    for group in &CHECKS {
        let checks = (group.make)(facts);
        debug_assert!(
            checks.iter().all(|check| group.lists(check)),
            "the table does not list all of {checks:?}"
        );
        findings.extend(checks);
    }
    let verdict = verdict(&findings);
    DoctorReport {
        schema: DOCTOR_SCHEMA,
        version: env!("CARGO_PKG_VERSION"),
        kernel: facts.kernel.release.clone(),
        machine: facts.machine.clone(),
        verdict,
        exit_code: verdict.exit_code(),
        findings,
    }
}

/// Returns the verdict. A lack of support comes before a lack of privileges: more privileges would not help.
fn verdict(checks: &[Check]) -> CheckVerdict {
    let blocked = |by: CheckBlocker| checks.iter().any(|check| check.blocks == Some(by));
    let mut devices = checks.iter().filter(|check| check.id == devices::MIGRATION).peekable();
    if blocked(CheckBlocker::Support) {
        CheckVerdict::NotSupported
    } else if blocked(CheckBlocker::Permission) {
        CheckVerdict::NotPermitted
    } else if devices.peek().is_some() && devices.all(|check| check.status == CheckStatus::Missing) {
        // Some devices were found, and of each it is certain that it cannot migrate.
        CheckVerdict::NoDeviceMigrates
    } else {
        CheckVerdict::Ready
    }
}
