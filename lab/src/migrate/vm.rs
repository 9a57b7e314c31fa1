//! One VM of a run: a nested QEMU, its device, and its role at the moment.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail};
use serde::Serialize;
use serde_json::{Value, json};

use super::cli::MttyType;
use crate::clock::Stamp;
use crate::evidence::Lines;
use crate::qemu::{Launch, Qemu, Starting};
use crate::qmp::Event;
use crate::report::Report;
use crate::states::MigState;
use crate::wait;

/// End of a migration at which a VM is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    Source,
    Destination,
}

impl Role {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Destination => "destination",
        }
    }
}

/// A VM's role in one migration. It changes: in ping-pong, a destination becomes the next migration's source.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) role: Role,
    pub(crate) iteration: u32,
}

/// Description of a VM to start.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) name: String,
    /// Position of its device in the lab's pair.
    pub(crate) slot: usize,
    pub(crate) uuid: &'a str,
    pub(crate) mtty_type: MttyType,
    pub(crate) place: Place,
    pub(crate) memory_mib: u32,
    pub(crate) folder: &'a Path,
    pub(crate) evidence: Option<&'a Path>,
}

/// A VM whose QEMU was started and whose QMP is not connected yet.
#[derive(Debug)]
pub(crate) struct StartingVm {
    starting: Starting,
    name: String,
    slot: usize,
    uuid: String,
    mtty_type: MttyType,
    place: Arc<Mutex<Place>>,
}

/// A VM with QMP connected. Made by [`StartingVm::connect`], used by the flow of a migration.
#[derive(Debug)]
pub(crate) struct Vm {
    pub(crate) name: String,
    pub(crate) slot: usize,
    pub(crate) uuid: String,
    pub(crate) mtty_type: MttyType,
    pub(crate) qemu: Qemu,
    place: Arc<Mutex<Place>>,
}

impl Plan<'_> {
    pub(crate) fn spawn(self) -> Result<StartingVm> {
        let launch = Launch {
            vm: &self.name,
            uuid: Some(self.uuid),
            memory_mib: self.memory_mib,
            incoming: self.place.role == Role::Destination,
            folder: self.folder,
            evidence: self.evidence,
        };
        Ok(StartingVm {
            starting: launch.spawn()?,
            slot: self.slot,
            uuid: self.uuid.to_owned(),
            mtty_type: self.mtty_type,
            place: Arc::new(Mutex::new(self.place)),
            name: self.name,
        })
    }
}

impl StartingVm {
    /// Connects QMP. From then on every event is reported and, if there is a file, written.
    pub(crate) fn connect(
        self,
        timeout: Duration,
        report: &Arc<Report>,
        lines: Option<Arc<Lines>>,
    ) -> Result<Vm> {
        let (report, place) = (Arc::clone(report), Arc::clone(&self.place));
        let (name, uuid) = (self.name.clone(), self.uuid.clone());
        let on_event = move |event: &Event| {
            let place = *place.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(told) = tell(event) {
                report.say(&format!("{} ({name}): {told}", place.role.name()));
            }
            if let Some(lines) = &lines {
                lines.write(&QmpLine::new(event, &name, &uuid, place));
            }
        };
        Ok(Vm {
            qemu: self.starting.connect(timeout, on_event)?,
            name: self.name,
            slot: self.slot,
            uuid: self.uuid,
            mtty_type: self.mtty_type,
            place: self.place,
        })
    }
}

