//! Events as JSON, one object per line; docs/events.md and docs/schema/event-1.json describe every field.

use serde::Serialize;

use super::{ClockAnchor, TraceStart, TraceSummary, VfioEvent};
use crate::units::visible;

/// Value of the field `schema`. The number changes when a field goes away or changes its meaning, not when one is added.
pub const SCHEMA_ID: &str = "vfio-trace.event/1";

/// The JSON Schema (draft 2020-12) of a line.
pub const SCHEMA: &str = include_str!("../../../docs/schema/event-1.json");

/// What every line has; the order of the fields is the order in the line.
#[derive(Serialize)]
struct JsonLine<'a, T> {
    schema: &'static str,
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    time: String,
    mono_ns: u64,
    start_mono_ns: u64,
    duration_ns: Option<u64>,
    device: Option<&'a str>,
    driver: Option<&'a str>,
    pid: Option<u32>,
    tid: Option<u32>,
    comm: Option<&'a str>,
    data: &'a T,
}

impl<'a, T: Serialize> JsonLine<'a, T> {
    /// A line about the stream itself.
    fn of_stream(kind: &'a str, anchor: &ClockAnchor, mono_ns: u64, data: &'a T) -> Self {
        Self {
            schema: SCHEMA_ID,
            kind,
            host: None,
            time: anchor.rfc3339(mono_ns),
            mono_ns,
            start_mono_ns: mono_ns,
            duration_ns: None,
            device: None,
            driver: None,
            pid: None,
            tid: None,
            comm: None,
            data,
        }
    }

    fn text(&self) -> serde_json::Result<String> {
        visible::json(self)
    }
}

/// One event as a line, without the newline.
///
/// # Errors
///
/// None that the types here can cause; serde's interface has them.
pub fn event_line(event: &VfioEvent, anchor: &ClockAnchor) -> serde_json::Result<String> {
    host_event_line(event, anchor, None)
}

/// The same for one of several hosts: the line names it.
///
/// # Errors
///
/// As [`event_line`].
pub fn host_event_line(
    event: &VfioEvent,
    anchor: &ClockAnchor,
    host: Option<&str>,
) -> serde_json::Result<String> {
    let line = JsonLine {
        schema: SCHEMA_ID,
        kind: event.kind().name(),
        host,
        time: anchor.rfc3339(event.end_ns),
        mono_ns: event.end_ns,
        start_mono_ns: event.start_ns,
        duration_ns: event.duration_ns,
        device: event.device_name(),
        driver: event.driver(),
        pid: Some(event.process.pid),
        tid: Some(event.process.tid),
        comm: Some(&event.process.comm),
        data: &event.data,
    };
    line.text()
}

/// The first line of a stream: tool, kernel, probes. `mono_ns`: when all probes were attached.
///
/// # Errors
///
/// As [`event_line`].
pub fn start_line(start: &TraceStart, mono_ns: u64) -> serde_json::Result<String> {
    JsonLine::of_stream("start", &start.clock, mono_ns, start).text()
}

/// The last line of a stream: what was counted. `mono_ns`: when tracing stopped.
///
/// # Errors
///
/// As [`event_line`].
pub fn summary_line(
    summary: &TraceSummary,
    anchor: &ClockAnchor,
    mono_ns: u64,
) -> serde_json::Result<String> {
    let mut line = JsonLine::of_stream("summary", anchor, mono_ns, summary);
    line.start_mono_ns = mono_ns.saturating_sub(summary.duration_ns);
    line.duration_ns = Some(summary.duration_ns);
    line.text()
}
