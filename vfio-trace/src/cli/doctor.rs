//! `vfio-trace doctor`: what can be traced on this host, what not, why, and what to do about it.

use std::io;

use super::{error::CliError, kernel_args::KernelArgs, out_file, output::ColorMode, privileges::give_up};
use crate::{
    doctor::{DoctorFacts, examine},
    output::{doctor_json, doctor_text},
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

/// Runs `vfio-trace doctor`.
pub(super) fn main(args: &DoctorArgs) -> Result<u8, CliError> {
    let facts = DoctorFacts::gather(&args.kernel.files()?, give_up)?;
    let report = examine(&facts);
    let text = if args.json {
        doctor_json(&report).map_err(|why| CliError::bug("cannot write the report as JSON", why))?
    } else {
        doctor_text(&report, args.color.on(&io::stdout()))
    };
    out_file::print(&text, &[])?;
    Ok(report.exit_code)
}

#[cfg(test)]
mod tests {
    use super::super::error::{FAILED, NOT_PERMITTED, NOT_SUPPORTED};
    use crate::doctor::CheckVerdict;

    #[test]
    fn the_verdict_speaks_in_the_exit_codes_of_all_verbs() {
        let codes = CheckVerdict::ALL.map(CheckVerdict::exit_code);
        assert_eq!(codes, [0, FAILED, NOT_PERMITTED, NOT_SUPPORTED]);
    }
}
