//! Migrates simulated accelerators under the kernel's hisi_acc_vfio_pci, with all that can go wrong.

use std::process::ExitCode;

fn main() -> ExitCode {
    lab::hisi::main(std::env::args_os())
}
