//! From records to lines on standard output, and the account at the end, for `tail` and `replay`.

mod lines;

use std::io::{self, Write};

use clap::builder::NonEmptyStringValueParser;

pub(super) use self::lines::{EventLines, HostLabel};
use super::{
    error::CliError,
    output::{ColorMode, note, print_finished},
};
use crate::{
    event::{
        ClockAnchor, DecodeError, EventKind, GapTotals, ProbeReport, TraceStart, TraceSummary, WallClock,
        WireRecord,
    },
    output::{closing_table, summary_text},
    pipeline::Pipeline,
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

/// Options for the events that are shown, and for their form; to be flattened into a verb's arguments.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct EventArgs {
    /// Shape of the output.
    #[arg(long, value_enum, default_value = "text")]
    pub(super) format: EventFormat,
    /// Show only this device: its name in /sys (mdev UUID or PCI address) or the beginning of it. Repeatable.
    #[arg(
        long = "device",
        value_name = "NAME",
        value_delimiter = ',',
        value_parser = NonEmptyStringValueParser::new()
    )]
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

/// The probes' counts for the account at the end. A recording that was cut off has older ones, or none.
#[derive(Clone, Copy, Debug)]
pub(super) enum ProbeCounts<'a> {
    /// Counts of the whole run.
    Complete(&'a [ProbeReport]),
    /// Counts of some time before the end.
    Older(&'a [ProbeReport]),
    /// No counts.
    Unknown,
}

/// Printer of events: takes records, and writes lines of text or ndjson.
pub(super) struct EventPrinter<W: Write> {
    pipeline: Pipeline,
    lines: EventLines<W>,
    /// True if times in which functions were not probed are among the records.
    gaps_told: bool,
}

impl<W: Write> EventPrinter<W> {
    /// Makes a printer to any output; the output itself keeps its errors. Wall times are computed from `anchor`.
    pub(super) fn new(args: &EventArgs, anchor: ClockAnchor, out: W, color: bool) -> Self {
        let lines = EventLines::new(args, anchor, out, color);
        Self { pipeline: Pipeline::new(args.reveal), lines, gaps_told: true }
    }

    /// Flushes the output: its reader gets all lines made so far.
    pub(super) fn flush(&mut self) {
        self.lines.flush();
    }

    /// Returns true if no more events are to be shown: `--count` is reached, or the output takes nothing more.
    pub(super) fn is_full(&self) -> bool {
        self.lines.is_full()
    }

    /// Computes wall times from `clock` from now on: it knows of steps.
    pub(super) fn set_clock(&mut self, clock: &WallClock) {
        self.lines.set_clock(clock);
    }

    /// Prints the first line of the output.
    pub(super) fn start(&mut self, start: &TraceStart, mono_ns: u64) -> Result<(), CliError> {
        self.lines.start(start, mono_ns)
    }

    /// Takes in the next record, or the reason why it could not be decoded.
    pub(super) fn push(&mut self, record: Result<&WireRecord, DecodeError>) -> Result<(), CliError> {
        self.pipeline.push(record, &mut self.lines)
    }

    /// Advances the clock when there are no records.
    pub(super) fn tick(&mut self, now_ns: u64) -> Result<(), CliError> {
        self.pipeline.tick(now_ns, &mut self.lines)
    }

    /// Prints what is still in flight: no more records come.
    pub(super) fn finish(&mut self) -> Result<(), CliError> {
        self.pipeline.finish(&mut self.lines)?;
        self.flush();
        Ok(())
    }

    /// Notes that gaps are not among the records: their number is then not known.
    pub(super) const fn without_gaps(&mut self) {
        self.gaps_told = false;
    }

    /// Returns true if the output takes nothing more: its reader went away, or there is no room.
    pub(super) const fn is_gone(&self) -> bool {
        self.lines.is_gone()
    }

    /// Prints the account at the end: ndjson's last line, or tables on standard error. Without `ended` the end is not
    /// known: then ndjson has no last line, and its readers know by this. It has none either without the probes' counts
    /// at the end.
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
        let Self { pipeline, lines, gaps_told } = self;
        let (events, shown) = lines.counts();
        let mut summary = TraceSummary::new(probes, events, shown, pipeline.undecoded(), duration_ns);
        let end_ns = ended.unwrap_or_else(|| began.saturating_add(lines.report(None).duration_ns));
        summary.gaps = pipeline.gap_totals(end_ns).or_else(|| gaps_told.then(GapTotals::default));
        summary.forgotten = pipeline.forgotten();
        let forgotten = too_many(summary.forgotten).filter(|_| !args.quiet);
        if args.format == EventFormat::Ndjson {
            if let (ProbeCounts::Complete(_), Some(ended)) = (counted, ended) {
                lines.end(&summary, ended)?;
            }
            lines.flush();
            if let Some(text) = forgotten.filter(|_| !lines.is_gone()) {
                note(&text);
            }
            return Ok(());
        }
        lines.flush();
        if args.quiet || lines.is_gone() {
            return Ok(());
        }
        let color = args.color.on(&io::stderr());
        let report = lines.report(ended);
        if ended.is_none() {
            summary.duration_ns = report.duration_ns;
        }
        let devices = closing_table(&report, color);
        let gap = if devices.is_empty() { "" } else { "\n" };
        let missing = if ended.is_some() { "was not read" } else { "is missing" };
        let account = match counted {
            ProbeCounts::Unknown => {
                let events = human::count(events, "event");
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

/// Returns a note on things forgotten because there were more than are kept at a time; `None` if there were none.
pub(super) fn too_many(forgotten: u64) -> Option<String> {
    (forgotten > 0).then(|| {
        format!(
            "there is more at a time than is kept: {forgotten} of the devices, sessions, threads and notes were \
             forgotten, and what came of them later may be told apart"
        )
    })
}

/// Returns the same note during a run: at the first one, and each time that the number has doubled since `told`.
pub(super) fn too_many_more(forgotten: u64, told: &mut u64) -> Option<String> {
    let more = forgotten >= told.saturating_mul(2);
    let text = too_many(forgotten).filter(|_| more)?;
    *told = forgotten;
    Some(text)
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