impl Vm {
    pub(crate) fn place(&self) -> Place {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn move_to(&self, place: Place) {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = place;
    }

    /// Returns role and name: `source (vm-1)`.
    pub(crate) fn title(&self) -> String {
        format!("{} ({})", self.place().role.name(), self.name)
    }

    pub(crate) fn execute(&mut self, command: &str, arguments: Value, timeout: Duration) -> Result<Value> {
        let result = self.qemu.qmp.execute(command, arguments, timeout);
        result.map_err(|error| self.qemu.blame(error).context(self.title()))
    }

    /// Waits for a status of the migration. Another status that ends the migration is an error.
    pub(crate) fn reach_status(&mut self, wanted: &str, mark: usize, timeout: Duration) -> Result<()> {
        let what = format!("the migration of the {} to be {wanted}", self.title());
        let waited = self.qemu.qmp.wait(&what, mark, timeout, |events| {
            let mut statuses = events.iter().filter_map(Event::migration_status);
            statuses.find(|status| *status == wanted || is_final(status)).map(str::to_owned)
        });
        let reached = waited.map_err(|error| self.qemu.blame(error))?;
        if reached != wanted {
            let detail = self.execute("query-migrate", json!({}), timeout)?;
            let reason = detail.get("error-desc").and_then(Value::as_str).unwrap_or("QEMU gives no reason");
            bail!("the migration of the {} is {reached} and not {wanted}: {reason}", self.title());
        }
        Ok(())
    }

    /// Waits until the last state that QEMU reported for the device is the wanted one.
    pub(crate) fn reach_state(&mut self, wanted: MigState, mark: usize, timeout: Duration) -> Result<()> {
        let what = format!("the device of the {} to be {wanted}", self.title());
        let waited = self.qemu.qmp.wait(&what, mark, timeout, |events| {
            (events.iter().rev().find_map(Event::device_state) == Some(wanted)).then_some(())
        });
        waited.map_err(|error| self.qemu.blame(error))
    }

    /// Waits until the guest's CPUs run.
    pub(crate) fn reach_running(&mut self, timeout: Duration) -> Result<()> {
        let what = format!("the guest of the {} to run", self.title());
        wait::until(&what, timeout, || {
            let status = self.execute("query-status", json!({}), timeout)?;
            Ok((status.get("running") == Some(&Value::Bool(true))).then_some(()))
        })
    }

    /// Returns the final status of the migration, if it has ended.
    pub(crate) fn final_status(&self, mark: usize) -> Option<String> {
        self.qemu.qmp.look(mark, |events| {
            events
                .iter()
                .filter_map(Event::migration_status)
                .find(|status| is_final(status))
                .map(str::to_owned)
        })
    }

    /// Returns the last state that QEMU reported for the device; none if it never changed it.
    pub(crate) fn last_state(&self) -> Option<MigState> {
        self.qemu.qmp.look(0, |events| events.iter().rev().find_map(Event::device_state))
    }
}

/// Returns true for statuses after which a migration does not change any more.
fn is_final(status: &str) -> bool {
    matches!(status, "completed" | "failed" | "cancelled")
}

/// Returns the report's line for an event; none for events that are only written to the file.
fn tell(event: &Event) -> Option<String> {
    match event.name.as_str() {
        "STOP" => Some("guest stopped".to_owned()),
        "RESUME" => Some("guest runs".to_owned()),
        _ => event
            .device_state()
            .map(|state| format!("device {state}"))
            .or_else(|| event.migration_status().map(|status| format!("migration {status}"))),
    }
}

/// One line of `qmp.ndjson`. [`crate::oracle`] reads them.
#[derive(Debug, Serialize)]
struct QmpLine<'a> {
    vm: &'a str,
    role: Role,
    iteration: u32,
    uuid: &'a str,
    #[serde(flatten)]
    received: Stamp,
    event: &'a str,
    data: &'a Value,
    timestamp: &'a Value,
}

impl<'a> QmpLine<'a> {
    fn new(event: &'a Event, vm: &'a str, uuid: &'a str, place: Place) -> Self {
        Self {
            vm,
            role: place.role,
            iteration: place.iteration,
            uuid,
            received: event.received,
            event: &event.name,
            data: &event.data,
            timestamp: &event.timestamp,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, data: Value) -> Event {
        let received = Stamp { monotonic_ns: 5, realtime_ns: 7 };
        Event { received, name: name.to_owned(), data, timestamp: json!({"seconds": 1, "microseconds": 2}) }
    }

    #[test]
    fn a_line_tells_who_when_and_what() {
        let event = event("VFIO_MIGRATION", json!({"device-id": "mtty0", "device-state": "pre-copy"}));
        let line = QmpLine::new(&event, "vm-1", "1111", Place { role: Role::Source, iteration: 3 });
        assert_eq!(
            serde_json::to_string(&line).unwrap(),
            r#"{"vm":"vm-1","role":"source","iteration":3,"uuid":"1111","monotonic_ns":5,"realtime_ns":7,"event":"VFIO_MIGRATION","data":{"device-id":"mtty0","device-state":"pre-copy"},"timestamp":{"microseconds":2,"seconds":1}}"#
        );
    }

    #[test]
    fn people_see_what_matters() {
        assert_eq!(
            tell(&event("VFIO_MIGRATION", json!({"device-state": "stop-copy"}))).unwrap(),
            "device STOP_COPY"
        );
        assert_eq!(tell(&event("MIGRATION", json!({"status": "active"}))).unwrap(), "migration active");
        assert_eq!(tell(&event("STOP", json!({}))).unwrap(), "guest stopped");
        assert_eq!(tell(&event("MIGRATION_PASS", json!({"pass": 1}))), None);
    }
}
