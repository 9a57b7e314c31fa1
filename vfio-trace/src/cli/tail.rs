//! `vfio-trace tail`: events on the terminal as they happen, and an account at the end.

use std::{
    ffi::OsString,
    io::{self, Write as _},
    process::ExitStatus,
    time::Duration,
};

use jiff::tz::TimeZone;
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

use super::{
    child::Traced,
    error::{CliError, FAILED},
    kernel_args::KernelArgs,
    output::{Color, note},
    parse,
};
use crate::{
    driver::Interpreter,
    event::{Assembler, ClockAnchor, Event, Filter, Kind, ProbeReport, Record, Start, Summary},
    model::Model,
    probe::{Changes, LoadOptions},
    sink::{Ndjson, Text, TextOptions, TimeFormat, closing_table, summary_text},
    source::{
        clock::{anchor, mono_ns},
        live::{Live, LogTo, RESCAN},
    },
};

/// Shape of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// One aligned line per event.
    Text,
    /// One JSON object per line; docs/events.md describes it.
    Ndjson,
}

/// First column of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Time {
    /// Wall time of day.
    Clock,
    /// Wall time with date and offset.
    Date,
    /// CLOCK_MONOTONIC, as in dmesg.
    Monotonic,
    /// Since the first event.
    Relative,
    /// Since the event before.
    Delta,
}

/// Arguments of `tail`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Shape of the output.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Show only this device: its name in /sys (mdev UUID or PCI address) or the beginning of it. Repeatable.
    #[arg(long = "device", value_name = "NAME", value_delimiter = ',')]
    devices: Vec<String>,
    /// Show only these kinds of events: device, open, close, arc, set_state, read, write, … (see docs/events.md).
    #[arg(long = "kind", value_name = "KIND", value_delimiter = ',')]
    kinds: Vec<Kind>,
    /// Show only what this process or thread did. Repeatable.
    #[arg(long = "pid", value_name = "PID", value_delimiter = ',')]
    pids: Vec<u32>,
    /// Stop after this time (10s, 1.5m, 200ms).
    #[arg(long, value_name = "TIME", value_parser = parse::duration)]
    duration: Option<Duration>,
    /// Stop after this many shown events.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// What the first column of the text shows.
    #[arg(long, value_enum, default_value = "clock")]
    time: Time,
    /// Wall times in UTC instead of local time.
    #[arg(long)]
    utc: bool,
    /// Colours.
    #[arg(long, value_enum, default_value = "auto")]
    color: Color,
    /// Size of the buffer between kernel and vfio-trace.
    #[arg(long, value_name = "SIZE", default_value = "4M", value_parser = parse::bytes)]
    buffer: u32,
    /// No account at the end (text only; ndjson always ends with its summary line).
    #[arg(long, short)]
    quiet: bool,
    /// Also print the eBPF programs' own messages, and which functions are probed.
    #[arg(long, short)]
    verbose: bool,
    /// Show what is redacted otherwise: addresses of the guest's memory in images of a driver's structures.
    #[arg(long)]
    reveal: bool,
    #[command(flatten)]
    kernel: KernelArgs,
    /// Start this once all probes are attached, and stop when it ends. Its standard output goes to standard error.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// `vfio-trace tail`.
pub(super) fn main(args: Args) -> Result<u8, CliError> {
    // One thread: it is the one whose capabilities are dropped.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|why| CliError::failed("cannot start", why, "check the limit of open files (ulimit -n)"))?;
    runtime.block_on(run(args))
}

/// Where events go.
enum Sink {
    Text(Box<Text>),
    Ndjson(Ndjson),
}

/// The state of one run.
struct Tail {
    filter: Filter,
    sink: Sink,
    out: io::BufWriter<io::Stdout>,
    assembler: Assembler,
    interpreter: Interpreter,
    model: Model,
    events: u64,
    shown: u64,
    undecoded: u64,
    limit: Option<u64>,
    /// Nobody reads our output any more.
    gone: bool,
}

