//! lab-step: drives VFIO devices through their migration states, one ioctl, read or write at a time.

mod bench;
pub(crate) mod cli;
mod known_loop;
mod matrix;
mod parse;
pub(crate) mod record;
pub(crate) mod run;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser as _};

use crate::report::{complain, usage};

/// Runs lab-step. Exit code: 0 all steps as expected, 1 one was not, 2 wrong usage.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = match cli::Args::try_parse_from(arguments) {
        Ok(args) => args,
        Err(error) => return usage(&error),
    };
    if let Some(conflict) = args.conflict() {
        return usage(&cli::Args::command().error(ErrorKind::ArgumentConflict, conflict));
    }
    match run::run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain("lab-step", &error);
            ExitCode::FAILURE
        },
    }
}
