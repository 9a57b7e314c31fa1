//! A QMP client: commands with a timeout, and every event kept in the order of arrival.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::{Value, json};

use crate::clock::Stamp;
use crate::states::MigState;

/// A QMP event, with the time at which this process received it.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) received: Stamp,
    pub(crate) name: String,
    pub(crate) data: Value,
    /// QEMU's own time of the event: `{seconds, microseconds}` of the wall clock.
    pub(crate) timestamp: Value,
}

impl Event {
    /// Returns `status` of a `MIGRATION` event.
    pub(crate) fn migration_status(&self) -> Option<&str> {
        if self.name == "MIGRATION" { self.data.get("status")?.as_str() } else { None }
    }

    /// Returns `device-state` of a `VFIO_MIGRATION` event.
    pub(crate) fn device_state(&self) -> Option<MigState> {
        if self.name == "VFIO_MIGRATION" {
            MigState::from_qmp(self.data.get("device-state")?.as_str()?)
        } else {
            None
        }
    }
}

#[derive(Debug, Default)]
struct Inner {
    events: Vec<Event>,
    replies: BTreeMap<u64, Result<Value, String>>,
    /// Reason why nothing more will come; none while the connection is open.
    closed: Option<String>,
}

#[derive(Debug, Default)]
struct Shared {
    inner: Mutex<Inner>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Inner)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }
}

/// One connection to one QEMU. Made by [`Self::negotiate`]; a thread of its own reads events and replies.
#[derive(Debug)]
pub(crate) struct Qmp {
    stream: UnixStream,
    shared: Arc<Shared>,
    reader: Option<JoinHandle<()>>,
    last_id: u64,
    /// QEMU's version, from its greeting: `10.0.2`.
    pub(crate) version: String,
}

impl Qmp {
    /// Reads the greeting and leaves negotiation mode. `on_event` runs in the reading thread.
    pub(crate) fn negotiate(
        stream: UnixStream,
        timeout: Duration,
        on_event: impl Fn(&Event) + Send + 'static,
    ) -> Result<Self> {
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        let mut lines = BufReader::new(stream.try_clone().context("cannot share the QMP socket")?);
        let mut greeting = String::new();
        lines.read_line(&mut greeting).context("no QMP greeting")?;
        let version = version(&serde_json::from_str(&greeting).context("the QMP greeting is no JSON")?);
        stream.set_read_timeout(None)?;
        let shared = Arc::new(Shared::default());
        let seen = Arc::clone(&shared);
        let reader = thread::Builder::new()
            .name("qmp".to_owned())
            .spawn(move || read(lines, &seen, on_event))
            .context("cannot start the thread that reads QMP")?;
        let mut qmp = Self { stream, shared, reader: Some(reader), last_id: 0, version };
        qmp.execute("qmp_capabilities", json!({}), timeout)?;
        Ok(qmp)
    }

    /// Sends a command and waits for its answer.
    pub(crate) fn execute(&mut self, command: &str, arguments: Value, timeout: Duration) -> Result<Value> {
        self.last_id += 1;
        let id = self.last_id;
        let mut line = json!({"execute": command, "arguments": arguments, "id": id}).to_string();
        line.push('\n');
        self.stream
            .write_all(line.as_bytes())
            .with_context(|| format!("cannot send QMP {command}: QEMU is gone"))?;
        let (mut inner, waited) = self
            .shared
            .changed
            .wait_timeout_while(self.shared.lock(), timeout, |inner| {
                !inner.replies.contains_key(&id) && inner.closed.is_none()
            })
            .unwrap_or_else(PoisonError::into_inner);
        match inner.replies.remove(&id) {
            Some(Ok(value)) => Ok(value),
            Some(Err(description)) => Err(anyhow!("QMP {command} was refused: {description}")),
            None if waited.timed_out() => {
                bail!("timed out after {} s waiting for the answer to QMP {command}", timeout.as_secs())
            },
            None => bail!("no answer to QMP {command}: {}", inner.closed.as_deref().unwrap_or("closed")),
        }
    }

    /// Returns the number of events so far: the position at which the next wait should begin.
    pub(crate) fn mark(&self) -> usize {
        self.shared.lock().events.len()
    }

    /// Waits until the events since a mark have an answer. The end of the connection ends the wait.
    pub(crate) fn wait<T>(
        &self,
        what: &str,
        mark: usize,
        timeout: Duration,
        mut answer: impl FnMut(&[Event]) -> Option<T>,
    ) -> Result<T> {
        let mut found = None;
        let (inner, _) = self
            .shared
            .changed
            .wait_timeout_while(self.shared.lock(), timeout, |inner| {
                found = answer(inner.events.get(mark..).unwrap_or_default());
                found.is_none() && inner.closed.is_none()
            })
            .unwrap_or_else(PoisonError::into_inner);
        match (found, &inner.closed) {
            (Some(found), _) => Ok(found),
            (None, Some(reason)) => bail!("waiting for {what}: {reason}"),
            (None, None) => bail!(
                "timed out after {} s waiting for {what}; the last events were: {}",
                timeout.as_secs(),
                last(inner.events.get(mark..).unwrap_or_default())
            ),
        }
    }

    /// Applies `answer` to the events since a mark, without waiting.
    pub(crate) fn look<T>(&self, mark: usize, answer: impl FnOnce(&[Event]) -> T) -> T {
        answer(self.shared.lock().events.get(mark..).unwrap_or_default())
    }

