//! `vfio-trace exercise DEV`: drives an idle device through its migration states, and says what it and its driver did.

mod idle;
mod inputs;
mod outputs;
mod show;
mod tracer;

use std::{
    io::{self, IsTerminal as _},
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool, mpsc},
    thread,
};

use self::{inputs::ImageInput, outputs::ExerciseOutputs, show::ExerciseDisplay, tracer::LiveTracer};
use super::{
    devices::HostDevices,
    error::{CliError, FAILED, IN_USE, NOT_PERMITTED, NOT_SUPPORTED, USAGE},
    kernel_args::KernelArgs,
    output::{ColorMode, note},
    privileges,
    session::block_on,
    signals::{HangupRule, SignalLimit, StopSignals as Signals, end_heeding},
};
use crate::{
    driver::driver_quirks,
    event::{MigFlags, MigState},
    exercise::{
        self, BeginError, ExerciseCandidate, ExercisePlan, ExerciseReport, ExerciseTask, ExerciseTracer,
        ExerciseVerdict,
    },
    kernel::{KernelFiles, KernelVersion, VfioDevice, caps::LinuxCap},
    output::exercise::{junit, tap, text::ExerciseText},
    source::snapshot::DeviceFacts,
};

/// A plan as it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum PlanChoice {
    /// Stop, save, read the image (into --out).
    Save,
    /// Save, load the image back (or that of --in), run.
    Resume,
    /// Does the command channel answer? Reads only, as far as the driver is known.
    IoTest,
    /// Save, beginning with PRE_COPY.
    Precopy,
    /// A whole migration, to the device of --to.
    Full,
    /// Every state from every state, those included that must be refused.
    Matrix,
    /// Save and resume, --count times.
    Stress,
    /// Damaged images, each of which must be refused.
    Faults,
    /// All of them; full only with --to, and without what is dangerous for the driver unless --force is given.
    All,
}

impl PlanChoice {
    fn plans(self, to: bool) -> Vec<ExercisePlan> {
        vec![match self {
            Self::Save => ExercisePlan::Save,
            Self::Resume => ExercisePlan::Resume,
            Self::IoTest => ExercisePlan::IoTest,
            Self::Precopy => ExercisePlan::Precopy,
            Self::Full => ExercisePlan::Full,
            Self::Matrix => ExercisePlan::Matrix,
            Self::Stress => ExercisePlan::Stress,
            Self::Faults => ExercisePlan::Faults,
            Self::All => {
                return ExercisePlan::ALL
                    .into_iter()
                    .filter(|plan| to || *plan != ExercisePlan::Full)
                    .collect();
            },
        }]
    }
}

/// Arguments of `exercise`.
#[derive(Debug, clap::Args)]
pub(super) struct ExerciseArgs {
    /// The device: its name in /sys (mdev UUID or PCI address) or, without --yes, the beginning of it. Nobody may have
    /// it open, nor any other device of its IOMMU group.
    device: String,
    /// What to do, in this order. Repeatable.
    #[arg(
        long = "plan",
        value_enum,
        value_name = "PLAN",
        value_delimiter = ',',
        default_value = "save,resume"
    )]
    plans: Vec<PlanChoice>,
    /// The destination of `full`; its own state is lost.
    #[arg(long, value_name = "DEVICE")]
    to: Option<String>,
    /// Load this image instead of the device's own. May be a pipe.
    #[arg(long = "in", value_name = "FILE")]
    image: Option<PathBuf>,
    /// Keep the image that the first `save` reads in this file, readable by its owner only: it has the device's state
    /// in it. It appears once it is whole. A file that is there is never replaced (not with --force either), unless it
    /// is empty and ours; a link is not followed; a pipe or a device is written to as it is.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// An image of another kind of device, which `faults` must see refused.
    #[arg(long, value_name = "FILE")]
    wrong: Option<PathBuf>,
    /// How often `stress` goes round.
    #[arg(long, value_name = "N", default_value = "20", value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// Do it without asking.
    #[arg(long, short)]
    yes: bool,
    /// Also do what is known to be dangerous with this driver, and what hangs the host for good on kernels that are not
    /// known to be mended (matrix: STOP_COPY to PRE_COPY and to PRE_COPY_P2P).
    #[arg(long)]
    force: bool,
    /// Do not trace what the kernel and the driver do.
    #[arg(long)]
    no_trace: bool,
    /// One JSON document (schema vfio-trace.exercise/1, docs/schema/exercise-1.json).
    #[arg(long, conflicts_with = "tap")]
    json: bool,
    /// TAP version 14, a test point per stage.
    #[arg(long)]
    tap: bool,
    /// Also write JUnit XML into this file, which is made as that of --out is.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Exit with a code of its own where somebody has the device.
    #[arg(long, hide = true)]
    tell_in_use: bool,
    /// Show the steps of all stages of `matrix`.
    #[arg(long, short)]
    verbose: bool,
    /// Colours.
    #[arg(long, value_enum, default_value = "auto")]
    color: ColorMode,
    #[command(flatten)]
    kernel: KernelArgs,
}

