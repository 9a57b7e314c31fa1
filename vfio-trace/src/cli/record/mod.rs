//! `vfio-trace record`: everything that is traced, kept in a file for `replay`.

use std::{
    fs,
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use bytes::Bytes;
use vfio_trace_common::{
    layout::{Field, Layout},
    wire,
};

use super::{
    error::{CliError, FAILED, USAGE},
    output::{ColorMode, note, print_finished},
    parse::{self, RecordingAmount},
    session::{LiveArgs, LiveNotes, LiveRun, StopCause, block_on, say_left_command, say_missing},
    signals::end_heeding,
    storing::PendingParts,
};
use crate::{
    event::{
        ClockAnchor, DecodeError, GapTracker, HOLD_NS, ProbeReport, RecordBody, RecordNote, TraceStart,
        TraceSummary, WireRecord,
    },
    kernel::KernelFacts,
    output::summary_text,
    probe::ProbeChanges,
    recording::{
        BlockItem, ClockSample, DriverFacts, EndReason, LayoutMember, OutputError, PartEnd, PartHeader,
        PartOutput, PartPreamble, PartWriter, RecordingOutput, SCHEMA, StopFlag, TRY_AGAIN, room_advice,
    },
    source::{
        clock::{mono_ns, sample},
        live::{LiveSource, RunObserver},
    },
    units::{human, human::clean},
};

/// Time for which records wait before a block is written: a killed recorder loses as much. It is checked twice a
/// second.
const FLUSH: Duration = Duration::from_millis(700);
/// Interval at which clocks and counters are noted.
const SAMPLE: Duration = Duration::from_secs(10);

/// Arguments of `record`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A SIZE has K, M or G, a TIME ms, s, m or h: 10M is ten MiB, 10m is ten minutes, 1h30m is ninety."
)]
pub(super) struct RecordArgs {
    /// The file to make, or - for standard output. An existing file is left alone.
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// Begin another part when one has this size or age: FILE.vft becomes FILE.0001.vft, FILE.0002.vft, …. Repeatable.
    #[arg(long, value_name = "SIZE|TIME", value_parser = parse::part, value_delimiter = ',')]
    rotate: Vec<RecordingAmount>,
    /// Keep only the last N parts.
    #[arg(long, value_name = "N", requires = "rotate", value_parser = clap::value_parser!(u32).range(1..))]
    keep: Option<u32>,
    /// Stop after this many bytes, this time, or this many records. Repeatable.
    #[arg(long, value_name = "SIZE|TIME|N", value_parser = parse::amount, value_delimiter = ',')]
    stop_after: Vec<RecordingAmount>,
    /// Replace FILE, or the parts of its name, if they exist.
    #[arg(long)]
    force: bool,
    /// No account at the end.
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    live: LiveArgs,
}

/// Runs `vfio-trace record`.
pub(super) fn main(args: &RecordArgs) -> Result<u8, CliError> {
    let output = if args.output.as_os_str() == "-" {
        if !args.rotate.is_empty() {
            let why = "parts are files, and standard output is one stream";
            let todo = "give a file with -o, or leave --rotate out";
            return Err(CliError::with_code(USAGE, "cannot rotate standard output", why, todo));
        }
        if io::stdout().is_terminal() {
            let why = "a recording is binary, and standard output is a terminal";
            let todo = "give a file with -o, or a pipe: vfio-trace record -o - | vfio-trace replay -";
            return Err(CliError::with_code(USAGE, "cannot record to a terminal", why, todo));
        }
        RecordingOutput::stdout()
    } else {
        let keep = args.keep.map(|keep| keep as usize);
        let output = RecordingOutput::create(&args.output, !args.rotate.is_empty(), keep, args.force)?;
        output.on_unrestored(|path, now| note(&not_put_back(path, now)))
    };
    block_on(run(args, output))
}

