//! lab-hisi: migrations and faults of the kernel's hisi_acc_vfio_pci on simulated accelerators.

mod run;
mod scenarios;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::report::{complain, usage};
use scenarios::SCENARIOS;

/// The accelerator that a VF is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Zip,
    Sec,
    Hpre,
}

/// Does to VFs of hisi_acc_vfio_pci what migrations do, and what can go wrong with them.
///
/// Run it in a lab that was booted with --driver hisi. Exits 0 if all came out as it has to on this kernel, 1 if not.
#[derive(Clone, Debug, Parser)]
#[command(name = "lab-hisi", version)]
struct Args {
    /// Show the scenarios and do nothing
    #[arg(long)]
    list: bool,
    /// Write one JSON object per step into this file, as lab-step does
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// What to do, in this order; everything if none is named
    #[arg(value_name = "SCENARIO")]
    scenarios: Vec<String>,
}

/// Runs lab-hisi. Exit code: 0 all as expected, 1 something was not, 2 wrong usage.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = match Args::try_parse_from(arguments) {
        Ok(args) => args,
        Err(error) => return usage(&error),
    };
    let done = if args.list {
        for scenario in SCENARIOS {
            print(&format!("{:<16} {}\n", scenario.name, scenario.what));
        }
        Ok(())
    } else {
        run::run(&args)
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain("lab-hisi", &error);
            ExitCode::FAILURE
        },
    }
}

/// Prints to standard output. An error means that its reader has gone, and does not matter.
fn print(text: &str) {
    use std::io::Write as _;
    drop(std::io::stdout().lock().write_all(text.as_bytes()));
}