/// Runs `vfio-trace exercise`.
pub(super) fn main(args: &ExerciseArgs) -> Result<u8, CliError> {
    block_on(async { run(args) }).map_err(|mut error| {
        error.code = told(error.code, args.tell_in_use);
        error
    })
}

/// Returns the exit code to end with: that of a device in use is for `mount` only.
const fn told(code: u8, tell_in_use: bool) -> u8 {
    if code == IN_USE && !tell_in_use { NOT_PERMITTED } else { code }
}

/// Device with the facts that were read in the kernel's memory, if any.
type FoundDevice = (VfioDevice, Option<DeviceFacts>);

fn candidate((device, memory): &FoundDevice, idle: bool) -> ExerciseCandidate {
    // 0 is ERROR's number, and what a driver has in memory of a device that nobody ever opened: it tells of no earlier
    // user.
    let state = memory.as_ref().and_then(|memory| memory.state);
    let closed_in = state.filter(|state| *state != MigState::ERROR);
    ExerciseCandidate { device: device.clone(), closed_in, idle }
}

fn run(args: &ExerciseArgs) -> Result<u8, CliError> {
    let stop = Arc::new(AtomicBool::new(false));
    // First, as it takes no time: reading what the kernel knows of its devices does.
    let mut outputs = ExerciseOutputs::look(args, &stop)?;
    let files = args.kernel.files()?;
    let devices = HostDevices::read(&files);
    // Nobody is asked with --yes: then a name that is short by mistake must not mean another device.
    let find = |name: &str| if args.yes { devices.find_whole(name) } else { devices.find(name) };
    let first = find(&args.device)?;
    let second = args.to.as_ref().map(|to| find(to)).transpose()?;
    let plans: Vec<ExercisePlan> =
        args.plans.iter().flat_map(|asked| asked.plans(second.is_some())).collect();
    let left_out = check(args, &plans, &first.0, second.map(|(device, _)| device))?;
    let idle = |found: &FoundDevice| idle::check(&files, &devices, &found.0);
    let first_is_idle = idle(first)?;
    let second_is_idle = second.map(idle).transpose()?;
    let image = args.image.as_deref().map(ImageInput::open).transpose()?;
    let wrong = args.wrong.as_deref().map(ImageInput::open).transpose()?;
    if !args.yes {
        ask(args, &files, &plans, &left_out, first, second)?;
    }
    // From here on a signal must not end the process: the devices are to be brought back first.
    heed_signals(&stop)?;
    let image = image.map(|image| image.read(&stop)).transpose()?;
    let wrong = wrong.map(|wrong| wrong.read(&stop)).transpose()?;
    let kernel = KernelVersion::read(&files);
    let (mut tracer, blind) = trace(args, files, first, second);
    // Devices are opened again by some plans, and outputs are made when there is something to put into them.
    let keep = tracer.as_ref().map(LiveTracer::needs).into_iter().flatten().chain([LinuxCap::DacOverride]);
    privileges::keep_only(&keep.collect::<Vec<_>>())?;
    let mut show = ExerciseDisplay::new(args);
    let task = ExerciseTask {
        plans,
        left_out,
        count: args.count,
        keeper: outputs.keeper(),
        image,
        wrong,
        tracing_off_reason: blind,
        kernel,
        force: args.force,
    };
    let witness = tracer.as_mut().map(|tracer| tracer as &mut dyn ExerciseTracer);
    let second = second.zip(second_is_idle).map(|(second, idle)| candidate(second, idle));
    let first = candidate(first, first_is_idle);
    let done = exercise::exercise(task, first, second, witness, &mut show, &stop);
    // The devices are back.
    end_heeding();
    let unbegun = |why: BeginError| CliError::advised("the device was not exercised", &why);
    let report = done.map_err(|why| outputs.take_error().unwrap_or_else(|| unbegun(why)))?;
    tell(args, &report, outputs, show)?;
    Ok(match report.verdict {
        ExerciseVerdict::Failed => FAILED,
        ExerciseVerdict::Skipped => NOT_SUPPORTED,
        ExerciseVerdict::Passed | ExerciseVerdict::Warned => 0,
    })
}