/// The state of one recording.
struct FileRecorder {
    output: RecordingOutput,
    name: String,
    writer: PartWriter<Box<dyn PartOutput>>,
    storing: PendingParts,
    header: PartHeader,
    known: PartPreamble,
    /// Limits of this part.
    part: RecordingLimits,
    part_began: Instant,
    /// Limits of the recording.
    all: RecordingLimits,
    /// Bytes and records of the parts before.
    bytes: u64,
    records: u64,
    undecoded: u64,
    gaps: GapTracker,
    last_record: Instant,
    sampled: Instant,
    probes: Vec<ProbeReport>,
    prompt: bool,
    /// Something is missing of the file, so it must not look whole.
    broken: bool,
    /// The last look at all devices is news, not a repetition for a part that begins.
    ending: bool,
    notes: LiveNotes,
}

#[derive(Clone, Copy, Default)]
struct RecordingLimits {
    bytes: Option<u64>,
    time: Option<Duration>,
    records: Option<u64>,
}

impl RecordingLimits {
    fn of(amounts: &[RecordingAmount]) -> Self {
        let mut limits = Self::default();
        for amount in amounts {
            match *amount {
                RecordingAmount::Bytes(bytes) => limits.bytes = Some(bytes),
                RecordingAmount::Time(time) => limits.time = Some(time),
                RecordingAmount::Records(records) => limits.records = Some(records),
            }
        }
        limits
    }
}

async fn run(args: &RecordArgs, mut output: RecordingOutput) -> Result<u8, CliError> {
    let mut session = LiveRun::open(&args.live)?;
    output = output.stopped_by(StopFlag::new(session.stop()));
    // With all rights that there are: it may be a folder of somebody else.
    while !output.open()? {
        tokio::select! {
            () = tokio::time::sleep(TRY_AGAIN) => {},
            _ = session.asked() => {
                let why = "it was to end before anything read that pipe";
                return Err(CliError::failed("nothing was recorded", why, "let something read it first"));
            },
        }
    }
    let file = output.first()?;
    session.drop_privileges()?;
    if !args.rotate.is_empty() {
        output.try_next().map_err(|why| {
            let denied = |source: &io::Error| source.kind() == io::ErrorKind::PermissionDenied;
            if !matches!(&why, OutputError::Io { source, .. } if denied(source)) {
                return why.into();
            }
            let todo = "choose a folder that you own: after the start, vfio-trace gives up root's right to write \
                        anywhere";
            CliError::failed("cannot make further parts", why, todo)
        })?;
    }
    let clock = sample();
    let anchor = ClockAnchor { mono_ns: clock.mono_ns, real_ns: clock.real_ns };
    let (start, began_ns) = session.begin(anchor)?;
    let header = header(start, began_ns, clock, session.live.facts());
    let prompt = output.parts().next().is_none();
    let name = if prompt { "standard output".to_owned() } else { args.output.display().to_string() };
    header.check().map_err(|why| {
        CliError::failed(
            "cannot record",
            why,
            "give vfio-trace, or the command that it starts, fewer arguments",
        )
    })?;
    let write = |file| PartWriter::new(file, &header).map_err(|why| unbegun(&name, &why));
    // A command that is misspelt leaves nothing behind: the next try finds everything as this one did. And where there
    // is no room for a file, no command is started.
    let (writer, traced) = if output.is_file() {
        (write(file)?, session.start(&args.live)?)
    } else {
        let traced = session.start(&args.live)?;
        match write(file) {
            Ok(writer) => (writer, traced),
            Err(error) => {
                say_left_command(traced);
                return Err(error);
            },
        }
    };
    for (path, why) in output.keep_first_part() {
        note(&format!("{}, which this recording replaces, could not be removed: {why}", path.display()));
    }
    let now = Instant::now();
    let mut recorder = FileRecorder {
        prompt,
        broken: false,
        ending: false,
        output,
        name,
        writer,
        storing: PendingParts::default(),
        known: PartPreamble::default(),
        part: RecordingLimits::of(&args.rotate),
        part_began: now,
        all: RecordingLimits::of(&args.stop_after),
        bytes: 0,
        records: 0,
        undecoded: 0,
        gaps: GapTracker::default(),
        last_record: now,
        sampled: now,
        probes: header.start.probes.clone(),
        header,
        notes: session.notes(),
    };
    let mut done = session.run(traced, recorder.all.time, &mut recorder).await?;
    let probes = session.live.report();
    let reason = match (&done.error, done.why) {
        (Some(_), _) => EndReason::Failed,
        (None, StopCause::Command) => EndReason::Command,
        (None, StopCause::Signal) => EndReason::Signal,
        (None, StopCause::Enough) => EndReason::Limit,
    };
    // What was recorded is closed, if the file is whole up to here.
    let closed =
        if recorder.broken { Ok(None) } else { recorder.close(done.ended_ns, reason, probes).map(Some) };
    end_heeding();
    let code = done.code();
    if let Some(error) = done.error {
        return Err(error);
    }
    let Some(closed) = closed? else { return Ok(code) };
    if !args.quiet {
        let color = ColorMode::Auto.on(&io::stderr());
        print_finished(&closed.account(args.keep.is_some(), color));
    }
    Ok(code)
}

