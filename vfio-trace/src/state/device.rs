//! One device's account: its state machine followed event by event, and sums.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{ArcCounts, DeviceReport, HolderReport, IoReport, PathEntry, StatePath, StateTime};
use crate::event::{
    ArcStep, CallOutcome, DataIo, DeviceRef, EventData, EventProcess, MigFlags, MigState, VfioEvent,
};

#[derive(Clone, Debug)]
pub(super) struct DeviceModel {
    pub(super) name: Option<Arc<str>>,
    driver: Option<Arc<str>>,
    migration: Option<bool>,
    flags: Option<MigFlags>,
    dirty_tracking: Option<bool>,
    gone: bool,
    holders: Vec<HolderReport>,
    track: StateTracker,
    arcs: ArcCounts,
    requests: u64,
    requests_failed: u64,
    resets: u64,
    desyncs: u64,
    opens: u64,
    sessions: SessionCounter,
    read: IoReport,
    written: IoReport,
}

impl DeviceModel {
    pub(super) fn new(device: &DeviceRef) -> Self {
        Self {
            name: device.name.clone(),
            driver: None,
            migration: None,
            flags: None,
            dirty_tracking: None,
            gone: false,
            holders: Vec::new(),
            track: StateTracker::default(),
            arcs: ArcCounts::default(),
            requests: 0,
            requests_failed: 0,
            resets: 0,
            desyncs: 0,
            opens: 0,
            sessions: SessionCounter::default(),
            read: IoReport::default(),
            written: IoReport::default(),
        }
    }

    pub(super) fn driver(&self) -> Option<&str> {
        self.driver.as_deref()
    }

    pub(super) fn apply(&mut self, event: &VfioEvent) {
        if let Some(driver) = event.device.as_ref().and_then(|device| device.driver.as_ref()) {
            self.driver = Some(Arc::clone(driver));
        }
        self.track.seen(event.start_ns);
        match &event.data {
            EventData::Device(seen) => {
                self.migration = seen.migration.or(self.migration);
                self.flags = seen.migration_flags.or(self.flags);
                self.dirty_tracking = seen.dirty_tracking.or(self.dirty_tracking);
                match seen.known_state() {
                    state if self.gone => self.track.restart(state, event.end_ns),
                    Some(state) => self.track.begin(state),
                    None => {},
                }
                self.gone = false;
            },
            EventData::Register(registered) => self.gone = !registered.outcome.is_ok(),
            EventData::Unregister(_) => {
                self.gone = true;
                self.track.lose();
            },
            EventData::Held(holder) => self.holds(&event.process, Some(holder.fd)),
            EventData::Open(open) if open.outcome.is_ok() => {
                self.opens += 1;
                self.holds(&event.process, None);
                if open.open_count.is_none_or(|count| count <= 1) {
                    self.track.restart(open.state, event.end_ns);
                }
            },
            EventData::Close(close) => self.lets_go(event.process.pid, close.open_count),
            EventData::Arc(arc) => self.arc(event, arc),
            EventData::Desync(desync) => {
                self.desyncs += 1;
                self.track.observe(desync.found, event.end_ns);
            },
            EventData::SetState(request) => {
                self.requests += 1;
                self.requests_failed += u64::from(!request.outcome.is_ok());
                self.sessions.extend(request.session);
                if request.outcome.is_ok() {
                    self.track.observe(request.target, event.end_ns);
                }
            },
            EventData::GetState(request) => {
                if let Some(state) = request.state {
                    self.track.observe(state, event.end_ns);
                }
            },
            EventData::Read(io) => {
                self.sessions.extend(io.session);
                count(&mut self.read, event, io);
            },
            EventData::Write(io) => {
                self.sessions.extend(io.session);
                count(&mut self.written, event, io);
            },
            EventData::DataClose(close) => self.sessions.extend(close.session),
            EventData::PrecopyInfo(info) => self.sessions.extend(info.session),
            EventData::DataIoctl(call) => self.sessions.extend(call.session),
            EventData::Reset(reset) => {
                if reset.outcome.is_ok() {
                    self.resets += 1;
                    self.track.reset(event.start_ns);
                    self.track.restart(reset.state, event.end_ns);
                }
            },
            // Within VFIO_DEVICE_RESET or an open it is part of that: those say the same right afterwards.
            EventData::PciReset(reset) => {
                if reset.outcome.is_ok() && reset.state.is_some() {
                    self.track.restart(reset.state, event.end_ns);
                }
            },
            _ => {},
        }
    }

