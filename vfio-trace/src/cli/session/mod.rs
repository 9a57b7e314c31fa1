//! A run of `tail` or `record`: probes on, a command behind `--`, records in, until something ends it.

mod finished;
mod notes;

use std::{
    ffi::OsString,
    process::ExitStatus,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

pub(super) use self::{
    finished::{FinishedRun, say_left_command},
    notes::{LiveNotes, say_missing, say_uninformed},
};
use super::{
    child::{GRACE, TracedCommand},
    error::CliError,
    kernel_args::KernelArgs,
    output::note,
    parse,
    signals::{HangupRule, ReceivedSignal, SignalLimit, StopSignals},
};
use crate::{
    event::{ClockAnchor, TraceStart},
    kernel::{KernelFiles, caps},
    probe::LoadOptions,
    source::{
        clock::mono_ns,
        live::{LiveLoop, LiveSource, LogForwarder, RunEnd, RunObserver},
    },
};

/// Options of a live run; to be flattened into a verb's arguments.
#[derive(Debug, clap::Args)]
pub(super) struct LiveArgs {
    /// Size of the buffer between kernel and vfio-trace.
    #[arg(long, value_name = "SIZE", default_value = "4M", value_parser = parse::bytes)]
    buffer: u32,
    /// Also print the eBPF programs' own messages, and which functions are probed.
    #[arg(long, short)]
    verbose: bool,
    #[command(flatten)]
    kernel: KernelArgs,
    /// Start this once all probes are attached, and stop when it ends. Its standard output goes to standard error.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Reason why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StopCause {
    /// The command behind `--` ended.
    Command,
    /// A signal asked for the end.
    Signal,
    /// Enough time or records.
    Enough,
}

/// Live run of `tail` and `record`: the source, and the signals that end it.
pub(super) struct LiveRun {
    /// The source.
    pub(super) live: LiveSource,
    notes: LiveNotes,
    signals: StopSignals,
}

/// Event that ends a run, besides its consumer.
enum RunInterrupt {
    Command(ExitStatus),
    Deadline,
    Signal(ReceivedSignal),
}

/// Runs `work` on this thread: it is the one whose capabilities are dropped.
pub(super) fn block_on(work: impl Future<Output = Result<u8, CliError>>) -> Result<u8, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|why| CliError::failed("cannot start", why, "check the limit of open files (ulimit -n)"))?;
    runtime.block_on(work)
}

/// Attaches all probes, and says what became of them; nothing is counted yet.
pub(super) fn open_source(
    files: KernelFiles,
    buffer_bytes: u32,
    notes: LiveNotes,
) -> Result<LiveSource, CliError> {
    let verbose = notes.is_verbose();
    let log: Option<Box<dyn log::Log>> = verbose.then(|| Box::new(LogForwarder(note)) as Box<dyn log::Log>);
    let (live, changes) = LiveSource::open(files, LoadOptions { buffer_bytes, log: verbose }, log)?;
    notes.changes(&changes);
    notes::say_unwatched(&live);
    Ok(live)
}

/// Says that there is nothing to trace yet, if that is so.
pub(super) fn say_waiting(live: &LiveSource) {
    if live.has_vfio() {
        return;
    }
    match &live.facts().modules {
        Ok(_) => note("vfio is not loaded yet; waiting for it"),
        Err(why) => note(&format!("vfio is not known to be loaded ({why}); waiting for it")),
    }
}

impl LiveRun {
    /// Attaches all probes; nothing is counted yet.
    pub(super) fn open(args: &LiveArgs) -> Result<Self, CliError> {
        TracedCommand::look(&args.command)?;
        // Before signals are waited for: what is read here may be slow, and can be interrupted so far.
        let files = args.kernel.files()?;
        // The second one means the command, which need not be waited for any longer.
        let patience = SignalLimit::AtMost(if args.command.is_empty() { 1 } else { 2 });
        let stop = Arc::new(AtomicBool::new(false));
        let signals = StopSignals::heed(&stop, patience, HangupRule::Heeded)?;
        let notes = LiveNotes::new(args.verbose);
        let live = open_source(files, args.buffer, notes)?;
        Ok(Self { live, notes, signals })
    }

    /// Returns what its consumer is to say of the source with.
    pub(super) const fn notes(&self) -> LiveNotes {
        self.notes
    }

    /// Says whose numbers `--pid` takes, where that is not plain.
    pub(super) fn explain_pids(&self, pids: &[u32]) {
        if !pids.is_empty() && !self.live.shares_pid_numbers() {
            note(
                "--pid takes the numbers of the host's PID namespace, and this is another: what is told in /proc here is not meant; \
                 --device shows what a device does without them",
            );
        }
    }

    /// Gives up the capabilities that are not needed any more, except those that find the command, which
    /// [`Self::start`] gives up.
    pub(super) fn drop_privileges(&self) -> Result<(), CliError> {
        Ok(self.live.put_privileges_aside()?)
    }