impl FileRecorder {
    fn put(&mut self, item: &BlockItem) -> Result<(), CliError> {
        let done = self.writer.push(item);
        self.noting(done)
    }

    fn flush(&mut self) -> Result<(), CliError> {
        let done = self.writer.flush();
        self.noting(done)
    }

    fn noting(&mut self, done: io::Result<()>) -> Result<(), CliError> {
        self.broken |= done.is_err();
        done.map_err(|why| unwritable(&self.name, &why))
    }

    /// Notes clocks and counters, the latter only if they have changed.
    fn sample(&mut self, probes: Vec<ProbeReport>) -> Result<(), CliError> {
        self.sampled = Instant::now();
        self.put(&BlockItem::Clock(sample()))?;
        if probes != self.probes {
            self.put(&BlockItem::Probes(probes.clone()))?;
            self.probes = probes;
        }
        Ok(())
    }

    fn is_part_full(&self) -> bool {
        let RecordingLimits { bytes, time, .. } = self.part;
        bytes.is_some_and(|bytes| self.writer.written() >= bytes)
            || time.is_some_and(|time| self.part_began.elapsed() >= time)
    }

    /// Makes the next part, with its header in it; or none, if that cannot be written.
    fn begin_part(&mut self, header: PartHeader) -> Result<PartWriter<Box<dyn PartOutput>>, CliError> {
        let file = self.output.next(header.part)?;
        let next = PartWriter::new(file, &header).map_err(|why| {
            // Empty, or with half a header, it would be taken for a part that is damaged.
            self.output.withdraw();
            unwritable(&self.name, &why)
        })?;
        self.output.prune();
        self.header = header;
        Ok(next)
    }

    /// Ends this part and begins the next, with what it takes to read that one alone.
    fn rotate(&mut self, live: &mut LiveSource) -> Result<(), CliError> {
        let (now_ns, clock, probes) = (mono_ns(), sample(), live.report());
        let next = self.begin_part(self.header.next_part(now_ns, clock, probes.clone()))?;
        let mut last = std::mem::replace(&mut self.writer, next);
        let end = PartEnd { mono_ns: now_ns, reason: EndReason::Rotated, records: last.records(), probes };
        self.records += last.records();
        last.push(&BlockItem::Clock(clock)).map_err(|why| unwritable(&self.name, &why))?;
        last.flush().map_err(|why| unwritable(&self.name, &why))?;
        let (file, bytes) = last.finish(end).map_err(|why| unwritable(&self.name, &why))?;
        self.bytes += bytes;
        self.storing.begin(file).map_err(|why| unwritable(&self.name, &why))?;
        let known: Vec<Bytes> = self.known.records().cloned().collect();
        for bytes in known {
            self.put(&BlockItem::Repeated(bytes))?;
        }
        self.part_began = Instant::now();
        // The states and holders of this moment; what is known of them so far is in the parts before.
        match live.take_inventory() {
            Ok(looked) => say_missing(looked),
            Err(error) => note(&format!(
                "part {} does not tell how devices are as it begins, nor who holds them: {error}",
                self.header.part
            )),
        }
        Ok(())
    }