    /// A process has the device open; the descriptor is known only if it had it before tracing began.
    fn holds(&mut self, process: &EventProcess, fd: Option<u32>) {
        let (pid, comm) = (process.pid, process.comm.clone());
        // What the inventory finds may have been opened a moment ago.
        let same =
            |known: &HolderReport| known.pid == pid && fd.is_some() && (known.fd.is_none() || known.fd == fd);
        match self.holders.iter_mut().find(|known| same(known)) {
            Some(known) => *known = HolderReport { pid, comm, fd },
            None => self.holders.push(HolderReport { pid, comm, fd }),
        }
    }

    fn lets_go(&mut self, pid: u32, open_count: Option<u32>) {
        if open_count == Some(1) {
            self.holders.clear();
        } else if let Some(at) = self.holders.iter().rposition(|known| known.pid == pid) {
            self.holders.remove(at);
        }
    }

    fn arc(&mut self, event: &VfioEvent, arc: &ArcStep) {
        let count = match arc.outcome {
            CallOutcome::Ok => &mut self.arcs.ok,
            CallOutcome::Failed(_) => &mut self.arcs.failed,
            CallOutcome::Refused(_) => &mut self.arcs.refused,
            CallOutcome::Unknown => &mut self.arcs.unknown,
        };
        *count += 1;
        if self.track.is_past(event.start_ns) {
            return;
        }
        self.track.observe(arc.from, event.start_ns);
        let Some(to) = arc.to else { return };
        self.track.leave(event.start_ns);
        match (arc.outcome, event.duration_ns) {
            (CallOutcome::Ok, Some(took)) => self.track.arrive(to, took, event.end_ns),
            // It got there, but when is not known.
            (CallOutcome::Ok, None) => self.track.arrive_unseen(to, event.end_ns),
            // Drivers mostly stay where they were, but not all.
            _ => self.track.lose(),
        }
    }

    pub(super) fn report(&self, until_ns: u64) -> DeviceReport {
        let mut track = self.track.clone();
        track.leave(until_ns);
        DeviceReport {
            device: self.name.as_deref().map(str::to_owned),
            driver: self.driver.as_deref().map(str::to_owned),
            migration: self.migration,
            migration_flags: self.flags,
            dirty_tracking: self.dirty_tracking,
            gone: self.gone,
            holders: self.holders.clone(),
            state: self.track.present(),
            path: track.path,
            states: track
                .times
                .into_iter()
                .map(|(state, (time_ns, visits))| StateTime { state, time_ns, visits })
                .collect(),
            arcs_ns: track.arcs_ns,
            uncertain_ns: track.uncertain_ns,
            arcs: self.arcs,
            requests: self.requests,
            requests_failed: self.requests_failed,
            resets: self.resets,
            desyncs: self.desyncs,
            opens: self.opens,
            sessions: self.sessions.count,
            read: self.read,
            written: self.written,
        }
    }
}

/// How many sessions there were; those that came last are known by their numbers, which only grow.
#[derive(Clone, Debug, Default)]
struct SessionCounter {
    recent: BTreeSet<u32>,
    /// The last one that is not among the recent ones any more.
    before: Option<u32>,
    count: u64,
}

impl SessionCounter {
    /// Many more than a device has open at once.
    const RECENT: usize = 1024;

    fn extend(&mut self, number: Option<u32>) {
        let new = number.filter(|number| self.before.is_none_or(|before| *number > before));
        if new.is_some_and(|number| self.recent.insert(number)) {
            self.count += 1;
        }
        if self.recent.len() > Self::RECENT {
            self.before = self.recent.pop_first();
        }
    }
}

