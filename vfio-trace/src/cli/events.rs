//! What `tail` and `replay` share: from records to lines on standard output, and the account at the end.

use std::io::{self, Write};

use super::{
    error::CliError,
    output::{ColorMode, note, print_finished},
    zone,
};
use crate::{
    driver::PluginDispatcher,
    event::{
        ClockAnchor, DecodeError, EventAssembler, EventData, EventFilter, EventKind, GapTracker, ProbeReport,
        TraceStart, TraceSummary, VfioEvent, WallClock, WireRecord,
    },
    output::{Ndjson, TextFormatter, TextOptions, TimeFormat, closing_table, summary_text},
    state::TraceModel,
    units::human,
};

/// Shape of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum EventFormat {
    /// One aligned line per event.
    #[default]
    Text,
    /// One JSON object per line; docs/events.md describes it.
    Ndjson,
}

/// First column of the text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum TimeColumn {
    /// Wall time of day.
    #[default]
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

/// Which events are shown, and how; to be flattened into a verb's arguments.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct EventArgs {
    /// Shape of the output.
    #[arg(long, value_enum, default_value = "text")]
    pub(super) format: EventFormat,
    /// Show only this device: its name in /sys (mdev UUID or PCI address) or the beginning of it. Repeatable.
    #[arg(long = "device", value_name = "NAME", value_delimiter = ',')]
    pub(super) devices: Vec<String>,
    /// Show only these kinds of events: device, open, close, arc, set_state, read, write, … (see docs/events.md).
    #[arg(long = "kind", value_name = "KIND", value_delimiter = ',')]
    pub(super) kinds: Vec<EventKind>,
    /// Show only what this process or thread did, by its number in the host's PID namespace. Repeatable.
    #[arg(long = "pid", value_name = "PID", value_delimiter = ',')]
    pub(super) pids: Vec<u32>,
    /// Stop after this many shown events.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) count: Option<u64>,
    /// What the first column of the text shows.
    #[arg(long, value_enum, default_value = "clock")]
    pub(super) time: TimeColumn,
    /// Wall times in UTC instead of local time.
    #[arg(long)]
    pub(super) utc: bool,
    /// Colours.
    #[arg(long, value_enum, default_value = "auto")]
    pub(super) color: ColorMode,
    /// No account at the end (text only; ndjson ends with its summary line all the same).
    #[arg(long, short)]
    pub(super) quiet: bool,
    /// Show what is redacted otherwise: addresses of the guest's memory in images of a driver's structures.
    #[arg(long)]
    pub(super) reveal: bool,
}

/// Which host a line is of.
pub(super) struct HostLabel {
    /// Its name.
    pub(super) name: String,
    /// Columns that the longest name takes.
    pub(super) width: usize,
}

impl HostLabel {
    /// In the first column of a line.
    fn before(&self, line: &str) -> String {
        format!("{:<width$}  {line}", human::clean(&self.name), width = self.width)
    }
}

