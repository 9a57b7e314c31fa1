//! What `tail` and `record` share: probes on, a command behind `--`, records in, until something ends it.

use std::{
    ffi::OsString,
    process::ExitStatus,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use bytes::Bytes;

use super::{
    child::{GRACE, TracedCommand},
    error::{CliError, FAILED},
    kernel_args::KernelArgs,
    output::note,
    parse,
    signals::{ReceivedSignal, SignalLimit, StopSignals},
};
use crate::{
    event::{ClockAnchor, DecodeError, TraceStart, WireRecord},
    kernel::caps::{self, DropError},
    probe::{LoadOptions, ProbeChanges},
    source::{
        clock::mono_ns,
        live::{LiveError, LiveSource, LogForwarder, RESCAN},
        snapshot::InventoryLosses,
    },
    units::human,
};

/// How a live run is made; to be flattened into a verb's arguments.
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

/// Takes what a live run gives.
pub(super) trait RecordConsumer {
    /// The next record, as it came and decoded.
    fn record(&mut self, bytes: &Bytes, record: Result<&WireRecord, DecodeError>) -> Result<(), CliError>;
    /// No more records for the moment.
    fn pause(&mut self) -> Result<(), CliError>;
    /// Comes every [`RESCAN`]. All records were given that there were at `settled_ns`.
    fn tick(&mut self, settled_ns: u64, live: &mut LiveSource) -> Result<(), CliError>;
    /// It wants no more.
    fn is_full(&self) -> bool;
    /// Probes are about to be switched off.
    fn ending(&mut self, _live: &mut LiveSource) {}
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StopCause {
    /// The command behind `--` ended.
    Command,
    /// A signal asked for it.
    Signal,
    /// Enough time or records.
    Enough,
}

/// A run that is over; all of its records were taken.
pub(super) struct FinishedRun {
    /// Why.
    pub(super) why: StopCause,
    /// When probes were off.
    pub(super) ended_ns: u64,
    /// What went wrong on the consumer's side.
    pub(super) error: Option<CliError>,
    traced: Option<TracedCommand>,
    status: Option<ExitStatus>,
}

impl FinishedRun {
    /// Says how the command ended, if not well, or that it goes on; gives the exit code.
    pub(super) fn code(&mut self) -> u8 {
        if let Some(said) = self.of_command() {
            note(&said);
        }
        self.quiet_code()
    }

    /// What there is to say of the command, at this moment: it may have ended while output waited for its reader.
    fn of_command(&mut self) -> Option<String> {
        let traced = self.traced.as_mut()?;
        self.status = self.status.or_else(|| traced.has_ended());
        let well = self.status.is_some_and(|status| status.success());
        (!well).then(|| traced.describe(self.status))
    }

    /// The exit code.
    pub(super) fn quiet_code(&self) -> u8 {
        if self.status.is_some_and(|status| !status.success()) { FAILED } else { 0 }
    }
}

/// Says what becomes of a command that was started, where an error ends the run.
pub(super) fn say_left_command(traced: Option<TracedCommand>) {
    let _of_the_error =
        FinishedRun { why: StopCause::Enough, ended_ns: 0, error: None, traced, status: None }.code();
}

/// A run.
pub(super) struct LiveRun {
    /// The source.
    pub(super) live: LiveSource,
    verbose: bool,
    signals: StopSignals,
}

/// Runs `work` on this thread: it is the one whose capabilities are dropped.
pub(super) fn block_on(work: impl Future<Output = Result<u8, CliError>>) -> Result<u8, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|why| CliError::failed("cannot start", why, "check the limit of open files (ulimit -n)"))?;
    runtime.block_on(work)
}

fn no_drop(why: DropError) -> CliError {
    CliError::failed("cannot give up capabilities", why, "report this as a bug")
}

/// Says so where the kernel does not tell of modules.
pub(super) fn say_unwatched(live: &LiveSource) {
    if let Some(why) = live.unwatched() {
        note(&format!(
            "the kernel does not tell when a module is loaded ({why}): a driver that is loaded later is noticed half a second \
             later, or more"
        ));
    }
}

/// Says what an inventory that has failed leaves open.
pub(super) fn say_uninformed(error: &LiveError) {
    note(&format!("devices, states and holders are not known until something happens: {error}"));
}

