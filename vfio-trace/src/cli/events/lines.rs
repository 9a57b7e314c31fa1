//! Events as lines of an output: which of them are shown, and how.

use std::io::{self, Write};

use super::{EventArgs, EventFormat, TimeColumn};
use crate::{
    cli::{error::CliError, zone},
    event::{ClockAnchor, EventFilter, EventKind, TraceStart, TraceSummary, VfioEvent, WallClock},
    output::{Ndjson, TextFormatter, TextOptions, TimeFormat},
    pipeline::EventConsumer,
    state::{TraceModel, TraceReport},
    units::{human, width::padded},
};

/// Host that a line is of, where events of several hosts are shown.
pub(in crate::cli) struct HostLabel {
    /// Name of the host.
    pub(in crate::cli) name: String,
    /// Number of columns that the longest name of a host takes.
    pub(in crate::cli) width: usize,
}

impl HostLabel {
    /// Puts the name into the first column of a line.
    fn before(&self, line: &str) -> String {
        format!("{}  {line}", padded(&human::clean(&self.name), self.width))
    }
}

/// Formatter that makes lines of events.
enum EventSink {
    Text(Box<TextFormatter>),
    Ndjson(Ndjson),
}

/// Events in, lines out; counts them, and keeps what they add up to.
pub(in crate::cli) struct EventLines<W: Write> {
    filter: EventFilter,
    sink: EventSink,
    out: io::BufWriter<W>,
    model: TraceModel,
    events: u64,
    shown: u64,
    limit: Option<u64>,
    /// True if nothing more can be written.
    gone: bool,
}

impl<W: Write> EventConsumer for EventLines<W> {
    type Error = CliError;

    fn event(&mut self, event: VfioEvent) -> Result<(), CliError> {
        self.model.apply(&event);
        self.show_event(&event, None)
    }
}

impl<W: Write> EventLines<W> {
    /// Writes to any output, which knows itself what has gone wrong with it. Wall times are computed from `anchor`.
    pub(in crate::cli) fn new(args: &EventArgs, anchor: ClockAnchor, out: W, color: bool) -> Self {
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
            model: TraceModel::new(),
            events: 0,
            shown: 0,
            limit: args.count,
            gone: false,
        }
    }

    fn write(&mut self, line: &str) {
        // Whether that is a normal end (`| head`) or a failure, the output tells when it is finished.
        self.gone |= self.out.write_all(line.as_bytes()).is_err();
    }

    /// Lets readers have what was made.
    pub(in crate::cli) fn flush(&mut self) {
        self.gone |= self.out.flush().is_err();
    }

    /// Returns true if the run is over as far as its output goes.
    pub(in crate::cli) fn is_full(&self) -> bool {
        self.gone || self.limit.is_some_and(|limit| self.shown >= limit)
    }

    /// Computes wall times from another clock from now on, which knows of steps.
    pub(in crate::cli) fn set_clock(&mut self, clock: &WallClock) {
        match &mut self.sink {
            EventSink::Text(text) => text.set_clock(clock),
            EventSink::Ndjson(ndjson) => ndjson.set_clock(clock),
        }
    }

    /// Writes the first line.
    pub(in crate::cli) fn start(&mut self, start: &TraceStart, mono_ns: u64) -> Result<(), CliError> {
        let line = match &self.sink {
            EventSink::Text(text) => text.header(),
            EventSink::Ndjson(ndjson) => ndjson.start(start, mono_ns).map_err(unwritable)?,
        };
        self.write(&line);
        self.flush();
        Ok(())
    }

    /// Shows an event if it is to be shown. `host`: which of several it is of.
    pub(in crate::cli) fn show_event(
        &mut self,
        event: &VfioEvent,
        host: Option<&HostLabel>,
    ) -> Result<(), CliError> {
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

    /// Writes the first lines for several hosts. Times are those of the stream's clock.
    pub(in crate::cli) fn start_hosts(
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

    /// Returns true if nothing gets through any more: the reader went away, or there is no room.
    pub(in crate::cli) const fn is_gone(&self) -> bool {
        self.gone
    }

    /// Writes the last line, where there is one.
    pub(super) fn end(&mut self, summary: &TraceSummary, ended_ns: u64) -> Result<(), CliError> {
        if let EventSink::Ndjson(ndjson) = &self.sink {
            let line = ndjson.summary(summary, ended_ns).map_err(unwritable)?;
            self.write(&line);
        }
        Ok(())
    }

    /// Returns how many events there were, and how many of them were shown.
    pub(super) const fn counts(&self) -> (u64, u64) {
        (self.events, self.shown)
    }

    /// Returns what the events add up to; `ended`: when the run did, if that is known.
    pub(super) fn report(&self, ended: Option<u64>) -> TraceReport {
        self.model.report(ended)
    }
}

fn unwritable(error: serde_json::Error) -> CliError {
    CliError::bug("cannot write an event as JSON", error)
}
