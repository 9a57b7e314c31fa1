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

use self::{attempt::Attempt, devices::Memory};
use super::{
    error::{CliError, FAILED, NOT_PERMITTED, NOT_SUPPORTED},
    kernel_args::KernelArgs,
    out_file,
    output::Color,
    privileges::give_up,
};
use crate::{
    kernel::{KernelFacts, KernelFiles, VfioCore, VfioDevice},
    output::{Blocks, DOCTOR_SCHEMA, DoctorReport, Finding, Verdict, doctor_json, doctor_text},
};

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// One JSON document instead of text; docs/doctor.md describes it.
    #[arg(long)]
    json: bool,
    /// Colours.
    #[arg(long, value_enum, default_value = "auto")]
    color: Color,
    #[command(flatten)]
    kernel: KernelArgs,
}

/// `vfio-trace doctor`.
pub(super) fn main(args: &Args) -> Result<u8, CliError> {
    let files = args.kernel.files()?;
    let facts = KernelFacts::read_for(&files, &crate::driver::WANTED);
    let attempt = Attempt::make(&files, &facts);
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
    attempt: &Attempt,
    devices: Vec<(VfioDevice, Memory)>,
    inventory: Option<Finding>,
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
            Verdict::Ready => 0,
            Verdict::NoDeviceMigrates => FAILED,
            Verdict::NotPermitted => NOT_PERMITTED,
            Verdict::NotSupported => NOT_SUPPORTED,
        },
        findings,
    }
}

/// What nobody can do here comes first: more privileges would not help.
fn verdict(findings: &[Finding], hopeless: bool) -> Verdict {
    let blocked = |by: Blocks| findings.iter().any(|finding| finding.blocks == Some(by));
    if blocked(Blocks::Support) {
        Verdict::NotSupported
    } else if blocked(Blocks::Permission) {
        Verdict::NotPermitted
    } else if hopeless {
        Verdict::NoDeviceMigrates
    } else {
        Verdict::Ready
    }
}

#[cfg(test)]
mod tests;