impl LiveRun {
    /// Attaches all probes; nothing is counted yet.
    pub(super) fn open(args: &LiveArgs) -> Result<Self, CliError> {
        TracedCommand::look(&args.command)?;
        // Before signals are waited for: what is read here may be slow, and can be interrupted so far.
        let files = args.kernel.files()?;
        // The second one means the command, which need not be waited for any longer.
        let patience = SignalLimit::AtMost(if args.command.is_empty() { 1 } else { 2 });
        let signals = StopSignals::heed(&Arc::new(AtomicBool::new(false)), patience)?;
        let log: Option<Box<dyn log::Log>> =
            args.verbose.then(|| Box::new(LogForwarder(note)) as Box<dyn log::Log>);
        let options = LoadOptions { buffer_bytes: args.buffer, log: args.verbose };
        let (live, changes) = LiveSource::open(files, options, log)?;
        say_changes(&changes, args.verbose);
        say_unwatched(&live);
        Ok(Self { live, verbose: args.verbose, signals })
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

    /// Gives up what is needed no more, but for what finds the command; that goes with [`Self::start`].
    pub(super) fn drop_privileges(&self) -> Result<(), CliError> {
        self.live.put_privileges_aside().map_err(no_drop)
    }

    /// Starts the command, if there is one, with what [`Self::drop_privileges`] has put aside for it. Not where a signal came
    /// while probes were attached: nobody waits for it any more.
    pub(super) fn start(&self, args: &LiveArgs) -> Result<Option<TracedCommand>, CliError> {
        if let Some(program) = args.command.first().filter(|_| self.signals.has_come()) {
            let what = format!("{} was not started", program.display());
            return Err(CliError::failed(what, "a signal asked for the end before that", "start it again"));
        }
        let mut traced = caps::start_with(|| TracedCommand::start(&args.command)).map_err(no_drop)??;
        // Typed before it was there, or just then: rather twice than never.
        if let Some(traced) = traced.as_mut().filter(|_| self.signals.has_come()) {
            traced.may_have_missed_one();
        }
        Ok(traced)
    }

    /// Set when a signal asks to end, also while output waits for its reader.
    pub(super) const fn stop(&self) -> &Arc<AtomicBool> {
        self.signals.stop()
    }

    /// Switches all probes on; gives what the run says about itself, and when it began.
    pub(super) fn begin(&mut self, anchor: ClockAnchor) -> Result<(TraceStart, u64), CliError> {
        if !self.live.has_vfio() {
            note("vfio is not loaded yet; waiting for it");
        }
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

    /// Takes in what has arrived; true if there was something.
    fn pump(&mut self, consumer: &mut impl RecordConsumer) -> Result<bool, CliError> {
        let records = self.live.take();
        for bytes in &records {
            match WireRecord::decode(bytes) {
                Ok(record) => {
                    say_changes(&self.live.follow(&record), self.verbose);
                    consumer.record(bytes, Ok(&record))?;
                },
                Err(error) => {
                    if self.verbose {
                        note(&format!("record not understood: {error}"));
                    }
                    consumer.record(bytes, Err(error))?;
                },
            }
        }
        if !records.is_empty() {
            consumer.pause()?;
        }
        Ok(!records.is_empty())
    }

    fn tick(&mut self, consumer: &mut impl RecordConsumer) -> Result<(), CliError> {
        // The ring's wake-up is the rule, this the exception: nothing that has arrived stays unseen for long. Before the
        // look for drivers, which takes long: the kernel's own notice of one may have arrived.
        self.pump(consumer)?;
        say_changes(&self.live.rescan()?, self.verbose);
        consumer.tick(self.live.settled_ns(), &mut self.live)
    }

    /// Waits for a signal that asks to end.
    pub(super) async fn asked(&mut self) -> ReceivedSignal {
        self.signals.next().await
    }

    /// Goes on until the command ends, a signal comes, the time is over or the consumer has enough. Signals are heeded still: of
    /// what was taken, the end is to be written.
    pub(super) async fn run(
        &mut self,
        mut traced: Option<TracedCommand>,
        duration: Option<Duration>,
        consumer: &mut impl RecordConsumer,
    ) -> Result<FinishedRun, CliError> {
        let deadline = duration.map(|duration| tokio::time::Instant::now() + duration);
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
        // A driver may just have come: what of it was not probed is told even now.
        if error.is_none() {
            error = self.settle(consumer).err();
        }
        consumer.ending(&mut self.live);
        if let Err(why) = self.live.disable() {
            say_left_command(traced);
            return Err(why.into());
        }
        let ended_ns = mono_ns();
        while error.is_none() {
            match self.pump(consumer) {
                Ok(true) => {},
                Ok(false) => break,
                Err(failed) => error = Some(failed),
            }
        }
        if status.is_none() {
            // It may have ended all the same, meanwhile or before there was enough.
            status = traced.as_mut().and_then(TracedCommand::has_ended);
        }
        Ok(FinishedRun { why, ended_ns, error, traced, status })
    }

    fn settle(&mut self, consumer: &mut impl RecordConsumer) -> Result<(), CliError> {
        self.pump(consumer)?;
        say_changes(&self.live.settle()?, self.verbose);
        Ok(())
    }

    /// Lets the command end, for a while or until the next signal; what it does meanwhile is taken in as before.
    async fn grace(
        &mut self,
        consumer: &mut impl RecordConsumer,
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
        consumer: &mut impl RecordConsumer,
        traced: &mut Option<TracedCommand>,
        deadline: Option<tokio::time::Instant>,
    ) -> Result<(StopCause, Option<ExitStatus>), CliError> {
        let mut tick = tokio::time::interval(RESCAN);
        let mut more = false;
        loop {
            // Output that was waited for is given up once a signal has come; then that is why all ends.
            if consumer.is_full() && !self.signals.has_come() {
                return Ok((StopCause::Enough, None));
            }
            let asked = tokio::select! {
                // One batch, then round again: a flood must not starve the other branches.
                ready = self.live.ready(), if !more => {
                    ready?;
                    more = self.pump(consumer)?;
                    continue;
                },
                () = std::future::ready(()), if more => {
                    more = self.pump(consumer)?;
                    continue;
                },
                _ = tick.tick() => {
                    self.tick(consumer)?;
                    continue;
                },
                status = ended(traced) => return Ok((StopCause::Command, Some(status))),
                () = until(deadline) => return Ok((StopCause::Enough, None)),
                asked = self.signals.next() => asked,
            };
            if let Some(traced) = traced {
                traced.signal(asked);
            }
            return Ok((StopCause::Signal, None));
        }
    }
}

/// What an inventory could not tell.
pub(super) fn say_missing(looked: InventoryLosses) {
    if let Some(lacks) = looked.describe_losses() {
        note(&lacks);
    }
}

pub(super) fn say_changes(changes: &ProbeChanges, verbose: bool) {
    let ProbeChanges { attached, detached, failed, denied: _, gaps, unread } = changes;
    for reason in distinct(detached.iter().map(|(_, reason)| reason.as_str())) {
        let functions = detached.iter().filter(|(_, other)| other == reason);
        let names: Vec<&str> = functions.map(|(function, _)| function.symbol.as_str()).collect();
        note(&format!("no longer probing {}: {reason}", names.join(", ")));
    }
    for gap in gaps {
        // Of those that are not over, "cannot probe" tells.
        let Some(until) = gap.until_mono_ns else { continue };
        let whose =
            gap.module.as_ref().map_or_else(|| "the kernel".to_owned(), |module| format!("module {module}"));
        let names: Vec<&str> = gap.functions.iter().map(|function| function.function.as_str()).collect();
        let for_ns = human::duration(until.saturating_sub(gap.from_mono_ns));
        let most = if gap.from_exact { "" } else { "up to " };
        note(&format!(
            "probing {} of {whose}: {}; not seen for {most}{for_ns}",
            names.join(", "),
            gap.why.text()
        ));
    }
    let told = |symbol: &str| {
        gaps.iter().any(|gap| gap.functions.iter().any(|function| function.function == symbol))
    };
    let quiet: Vec<&str> =
        attached.iter().map(|function| function.symbol.as_str()).filter(|symbol| !told(symbol)).collect();
    if verbose && !quiet.is_empty() {
        note(&format!("probing {}", quiet.join(", ")));
    }
    for (function, reason) in failed {
        note(&format!("cannot probe {}: {reason}", function.symbol));
    }
    for (module, reason) in unread {
        note(&format!("states that driver {module} keeps are not read: {reason}"));
    }
}

/// Each once, in the order of their first.
fn distinct<'a>(all: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut found = Vec::new();
    for one in all {
        if !found.contains(&one) {
            found.push(one);
        }
    }
    found
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

#[cfg(test)]
mod tests {
    use rustix::process::Signal;

    use super::*;

    #[test]
    fn of_a_command_that_ended_meanwhile_nobody_says_that_it_goes_on() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        let done = |script: &str| {
            let command = ["sh", "-c", script].map(OsString::from);
            let traced = TracedCommand::start(&command).unwrap();
            FinishedRun { why: StopCause::Enough, ended_ns: 0, error: None, traced, status: None }
        };
        // With nothing left for it to wait for, its end is a matter of moments.
        let said_in_the_end = |mut done: FinishedRun| loop {
            match done.of_command() {
                Some(said) if said.contains("goes on") => std::thread::sleep(Duration::from_millis(5)),
                said => break (said, done.code()),
            }
        };
        assert_eq!(said_in_the_end(done("exit 0")), (None, 0), "nothing is left to say of it");
        assert_eq!(said_in_the_end(done("exit 7")), (Some("sh exited with 7".to_owned()), FAILED));
        let mut alone =
            FinishedRun { why: StopCause::Enough, ended_ns: 0, error: None, traced: None, status: None };
        assert_eq!((alone.of_command(), alone.code()), (None, 0), "there is no command");
        let mut lasts = done("exec sleep 60");
        let (said, code) = (lasts.of_command(), lasts.code());
        lasts.traced.unwrap().signal(ReceivedSignal { signal: Signal::KILL, by_terminal: false });
        assert_eq!((said.as_deref(), code), (Some("sh goes on without being traced"), 0));
    }

    #[test]
    fn each_reason_is_said_once() {
        assert_eq!(distinct(["gone", "replaced", "gone"].into_iter()), ["gone", "replaced"]);
    }
}
