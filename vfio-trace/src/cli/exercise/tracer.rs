//! The live tracer as a witness: it watches its own process drive a device.

use std::{fs, time::Duration};

use bytes::Bytes;
use vfio_trace_common::role::Role;

use crate::{
    event::{DecodeError, EventData, HOLD_NS, ProbeReport, VfioEvent, WireRecord},
    exercise::{ExerciseTracer, UntracedReason},
    kernel::{KernelFiles, caps::LinuxCap},
    pipeline::Pipeline,
    probe::{LoadOptions, ProbeChanges},
    source::{
        clock::mono_ns,
        live::{LiveError, LiveSource, RunObserver},
    },
};

/// Size of the ring buffer in bytes: room for the records of a step's reads, which are taken in every few dozen.
const BUFFER_BYTES: u32 = 4 << 20;

/// Attached probes, and the events of this process that they have seen.
pub(super) struct LiveTracer {
    live: LiveSource,
    files: KernelFiles,
    seen: TracedEvents,
    own: OwnPid,
}

/// Events that were seen, and not returned by [`ExerciseTracer::events`] yet.
#[derive(Default)]
struct TracedEvents {
    pipeline: Pipeline,
    events: Vec<VfioEvent>,
}

impl RunObserver for TracedEvents {
    type Error = LiveError;

    fn record(&mut self, _bytes: &Bytes, record: Result<&WireRecord, DecodeError>) -> Result<(), LiveError> {
        let Ok(()) = self.pipeline.push(record, &mut self.events);
        Ok(())
    }

    /// Does nothing: a step misses the events of a probe that does not work, and says so.
    fn changes(&mut self, _changes: &ProbeChanges) {}

    fn tick(&mut self, now_ns: u64, _live: &mut LiveSource) -> Result<(), LiveError> {
        let Ok(()) = self.pipeline.tick(now_ns, &mut self.events);
        Ok(())
    }
}

/// PID of this process in the records, which count in the first PID namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
struct OwnPid {
    known: Option<u32>,
    /// True if it differs from getpid(2), and is learned from the open of one of `devices`.
    learns: bool,
    devices: Vec<String>,
}

/// `/proc/self/ns/pid` in the first PID namespace (`PROC_PID_INIT_INO`).
const FIRST_PID_NAMESPACE: &str = "pid:[4026531836]";

impl OwnPid {
    /// Takes getpid(2) in the first PID namespace. In another one the PID is learned when one of `devices` is opened:
    /// only one process at a time can do that.
    fn new(files: &KernelFiles, devices: &[&str]) -> Self {
        let namespace = fs::read_link(files.path("/proc/self/ns/pid"));
        let first = namespace.is_ok_and(|namespace| namespace.as_os_str() == FIRST_PID_NAMESPACE);
        let devices = devices.iter().map(|&device| device.to_owned()).collect();
        Self { known: first.then(std::process::id), learns: !first, devices }
    }

    /// Returns true if the event is of this process.
    fn is_ours(&mut self, event: &VfioEvent) -> bool {
        let opened = matches!(&event.data, EventData::Open(open) if open.outcome.is_ok());
        let exercised =
            || event.device_name().is_some_and(|name| self.devices.iter().any(|device| device == name));
        if self.learns && opened && exercised() {
            self.known = Some(event.process.pid);
        }
        self.known == Some(event.process.pid)
    }
}

/// Returns the number of records that are missing of a probe, for whatever reason.
fn missing(probe: &ProbeReport) -> u64 {
    let all = [probe.lost, probe.missed.unwrap_or(0), probe.unmatched, probe.no_room];
    all.into_iter().fold(0, u64::saturating_add)
}

impl LiveTracer {
    /// Attaches all probes, to watch what is done with these devices. Needs a tokio runtime.
    pub(super) fn start(files: KernelFiles, devices: &[&str]) -> Result<Self, LiveError> {
        let own = OwnPid::new(&files, devices);
        let options = LoadOptions { buffer_bytes: BUFFER_BYTES, log: false };
        let (mut live, _changes) = LiveSource::open(files.clone(), options, None)?;
        live.enable()?;
        // The inventory gives devices their names; without it, the first event of each does.
        let _unnamed = live.take_inventory().is_err();
        Ok(Self { live, files, seen: TracedEvents::default(), own })
    }

