//! Formats a stream as one JSON object per line: the start, the events, the summary (docs/events.md).

use crate::event::{self, ClockAnchor, TraceStart, TraceSummary, VfioEvent, WallClock};

/// Makes the lines of one stream, each with its newline. `cli::events` has one per output.
#[derive(Clone, Debug)]
pub struct Ndjson {
    clock: WallClock,
}

impl Ndjson {
    /// Makes a formatter that computes wall times from `anchor`.
    pub fn new(anchor: ClockAnchor) -> Self {
        Self { clock: anchor.into() }
    }

    /// Sets the wall clock for the lines from now on; it knows of steps of CLOCK_REALTIME.
    pub fn set_clock(&mut self, clock: &WallClock) {
        self.clock = clock.clone();
    }

    /// Returns the first line. `mono_ns`: time at which all probes were attached.
    ///
    /// # Errors
    ///
    /// Errors of [`event::event_line`]: none in practice.
    pub fn start(&self, start: &TraceStart, mono_ns: u64) -> serde_json::Result<String> {
        event::start_line(start, mono_ns).map(ended)
    }

    /// Returns the line of an event.
    ///
    /// # Errors
    ///
    /// Errors of [`Self::start`].
    pub fn line(&self, event: &VfioEvent) -> serde_json::Result<String> {
        self.host_line(event, None)
    }

    /// Returns the line of an event on one of several hosts.
    ///
    /// # Errors
    ///
    /// Errors of [`Self::start`].
    pub fn host_line(&self, event: &VfioEvent, host: Option<&str>) -> serde_json::Result<String> {
        event::host_event_line(event, &self.clock.at(event.end_ns), host).map(ended)
    }

    /// Returns the last line. `mono_ns`: time at which tracing stopped.
    ///
    /// # Errors
    ///
    /// Errors of [`Self::start`].
    pub fn summary(&self, summary: &TraceSummary, mono_ns: u64) -> serde_json::Result<String> {
        event::summary_line(summary, &self.clock.at(mono_ns), mono_ns).map(ended)
    }
}

fn ended(mut line: String) -> String {
    line.push('\n');
    line
}
