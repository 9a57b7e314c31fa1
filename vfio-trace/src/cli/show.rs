//! `vfio-trace show DEV FILE`: a view of a device, as the kernel's debugfs would print it.

use std::io::{self, Write as _};

use super::{
    devices::Devices,
    error::{CliError, NOT_SUPPORTED, USAGE},
    kernel_args::KernelArgs,
};
use crate::{
    driver::Style,
    kernel::VfioDevice,
    view::{self, Look, Unknown},
};

/// Arguments of `show`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The device: its name in /sys, the beginning of it, or vfioN.
    device: String,
    /// What to show, named as below migration/ in debugfs: state (there since 6.8), features (6.18), or a file of the
    /// device's driver. A wrong name lists what the device has.
    #[arg(default_value = "state")]
    file: String,
    /// Which text, for drivers' files that have changed: v9 as in version 9 of the debugfs series (2023), mainline as
    /// merged. Without it, the one that belongs to the file's name.
    #[arg(long, value_enum)]
    style: Option<TextStyle>,
    /// Say where a driver's data is from, on lines that begin with #.
    #[arg(long)]
    annotate: bool,
    #[command(flatten)]
    kernel: KernelArgs,
}

/// `--style`.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum TextStyle {
    /// Version 9 of the debugfs series, March 2023.
    V9,
    /// Linux 6.13 and later.
    Mainline,
}

/// `vfio-trace show`.
pub(super) fn main(args: &Args) -> Result<u8, CliError> {
    let devices = Devices::read(&args.kernel.files()?);
    let (device, memory) = devices.find(&args.device)?;
    let report = memory.as_ref().and_then(|memory| devices.model.device_report(&memory.name));
    let Some(report) = report else {
        return Err(match devices.blind {
            Some(error) => error.into(),
            None => {
                unknown(device, "the kernel's memory has no such device", "look again: it may just have gone")
            },
        });
    };
    if report.migration == Some(false) {
        let todo = "see `vfio-trace list`; QEMU cannot migrate this device with its present driver";
        return Err(unknown(device, "its driver has no migration (no mig_ops)", todo));
    }
    let Some(file) = view::files(&report).find(|file| file.path == args.file) else {
        let paths: Vec<&str> = view::files(&report).map(|file| file.path).collect();
        return Err(CliError::with_code(
            USAGE,
            format!("{} has no file {}", device.name, args.file),
            "neither VFIO's core nor its driver has one of this name",
            format!("give one of {}", paths.join(", ")),
        ));
    };
    let look = Look {
        device: &report,
        drivers: &devices.drivers,
        style: match args.style {
            None => Style::ByName,
            Some(TextStyle::V9) => Style::V9,
            Some(TextStyle::Mainline) => Style::Mainline,
        },
        annotate: args.annotate,
    };
    let text = file.text(&look).map_err(|why| explain(&devices, device, &why))?;
    // A reader that went away is a normal end.
    let _gone = io::stdout().write_all(text.as_bytes()).is_err();
    Ok(0)
}

fn unknown(device: &VfioDevice, why: impl ToString, todo: &str) -> CliError {
    CliError::with_code(NOT_SUPPORTED, format!("{}: cannot tell", device.name), why, todo)
}

/// Why a file has no content, and what to do about it.
fn explain(devices: &Devices, device: &VfioDevice, why: &Unknown) -> CliError {
    if let Unknown::Driver(_) = why {
        return unknown(device, why, "`vfio-trace mount` and `vfio-trace tail` see it while they run");
    }
    if *why != Unknown::State {
        return unknown(device, why, "see `vfio-trace doctor`");
    }
    let module = device.module.as_deref().or(device.driver.as_deref()).unwrap_or("?");
    let why = match devices.facts.private.get(module) {
        Some(Err(why)) => why.to_string(),
        Some(Ok(_)) => "the address of the driver's set_state is hidden (CAP_SYSLOG)".to_owned(),
        None => format!("the BTF of its driver's module ({module}) is not there"),
    };
    unknown(device, why, "`vfio-trace tail` shows the state from the next arc on")
}
