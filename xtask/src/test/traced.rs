//! The output of `vfio-trace tail --format ndjson`, read only by the names that are documented.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::documented;

/// A whole stream of `tail`. Parsed from a file that a guest left; nearly all checks compare something with it.
#[derive(Debug)]
pub(crate) struct Traced {
    /// `data` of the first line.
    pub(crate) start: Value,
    /// Events, without the first and the last line.
    pub(crate) events: Vec<Value>,
    /// `data` of the last line.
    pub(crate) summary: Value,
}

/// Returns a text field.
pub(crate) fn text<'v>(value: &'v Value, name: &str) -> Option<&'v str> {
    value.get(name)?.as_str()
}

impl Traced {
    /// Parses a stream. It must begin with `start`, end with `summary`, and every line must be as the schema says.
    pub(crate) fn parse(ndjson: &str) -> Result<Self> {
        let read = Self::read(ndjson)?;
        documented::check_lines(ndjson)?;
        Ok(read)
    }

    /// Parses a stream without a look at the schema.
    pub(crate) fn read(ndjson: &str) -> Result<Self> {
        let mut lines = Vec::new();
        for (number, line) in (1..).zip(ndjson.lines()) {
            let value: Value =
                serde_json::from_str(line).with_context(|| format!("line {number} is not JSON"))?;
            lines.push(value);
        }
        let kind = |value: Option<&Value>| {
            value.and_then(|value| text(value, "kind")).unwrap_or("nothing").to_owned()
        };
        let (first, last) = (kind(lines.first()), kind(lines.last()));
        ensure!(first == "start" && last == "summary", "the stream goes from {first} to {last}");
        let start = lines.remove(0).get("data").cloned().context("the start has no data")?;
        let summary =
            lines.pop().and_then(|last| last.get("data").cloned()).context("the summary has no data")?;
        Ok(Self { start, events: lines, summary })
    }

    /// Checks that nothing was lost, missed, unmatched or undecoded.
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

    /// Returns the events of one kind and device, in order.
    pub(crate) fn of<'t>(&'t self, kind: &'t str, device: &'t str) -> impl Iterator<Item = &'t Value> {
        self.events
            .iter()
            .filter(move |event| text(event, "kind") == Some(kind) && text(event, "device") == Some(device))
    }

    /// Returns the names of all devices.
    pub(crate) fn devices(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.events.iter().filter_map(|event| text(event, "device")).map(str::to_owned).collect();
        names.sort();
        names.dedup();
        names
    }
}

/// Returns the `data` of an event.
pub(crate) fn data(event: &Value) -> &Value {
    event.get("data").unwrap_or(&Value::Null)
}