    /// Ends the last part; gives what says how it was.
    fn close(
        mut self,
        ended_ns: u64,
        reason: EndReason,
        probes: Vec<ProbeReport>,
    ) -> Result<ClosedRecording, CliError> {
        self.put(&BlockItem::Clock(sample()))?;
        self.flush()?;
        let records = self.writer.records();
        let end = PartEnd { mono_ns: ended_ns, reason, records, probes: probes.clone() };
        let ended = self.storing.end(self.writer, end);
        let bytes = ended.map_err(|why| unwritable(&self.name, &why))?;
        let duration_ns = ended_ns.saturating_sub(self.header.began_ns);
        let mut summary = TraceSummary::new(probes, 0, 0, self.undecoded, duration_ns);
        summary.gaps = Some(self.gaps.totals(ended_ns));
        Ok(ClosedRecording {
            summary,
            duration_ns,
            bytes: self.bytes + bytes,
            records: self.records + records,
            name: self.name,
            parts: self.output.parts().count(),
            last_part: self.header.part,
        })
    }
}

/// Recording that is over.
struct ClosedRecording {
    summary: TraceSummary,
    duration_ns: u64,
    bytes: u64,
    records: u64,
    name: String,
    /// Parts that are there, and the number of the last.
    parts: usize,
    last_part: u32,
}

impl ClosedRecording {
    /// Returns the account at the end; `keep`: not all parts are kept.
    fn account(&self, keep: bool, color: bool) -> String {
        let Self { summary, .. } = self;
        // The last lines are of events, which are not counted here.
        let table = summary_text(summary, color);
        let losses: Vec<&str> = table.lines().filter(|line| !line.starts_with("0 events, ")).collect();
        let all = human::count(self.records, "record");
        let parts = match self.parts {
            0 | 1 => String::new(),
            _ if keep => format!(", {} parts made", self.last_part),
            parts => format!(", {parts} parts"),
        };
        let missed = summary
            .missed
            .map_or_else(|| "missed: not known".to_owned(), |missed| format!("{missed} missed"));
        let mut more = String::new();
        for (count, what) in [
            (summary.unmatched, "unmatched"),
            (summary.no_room, "not remembered"),
            (summary.undecoded, "not understood"),
            (summary.gaps.map_or(0, |told| told.gaps), "gaps in probing"),
        ] {
            if count > 0 {
                more = format!("{more}, {count} {what}");
            }
        }
        format!(
            "\n{}\n{all} in {}, {} in {}{parts}; {} lost, {missed}{more}",
            losses.join("\n").trim_end(),
            human::duration(self.duration_ns),
            human::bytes(self.bytes),
            clean(&self.name),
            summary.lost,
        )
    }
}

impl RunObserver for FileRecorder {
    type Error = CliError;

    fn record(&mut self, bytes: &Bytes, record: Result<&WireRecord, DecodeError>) -> Result<(), CliError> {
        let repeated = self.header.part > 1 && !self.ending;
        self.last_record = Instant::now();
        if let Err(error) = record {
            self.notes.undecoded(error);
            self.undecoded += 1;
        }
        if let Ok(WireRecord { body: RecordBody::Note(RecordNote::ProbeGap(gap)), .. }) = record {
            self.gaps.add(gap);
        }
        let news = record.map_or(true, |record| self.known.keep(record, bytes, repeated));
        self.put(&if news { BlockItem::Record(bytes.clone()) } else { BlockItem::Repeated(bytes.clone()) })
    }

    fn changes(&mut self, changes: &ProbeChanges) {
        self.notes.changes(changes);
    }

    fn pause(&mut self) -> Result<(), CliError> {
        if self.prompt { self.flush() } else { Ok(()) }
    }

