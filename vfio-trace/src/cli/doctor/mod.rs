//! `vfio-trace doctor`: what can be traced on this host, what not, why, and what to do about it.

mod attempt;
mod devices;
mod host;
mod losses;
mod memory;
mod probes;
mod types;
mod variants;

use std::io;

use self::{attempt::ProbeAttempt, devices::MemoryFacts};
use super::{
    error::{CliError, FAILED, NOT_PERMITTED, NOT_SUPPORTED},
    kernel_args::KernelArgs,
    out_file,
    output::ColorMode,
    privileges::give_up,
};
use crate::{
    kernel::{KernelFacts, KernelFiles, VfioCore, VfioDevice},
    output::{Check, CheckBlocker, CheckVerdict, DOCTOR_SCHEMA, DoctorReport, doctor_json, doctor_text},
};

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
pub(super) struct DoctorArgs {
    /// One JSON document instead of text; docs/doctor.md describes it.
    #[arg(long)]
    json: bool,
    /// Colours.
    #[arg(long, value_enum, default_value = "auto")]
    color: ColorMode,
    #[command(flatten)]
    kernel: KernelArgs,
}

/// `vfio-trace doctor`.
pub(super) fn main(args: &DoctorArgs) -> Result<u8, CliError> {
    let files = args.kernel.files()?;
    let facts = KernelFacts::read_for(&files, &crate::driver::WANTED);
    let attempt = ProbeAttempt::make(&files, &facts);
    let (devices, inventory) = memory::look(&files, &facts, &attempt);
    give_up()?;
    let report = examine(&files, &facts, &attempt, devices, Some(inventory));
    let text = if args.json {
        doctor_json(&report)
            .map_err(|why| CliError::failed("cannot write the report as JSON", why, "report this as a bug"))?
    } else {
        doctor_text(&report, args.color.on(&io::stdout()))
    };
    out_file::print(&text, &[])?;
    Ok(report.exit_code)
}

/// Puts all findings together.
fn examine(
    files: &KernelFiles,
    facts: &KernelFacts,
    attempt: &ProbeAttempt,
    devices: Vec<(VfioDevice, MemoryFacts)>,
    inventory: Option<Check>,
) -> DoctorReport {
    let mut findings = host::privileges(files, facts, attempt);
    findings.extend(host::kernel(files, facts, attempt));
    findings.extend(types::types(files, facts));
    findings.extend(types::drivers(facts));
    findings.extend(probes::probes(files, facts, attempt));
    findings.extend(inventory.filter(|_| facts.vfio != VfioCore::NotLoaded));
    let (devices, hopeless) = devices::devices(files, facts, devices);
    findings.extend(devices);
    let verdict = verdict(&findings, hopeless);
    DoctorReport {
        schema: DOCTOR_SCHEMA,
        version: env!("CARGO_PKG_VERSION"),
        kernel: facts.release.clone(),
        machine: rustix::system::uname().machine().to_string_lossy().into_owned(),
        verdict,
        exit_code: match verdict {
            CheckVerdict::Ready => 0,
            CheckVerdict::NoDeviceMigrates => FAILED,
            CheckVerdict::NotPermitted => NOT_PERMITTED,
            CheckVerdict::NotSupported => NOT_SUPPORTED,
        },
        findings,
    }
}

/// What nobody can do here comes first: more privileges would not help.
fn verdict(findings: &[Check], hopeless: bool) -> CheckVerdict {
    let blocked = |by: CheckBlocker| findings.iter().any(|finding| finding.blocks == Some(by));
    if blocked(CheckBlocker::Support) {
        CheckVerdict::NotSupported
    } else if blocked(CheckBlocker::Permission) {
        CheckVerdict::NotPermitted
    } else if hopeless {
        CheckVerdict::NoDeviceMigrates
    } else {
        CheckVerdict::Ready
    }
}

#[cfg(test)]
mod tests;