    /// Starts the command, if there is one, with what [`Self::drop_privileges`] has put aside for it. Not where a
    /// signal came while probes were attached: nobody waits for it any more.
    pub(super) fn start(&self, args: &LiveArgs) -> Result<Option<TracedCommand>, CliError> {
        if let Some(program) = args.command.first().filter(|_| self.signals.has_come()) {
            let what = format!("{} was not started", program.display());
            return Err(CliError::failed(what, "a signal asked for the end before that", "start it again"));
        }
        let mut traced = caps::start_with(|| TracedCommand::start(&args.command))??;
        // Typed before it was there, or just then: rather twice than never.
        if let Some(traced) = traced.as_mut().filter(|_| self.signals.has_come()) {
            traced.may_have_missed_one();
        }
        Ok(traced)
    }

    /// Returns the flag that is set when a signal asks to end, also while output waits for its reader.
    pub(super) const fn stop(&self) -> &Arc<AtomicBool> {
        self.signals.stop()
    }

    /// Switches all probes on; gives what the run says about itself, and when it began.
    pub(super) fn begin(&mut self, anchor: ClockAnchor) -> Result<(TraceStart, u64), CliError> {
        say_waiting(&self.live);
        let start = start_of(&self.live, anchor);
        self.live.enable()?;
        let began = mono_ns();
        // After the switch: an arc that comes in between is seen by both, and never by neither.
        match self.live.take_inventory() {
            Ok(looked) => say_missing(looked),
            Err(error) => say_uninformed(&error),
        }
        Ok((start, began))
    }

    /// Waits for a signal that asks to end.
    pub(super) async fn asked(&mut self) -> ReceivedSignal {
        self.signals.next().await
    }

    /// Goes on until the command ends, a signal comes, the time is over or the consumer has enough. Signals are heeded
    /// still: of what was taken, the end is to be written.
    pub(super) async fn run(
        &mut self,
        mut traced: Option<TracedCommand>,
        duration: Option<Duration>,
        consumer: &mut impl RunObserver<Error = CliError>,
    ) -> Result<FinishedRun, CliError> {
        // A deadline that no clock shows is none.
        let deadline = duration.and_then(|duration| tokio::time::Instant::now().checked_add(duration));
        let (why, mut status, mut error) = match self.follow(consumer, &mut traced, deadline).await {
            Ok((why, status)) => (why, status, None),
            Err(error) => (StopCause::Enough, None, Some(error)),
        };
        if let Some(traced) = traced.as_mut().filter(|_| error.is_some() && self.signals.has_come()) {
            // Output that has not ended before the signal came: the command has not been told of it.
            traced.signal(self.signals.next().await);
        }
        if why == StopCause::Signal && traced.is_some() {
            match self.grace(consumer, &mut traced).await {
                Ok(ended) => status = ended,
                Err(failed) => error = Some(failed),
            }
        }
        let RunEnd { ended_ns, error } = match self.live.end_run(consumer, error) {
            Ok(end) => end,
            Err(why) => {
                say_left_command(traced);
                return Err(why.into());
            },
        };
        if status.is_none() {
            // It may have ended all the same, meanwhile or before there was enough.
            status = traced.as_mut().and_then(TracedCommand::has_ended);
        }
        Ok(FinishedRun { why, ended_ns, error, traced, status })
    }

    /// Lets the command end, for a while or until the next signal; what it does meanwhile is taken in as before.
    async fn grace(
        &mut self,
        consumer: &mut impl RunObserver<Error = CliError>,
        traced: &mut Option<TracedCommand>,
    ) -> Result<Option<ExitStatus>, CliError> {
        let deadline = Some(tokio::time::Instant::now() + GRACE);
        Ok(match self.follow(consumer, traced, deadline).await? {
            (StopCause::Command, status) => status,
            (StopCause::Signal | StopCause::Enough, _) => None,
        })
    }

    async fn follow(
        &mut self,
        consumer: &mut impl RunObserver<Error = CliError>,
        traced: &mut Option<TracedCommand>,
        deadline: Option<tokio::time::Instant>,
    ) -> Result<(StopCause, Option<ExitStatus>), CliError> {
        let Self { live, signals, .. } = self;
        let mut attending = LiveLoop::new(Arc::clone(signals.stop()));
        let interrupt = async {
            tokio::select! {
                status = ended(traced) => RunInterrupt::Command(status),
                () = until(deadline) => RunInterrupt::Deadline,
                asked = signals.next() => RunInterrupt::Signal(asked),
            }
        };
        Ok(match attending.run_until(live, consumer, interrupt).await? {
            Some(RunInterrupt::Command(status)) => (StopCause::Command, Some(status)),
            Some(RunInterrupt::Deadline) | None => (StopCause::Enough, None),
            Some(RunInterrupt::Signal(asked)) => {
                if let Some(traced) = traced {
                    traced.signal(asked);
                }
                (StopCause::Signal, None)
            },
        })
    }
}

fn start_of(live: &LiveSource, clock: ClockAnchor) -> TraceStart {
    let uname = rustix::system::uname();
    TraceStart {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        replayed_by: None,
        kernel: uname.release().to_string_lossy().into_owned(),
        machine: uname.machine().to_string_lossy().into_owned(),
        host: Some(uname.nodename().to_string_lossy().into_owned()),
        command: std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect(),
        clock,
        probes: live.report(),
    }
}

async fn ended(traced: &mut Option<TracedCommand>) -> ExitStatus {
    match traced {
        // wait(2) on one's own child does not fail; if it does, there is nothing to wait for.
        Some(traced) => traced.ended().await.unwrap_or_default(),
        None => std::future::pending().await,
    }
}

async fn until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
