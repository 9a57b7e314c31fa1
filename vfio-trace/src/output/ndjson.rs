//! One JSON object per line: the stream's start, its events, its summary (docs/events.md).

use crate::event::{self, ClockAnchor, TraceStart, TraceSummary, VfioEvent, WallClock};

/// Makes the lines of one stream, each with its newline.
#[derive(Clone, Debug)]
pub struct Ndjson {
    clock: WallClock,
}

impl Ndjson {
    /// Wall times are computed from `anchor`.
    pub fn new(anchor: ClockAnchor) -> Self {
        Self { clock: anchor.into() }
    }

    /// Another wall clock from now on, which knows of steps.
    pub fn set_clock(&mut self, clock: &WallClock) {
        self.clock = clock.clone();
    }

    /// The first line. `mono_ns`: when all probes were attached.
    ///
    /// # Errors
    ///
    /// As [`event::event_line`], which is: none in practice.
    pub fn start(&self, start: &TraceStart, mono_ns: u64) -> serde_json::Result<String> {
        event::start_line(start, mono_ns).map(ended)
    }

    /// One event.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub fn line(&self, event: &VfioEvent) -> serde_json::Result<String> {
        self.host_line(event, None)
    }

    /// One event of one of several hosts.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub fn host_line(&self, event: &VfioEvent, host: Option<&str>) -> serde_json::Result<String> {
        event::host_event_line(event, &self.clock.at(event.end_ns), host).map(ended)
    }

    /// The last line. `mono_ns`: when tracing stopped.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub fn summary(&self, summary: &TraceSummary, mono_ns: u64) -> serde_json::Result<String> {
        event::summary_line(summary, &self.clock.at(mono_ns), mono_ns).map(ended)
    }
}

fn ended(mut line: String) -> String {
    line.push('\n');
    line
}
