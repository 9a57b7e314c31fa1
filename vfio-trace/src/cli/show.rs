//! `vfio-trace show DEV FILE`: a view of a device, as the kernel's debugfs would print it.

use std::io::{self, Write as _};

use super::{
    devices::Devices,
    error::{CliError, NOT_SUPPORTED},
    kernel_args::KernelArgs,
};
use crate::{kernel::VfioDevice, source::snapshot::DeviceFacts, view};

/// A view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum File {
    /// The migration state: migration/state of debugfs (6.8 and later).
    State,
    /// What its migration can do: migration/features of debugfs (6.18 and later).
    Features,
}

/// Arguments of `show`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The device: its name in /sys, the beginning of it, or vfioN.
    device: String,
    /// What to show.
    #[arg(value_enum, default_value = "state")]
    file: File,
    #[command(flatten)]
    kernel: KernelArgs,
}

/// `vfio-trace show`.
pub(super) fn main(args: &Args) -> Result<u8, CliError> {
    let devices = Devices::read(&args.kernel.files()?);
    let (device, memory) = devices.find(&args.device)?;
    let Some(memory) = memory else {
        return Err(match devices.blind {
            Some(error) => error.into(),
            None => {
                unknown(device, "the kernel's memory has no such device", "look again: it may just have gone")
            },
        });
    };
    if memory.migration == Some(false) {
        let todo = "see `vfio-trace list`; QEMU cannot migrate this device with its present driver";
        return Err(unknown(device, "its driver has no migration (no mig_ops)", todo));
    }
    let text = match args.file {
        File::State => state(&devices, device, memory)?,
        File::Features => match (memory.flags, memory.dirty_tracking) {
            (Some(flags), Some(dirty_tracking)) => view::features(flags, dirty_tracking),
            _ => {
                return Err(unknown(
                    device,
                    "the kernel's BTF does not tell where its flags are",
                    "see `vfio-trace doctor`",
                ));
            },
        },
    };
    // A reader that went away is a normal end.
    let _gone = io::stdout().write_all(text.as_bytes()).is_err();
    Ok(0)
}

fn unknown(device: &VfioDevice, why: impl ToString, todo: &str) -> CliError {
    CliError::with_code(NOT_SUPPORTED, format!("{}: cannot tell", device.name), why, todo)
}

/// The state, or why it is not known. Nothing is guessed.
fn state(devices: &Devices, device: &VfioDevice, memory: &DeviceFacts) -> Result<String, CliError> {
    if let Some(state) = memory.state {
        return Ok(view::state(state));
    }
    let module = device.module.as_deref().or(device.driver.as_deref()).unwrap_or("?");
    let why = match devices.facts.private.get(module) {
        Some(Err(why)) => why.to_string(),
        Some(Ok(_)) => "the address of the driver's set_state is hidden (CAP_SYSLOG)".to_owned(),
        None => format!("the BTF of its driver's module ({module}) is not there"),
    };
    Err(unknown(device, why, "`vfio-trace tail` shows the state from the next arc on"))
}