    fn tick(&mut self, settled_ns: u64, live: &mut LiveSource) -> Result<(), CliError> {
        // Nothing waits for longer: after that the time makes no difference to any reader.
        if self.last_record.elapsed() < Duration::from_nanos(HOLD_NS) * 8 {
            self.put(&BlockItem::Tick(settled_ns))?;
        }
        if self.sampled.elapsed() >= SAMPLE {
            let probes = live.report();
            self.sample(probes)?;
        }
        if self.writer.waiting().is_some_and(|waiting| self.prompt || waiting >= FLUSH) {
            self.flush()?;
        }
        self.storing.look().map_err(|why| unwritable(&self.name, &why))?;
        if self.is_part_full() && !self.is_full() { self.rotate(live) } else { Ok(()) }
    }

    /// Looks at the devices once more: no event tells what drivers do when no process has a device open any more.
    fn ending(&mut self, live: &mut LiveSource) {
        self.ending = true;
        match live.look_again() {
            Ok(looked) => say_missing(looked),
            Err(error) => {
                note(&format!("the recording does not tell how devices were at its end: {error}"));
            },
        }
    }

    fn is_full(&self) -> bool {
        let RecordingLimits { bytes, records, .. } = self.all;
        bytes.is_some_and(|bytes| self.bytes + self.writer.written() >= bytes)
            || records.is_some_and(|records| self.records + self.writer.records() >= records)
    }
}

fn header(start: TraceStart, began_ns: u64, clock: ClockSample, facts: &KernelFacts) -> PartHeader {
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok().map(|id| id.trim().to_owned());
    let boot = boot_id.as_deref().unwrap_or("unknown");
    let drivers = facts.drivers.iter().map(|driver| DriverFacts {
        module: driver.module.clone(),
        functions: driver
            .functions
            .iter()
            .map(|function| (function.role.name().to_owned(), function.name.clone()))
            .collect(),
    });
    PartHeader {
        schema: SCHEMA.to_owned(),
        wire_version: wire::VERSION,
        byte_order: PartHeader::byte_order().to_owned(),
        recording: format!("{boot}/{}/{began_ns}", std::process::id()),
        part: 1,
        boot_id,
        began_ns,
        part_began_ns: began_ns,
        start,
        clock,
        settled_ticks: true,
        gaps_told: true,
        drivers: drivers.collect(),
        layout: members(&facts.layout),
    }
}

fn members(layout: &Layout) -> Vec<LayoutMember> {
    let member = |(field, name, path): &(Field, &str, &[&str])| {
        let slot = *field as u32;
        let known = layout.known & 1 << slot != 0;
        let offset = layout.offset.get(slot as usize).copied().filter(|_| known);
        LayoutMember { path: format!("{name}.{}", path.join(".")), offset_bytes: offset }
    };
    Field::ALL.iter().map(member).collect()
}

/// Says that the file to be replaced is neither gone nor where it was.
fn not_put_back(path: &Path, now: &Path) -> String {
    let (path, now) = (path.display(), now.display());
    format!(
        "nothing was recorded, and what was in {path} before could not be put back there: it is now in {now}"
    )
}

/// Makes the error of a header that cannot be written: nothing is in the recording yet, and a file that was made for it
/// goes away.
fn unbegun(name: &str, why: &io::Error) -> CliError {
    let todo = match why.kind() {
        io::ErrorKind::BrokenPipe => "let what reads the pipe live until the recording ends".to_owned(),
        io::ErrorKind::FileTooLarge => {
            format!("{}, or choose another place with -o", room_advice(why).unwrap_or_default())
        },
        _ => "choose another place with -o, or make room there".to_owned(),
    };
    CliError::failed(format!("cannot record to {name}"), why, todo)
}

fn unwritable(name: &str, why: &io::Error) -> CliError {
    let todo = match room_advice(why) {
        Some(room) => format!(
            "{room}, or limit the recording with --rotate and --keep; what was recorded until now can be replayed"
        ),
        None if why.kind() == io::ErrorKind::BrokenPipe => {
            "let what reads the pipe live until the recording ends".to_owned()
        },
        None => "choose another place with -o; what was recorded until now can be replayed".to_owned(),
    };
    CliError::with_code(FAILED, format!("recording to {name} has stopped"), why, todo)
}

#[cfg(test)]
mod tests;
