//! What `vfio-trace tail --format ndjson` printed, read as a stranger would: as JSON, by its documented names.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

/// The schema this reader knows.
const SCHEMA: &str = "vfio-trace.event/1";

/// A whole stream.
#[derive(Debug)]
pub(crate) struct Traced {
    /// Events, without the first and the last line.
    pub(crate) events: Vec<Value>,
    /// `data` of the last line.
    pub(crate) summary: Value,
}

/// A text field.
pub(crate) fn text<'v>(value: &'v Value, name: &str) -> Option<&'v str> {
    value.get(name)?.as_str()
}

impl Traced {
    /// Parses a stream; it must begin with `start`, end with `summary`, and carry the schema on every line.
    pub(crate) fn parse(ndjson: &str) -> Result<Self> {
        let mut lines = Vec::new();
        for (number, line) in (1..).zip(ndjson.lines()) {
            let value: Value =
                serde_json::from_str(line).with_context(|| format!("line {number} is not JSON"))?;
            ensure!(text(&value, "schema") == Some(SCHEMA), "line {number} has another schema");
            lines.push(value);
        }
        let kind = |value: Option<&Value>| {
            value.and_then(|value| text(value, "kind")).unwrap_or("nothing").to_owned()
        };
        let (first, last) = (kind(lines.first()), kind(lines.last()));
        ensure!(first == "start" && last == "summary", "the stream goes from {first} to {last}");
        lines.remove(0);
        let summary =
            lines.pop().and_then(|last| last.get("data").cloned()).context("the summary has no data")?;
        Ok(Self { events: lines, summary })
    }

    /// Nothing was lost, missed or misunderstood on the way.
    pub(crate) fn is_complete(&self) -> Result<()> {
        for name in ["lost", "missed", "unmatched", "undecoded"] {
            match self.summary.get(name).and_then(Value::as_u64) {
                Some(0) => {},
                other => bail!("the summary counts {other:?} {name}"),
            }
        }
        ensure!(
            self.summary.get("events").and_then(Value::as_u64) == Some(self.events.len() as u64),
            "the summary counts {:?} events, there are {}",
            self.summary.get("events"),
            self.events.len()
        );
        Ok(())
    }

    /// Events of one kind and device, in order.
    pub(crate) fn of<'t>(&'t self, kind: &'t str, device: &'t str) -> impl Iterator<Item = &'t Value> {
        self.events
            .iter()
            .filter(move |event| text(event, "kind") == Some(kind) && text(event, "device") == Some(device))
    }

    /// Names of all devices.
    pub(crate) fn devices(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.events.iter().filter_map(|event| text(event, "device")).map(str::to_owned).collect();
        names.sort();
        names.dedup();
        names
    }
}

/// The `data` of an event.
pub(crate) fn data(event: &Value) -> &Value {
    event.get("data").unwrap_or(&Value::Null)
}
