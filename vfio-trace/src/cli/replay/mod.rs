//! `vfio-trace replay`: a recording's events as `tail` would have shown them, on any machine.

mod hosts;

use std::{io, path::PathBuf};

use bytes::Bytes;

use super::{
    error::CliError,
    events::{EventArgs, EventFormat, EventPrinter, ProbeCounts},
    host::HostArgs,
    out_file::OutFile,
    output::note,
    recording::{self, Demand, ProgressLine, RecordSink},
};
use crate::{
    event::{TraceStart, WallClock, WireRecord},
    recording::ClockSample,
    source::recording::RecordingSource,
};

/// Arguments of `replay`.
#[derive(Debug, clap::Args)]
pub(super) struct ReplayArgs {
    /// The recording; all or some parts of it in any order if it has several; - for standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    host: HostArgs,
    #[command(flatten)]
    events: EventArgs,
}

/// Runs `vfio-trace replay`.
pub(super) fn main(args: &ReplayArgs) -> Result<u8, CliError> {
    let mut out = OutFile::stdout_beside(&args.files)?;
    let color = args.events.color.on(&io::stdout());
    let code = show(&args.files, &args.host, &args.events, &mut out, color)?;
    out.finish()?;
    Ok(code)
}

/// Shows the events of a recording, of a merged one, or of one host of it, on any output; returns the exit code.
pub(super) fn show<W: io::Write>(
    files: &[PathBuf],
    host: &HostArgs,
    events: &EventArgs,
    out: W,
    color: bool,
) -> Result<u8, CliError> {
    let mut recording = host.open(files)?;
    if host.host.is_none() && recording.merge().is_some() {
        return hosts::show(files, events, out, color);
    }
    let mut stream = EventPrinter::new(events, recording.header().start.clock, out, color);
    replay(&mut recording, &mut stream, events, env!("CARGO_PKG_VERSION"))
}

/// Sink that shows the events of a recording as they come.
struct RecordingPlayer<'a, W: io::Write> {
    stream: &'a mut EventPrinter<W>,
    /// Latest moment that was shown, CLOCK_MONOTONIC in ns.
    last_ns: u64,
    clock: WallClock,
}

impl<W: io::Write> RecordSink for RecordingPlayer<'_, W> {
    fn demand(&self) -> Demand {
        match (self.stream.is_gone(), self.stream.is_full()) {
            (true, _) => Demand::Nothing,
            // The end has the probes' counts.
            (false, true) => Demand::End,
            (false, false) => Demand::All,
        }
    }

    fn record(&mut self, bytes: &Bytes) -> Result<(), CliError> {
        let record = WireRecord::decode(bytes);
        self.last_ns = record.as_ref().map_or(0, |record| record.header.end_ns).max(self.last_ns);
        self.stream.push(record.as_ref().map_err(|error| *error))
    }

    fn tick(&mut self, ns: u64) -> Result<(), CliError> {
        self.stream.tick(ns)
    }

    fn clock(&mut self, sample: ClockSample) {
        if self.clock.sample(sample.anchor(), sample.error_ns) {
            self.stream.set_clock(&self.clock);
        }
    }

    fn pause(&mut self) {
        self.stream.flush();
    }
}

fn replay<W: io::Write>(
    recording: &mut RecordingSource,
    stream: &mut EventPrinter<W>,
    args: &EventArgs,
    version: &str,
) -> Result<u8, CliError> {
    let (start, began) = recording.start();
    let start = TraceStart { replayed_by: Some(version.to_owned()), ..start };
    if !recording.header().gaps_told {
        stream.without_gaps();
    }
    let clock = start.clock.into();
    stream.start(&start, began)?;
    let mut player = RecordingPlayer { stream, last_ns: began, clock };
    let through = recording::read(recording, &mut player, ProgressLine::new("replaying").beside_output())?;
    let RecordingPlayer { stream, last_ns, clock: _ } = player;
    stream.finish()?;
    let ended = recording.ended();
    let (full, whole) = (stream.is_full(), ended.is_some() || !through.is_damaged());
    // Where no more was to be shown, nothing that follows counts: no event has come from it, and no time either.
    let ended_ns = if full { whole.then_some(last_ns) } else { ended.as_ref().map(|ended| ended.mono_ns) };
    let last = recording.last_probes();
    let counted = match (&ended, &last) {
        (Some(ended), _) => ProbeCounts::Complete(&ended.probes),
        (None, Some(last)) => ProbeCounts::Older(last),
        (None, None) => ProbeCounts::Unknown,
    };
    stream.account(args, counted, began, ended_ns)?;
    if stream.is_gone() {
        return through.code_of_all();
    }
    if full && ended.is_some() && args.format == EventFormat::Text && !args.quiet {
        note("the probes' figures are those of the whole recording");
    }
    for text in recording::not_given(recording) {
        note(&text);
    }
    through.code_of_all()
}

#[cfg(test)]
pub(super) mod tests;
