//! The sums of a run as plain data, for tables and JSON.

use serde::Serialize;

use super::StatePath;
use crate::event::{CallOutcome, MigFlags, MigState};

/// Sums over all devices of a run. [`TraceModel`](super::TraceModel) makes it from events; `tail` and `replay` print it
/// as their closing table or JSON object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TraceReport {
    /// Time from the first event to the end, in ns.
    pub duration_ns: u64,
    /// One entry per device, in order of first sight.
    pub devices: Vec<DeviceReport>,
    /// Number of events of devices for which there was no room.
    pub device_events_left_out: u64,
}

/// Facts and sums about one device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DeviceReport {
    /// PCI address or mdev UUID; `None` if it never became known.
    pub device: Option<String>,
    /// Its driver.
    pub driver: Option<String>,
    /// True if it can migrate; `None` if that could not be read.
    pub migration: Option<bool>,
    /// The device's migration flags.
    pub migration_flags: Option<MigFlags>,
    /// True if it tracks dirty pages itself.
    pub dirty_tracking: Option<bool>,
    /// True if it was taken from vfio.
    pub gone: bool,
    /// Processes that have it open, as far as that was seen.
    pub holders: Vec<HolderReport>,
    /// The last state seen; `None` if none was, or if a failure, or a reset during a request, made it uncertain.
    pub state: Option<MigState>,
    /// The states it went through.
    pub path: StatePath,
    /// Time per state, in order of the states' numbers.
    pub states: Vec<StateTime>,
    /// Time within arcs, in ns: neither in the one state nor in the other.
    pub arcs_ns: u64,
    /// Time in which the state was uncertain, in ns: lost records, resets, failures. Time in which the device was gone
    /// is in no sum.
    pub uncertain_ns: u64,
    /// Number of arcs by outcome.
    pub arcs: ArcCounts,
    /// Number of requests to change the state.
    pub requests: u64,
    /// Number of requests that failed.
    pub requests_failed: u64,
    /// Number of successful resets.
    pub resets: u64,
    /// Number of times that it was found in another state than expected.
    pub desyncs: u64,
    /// Number of successful opens.
    pub opens: u64,
    /// Number of data sessions.
    pub sessions: u64,
    /// Data read from it.
    pub read: IoReport,
    /// Data written to it.
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
    /// Number of times that it was entered, or found.
    pub visits: u64,
}

/// Number of arcs by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ArcCounts {
    /// Arcs that succeeded.
    pub ok: u64,
    /// Arcs that failed.
    pub failed: u64,
    /// Arcs that the core refused.
    pub refused: u64,
    /// Arcs whose end was not seen.
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
    /// Number of calls.
    pub calls: u64,
    /// Number of calls that failed; a call that moved nothing for now (ENOMSG, EAGAIN, a signal) is no failure.
    pub failed: u64,
    /// Number of bytes moved.
    pub bytes: u64,
    /// Time within the calls, in ns; parallel calls count each.
    pub time_ns: u64,
}
