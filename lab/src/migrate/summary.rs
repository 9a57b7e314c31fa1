//! The documents that a run of lab-migrate leaves: `migrate.json` and `final-states.json`.

use serde::Serialize;
use serde_json::{Value, json};

use super::flow::Traces;
use super::vm::Vm;
use crate::clock::Stamp;
use crate::states::MigState;

/// Raised when a field changes its meaning or goes away; new fields do not raise it.
pub(crate) const SCHEMA_VERSION: u32 = 1;

/// `migrate.json`.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    pub(crate) schema_version: u32,
    pub(crate) program: &'static str,
    pub(crate) kernel: String,
    pub(crate) qemu: Option<String>,
    pub(crate) scenario: &'static str,
    pub(crate) then_cancel: bool,
    pub(crate) ping_pong: bool,
    pub(crate) count: u32,
    pub(crate) started: Stamp,
    pub(crate) ended: Stamp,
    /// Every migration ended as its scenario should, and nothing else went wrong.
    pub(crate) as_expected: bool,
    /// What went wrong first.
    pub(crate) error: Option<String>,
    pub(crate) dmesg_records: Option<u64>,
    pub(crate) dmesg_lost: Option<u64>,
    pub(crate) migrations: Vec<Migration>,
}

/// One migration, as both QEMUs told it after it ended.
#[derive(Debug, Serialize)]
pub(crate) struct Migration {
    pub(crate) iteration: u32,
    /// Which way between the two devices, by their position: `1->2`.
    pub(crate) direction: String,
    pub(crate) started: Stamp,
    pub(crate) ended: Stamp,
    /// The status that the scenario expects of the source's migration.
    pub(crate) expected: &'static str,
    pub(crate) as_expected: bool,
    /// Why it is not as expected.
    pub(crate) reason: Option<String>,
    pub(crate) total_time_ms: Option<u64>,
    pub(crate) downtime_ms: Option<u64>,
    /// Bytes of device state, as the source counts them.
    pub(crate) vfio_transferred: Option<u64>,
    #[serde(flatten)]
    pub(crate) traces: Traces,
    pub(crate) source: End,
    pub(crate) destination: End,
}

/// One end of a migration.
#[derive(Debug, Serialize)]
pub(crate) struct End {
    pub(crate) vm: String,
    pub(crate) pid: u32,
    pub(crate) uuid: String,
    #[serde(rename = "type")]
    pub(crate) mtty_type: &'static str,
    /// `query-migrate` as it came; null if QEMU could not be asked.
    pub(crate) query_migrate: Value,
    /// `query-status`'s status: `running`, `postmigrate`.
    pub(crate) vm_status: Value,
    /// The last state that QEMU announced for the device.
    pub(crate) device_state: Option<MigState>,
    /// How the process ended; null while it goes on into the next migration.
    pub(crate) exit: Option<String>,
}

impl End {
    /// Asks a VM how it ended the migration; a dead one leaves nulls.
    pub(crate) fn observe(vm: &mut Vm, alive: bool, timeout: std::time::Duration) -> Self {
        let mut ask = |command| {
            if !alive {
                return Value::Null;
            }
            vm.execute(command, json!({}), timeout).unwrap_or(Value::Null)
        };
        let query_migrate = ask("query-migrate");
        let vm_status = ask("query-status").get("status").cloned().unwrap_or(Value::Null);
        Self {
            vm: vm.name.clone(),
            pid: vm.qemu.pid(),
            uuid: vm.uuid.clone(),
            mtty_type: vm.mtty_type.name(),
            query_migrate,
            vm_status,
            device_state: vm.last_state(),
            exit: None,
        }
    }

    pub(crate) fn number(&self, pointer: &str) -> Option<u64> {
        self.query_migrate.pointer(pointer)?.as_u64()
    }
}

/// `final-states.json`.
#[derive(Debug, Serialize)]
pub(crate) struct FinalStates {
    pub(crate) schema_version: u32,
    pub(crate) devices: Vec<FinalState>,
}

/// What became of one device, when its last QEMU was gone.
#[derive(Debug, Serialize)]
pub(crate) struct FinalState {
    pub(crate) uuid: String,
    #[serde(rename = "type")]
    pub(crate) mtty_type: Option<&'static str>,
    /// The VM that had it last.
    pub(crate) vm: Option<String>,
    /// The last state in a `VFIO_MIGRATION` event of that VM, its quitting included.
    pub(crate) qmp_state: Option<MigState>,
    /// What MIG_DEVICE_STATE GET says.
    pub(crate) kernel_state: Option<MigState>,
    /// Why the kernel could not be asked.
    pub(crate) error: Option<String>,
}
