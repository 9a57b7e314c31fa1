//! Migrates a VM with an mtty device between two nested QEMUs.

use std::process::ExitCode;

fn main() -> ExitCode {
    lab::migrate::main(std::env::args_os())
}
