//! lab-migrate: real migrations between two nested QEMUs, with ground truth from user space.

mod cli;
mod flow;
mod half;
mod run;
mod summary;
mod vm;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use crate::report::{complain, usage};
use cli::Args;

/// Runs lab-migrate. Exit code: 0 as expected, 1 not as expected, 2 wrong usage.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = match Args::try_parse_from(arguments) {
        Ok(args) => args,
        Err(error) => return usage(&error),
    };
    if let Some(conflict) = args.conflict() {
        return usage(&Args::command().error(clap::error::ErrorKind::ArgumentConflict, conflict));
    }
    match run::run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain("lab-migrate", &error);
            ExitCode::FAILURE
        },
    }
}

/// Runs lab-half. Exit codes as of [`main`].
pub fn half(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = match half::Args::try_parse_from(arguments) {
        Ok(args) => args,
        Err(error) => return usage(&error),
    };
    match half::run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain("lab-half", &error);
            ExitCode::FAILURE
        },
    }
}