    /// Returns the capabilities that tracing goes on needing.
    pub(super) fn needs(&self) -> Vec<LinuxCap> {
        self.live.needs()
    }
}

impl ExerciseTracer for LiveTracer {
    fn events(&mut self) -> Vec<VfioEvent> {
        let _unfailing = self.live.catch_up(&mut self.seen, Duration::MAX).is_err();
        // Pointers to functions of a driver that was loaded meanwhile are followed only after this. If it fails, a step
        // misses events, and says so.
        let _unlooked = self.live.rescan().is_err();
        // A step is over when its call has returned: nothing of it is still to come.
        let now_ns = mono_ns().saturating_add(HOLD_NS);
        let TracedEvents { pipeline, events } = &mut self.seen;
        let Ok(()) = pipeline.tick(now_ns, events);
        let events = std::mem::take(events);
        events.into_iter().filter(|event| self.own.is_ours(event)).collect()
    }

    fn lost(&mut self) -> u64 {
        // Records that could not be decoded count as lost.
        self.live.report().iter().map(missing).fold(self.seen.pipeline.undecoded(), u64::saturating_add)
    }

    fn find_untraced_reason(&mut self) -> UntracedReason {
        if self.files.line("/sys/kernel/debug/kprobes/enabled").as_deref() == Some("0") {
            return UntracedReason::Known("kprobes are switched off in debugfs".to_owned());
        }
        if self.own.known.is_none() {
            return UntracedReason::OwnPidUnknown;
        }
        let probes = self.live.report();
        let mut arcs = probes.iter().filter(|probe| probe.role == Role::NextState);
        match arcs.next() {
            Some(probe) if !probe.attached => {
                let why = probe.reason.as_deref().unwrap_or("nobody knows why");
                UntracedReason::Known(format!("{} cannot be probed: {why}", probe.name))
            },
            _ => UntracedReason::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::{CallOutcome, DeviceOpen, DeviceRef, EventProcess},
        kernel::source::testing::TestRoot,
    };

    fn event(pid: u32, device: &str, data: EventData) -> VfioEvent {
        let device = DeviceRef { nr: 1, name: Some(device.into()), driver: None };
        let process = EventProcess { pid, tid: pid, comm: String::new() };
        VfioEvent { start_ns: 1, end_ns: 2, duration_ns: Some(1), device: Some(device), process, data }
    }

    fn opened(pid: u32, device: &str) -> VfioEvent {
        event(
            pid,
            device,
            EventData::Open(DeviceOpen { open_count: Some(1), state: None, outcome: CallOutcome::Ok }),
        )
    }

    #[test]
    fn in_the_first_namespace_a_process_knows_its_number() {
        let root = TestRoot::new();
        root.write("proc/self/ns/x", "").link("proc/self/ns/pid", FIRST_PID_NAMESPACE);
        let mut own = OwnPid::new(&root.files(), &["dev"]);
        assert!(own.is_ours(&opened(std::process::id(), "dev")));
        assert!(!own.is_ours(&opened(u32::MAX, "dev")), "somebody else's open changes nothing");
    }

    #[test]
    fn in_another_one_who_opens_the_device_is_us() {
        let root = TestRoot::new();
        root.write("proc/self/ns/x", "").link("proc/self/ns/pid", "pid:[4026532001]");
        let mut own = OwnPid::new(&root.files(), &["dev"]);
        assert!(!own.is_ours(&opened(std::process::id(), "other")), "the number means somebody else there");
        assert!(own.is_ours(&opened(4711, "dev")) && own.is_ours(&opened(4711, "other")));
        assert!(!own.is_ours(&opened(std::process::id(), "other")));
        assert_eq!(
            OwnPid::new(&TestRoot::new().files(), &["dev"]).known,
            None,
            "without /proc nothing is taken for granted"
        );
    }
}
