//! `cargo xtask lab`: stock kernels in QEMU, with the release binaries and the host's programs inside.

pub(crate) mod guest;
mod initramfs;
mod tsc;
pub(crate) mod vm;

use std::{
    ffi::OsString,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use clap::Subcommand;

use crate::{build, progress::say, setup, setup::kernel};

/// Action on a VM.
#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Boot, run a command as root, print its output, exit with its code (124: timed out, 125: the VM failed).
    Run(RunArgs),
    /// Boot and give a prompt; the VM ends with the shell.
    Shell(ShellArgs),
}

/// Options that `run` and `shell` have in common.
#[derive(clap::Args)]
pub(crate) struct VmArgs {
    /// Kernel series to boot.
    #[arg(long, value_name = "SERIES", default_value = kernel::DEFAULT)]
    kernel: String,
    /// Use vfio.ko rebuilt with CONFIG_VFIO_DEBUGFS: device states in /sys/kernel/debug/vfio (not on 6.1).
    #[arg(long)]
    debugfs: bool,
    /// Load a migration driver of real devices and bind it to simulated ones before the command runs (6.12, 7.3).
    #[arg(long)]
    driver: Option<kernel::Driver>,
    /// Memory of the VM in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 2048)]
    memory: u32,
    /// Take the release binaries as they are instead of building them first.
    #[arg(long)]
    no_build: bool,
}

impl VmArgs {
    const fn extras(&self) -> guest::Extras {
        guest::Extras { debugfs: self.debugfs, driver: self.driver }
    }
}

/// Arguments of `lab run`.
#[derive(clap::Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    vm: VmArgs,
    /// Seconds after which the VM is ended.
    #[arg(long, value_name = "S", default_value_t = 300)]
    timeout: u64,
    /// Host folder that is writable in the VM as $LAB_RESULTS.
    #[arg(long, value_name = "DIR")]
    results: Option<PathBuf>,
    /// The command, as typed after `--`.
    #[arg(trailing_var_arg = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Arguments of `lab shell`.
#[derive(clap::Args)]
pub(crate) struct ShellArgs {
    #[command(flatten)]
    vm: VmArgs,
}

/// Sets up and builds everything that a VM of this series needs.
pub(crate) fn ready(series: &str, build: bool) -> Result<kernel::Kernel> {
    setup::all(&[series.to_owned()], false)?;
    if build {
        build::binaries()?;
    }
    kernel::prepared(kernel::find(series)?)?.context("the kernel vanished from the cache after set-up")
}

/// Runs `cargo xtask lab`.
pub(crate) fn main(verb: Verb) -> Result<ExitCode> {
    match verb {
        Verb::Run(args) => run(args),
        Verb::Shell(ShellArgs { vm }) => {
            let kernel = ready(&vm.kernel, !vm.no_build)?;
            vm::shell(&kernel, vm.extras(), vm.memory)
        },
    }
}

fn run(args: RunArgs) -> Result<ExitCode> {
    let RunArgs { vm, timeout, results, command } = args;
    let kernel = ready(&vm.kernel, !vm.no_build)?;
    let start = Instant::now();
    let request = vm::Request {
        extras: vm.extras(),
        memory: vm.memory,
        timeout: Duration::from_secs(timeout),
        results,
        ..vm::Request::new(&kernel, command)
    };
    let run = vm::run(&request, std::io::stdout(), std::io::stderr())?;
    let boot = run.ready_after.map_or_else(|| "-".to_owned(), |boot| format!("{:.1} s", boot.as_secs_f64()));
    say(&format!(
        "lab: {} (boot to command {boot}, all {:.1} s)",
        run.outcome,
        start.elapsed().as_secs_f64()
    ));
    for line in &run.warnings {
        say(&format!("lab: guest kernel: {line}"));
    }
    Ok(ExitCode::from(run.outcome.exit_code()))
}