impl Tail {
    fn new(args: &mut Args, anchor: ClockAnchor) -> Self {
        let filter = Filter {
            devices: std::mem::take(&mut args.devices),
            kinds: std::mem::take(&mut args.kinds),
            pids: std::mem::take(&mut args.pids),
        };
        let sink = match args.format {
            Format::Ndjson => Sink::Ndjson(Ndjson::new(anchor)),
            Format::Text => Sink::Text(Box::new(Text::new(TextOptions {
                anchor,
                zone: if args.utc { TimeZone::UTC } else { TimeZone::system() },
                time: match args.time {
                    Time::Clock => TimeFormat::Clock,
                    Time::Date => TimeFormat::Date,
                    Time::Monotonic => TimeFormat::Monotonic,
                    Time::Relative => TimeFormat::Relative,
                    Time::Delta => TimeFormat::Delta,
                },
                color: args.color.on(&io::stdout()),
            }))),
        };
        Self {
            filter,
            sink,
            out: io::BufWriter::with_capacity(1 << 16, io::stdout()),
            assembler: Assembler::new(),
            interpreter: Interpreter::new(args.reveal),
            model: Model::new(),
            events: 0,
            shown: 0,
            undecoded: 0,
            limit: args.count,
            gone: false,
        }
    }

    fn write(&mut self, line: &str) {
        // A reader that went away (`| head`) is a normal end.
        self.gone |= self.out.write_all(line.as_bytes()).is_err();
    }

    fn flush(&mut self) {
        self.gone |= self.out.flush().is_err();
    }

    /// Whether the run is over as far as its output goes.
    fn is_full(&self) -> bool {
        self.gone || self.limit.is_some_and(|limit| self.shown >= limit)
    }

    fn show(&mut self, events: Vec<Event>) -> Result<(), CliError> {
        for event in self.interpreter.apply(events) {
            self.events += 1;
            self.model.apply(&event);
            // An image is for programs, and for those who ask for it.
            let unasked = matches!(self.sink, Sink::Text(_)) && self.filter.kinds.is_empty();
            if self.is_full() || !self.filter.matches(&event) || (unasked && event.kind() == Kind::Image) {
                continue;
            }
            self.shown += 1;
            let line = match &mut self.sink {
                Sink::Text(text) => text.line(&event),
                Sink::Ndjson(ndjson) => ndjson.line(&event).map_err(unwritable)?,
            };
            self.write(&line);
        }
        Ok(())
    }

    fn start(&mut self, start: &Start, mono_ns: u64) -> Result<(), CliError> {
        let line = match &self.sink {
            Sink::Text(text) => text.header(),
            Sink::Ndjson(ndjson) => ndjson.start(start, mono_ns).map_err(unwritable)?,
        };
        self.write(&line);
        self.flush();
        Ok(())
    }

    /// Takes in what has arrived; true if there was something.
    fn pump(&mut self, live: &mut Live, verbose: bool) -> Result<bool, CliError> {
        let records = live.take();
        for bytes in &records {
            match Record::decode(bytes) {
                Ok(record) => {
                    say_changes(&live.follow(&record), verbose);
                    let events = self.assembler.push(&record);
                    self.show(events)?;
                },
                Err(error) => {
                    self.undecoded += 1;
                    if verbose {
                        note(&format!("record not understood: {error}"));
                    }
                },
            }
        }
        if !records.is_empty() {
            self.flush();
        }
        Ok(!records.is_empty())
    }
}

fn unwritable(error: serde_json::Error) -> CliError {
    CliError::failed("cannot write an event as JSON", error, "report this as a bug")
}

fn say_changes(changes: &Changes, verbose: bool) {
    let Changes { attached, detached, failed, denied: _ } = changes;
    if verbose && !attached.is_empty() {
        note(&format!("probing {}", attached.join(", ")));
    }
    for (function, reason) in detached {
        note(&format!("no longer probing {function}: {reason}"));
    }
    for (function, reason) in failed {
        note(&format!("cannot probe {function}: {reason}"));
    }
}

fn start_of(live: &Live, clock: ClockAnchor) -> Start {
    let uname = rustix::system::uname();
    Start {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: uname.release().to_string_lossy().into_owned(),
        machine: uname.machine().to_string_lossy().into_owned(),
        host: Some(uname.nodename().to_string_lossy().into_owned()),
        command: std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect(),
        clock,
        probes: live.report(),
    }
}

/// Why the loop ended.
enum End {
    /// The command behind `--` ended.
    Command(ExitStatus),
    /// A signal asked for it.
    Signal(Signal),
    /// Enough time or events.
    Enough,
}

