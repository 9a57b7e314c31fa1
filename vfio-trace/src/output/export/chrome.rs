//! Writes a document in the Trace Event Format: JSON that chrome://tracing, Perfetto and others show.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use serde::Serialize;
use serde_json::{Value, json, value::RawValue};

use super::tracks::{CounterUnit, ExportTrack, TrackContent, TrackOwner, each_track};
use crate::{
    report::document::{MigrationDocument, TracedDevice},
    units::visible,
};

/// One event. Fields that its phase (`ph`) does not have are left out.
#[derive(Serialize)]
struct ChromeEvent<'a> {
    ph: &'static str,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cat: Option<&'static str>,
    pid: usize,
    tid: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    ts: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dur: Option<Box<RawValue>>,
    /// Number of an arrow.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    /// Binding point of an arrow's end: `e`, the slice around it.
    #[serde(skip_serializing_if = "Option::is_none")]
    bp: Option<&'static str>,
    /// Scope of an instant: `t`, its thread.
    #[serde(skip_serializing_if = "Option::is_none")]
    s: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    args: Option<&'a Value>,
}

/// Returns microseconds with all digits of a number of nanoseconds; a double would lose some.
fn micros(ns: u64) -> Option<Box<RawValue>> {
    RawValue::from_string(format!("{}.{:03}", ns / 1000, ns % 1000)).ok()
}

/// Writer of events, one per line.
struct ChromeWriter<W> {
    out: W,
    any: bool,
    /// Number of threads so far. Threads stand for tracks; their numbers are unique across processes.
    threads: usize,
}

impl<W: Write> ChromeWriter<W> {
    fn put(&mut self, event: &ChromeEvent<'_>) -> io::Result<()> {
        self.out.write_all(if self.any { b",\n" } else { b"\n" })?;
        self.any = true;
        Ok(visible::write_json(event, false, &mut self.out)?)
    }

    fn of<'a>(pid: usize, tid: usize, ph: &'static str, name: &'a str) -> ChromeEvent<'a> {
        let (cat, ts, dur, id, bp, s, args) = (None, None, None, None, None, None, None);
        ChromeEvent { ph, name, cat, pid, tid, ts, dur, id, bp, s, args }
    }

    /// Writes a metadata event about a process or thread.
    fn metadata(&mut self, pid: usize, tid: usize, name: &str, args: &Value) -> io::Result<()> {
        self.put(&ChromeEvent { args: Some(args), ..Self::of(pid, tid, "M", name) })
    }

    fn process(&mut self, pid: usize, name: &str) -> io::Result<()> {
        self.metadata(pid, 0, "process_name", &json!({ "name": name }))?;
        self.metadata(pid, 0, "process_sort_index", &json!({ "sort_index": pid }))
    }

    fn track(&mut self, document: &MigrationDocument, track: &ExportTrack<'_>) -> io::Result<()> {
        let (pid, prefix) = match track.owner {
            TrackOwner::All => (1, String::new()),
            TrackOwner::Host(host) => (pid(host), String::new()),
            TrackOwner::Device(nr) => {
                let device = &document.devices[nr];
                (pid(device.host as usize), format!("{} ", device_name(device)))
            },
        };
        let name = format!("{prefix}{}", track.name);
        if let TrackContent::Counter(unit, points) = &track.content {
            return self.counter(pid, &name, *unit, points);
        }
        self.threads += 1;
        let tid = self.threads;
        self.metadata(pid, tid, "thread_name", &json!({ "name": name }))?;
        self.metadata(pid, tid, "thread_sort_index", &json!({ "sort_index": tid }))?;
        match &track.content {
            TrackContent::Counter(..) => {},
            TrackContent::Slices(slices) => {
                for slice in slices {
                    self.put(&ChromeEvent {
                        cat: Some(slice.category),
                        ts: micros(slice.start_ns),
                        dur: micros(slice.end_ns.saturating_sub(slice.start_ns)),
                        args: Some(&(slice.args)()),
                        ..Self::of(pid, tid, "X", &slice.name)
                    })?;
                    let ends = [("s", slice.arrow_to, None), ("f", slice.arrow_from, Some("e"))];
                    for (ph, id, bp) in ends.into_iter().filter(|(_, id, _)| id.is_some()) {
                        let (cat, ts) = (Some("arrow"), micros(slice.start_ns));
                        self.put(&ChromeEvent { cat, ts, id, bp, ..Self::of(pid, tid, ph, "save to load") })?;
                    }
                }
            },
            TrackContent::Instants(instants) => {
                for instant in instants {
                    self.put(&ChromeEvent {
                        cat: Some(instant.category),
                        ts: micros(instant.at_ns),
                        s: Some("t"),
                        args: Some(&(instant.args)()),
                        ..Self::of(pid, tid, "i", &instant.name)
                    })?;
                }
            },
        }
        Ok(())
    }

    fn counter(
        &mut self,
        pid: usize,
        name: &str,
        unit: CounterUnit,
        points: &[(u64, u64)],
    ) -> io::Result<()> {
        for (at_ns, value) in points {
            let args = json!({ unit.name(): value });
            self.put(&ChromeEvent { ts: micros(*at_ns), args: Some(&args), ..Self::of(pid, 0, "C", name) })?;
        }
        Ok(())
    }
}

/// Returns the process that stands for a host; process 1 is for entries of no host.
const fn pid(host: usize) -> usize {
    host + 2
}

/// Returns a device's name for lists of several devices.
pub(super) fn device_name(device: &TracedDevice) -> String {
    device.name.clone().unwrap_or_else(|| format!("device {}", device.nr))
}

/// Writes the document as a JSON object (not an array), with one event per line.
///
/// # Errors
///
/// Errors of `out`.
pub fn write_chrome(document: &MigrationDocument, mut out: impl Write) -> io::Result<()> {
    // Further facts about the times: all are relative to the origin.
    let other = BTreeMap::from([
        ("schema", json!(document.schema)),
        ("version", json!(document.version)),
        ("origin", json!(document.origin)),
        ("duration_ns", json!(document.duration_ns)),
        ("merge", json!(document.merge)),
    ]);
    out.write_all(b"{\"displayTimeUnit\":\"ns\",\"otherData\":")?;
    visible::write_json(&other, false, &mut out)?;
    out.write_all(b",\"traceEvents\":[")?;
    let mut events = ChromeWriter { out, any: false, threads: 0 };
    events.process(1, "migrations")?;
    for (at, host) in document.hosts.iter().enumerate() {
        events.process(pid(at), &host.label)?;
    }
    each_track(document, |track| events.track(document, &track))?;
    events.out.write_all(b"\n]}\n")
}