    /// Waits for the reading thread, so that every event was handed on. QEMU must have ended.
    pub(crate) fn close(&mut self) {
        // An error means that the connection has ended already.
        drop(self.stream.shutdown(Shutdown::Both));
        if let Some(reader) = self.reader.take() {
            // The thread returns nothing, and a panic in it was printed.
            drop(reader.join());
        }
    }
}

impl Drop for Qmp {
    fn drop(&mut self) {
        self.close();
    }
}

fn read(mut lines: BufReader<UnixStream>, shared: &Shared, on_event: impl Fn(&Event)) {
    let mut line = String::new();
    let reason = loop {
        line.clear();
        match lines.read_line(&mut line) {
            Ok(0) => break "QEMU closed its QMP socket".to_owned(),
            Ok(_) => {},
            Err(error) => break format!("cannot read QMP: {error}"),
        }
        let Ok(message) = serde_json::from_str::<Value>(&line) else {
            break format!("QMP sent what is no JSON: {}", line.trim_end());
        };
        if let Some(event) = event(&message) {
            on_event(&event);
            shared.change(|inner| inner.events.push(event));
        } else if let Some((id, reply)) = reply(&message) {
            shared.change(|inner| drop(inner.replies.insert(id, reply)));
        }
    };
    shared.change(|inner| inner.closed = Some(reason));
}

fn event(message: &Value) -> Option<Event> {
    Some(Event {
        received: Stamp::now(),
        name: message.get("event")?.as_str()?.to_owned(),
        data: message.get("data").cloned().unwrap_or_else(|| json!({})),
        timestamp: message.get("timestamp").cloned().unwrap_or(Value::Null),
    })
}

fn reply(message: &Value) -> Option<(u64, Result<Value, String>)> {
    let id = message.get("id")?.as_u64()?;
    if let Some(value) = message.get("return") {
        return Some((id, Ok(value.clone())));
    }
    let description = message.pointer("/error/desc").and_then(Value::as_str).unwrap_or("unknown error");
    Some((id, Err(description.to_owned())))
}

fn version(greeting: &Value) -> String {
    let part =
        |name| greeting.pointer(&format!("/QMP/version/qemu/{name}")).and_then(Value::as_u64).unwrap_or(0);
    format!("{}.{}.{}", part("major"), part("minor"), part("micro"))
}

/// Returns the end of the list of events, for a message about one that did not come.
fn last(events: &[Event]) -> String {
    let tail = events.iter().skip(events.len().saturating_sub(4));
    let told: Vec<String> = tail
        .map(|event| {
            let detail = event.migration_status().map(str::to_owned);
            let detail = detail.or_else(|| event.device_state().map(|state| state.to_string()));
            detail.map_or_else(|| event.name.clone(), |detail| format!("{} {detail}", event.name))
        })
        .collect();
    if told.is_empty() { "none".to_owned() } else { told.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    /// Returns a QEMU that answers two commands, with an event in between, and then goes away.
    fn fake() -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        thread::spawn(move || {
            let mut out = theirs.try_clone().unwrap();
            let mut lines = BufReader::new(theirs);
            writeln!(out, r#"{{"QMP": {{"version": {{"qemu": {{"micro": 2, "minor": 0, "major": 10}}}}}}}}"#)
                .unwrap();
            let mut line = String::new();
            lines.read_line(&mut line).unwrap();
            writeln!(out, r#"{{"return": {{}}, "id": 1}}"#).unwrap();
            writeln!(
                out,
                r#"{{"event": "VFIO_MIGRATION", "data": {{"device-id": "mtty0", "device-state": "pre-copy"}}}}"#
            )
            .unwrap();
            lines.read_line(&mut line).unwrap();
            writeln!(out, r#"{{"error": {{"class": "GenericError", "desc": "not now"}}, "id": 2}}"#).unwrap();
        });
        ours
    }

    #[test]
    fn commands_events_and_the_end() {
        let mut qmp = Qmp::negotiate(fake(), TIMEOUT, |_| {}).unwrap();
        assert_eq!(qmp.version, "10.0.2");
        let state =
            qmp.wait("PRE_COPY", 0, TIMEOUT, |events| events.iter().find_map(Event::device_state)).unwrap();
        assert_eq!(state, MigState::PRE_COPY);
        let error = qmp.execute("migrate", json!({"uri": "unix:x"}), TIMEOUT).unwrap_err().to_string();
        assert_eq!(error, "QMP migrate was refused: not now");
        let error = qmp.wait("more", qmp.mark(), TIMEOUT, |_| None::<()>).unwrap_err().to_string();
        assert_eq!(error, "waiting for more: QEMU closed its QMP socket");
    }

    #[test]
    fn a_wait_that_ends_tells_what_came_instead() {
        let qmp = Qmp::negotiate(fake(), TIMEOUT, |_| {}).unwrap();
        qmp.wait("PRE_COPY", 0, TIMEOUT, |events| events.iter().find_map(Event::device_state)).unwrap();
        let error = qmp.wait("RUNNING", 0, Duration::ZERO, |_| None::<()>).unwrap_err().to_string();
        assert_eq!(
            error,
            "timed out after 0 s waiting for RUNNING; the last events were: VFIO_MIGRATION PRE_COPY"
        );
    }
}
