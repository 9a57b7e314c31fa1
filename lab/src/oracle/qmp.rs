//! Parses `qmp.ndjson`: the events of both QEMUs, and the states of their devices.

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::Value;

use crate::states::MigState;

/// One event, as lab-migrate wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct QmpEvent {
    /// Name of the VM that sent it: `vm-1`.
    pub vm: String,
    /// Role of the VM at that moment: `source` or `destination`.
    pub role: String,
    /// Number of the migration in the run, counted from 1.
    pub iteration: u32,
    /// UUID of the VM's device.
    pub uuid: String,
    /// Time at which lab-migrate received it, CLOCK_MONOTONIC in ns.
    pub monotonic_ns: u64,
    /// The same time on CLOCK_REALTIME, in ns.
    pub realtime_ns: u64,
    /// The event's name.
    pub event: String,
    /// The event's data.
    pub data: Value,
    /// QEMU's own time of the event.
    pub timestamp: Value,
}

impl QmpEvent {
    /// Returns QEMU's own time in microseconds of the wall clock.
    pub fn sent_us(&self) -> Option<u64> {
        let part = |name| self.timestamp.get(name)?.as_u64();
        part("seconds")?.checked_mul(1_000_000)?.checked_add(part("microseconds")?)
    }

    /// Returns the state in a `VFIO_MIGRATION` event.
    pub fn device_state(&self) -> Option<MigState> {
        (self.event == "VFIO_MIGRATION")
            .then(|| self.data.get("device-state"))??
            .as_str()
            .and_then(MigState::from_qmp)
    }

    /// Returns the status in a `MIGRATION` event.
    pub fn migration_status(&self) -> Option<&str> {
        (self.event == "MIGRATION").then(|| self.data.get("status"))??.as_str()
    }
}

/// A parsed `qmp.ndjson`. [`Self::parse`] makes it; the checks of xtask compare a trace with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QmpLog {
    /// All events, in the order in which they were received.
    pub events: Vec<QmpEvent>,
}

impl QmpLog {
    /// Parses the whole file.
    pub fn parse(text: &str) -> Result<Self> {
        let events: Result<_> = (1_usize..)
            .zip(text.lines())
            .map(|(number, line)| {
                serde_json::from_str(line).with_context(|| format!("line {number} of qmp.ndjson"))
            })
            .collect();
        Ok(Self { events: events? })
    }

    /// Returns the states that QEMU reported for a device, by all VMs that had it, in order.
    pub fn device_states(&self, uuid: &str) -> Vec<MigState> {
        self.events.iter().filter(|event| event.uuid == uuid).filter_map(QmpEvent::device_state).collect()
    }

    /// Returns the states that one VM reported for its device, in order.
    pub fn vm_states(&self, vm: &str) -> Vec<MigState> {
        self.events.iter().filter(|event| event.vm == vm).filter_map(QmpEvent::device_state).collect()
    }

    /// Returns the statuses of a VM's migrations, in order.
    pub fn statuses(&self, vm: &str) -> Vec<&str> {
        self.events.iter().filter(|event| event.vm == vm).filter_map(QmpEvent::migration_status).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = concat!(
        r#"{"vm":"vm-1","role":"source","iteration":1,"uuid":"11","monotonic_ns":10,"realtime_ns":20,"event":"MIGRATION","data":{"status":"active"},"timestamp":{"seconds":1,"microseconds":5}}"#,
        "\n",
        r#"{"vm":"vm-1","role":"source","iteration":1,"uuid":"11","monotonic_ns":11,"realtime_ns":21,"event":"VFIO_MIGRATION","data":{"device-id":"mtty0","device-state":"pre-copy","qom-path":"/machine/peripheral/mtty0"},"timestamp":{"seconds":1,"microseconds":6}}"#,
        "\n",
        r#"{"vm":"vm-2","role":"destination","iteration":1,"uuid":"22","monotonic_ns":12,"realtime_ns":22,"event":"VFIO_MIGRATION","data":{"device-id":"mtty0","device-state":"resuming"},"timestamp":{"seconds":1,"microseconds":7}}"#,
        "\n",
        r#"{"vm":"vm-1","role":"source","iteration":1,"uuid":"11","monotonic_ns":13,"realtime_ns":23,"event":"STOP","data":{},"timestamp":{"seconds":1,"microseconds":8}}"#,
        "\n",
    );

    #[test]
    fn states_and_statuses_by_device_and_vm() {
        let log = QmpLog::parse(LOG).unwrap();
        assert_eq!(log.device_states("11"), [MigState::PRE_COPY]);
        assert_eq!(log.vm_states("vm-2"), [MigState::RESUMING]);
        assert_eq!(log.statuses("vm-1"), ["active"]);
        assert_eq!(log.events[1].sent_us(), Some(1_000_006));
    }

    #[test]
    fn a_broken_line_is_named() {
        let error = QmpLog::parse(&format!("{LOG}{{\n")).unwrap_err().to_string();
        assert_eq!(error, "line 5 of qmp.ndjson");
    }
}