fn count(sum: &mut IoReport, event: &VfioEvent, io: &DataIo) {
    sum.calls += 1;
    sum.failed += u64::from(!io.outcome.is_ok() && io.dry.is_none());
    sum.bytes = sum.bytes.saturating_add(io.bytes.unwrap_or(0));
    sum.time_ns = sum.time_ns.saturating_add(event.duration_ns.unwrap_or(0));
}

/// Where the device is, since when, and where it was.
#[derive(Clone, Debug, Default)]
struct StateTracker {
    path: StatePath,
    /// The state it is in, or was in when last seen.
    state: Option<MigState>,
    /// Whether `state` may have changed unseen.
    certain: bool,
    /// Since when; before the first state: since the device was first seen.
    since_ns: Option<u64>,
    /// Per state: time and visits.
    times: BTreeMap<MigState, (u64, u64)>,
    arcs_ns: u64,
    uncertain_ns: u64,
}

impl StateTracker {
    fn seen(&mut self, now_ns: u64) {
        self.since_ns.get_or_insert(now_ns);
    }

    /// Whether an event comes too late to tell where the device is: some wait for a record that may not come.
    fn is_past(&self, now_ns: u64) -> bool {
        self.state.is_some() && self.since_ns.is_some_and(|since| now_ns < since)
    }

    /// Where it is for sure.
    fn present(&self) -> Option<MigState> {
        self.state.filter(|_| self.certain)
    }

    /// It was found in this state when first seen. Read without a lock, so that is all it is good for.
    fn begin(&mut self, state: MigState) {
        if self.state.is_none() && self.path.steps.is_empty() {
            self.observe(state, 0);
        }
    }

    /// Something seen put it into this state; `None`: into one that is not known.
    fn restart(&mut self, state: Option<MigState>, now_ns: u64) {
        if self.is_past(now_ns) {
            return;
        }
        if self.state != state {
            self.lose();
        }
        if let Some(state) = state {
            self.observe(state, now_ns);
        }
    }

    /// Something shows that it is in this state now.
    fn observe(&mut self, state: MigState, now_ns: u64) {
        if self.is_past(now_ns) {
            return;
        }
        match self.state {
            // It has been all the time since it was last seen there, for all that is known.
            Some(before) if before == state => self.certain = true,
            Some(_) => {
                if self.certain {
                    self.path.push(PathEntry::Gap);
                }
                self.certain = false;
                self.leave(now_ns);
                self.enter(state, now_ns);
            },
            // The first state seen: it was in it since it was first seen itself.
            None if self.path.steps.is_empty() => self.enter(state, self.since_ns.unwrap_or(now_ns)),
            None => {
                self.leave(now_ns);
                self.enter(state, now_ns);
            },
        }
    }

    /// The time up to now belongs to the present state.
    fn leave(&mut self, now_ns: u64) {
        let passed = now_ns.saturating_sub(self.since_ns.unwrap_or(now_ns));
        match self.state {
            Some(state) if self.certain => {
                let (time, _) = self.times.entry(state).or_default();
                *time = time.saturating_add(passed);
            },
            _ => self.uncertain_ns = self.uncertain_ns.saturating_add(passed),
        }
        self.since_ns = Some(self.since_ns.map_or(now_ns, |since| since.max(now_ns)));
    }

    fn enter(&mut self, state: MigState, now_ns: u64) {
        self.path.push(PathEntry::State(state));
        self.times.entry(state).or_default().1 += 1;
        self.state = Some(state);
        self.certain = true;
        self.since_ns = Some(now_ns);
    }

    /// An arc led here.
    fn arrive(&mut self, state: MigState, took_ns: u64, now_ns: u64) {
        self.arcs_ns = self.arcs_ns.saturating_add(took_ns);
        self.enter(state, now_ns);
    }

    /// An arc led here, at some time until now.
    fn arrive_unseen(&mut self, state: MigState, now_ns: u64) {
        self.certain = false;
        self.leave(now_ns);
        self.enter(state, now_ns);
    }

    /// It may be in another state from now on.
    fn lose(&mut self) {
        self.certain = false;
    }

    /// What was before does not count any more.
    fn reset(&mut self, now_ns: u64) {
        self.leave(now_ns);
        self.path.push(PathEntry::Reset);
        self.state = None;
        self.certain = false;
    }
}