/// Refuses what cannot be done, or must not be. Returns the plans that `all` leaves out, each with the reason.
fn check(
    args: &ExerciseArgs,
    plans: &[ExercisePlan],
    first: &VfioDevice,
    second: Option<&VfioDevice>,
) -> Result<Vec<(ExercisePlan, String)>, CliError> {
    let usage = |what: &str, why: String, todo: &str| Err(CliError::with_code(USAGE, what, why, todo));
    if second.is_none() && plans.contains(&ExercisePlan::Full) {
        return usage(
            "plan full has no destination",
            "--to is missing".to_owned(),
            "give the second device: --to DEVICE",
        );
    }
    if let Some(second) = second {
        if second.name == first.name {
            let why = format!("both are {}", first.name);
            return usage("a device cannot migrate to itself", why, "give another device: --to DEVICE");
        }
        if second.driver != first.driver {
            let name = |device: &VfioDevice| device.driver.clone().unwrap_or_else(|| "no driver".to_owned());
            let why = format!("{} has {}, {} has {}", first.name, name(first), second.name, name(second));
            return usage(
                "these devices are of different drivers",
                why,
                "give one of the same driver: --to DEVICE",
            );
        }
    }
    if args.out.is_some() && !plans.contains(&ExercisePlan::Save) {
        return usage(
            "nothing would be written to --out",
            "only plan save writes it".to_owned(),
            "add --plan save",
        );
    }
    let dangers = first.driver.as_deref().and_then(driver_quirks).map_or(&[][..], |quirks| quirks.dangers);
    let mut left_out = Vec::new();
    for plan in plans.iter().filter(|_| !args.force) {
        let Some((_, danger)) = dangers.iter().find(|(name, _)| *name == plan.name()) else { continue };
        if !args.plans.contains(&PlanChoice::All) {
            let what =
                format!("plan {} is dangerous with {}", plan.name(), first.driver.as_deref().unwrap_or("?"));
            return usage(
                &what,
                (*danger).to_owned(),
                "leave it out, or add --force on a machine that may be lost",
            );
        }
        left_out.push((*plan, format!("dangerous with this driver, and not asked for by --force: {danger}")));
    }
    Ok(left_out)
}

/// Returns what may come of these plans, for the user who is asked to confirm. `flags`: the device's migration_flags,
/// if they are known.
fn dangers(
    args: &ExerciseArgs,
    plans: &[ExercisePlan],
    kernel: &KernelVersion,
    flags: Option<MigFlags>,
) -> Vec<String> {
    let mut said = Vec::new();
    let reads_only = plans.iter().all(|plan| *plan == ExercisePlan::IoTest);
    said.push(if reads_only {
        "It is opened, read and closed; if it was left in another state than RUNNING, it is reset first."
            .to_owned()
    } else {
        "What the device does now is lost; it is reset if need be.".to_owned()
    });
    if args.force && plans.contains(&ExercisePlan::Matrix) {
        said.extend(exercise::force_warning(kernel, flags));
    }
    said
}

