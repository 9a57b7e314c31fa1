//! `qmp.ndjson`: the events of both QEMUs, and the states of their devices.

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::Value;

use crate::states::MigState;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct QmpEvent {
    /// The VM that sent it: `vm-1`.
    pub vm: String,
    /// `source` or `destination`, as it was at that moment.
    pub role: String,
    /// Which migration of the run, counted from 1.
    pub iteration: u32,
    /// The VM's device.
    pub uuid: String,
    /// When lab-migrate received it, CLOCK_MONOTONIC.
    pub monotonic_ns: u64,
    /// The same on CLOCK_REALTIME.
    pub realtime_ns: u64,
    /// The event's name.
    pub event: String,
    /// The event's data.
    pub data: Value,
    /// QEMU's own time of it.
    pub timestamp: Value,
}

impl QmpEvent {
    /// QEMU's own time in microseconds of the wall clock.
    pub fn sent_us(&self) -> Option<u64> {
        let part = |name| self.timestamp.get(name)?.as_u64();
        part("seconds")?.checked_mul(1_000_000)?.checked_add(part("microseconds")?)
    }

    /// The state of a `VFIO_MIGRATION` event.
    pub fn device_state(&self) -> Option<MigState> {
        (self.event == "VFIO_MIGRATION")
            .then(|| self.data.get("device-state"))??
            .as_str()
            .and_then(MigState::from_qmp)
    }

    /// The status of a `MIGRATION` event.
    pub fn migration_status(&self) -> Option<&str> {
        (self.event == "MIGRATION").then(|| self.data.get("status"))??.as_str()
    }
}

/// A parsed `qmp.ndjson`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QmpLog {
    /// In the order they were received.
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

    /// The states that a device was announced to be in, by all VMs that had it, in order.
    pub fn device_states(&self, uuid: &str) -> Vec<MigState> {
        self.events.iter().filter(|event| event.uuid == uuid).filter_map(QmpEvent::device_state).collect()
    }

    /// The same for one VM.
    pub fn vm_states(&self, vm: &str) -> Vec<MigState> {
        self.events.iter().filter(|event| event.vm == vm).filter_map(QmpEvent::device_state).collect()
    }

    /// The statuses of a VM's migrations, in order.
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