async fn run(mut args: Args) -> Result<u8, CliError> {
    let cannot_signal =
        |why: io::Error| CliError::failed("cannot wait for signals", why, "report this as a bug");
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot_signal)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot_signal)?;
    let log: Option<Box<dyn log::Log>> = args.verbose.then(|| Box::new(LogTo(note)) as Box<dyn log::Log>);
    let options = LoadOptions { buffer_bytes: args.buffer, log: args.verbose };
    let (mut live, changes) = Live::open(args.kernel.files()?, options, log)?;
    live.drop_privileges()
        .map_err(|why| CliError::failed("cannot give up capabilities", why, "report this as a bug"))?;
    say_changes(&changes, args.verbose);
    if !live.has_vfio() {
        note("vfio is not loaded yet; waiting for it");
    }
    let anchor = anchor();
    let verbose = args.verbose;
    let mut tail = Tail::new(&mut args, anchor);
    let start = start_of(&live, anchor);
    live.enable()?;
    let began = mono_ns();
    // After the switch: an arc that comes in between is seen by both, and never by neither.
    if let Err(error) = live.take_inventory() {
        note(&format!("devices, states and holders are not known until something happens: {error}"));
    }
    tail.start(&start, began)?;
    let mut traced = Traced::start(&args.command)?;

    let deadline = args.duration.map(|duration| tokio::time::Instant::now() + duration);
    let mut tick = tokio::time::interval(RESCAN);
    let mut more = false;
    let end = loop {
        if tail.is_full() {
            break End::Enough;
        }
        tokio::select! {
            // One batch, then round again: a flood must not starve the other branches.
            ready = live.ready(), if !more => {
                ready?;
                more = tail.pump(&mut live, verbose)?;
            },
            () = std::future::ready(()), if more => more = tail.pump(&mut live, verbose)?,
            status = ended(&mut traced) => break End::Command(status),
            _ = interrupt.recv() => break End::Signal(Signal::INT),
            _ = terminate.recv() => break End::Signal(Signal::TERM),
            () = until(deadline) => break End::Enough,
            _ = tick.tick() => {
                say_changes(&live.rescan()?, verbose);
                // The ring's wake-up is the rule, this the exception: nothing that has arrived stays unseen for long.
                tail.pump(&mut live, verbose)?;
                let events = tail.assembler.expire(mono_ns());
                tail.show(events)?;
                tail.flush();
            },
        }
    };

    let status = match (end, &mut traced) {
        (End::Command(status), _) => Some(status),
        (End::Signal(signal), Some(traced)) => {
            traced.signal(signal);
            traced.grace().await
        },
        (End::Signal(_), None) | (End::Enough, _) => None,
    };
    live.disable()?;
    let ended_ns = mono_ns();
    while tail.pump(&mut live, verbose)? {}
    let rest = tail.assembler.finish();
    tail.show(rest)?;
    finish(&mut tail, live.report(), &args, (began, ended_ns))?;
    let Some(traced) = traced else { return Ok(0) };
    let failed = status.is_some_and(|status| !status.success());
    if failed || status.is_none() {
        note(&traced.describe(status));
    }
    Ok(if failed { FAILED } else { 0 })
}

/// The account at the end.
fn finish(
    tail: &mut Tail,
    probes: Vec<ProbeReport>,
    args: &Args,
    (began, ended): (u64, u64),
) -> Result<(), CliError> {
    let summary = Summary::new(probes, tail.events, tail.shown, tail.undecoded, ended.saturating_sub(began));
    if let Sink::Ndjson(ndjson) = &tail.sink {
        let line = ndjson.summary(&summary, ended).map_err(unwritable)?;
        tail.write(&line);
        tail.flush();
        return Ok(());
    }
    tail.flush();
    if !args.quiet {
        let color = args.color.on(&io::stderr());
        let devices = closing_table(&tail.model.report(Some(ended)), color);
        let gap = if devices.is_empty() { "" } else { "\n" };
        note(&format!("\n{devices}{gap}{}", summary_text(&summary, color).trim_end()));
    }
    Ok(())
}

async fn ended(traced: &mut Option<Traced>) -> ExitStatus {
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
