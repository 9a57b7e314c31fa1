//! Events as JSON, one object per line; docs/events.md and docs/schema/event-1.json describe every field.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde_json::{Value, json};

use super::{ClockAnchor, EventKind, TraceStart, TraceSummary, VfioEvent};
use crate::units::{
    schema::{SchemaHead, narrow, schema_of},
    visible,
};

/// Value of the field `schema`. The number changes when a field goes away or changes its meaning, not when one is
/// added.
pub const SCHEMA_ID: &str = "vfio-trace.event/1";

/// The JSON Schema (draft 2020-12) of a line.
pub const SCHEMA: &str = include_str!("../../../docs/schema/event-1.json");

/// The members of every line; the order of the fields is the order in the line.
#[derive(Serialize, JsonSchema)]
struct JsonLine<'a, T> {
    /// Name and version of this schema. The number changes when a field goes away or changes its meaning, not when one is
    /// added.
    schema: &'static str,
    /// Kind of the event; `start` and `summary` are the first and the last line of a stream.
    kind: &'a str,
    /// Name of the host that it was traced on, if there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    host: Option<&'a str>,
    /// Wall time of `mono_ns`: RFC 3339 in UTC, with nanoseconds.
    #[schemars(regex(pattern = TIME))]
    time: String,
    /// CLOCK_MONOTONIC in ns when it ended. If the end was not seen: when the tracer learned that it was over.
    mono_ns: u64,
    /// CLOCK_MONOTONIC in ns when it began.
    start_mono_ns: u64,
    /// Duration in ns; null if the end was not seen, or for kinds that take no time.
    duration_ns: Option<u64>,
    /// PCI address or mdev UUID of the device, as in /sys; null if it is not known or the line is of no device.
    device: Option<&'a str>,
    /// Name of the device's driver; null if it is not known or the line is of no device.
    driver: Option<&'a str>,
    /// Process as the host counts it (the kernel's `tgid`); 0 in a `probe_gap`, null in lines about the stream itself.
    pid: Option<u32>,
    /// Thread as the host counts it (the kernel's `pid`); 0 in a `probe_gap`, null in lines about the stream itself.
    tid: Option<u32>,
    /// Name of the thread, chosen by itself; null in lines about the stream itself.
    comm: Option<&'a str>,
    /// Data of the kind.
    #[schemars(with = "serde_json::Map<String, Value>")]
    data: &'a T,
}

/// Pattern of a time: RFC 3339 in UTC, with nanoseconds.
const TIME: &str = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{9}Z$";

impl<'a, T: Serialize> JsonLine<'a, T> {
    /// Makes a line about the stream itself.
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

/// Writes one event as a line, without the newline.
///
/// # Errors
///
/// None that the types here can cause; serde's interface has them.
pub fn event_line(event: &VfioEvent, anchor: &ClockAnchor) -> serde_json::Result<String> {
    host_event_line(event, anchor, None)
}

/// Writes one event of one of several hosts as a line that names the host.
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

/// Writes the first line of a stream: tool, kernel, probes. `mono_ns`: time at which all probes were attached.
///
/// # Errors
///
/// As [`event_line`].
pub fn start_line(start: &TraceStart, mono_ns: u64) -> serde_json::Result<String> {
    JsonLine::of_stream("start", &start.clock, mono_ns, start).text()
}

/// Writes the last line of a stream: the counts. `mono_ns`: time at which tracing stopped.
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

const HEAD: SchemaHead = SchemaHead {
    name: SCHEMA_ID,
    title: "One line of vfio-trace tail --format ndjson",
    description: "docs/events.md explains the fields. Readers ignore fields that they do not know: version 1 may gain \
                  some.",
};

/// A line of any kind, for its schema: its data is as the kind says.
struct AnyLine;

impl JsonSchema for AnyLine {
    fn schema_name() -> Cow<'static, str> {
        "Line".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut kinds: Vec<(&str, Schema)> = vec![
            ("start", generator.subschema_for::<TraceStart>()),
            ("summary", generator.subschema_for::<TraceSummary>()),
        ];
        kinds.extend(EventKind::ALL.map(|kind| (kind.name(), kind.data_schema(generator))));
        let of_kind = |(kind, data): &(&str, Schema)| {
            json!({
                "if": {"properties": {"kind": {"const": kind}}},
                "then": {"properties": {"data": data}},
            })
        };
        let parts: Vec<Value> = kinds.iter().map(of_kind).collect();
        let names: Vec<&str> = kinds.iter().map(|(name, _)| *name).collect();
        let mut line = JsonLine::<'static, ()>::json_schema(generator);
        line.insert("allOf".to_owned(), Value::Array(parts));
        let fields = line.get_mut("properties");
        narrow(fields.and_then(|fields| fields.get_mut("kind")), "enum", json!(names));
        line
    }
}

/// Makes the schema of a line from the types, as it is kept in `docs/schema`.
pub fn event_schema() -> Value {
    let mut schema = schema_of::<AnyLine>(&HEAD);
    for_readers_of_json(&mut schema);
    schema
}

/// Replaces the types' own words for a missing value, and their links, by those of JSON.
fn for_readers_of_json(schema: &mut Value) {
    match schema {
        Value::Object(parts) => {
            for (name, part) in parts {
                match part {
                    Value::String(text) if name == "description" => {
                        *text = text.replace("`None`", "null").replace("[`", "`").replace("`]", "`");
                    },
                    part => for_readers_of_json(part),
                }
            }
        },
        Value::Array(parts) => parts.iter_mut().for_each(for_readers_of_json),
        _ => {},
    }
}
