//! Drives VFIO devices through their migration states, step by step.

use std::process::ExitCode;

fn main() -> ExitCode {
    lab::step::main(std::env::args_os())
}
