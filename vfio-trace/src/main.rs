//! The `vfio-trace` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    vfio_trace::cli::main()
}