/// What is known of what the probes have counted.
#[derive(Clone, Copy, Debug)]
pub(super) enum ProbeCounts<'a> {
    /// All.
    Complete(&'a [ProbeReport]),
    /// What it was some time before the end.
    Older(&'a [ProbeReport]),
    /// Nothing.
    Unknown,
}

/// Where events go.
enum EventSink {
    Text(Box<TextFormatter>),
    Ndjson(Ndjson),
}

/// Records in, lines out.
pub(super) struct EventPrinter<W: Write> {
    filter: EventFilter,
    sink: EventSink,
    out: io::BufWriter<W>,
    assembler: EventAssembler,
    interpreter: PluginDispatcher,
    model: TraceModel,
    events: u64,
    shown: u64,
    undecoded: u64,
    /// `None`: they are not told.
    gaps: Option<GapTracker>,
    limit: Option<u64>,
    /// Nothing gets through any more.
    gone: bool,
}

impl<W: Write> EventPrinter<W> {
    /// To any output, which knows itself what has gone wrong with it. Wall times are computed from `anchor`.
    pub(super) fn new(args: &EventArgs, anchor: ClockAnchor, out: W, color: bool) -> Self {
        let filter =
            EventFilter { devices: args.devices.clone(), kinds: args.kinds.clone(), pids: args.pids.clone() };
        let sink = match args.format {
            EventFormat::Ndjson => EventSink::Ndjson(Ndjson::new(anchor)),
            EventFormat::Text => EventSink::Text(Box::new(TextFormatter::new(TextOptions {
                anchor,
                zone: zone::display_zone(args.utc),
                time: match args.time {
                    TimeColumn::Clock => TimeFormat::Clock,
                    TimeColumn::Date => TimeFormat::Date,
                    TimeColumn::Monotonic => TimeFormat::Monotonic,
                    TimeColumn::Relative => TimeFormat::Relative,
                    TimeColumn::Delta => TimeFormat::Delta,
                },
                color,
            }))),
        };
        Self {
            filter,
            sink,
            out: io::BufWriter::with_capacity(1 << 16, out),
            assembler: EventAssembler::new(),
            interpreter: PluginDispatcher::new(args.reveal),
            model: TraceModel::new(),
            events: 0,
            shown: 0,
            undecoded: 0,
            gaps: Some(GapTracker::default()),
            limit: args.count,
            gone: false,
        }
    }

    fn write(&mut self, line: &str) {
        // Whether that is a normal end (`| head`) or a failure, the output tells when it is finished.
        self.gone |= self.out.write_all(line.as_bytes()).is_err();
    }

    /// Lets readers have what was made.
    pub(super) fn flush(&mut self) {
        self.gone |= self.out.flush().is_err();
    }

    /// Whether the run is over as far as its output goes.
    pub(super) fn is_full(&self) -> bool {
        self.gone || self.limit.is_some_and(|limit| self.shown >= limit)
    }

    /// Wall times are computed from another clock from now on, which knows of steps.
    pub(super) fn set_clock(&mut self, clock: &WallClock) {
        match &mut self.sink {
            EventSink::Text(text) => text.set_clock(clock),
            EventSink::Ndjson(ndjson) => ndjson.set_clock(clock),
        }
    }

    /// The first line.
    pub(super) fn start(&mut self, start: &TraceStart, mono_ns: u64) -> Result<(), CliError> {
        let line = match &self.sink {
            EventSink::Text(text) => text.header(),
            EventSink::Ndjson(ndjson) => ndjson.start(start, mono_ns).map_err(unwritable)?,
        };
        self.write(&line);
        self.flush();
        Ok(())
    }

    /// The next record, or why it is none.
    pub(super) fn push(&mut self, record: Result<&WireRecord, DecodeError>) -> Result<(), CliError> {
        let Ok(record) = record else {
            self.undecoded += 1;
            return Ok(());
        };
        let events = self.assembler.push(record);
        for event in &events {
            if let EventData::ProbeGap(gap) = &event.data {
                self.gaps.get_or_insert_default().add(gap);
            }
        }
        self.show(events)
    }

    /// Tells the time when no record does.
    pub(super) fn expire(&mut self, now_ns: u64) -> Result<(), CliError> {
        let events = self.assembler.expire(now_ns);
        self.show(events)
    }

    /// No more records: what is still in flight.
    pub(super) fn finish(&mut self) -> Result<(), CliError> {
        let rest = self.assembler.finish();
        self.show(rest)?;
        self.flush();
        Ok(())
    }

    fn show(&mut self, events: Vec<VfioEvent>) -> Result<(), CliError> {
        for event in self.interpreter.apply(events) {
            self.model.apply(&event);
            self.show_event(&event, None)?;
        }
        Ok(())
    }

    /// An event that was interpreted before. `host`: which of several it is of.
    pub(super) fn show_event(&mut self, event: &VfioEvent, host: Option<&HostLabel>) -> Result<(), CliError> {
        self.events += 1;
        // An image is for programs, and for those who ask for it.
        let unasked = matches!(self.sink, EventSink::Text(_)) && self.filter.kinds.is_empty();
        if self.is_full() || !self.filter.matches(event) || (unasked && event.kind() == EventKind::Image) {
            return Ok(());
        }
        self.shown += 1;
        let line = match (&mut self.sink, host) {
            (EventSink::Text(text), None) => text.line(event),
            (EventSink::Text(text), Some(host)) => host.before(&text.line(event)),
            (EventSink::Ndjson(ndjson), host) => {
                ndjson.host_line(event, host.map(|host| &*host.name)).map_err(unwritable)?
            },
        };
        self.write(&line);
        Ok(())
    }

    /// The first lines for several hosts. Times are those of the stream's clock.
    pub(super) fn start_hosts(
        &mut self,
        starts: &[(TraceStart, u64)],
        label: &HostLabel,
    ) -> Result<(), CliError> {
        let line = match &self.sink {
            EventSink::Text(text) => label.before(&text.header()),
            EventSink::Ndjson(ndjson) => {
                let lines = starts.iter().map(|(start, mono_ns)| ndjson.start(start, *mono_ns));
                lines.collect::<Result<String, _>>().map_err(unwritable)?
            },
        };
        self.write(&line);
        Ok(())
    }

    /// Gaps are not among the records: whether there were any is not known.
    pub(super) fn without_gaps(&mut self) {
        self.gaps = None;
    }

    /// Whether nothing gets through any more: the reader went away, or there is no room.
    pub(super) const fn is_gone(&self) -> bool {
        self.gone
    }

    /// The account at the end: ndjson's last line, or tables on standard error. Without `ended` the end is not known:
    /// then ndjson has no last line, which is how its readers know; nor if it is not known what the probes have counted.
    pub(super) fn account(
        &mut self,
        args: &EventArgs,
        counted: ProbeCounts<'_>,
        began: u64,
        ended: Option<u64>,
    ) -> Result<(), CliError> {
        let duration_ns = ended.unwrap_or(began).saturating_sub(began);
        let probes = match counted {
            ProbeCounts::Complete(probes) | ProbeCounts::Older(probes) => probes.to_vec(),
            ProbeCounts::Unknown => Vec::new(),
        };
        let mut summary = TraceSummary::new(probes, self.events, self.shown, self.undecoded, duration_ns);
        let end_ns = ended.unwrap_or_else(|| began.saturating_add(self.model.report(None).duration_ns));
        summary.gaps = self.gaps.as_ref().map(|gaps| gaps.totals(end_ns));
        summary.forgotten = self.assembler.forgotten(self.interpreter.forgotten());
        let forgotten = too_many(summary.forgotten).filter(|_| !args.quiet);
        if let EventSink::Ndjson(ndjson) = &self.sink {
            if let (ProbeCounts::Complete(_), Some(ended)) = (counted, ended) {
                let line = ndjson.summary(&summary, ended).map_err(unwritable)?;
                self.write(&line);
            }
            self.flush();
            if let Some(text) = forgotten.filter(|_| !self.gone) {
                note(&text);
            }
            return Ok(());
        }
        self.flush();
        if args.quiet || self.gone {
            return Ok(());
        }
        let color = args.color.on(&io::stderr());
        let report = self.model.report(ended);
        if ended.is_none() {
            summary.duration_ns = report.duration_ns;
        }
        let devices = closing_table(&report, color);
        let gap = if devices.is_empty() { "" } else { "\n" };
        let missing = if ended.is_some() { "was not read" } else { "is missing" };
        let account = match counted {
            ProbeCounts::Unknown => {
                let events = human::count(self.events, "event");
                format!("{events}; what the probes lost or missed is not known, because the end {missing}")
            },
            ProbeCounts::Complete(_) | ProbeCounts::Older(_) => summary_text(&summary, color),
        };
        print_finished(&format!("\n{devices}{gap}{}", account.trim_end()));
        if let Some(text) = &forgotten {
            note(text);
        }
        if matches!(counted, ProbeCounts::Older(_)) {
            note(&format!(
                "the probes' figures are older than the last events, by up to 10 s, because the end {missing}"
            ));
        }
        Ok(())
    }
}

/// What to say if there was more than is kept at a time.
pub(super) fn too_many(forgotten: u64) -> Option<String> {
    (forgotten > 0).then(|| {
        format!(
            "there is more at a time than is kept: {forgotten} of the devices, sessions, threads and notes were \
             forgotten, and what came of them later may be told apart"
        )
    })
}

/// The same while it goes on: said first when there is any, and again each time that it has doubled.
pub(super) fn too_many_more(forgotten: u64, told: &mut u64) -> Option<String> {
    let more = forgotten >= told.saturating_mul(2);
    let text = too_many(forgotten).filter(|_| more)?;
    *told = forgotten;
    Some(text)
}

fn unwritable(error: serde_json::Error) -> CliError {
    CliError::failed("cannot write an event as JSON", error, "report this as a bug")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_forgotten_while_it_goes_on_is_said_again_when_it_has_doubled() {
        let mut told = 0;
        let said =
            [0, 1, 1, 2, 3, 3, 4, 9, 17].map(|forgotten| too_many_more(forgotten, &mut told).is_some());
        assert_eq!(said, [false, true, false, true, false, false, true, true, false]);
        let text = too_many_more(18, &mut told).unwrap();
        assert!(text.contains("18 of the devices"), "{text}");
    }
}
