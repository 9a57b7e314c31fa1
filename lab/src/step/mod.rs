//! lab-step: drives VFIO devices through their migration states, one ioctl, read or write at a time.

mod bench;
mod cli;
mod matrix;
mod parse;
mod record;
mod run;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;

use crate::report::complain;

/// The program. Exit code: 0 all steps as expected, 1 one was not, 2 wrong usage.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = match cli::Args::try_parse_from(arguments) {
        Ok(args) => args,
        Err(error) => {
            // Nobody may be reading, and then nobody misses it.
            drop(error.print());
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        },
    };
    match run::run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain("lab-step", &error);
            ExitCode::FAILURE
        },
    }
}
