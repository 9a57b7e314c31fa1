//! One end of a migration whose other end is in another lab VM.

use std::process::ExitCode;

fn main() -> ExitCode {
    lab::migrate::half(std::env::args_os())
}
