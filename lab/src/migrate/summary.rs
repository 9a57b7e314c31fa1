//! The documents that a run of lab-migrate writes: `migrate.json` and `final-states.json`.

use serde::Serialize;
use serde_json::{Value, json};

use super::flow::Traces;
use super::vm::Vm;
use crate::clock::Stamp;
use crate::states::MigState;

/// Version of both documents. Raised when a field changes its meaning or goes away; new fields do not raise it.
pub(crate) const SCHEMA_VERSION: u32 = 1;

/// `migrate.json`: one run of lab-migrate. Made by `run.rs` at the end of a run, read by the tests of xtask.
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
    /// True if every migration ended as its scenario should, and nothing else went wrong.
    pub(crate) as_expected: bool,
    /// The first error of the run.
    pub(crate) error: Option<String>,
    pub(crate) dmesg_records: Option<u64>,
    pub(crate) dmesg_lost: Option<u64>,
    pub(crate) migrations: Vec<Migration>,
}

/// One migration, as both QEMUs reported it after its end.
#[derive(Debug, Serialize)]
pub(crate) struct Migration {
    pub(crate) iteration: u32,
    /// Direction between the two devices, by their position: `1->2`.
    pub(crate) direction: String,
    pub(crate) started: Stamp,
    pub(crate) ended: Stamp,
    /// Final status of the source's migration that the scenario expects.
    pub(crate) expected: &'static str,
    pub(crate) as_expected: bool,
    /// Reason if it is not as expected.
    pub(crate) reason: Option<String>,
    pub(crate) total_time_ms: Option<u64>,
    pub(crate) downtime_ms: Option<u64>,
    /// Bytes of device state, as counted by the source's QEMU.
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
    /// Answer of `query-migrate`, unchanged; null if QEMU could not be asked.
    pub(crate) query_migrate: Value,
    /// `status` of `query-status`: `running`, `postmigrate`.
    pub(crate) vm_status: Value,
    /// The last state that QEMU reported for the device.
    pub(crate) device_state: Option<MigState>,
    /// Exit status of the QEMU process; null while it goes on into the next migration.
    pub(crate) exit: Option<String>,
}

impl End {
    /// Asks a VM for the end of its migration. For a dead VM all answers are null.
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

/// `final-states.json`: the states in which a run left its devices.
#[derive(Debug, Serialize)]
pub(crate) struct FinalStates {
    pub(crate) schema_version: u32,
    pub(crate) devices: Vec<FinalState>,
}

/// State of one device after its last QEMU ended.
#[derive(Debug, Serialize)]
pub(crate) struct FinalState {
    pub(crate) uuid: String,
    #[serde(rename = "type")]
    pub(crate) mtty_type: Option<&'static str>,
    /// The last VM that had the device.
    pub(crate) vm: Option<String>,
    /// The last state in a `VFIO_MIGRATION` event of that VM, those while it quits included.
    pub(crate) qmp_state: Option<MigState>,
    /// Answer of MIG_DEVICE_STATE GET.
    pub(crate) kernel_state: Option<MigState>,
    /// Reason why the kernel could not be asked.
    pub(crate) error: Option<String>,
}
