//! The account of a run as plain data, for tables and JSON.

use serde::Serialize;

use super::StatePath;
use crate::event::{CallOutcome, MigFlags, MigState};

/// What was seen of all devices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TraceReport {
    /// Time from the first event to the end, in ns.
    pub duration_ns: u64,
    /// One entry per device, in order of first sight.
    pub devices: Vec<DeviceReport>,
    /// Events of devices for which there was no room.
    pub device_events_left_out: u64,
}

/// What was seen of one device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DeviceReport {
    /// PCI address or mdev UUID; `None` if it never became known.
    pub device: Option<String>,
    /// Its driver.
    pub driver: Option<String>,
    /// Whether it can migrate; `None` if that could not be read.
    pub migration: Option<bool>,
    /// What its migration can do.
    pub migration_flags: Option<MigFlags>,
    /// Whether it tracks dirty pages itself.
    pub dirty_tracking: Option<bool>,
    /// Whether it was taken from vfio.
    pub gone: bool,
    /// Who has it open, as far as that was seen.
    pub holders: Vec<HolderReport>,
    /// The last state seen; `None` if none was, or if a failure, or a reset during a request, made it uncertain.
    pub state: Option<MigState>,
    /// The states it went through.
    pub path: StatePath,
    /// Time per state, in order of the states' numbers.
    pub states: Vec<StateTime>,
    /// Time within arcs, in ns: neither in the one state nor in the other.
    pub arcs_ns: u64,
    /// Time in which the state was uncertain, in ns: lost records, resets, failures.
    pub uncertain_ns: u64,
    /// Arcs by their end.
    pub arcs: ArcCounts,
    /// Requests to change the state.
    pub requests: u64,
    /// Requests that did not work.
    pub requests_failed: u64,
    /// Resets that worked.
    pub resets: u64,
    /// Times that it was not in the state that it was last known to be in.
    pub desyncs: u64,
    /// Successful opens.
    pub opens: u64,
    /// Data sessions.
    pub sessions: u64,
    /// What went out of it.
    pub read: IoReport,
    /// What went into it.
    pub written: IoReport,
}

/// A process that has a device open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HolderReport {
    /// The process.
    pub pid: u32,
    /// Name of the thread that opened it, or was found to hold it.
    pub comm: String,
    /// The descriptor; `None` if it was opened while tracing.
    pub fd: Option<u32>,
}

/// Time in one state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct StateTime {
    /// The state.
    pub state: MigState,
    /// Time in it, in ns, the arcs to it and from it not included.
    pub time_ns: u64,
    /// How often it was entered, or was found to be in it.
    pub visits: u64,
}

/// Arcs by their end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ArcCounts {
    /// They worked.
    pub ok: u64,
    /// They went wrong.
    pub failed: u64,
    /// The core refused them.
    pub refused: u64,
    /// Their end was not seen.
    pub unknown: u64,
}

impl ArcCounts {
    /// Counts one more.
    pub(super) const fn count(&mut self, outcome: CallOutcome) {
        let count = match outcome {
            CallOutcome::Ok => &mut self.ok,
            CallOutcome::Failed(_) => &mut self.failed,
            CallOutcome::Refused(_) => &mut self.refused,
            CallOutcome::Unknown => &mut self.unknown,
        };
        *count += 1;
    }
}

/// Calls on data fds in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct IoReport {
    /// Calls.
    pub calls: u64,
    /// Calls that failed, ENOMSG not counted.
    pub failed: u64,
    /// Bytes moved.
    pub bytes: u64,
    /// Time within the calls, in ns; parallel calls count each.
    pub time_ns: u64,
}