/// Names what will be done, and waits for a yes.
fn ask(
    args: &ExerciseArgs,
    files: &KernelFiles,
    plans: &[ExercisePlan],
    left_out: &[(ExercisePlan, String)],
    first: &FoundDevice,
    second: Option<&FoundDevice>,
) -> Result<(), CliError> {
    let refused = |why: &str| {
        let todo = "add --yes if the device may be stopped, loaded and reset";
        Err(CliError::with_code(USAGE, format!("{} was not touched", first.0.name), why, todo))
    };
    if !io::stdin().is_terminal() {
        return refused("nobody can be asked: standard input is no terminal");
    }
    let driver = |device: &VfioDevice| device.driver.clone().unwrap_or_else(|| "?".to_owned());
    note(&format!("This will open {} ({}) and drive it:", first.0.name, driver(&first.0)));
    for plan in plans.iter().filter(|plan| !left_out.iter().any(|(left_out, _)| left_out == *plan)) {
        note(&format!("  {:<8} {}", plan.name(), plan.describe()));
    }
    if let Some((second, _)) = second {
        note(&format!("It will also open {} ({}).", second.name, driver(second)));
    }
    if let Some(path) = &args.image {
        note(&format!("The image that is loaded is {}.", path.display()));
    }
    let flags = first.1.as_ref().and_then(|memory| memory.flags);
    for line in dangers(args, plans, &KernelVersion::read(files), flags) {
        note(&line);
    }
    note("Go on? [y/N]");
    let mut answer = String::new();
    match io::stdin().read_line(&mut answer) {
        Ok(_) if matches!(answer.trim(), "y" | "Y" | "yes") => Ok(()),
        _ => refused("the answer was no"),
    }
}

/// Notes the wish to stop, in a thread of its own: the one that drives the device is in the kernel.
fn heed_signals(stop: &Arc<AtomicBool>) -> Result<(), CliError> {
    let (tell, ready) = mpsc::channel();
    let stop = Arc::clone(stop);
    let failed = |why: io::Error| CliError::bug("cannot wait for signals", why);
    let heed = move || {
        // It was started before those were given up, and takes none.
        if let Err(why) = privileges::give_up() {
            note(&why.sentence());
        }
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(why) => return drop(tell.send(Err(failed(why)))),
        };
        runtime.block_on(async {
            let mut signals = match Signals::heed(&stop, SignalLimit::Unlimited, HangupRule::Heeded) {
                Ok(signals) => signals,
                Err(why) => return drop(tell.send(Err(why))),
            };
            drop(tell.send(Ok(())));
            loop {
                let _any = signals.next().await;
                note("stopping after this step; a device that is open is brought back to RUNNING");
            }
        });
    };
    thread::Builder::new().name("signals".to_owned()).spawn(heed).map_err(failed)?;
    let gone = |_gone| failed(io::Error::from(io::ErrorKind::BrokenPipe));
    ready.recv().map_err(gone)?
}

fn trace(
    args: &ExerciseArgs,
    files: KernelFiles,
    first: &FoundDevice,
    second: Option<&FoundDevice>,
) -> (Option<LiveTracer>, Option<String>) {
    if args.no_trace {
        return (None, Some("--no-trace".to_owned()));
    }
    let devices: Vec<&str> =
        std::iter::once(first).chain(second).map(|(device, _)| device.name.as_str()).collect();
    match LiveTracer::start(files, &devices) {
        Ok(tracer) => (Some(tracer), None),
        Err(why) => (None, Some(why.to_string())),
    }
}

/// Writes all outputs of the report; returns the first error after that.
fn tell(
    args: &ExerciseArgs,
    report: &ExerciseReport,
    outputs: ExerciseOutputs,
    show: ExerciseDisplay,
) -> Result<(), CliError> {
    let said = if args.json {
        exercise::json(report).map_err(|why| CliError::bug("cannot write the report as JSON", why))?
    } else if args.tap {
        tap(report)
    } else {
        ExerciseText::new(args.color.on(&io::stdout())).summary(report)
    };
    // A reader that went away is a normal end.
    let printed = show.finish(&said);
    outputs.finish(|| junit(report)).and(printed)
}

#[cfg(test)]
mod tests;
