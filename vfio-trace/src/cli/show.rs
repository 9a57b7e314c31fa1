//! `vfio-trace show DEV FILE`: a view of a device, as the kernel's debugfs would print it.

use std::path::PathBuf;

use super::{
    devices::{HostDevices, one},
    error::{CliError, NOT_SUPPORTED, USAGE},
    kernel_args::KernelArgs,
    out_file,
    past::{FromArgs, PastState},
    privileges::give_up,
};
use crate::{
    driver::{PluginDispatcher, ViewStyle},
    kernel::{VfioDevice, is_named},
    state::{self, ContentError, DeviceReport, DeviceStatus, ViewContext},
    units::visible::{clean, clean_lines},
};

/// Arguments of `show`.
#[derive(Debug, clap::Args)]
pub(super) struct ShowArgs {
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
    from: FromArgs,
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

/// Runs `vfio-trace show`.
pub(super) fn main(args: &ShowArgs) -> Result<u8, CliError> {
    if args.from.is_given() {
        return past(args);
    }
    let devices = HostDevices::read(&args.kernel.files()?);
    give_up()?;
    devices.say_losses();
    let (device, memory) = devices.find(&args.device)?;
    let report = memory.as_ref().and_then(|memory| devices.model.device_report(&memory.name));
    let Some(mut report) = report else {
        return Err(match devices.snapshot_error {
            Some(error) => error.into(),
            None => unknown(
                &device.name,
                "the kernel's memory has no such device",
                "look again: it may just have gone",
            ),
        });
    };
    // The driver's state in memory, as the kernel's own file has it: also the ERROR of a device that was never opened.
    report.state = report.state.or_else(|| memory.as_ref().and_then(|memory| memory.state));
    let text = text(args, &device.name, &report, &devices.drivers, |why| explain(&devices, device, &why))?;
    print(&text, &[])?;
    Ok(0)
}

/// Shows a view of a device at a moment of a recording.
fn past(args: &ShowArgs) -> Result<u8, CliError> {
    let past = args.from.read(1)?;
    print(&past_text(args, &past)?, args.from.files())?;
    past.code()
}

fn past_text(args: &ShowArgs, past: &PastState) -> Result<String, CliError> {
    let (name, known) = find(past, &args.device)?;
    text(args, &name, &known.report, past.host.drivers(), |why| explain_past(past, &name, &known, &why))
}

fn print(text: &str, inputs: &[PathBuf]) -> Result<(), CliError> {
    out_file::print(&clean_lines(text), inputs).map(drop)
}

fn text(
    args: &ShowArgs,
    name: &str,
    report: &DeviceReport,
    drivers: &PluginDispatcher,
    explain: impl FnOnce(ContentError) -> CliError,
) -> Result<String, CliError> {
    if report.migration == Some(false) {
        let todo = "see `vfio-trace list`; QEMU cannot migrate this device with its present driver";
        return Err(unknown(name, "its driver has no migration (no mig_ops)", todo));
    }
    let Some(file) = state::files(report).find(|file| file.path == args.file) else {
        let paths: Vec<&str> = state::files(report).map(|file| file.path).collect();
        return Err(CliError::with_code(
            USAGE,
            format!("{name} has no file {}", args.file),
            "neither VFIO's core nor its driver has one of this name",
            format!("give one of {}", paths.join(", ")),
        ));
    };
    let look = ViewContext {
        device: report,
        drivers,
        style: match args.style {
            None => ViewStyle::ByName,
            Some(TextStyle::V9) => ViewStyle::V9,
            Some(TextStyle::Mainline) => ViewStyle::Mainline,
        },
        annotate: args.annotate,
    };
    file.text(&look).map_err(explain)
}

fn unknown(name: &str, why: impl ToString, todo: &str) -> CliError {
    CliError::with_code(NOT_SUPPORTED, format!("{name}: cannot tell"), why, todo)
}

/// Returns the one device of a recording that `text` means.
fn find(past: &PastState, text: &str) -> Result<(String, DeviceStatus), CliError> {
    let named = |text: &str,
                 devices: &[(&str, DeviceStatus)]|
     -> Result<Option<(String, DeviceStatus)>, CliError> {
        let found =
            one(devices, text, |(name, _)| is_named(name, text) || clean(name) == text, |(name, _)| name)?;
        Ok(found.map(|(name, known)| ((*name).to_owned(), known.clone())))
    };
    let present: Vec<(&str, DeviceStatus)> = past.present().collect();
    if let Some(found) = named(text, &present)? {
        return Ok(found);
    }
    let gone: Vec<(&str, DeviceStatus)> = past.gone().collect();
    if let Some((name, known)) = named(text, &gone)? {
        let when = past.time(known.changed_ns);
        return Err(CliError::failed(
            format!("{name} was not there at {}", past.facts.at),
            format!("it was taken from vfio at {when}"),
            "give an earlier moment with --at",
        ));
    }
    let why = match text.strip_prefix("vfio") {
        Some(number) if number.parse::<u32>().is_ok() => {
            "a recording knows devices by their names in /sys, not by their numbers"
        },
        _ => past.unknown().unwrap_or_else(|| if past.has_others() {
            "no device that was recorded on this host until then has this name; other hosts are left out: --host chooses one"
        } else {
            "no device that was recorded until then has this name"
        }),
    };
    let gone: Vec<String> = gone.iter().map(|(name, _)| format!("{name} (gone by then)")).collect();
    let names = present.iter().map(|(name, _)| *name);
    let all: Vec<&str> = names.chain(gone.iter().map(String::as_str)).collect();
    let todo = if all.is_empty() {
        "`vfio-trace replay` shows what was recorded".to_owned()
    } else {
        format!("give one of {}", all.join(", "))
    };
    Err(CliError::failed(format!("the recording has no device {text}"), why, todo))
}

/// Returns the reason why a file of a recording has no content, as an error with what to do about it.
fn explain_past(past: &PastState, name: &str, known: &DeviceStatus, why: &ContentError) -> CliError {
    let when = past.time(known.changed_ns);
    match why {
        ContentError::State if known.open_count == Some(0) => unknown(
            name,
            format!(
                "nobody had it open (as of {when}): meanwhile its driver may have changed its state, and nothing tells"
            ),
            "give an earlier moment with --at",
        ),
        ContentError::State => unknown(
            name,
            "what was recorded until then leaves its state open",
            "`vfio-trace replay` shows what happened; --at shows other moments",
        ),
        ContentError::Features => {
            unknown(name, why, "see `vfio-trace doctor` on the host that it was made on")
        },
        ContentError::Driver(_) => unknown(
            name,
            why,
            "give another moment with --at; what came before the recording began is not in it",
        ),
    }
}

/// Returns the reason why a file has no content, as an error with what to do about it.
fn explain(devices: &HostDevices, device: &VfioDevice, why: &ContentError) -> CliError {
    if let ContentError::Driver(_) = why {
        return unknown(&device.name, why, "`vfio-trace mount` and `vfio-trace tail` see it while they run");
    }
    if *why != ContentError::State {
        return unknown(&device.name, why, "see `vfio-trace doctor`");
    }
    let module = device.module.as_deref().or(device.driver.as_deref()).unwrap_or("?");
    let why = match devices.facts.private_named(module) {
        Some(Err(why)) => why.to_string(),
        Some(Ok(_)) if devices.facts.addresses_hidden.is_some() => {
            "the address of the driver's set_state is hidden (CAP_SYSLOG)".to_owned()
        },
        Some(Ok(_)) => "it could not be read in the driver's memory".to_owned(),
        None => format!("the BTF of its driver's module ({module}) is not there"),
    };
    unknown(&device.name, why, "`vfio-trace tail` shows the state from the next arc on")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::past::tests::kept;

    fn shown(device: &str, file: &str, at: Option<&str>) -> Result<String, String> {
        let args = ShowArgs {
            device: device.to_owned(),
            file: file.to_owned(),
            style: None,
            annotate: false,
            from: FromArgs::default(),
            kernel: KernelArgs::default(),
        };
        past_text(&args, &kept(at).unwrap()).map_err(|error| format!("{error:?}"))
    }

    #[test]
    fn a_recording_gives_the_texts_of_debugfs() {
        assert_eq!(shown("1", "state", Some("6.9s")).unwrap(), "PRE_COPY\n");
        assert_eq!(
            shown("22222222-2222-2222-2222-222222222222", "state", Some("6.9s")).unwrap(),
            "RESUMING\n"
        );
        let features = shown("11", "features", Some("6.9s")).unwrap();
        assert_eq!(features, "stop-copy\np2p\npre-copy\ndirty-tracking\n");
    }

    #[test]
    fn what_a_recording_does_not_tell_is_said() {
        let error = |device: &str, file: &str, at| shown(device, file, at).unwrap_err();
        let all = error("0000:75:00.1", "state", Some("6.9s"));
        assert!(all.contains("11111111-") && all.contains("22222222-") && all.contains("code: 1"), "{all}");
        assert!(error("vfio0", "state", Some("6.9s")).contains("not by their numbers"));
        assert!(error("1", "hisi_acc/attr", Some("6.9s")).contains("give one of state, features"));
        let gone = error("1", "state", None);
        assert!(gone.contains("taken from vfio at 2026-11-22T20:44:40.968240076Z"), "{gone}");
        let closed = error("1", "state", Some("2026-11-22T20:44:40.8Z"));
        assert!(closed.contains("nobody had it open") && closed.contains("code: 4"), "{closed}");
    }
}
