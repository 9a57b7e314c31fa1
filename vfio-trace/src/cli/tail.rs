//! `vfio-trace tail`: events on the terminal as they happen, and an account at the end.

use std::{io, time::Duration};

use bytes::Bytes;

use super::{
    error::CliError,
    events::{EventArgs, EventPrinter, ProbeCounts},
    out_file::OutFile,
    parse,
    session::{FinishedRun, LiveArgs, LiveNotes, LiveRun, block_on},
    signals::end_heeding,
};
use crate::{
    event::{ClockAnchor, DecodeError, WallClock, WireRecord},
    probe::ProbeChanges,
    recording::{ClockSample, StopFlag},
    source::{
        clock::{anchor, sample},
        live::{LiveSource, RunObserver},
    },
};

/// Arguments of `tail`.
#[derive(Debug, clap::Args)]
pub(super) struct TailArgs {
    #[command(flatten)]
    events: EventArgs,
    /// Stop after this time (10s, 1.5m, 200ms, 1h30m).
    #[arg(long, value_name = "TIME", value_parser = parse::duration)]
    duration: Option<Duration>,
    #[command(flatten)]
    live: LiveArgs,
}

/// Runs `vfio-trace tail`.
pub(super) fn main(args: &TailArgs) -> Result<u8, CliError> {
    block_on(run(args))
}

/// Events to standard output, with the wall clock as it is set and goes on.
struct TailOutput<'a> {
    stream: EventPrinter<&'a mut OutFile>,
    clock: WallClock,
    notes: LiveNotes,
}

impl TailOutput<'_> {
    /// Takes note if the wall clock was set, or the host was asleep: events since then have other wall times.
    fn sample(&mut self, found: &ClockSample) {
        if self.clock.sample(found.anchor(), found.error_ns) {
            self.stream.set_clock(&self.clock);
        }
    }
}

impl RunObserver for TailOutput<'_> {
    type Error = CliError;

    fn record(&mut self, _bytes: &Bytes, record: Result<&WireRecord, DecodeError>) -> Result<(), CliError> {
        if let Err(error) = record {
            self.notes.undecoded(error);
        }
        self.stream.push(record)
    }

    fn changes(&mut self, changes: &ProbeChanges) {
        self.notes.changes(changes);
    }

    fn pause(&mut self) -> Result<(), CliError> {
        self.stream.flush();
        Ok(())
    }

    fn tick(&mut self, settled_ns: u64, _live: &mut LiveSource) -> Result<(), CliError> {
        self.sample(&sample());
        self.stream.tick(settled_ns)?;
        self.stream.flush();
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.stream.is_full()
    }
}

async fn run(args: &TailArgs) -> Result<u8, CliError> {
    let mut session = LiveRun::open(&args.live)?;
    session.explain_pids(&args.events.pids);
    session.drop_privileges()?;
    let anchor = anchor();
    let mut out = OutFile::stdout_beside(&[])?.stopped_by(StopFlag::new(session.stop()));
    let (mut done, written) = show(args, &mut session, anchor, &mut out).await?;
    let told = out.finish();
    end_heeding();
    // Who reads no further wants to hear nothing more. All others are told of the command, whatever else went wrong.
    let code = if matches!(told, Ok(false)) { done.quiet_code() } else { done.code() };
    written?;
    told?;
    Ok(code)
}

/// Runs until the end; returns the run, and the error for which not all of it was shown.
async fn show(
    args: &TailArgs,
    session: &mut LiveRun,
    anchor: ClockAnchor,
    out: &mut OutFile,
) -> Result<(FinishedRun, Result<(), CliError>), CliError> {
    let color = args.events.color.on(&io::stdout());
    let mut stream = EventPrinter::new(&args.events, anchor, out, color);
    let (start, began) = session.begin(anchor)?;
    let traced = session.start(&args.live)?;
    stream.start(&start, began)?;
    let mut tail = TailOutput { stream, clock: anchor.into(), notes: session.notes() };
    let mut done = session.run(traced, args.duration, &mut tail).await?;
    if let Some(error) = done.error.take() {
        return Ok((done, Err(error)));
    }
    let stream = &mut tail.stream;
    let written = stream.finish().and_then(|()| {
        stream.account(
            &args.events,
            ProbeCounts::Complete(&session.live.report()),
            began,
            Some(done.ended_ns),
        )
    });
    Ok((done, written))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_counts_from_then_on() {
        const S: u64 = 1_000_000_000;
        let anchor = ClockAnchor { mono_ns: 10 * S, real_ns: 1_795_362_020 * S };
        let mut out = OutFile::stdout();
        let stream = EventPrinter::new(&EventArgs::default(), anchor, &mut out, false);
        let mut tail = TailOutput { stream, clock: anchor.into(), notes: LiveNotes::default() };
        let later = ClockSample { mono_ns: 20 * S, real_ns: anchor.real_ns + 3_610 * S, ..sample() };
        tail.sample(&ClockSample { error_ns: 0, ..later });
        assert_eq!(tail.clock.rfc3339(21 * S), "2026-11-22T16:40:31.000000000Z");
        assert_eq!(tail.clock.rfc3339(11 * S), "2026-11-22T15:40:21.000000000Z");
    }
}
