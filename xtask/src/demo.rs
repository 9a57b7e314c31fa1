//! `cargo xtask demo`: one real QEMU migration in the lab, traced live.

use std::{
    io::IsTerminal as _,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::{
    lab::{self, vm},
    progress::say,
    setup::kernel,
};

/// Arguments of `demo`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Kernel series to boot.
    #[arg(long, value_name = "SERIES", default_value = kernel::DEFAULT)]
    kernel: String,
}

/// Runs `cargo xtask demo`.
pub(crate) fn main(args: &Args) -> Result<ExitCode> {
    let start = Instant::now();
    let kernel = lab::ready(&args.kernel, true)?;
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let color = if std::io::stdout().is_terminal() && !no_color { "always" } else { "never" };
    say(&format!(
        "demo: booting {} and migrating a VM with an mtty device under `vfio-trace tail`",
        kernel.release
    ));
    // The output of lab-migrate would only disturb here, but for its errors, which are on standard error.
    let script = format!(
        "modprobe mtty && exec vfio-trace tail --color {color} -- sh -c 'exec lab-migrate >/dev/null'"
    );
    let command = ["sh", "-c", &script].map(Into::into).to_vec();
    let request = vm::Request { timeout: Duration::from_mins(3), ..vm::Request::new(&kernel, command) };
    let run = vm::run(&request, std::io::stdout(), std::io::stderr())?;
    say(&format!("demo: {} after {:.0} s", run.outcome, start.elapsed().as_secs_f64()));
    Ok(ExitCode::from(run.outcome.exit_code()))
}
