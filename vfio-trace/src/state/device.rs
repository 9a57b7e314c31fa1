//! One device's account, event by event: its holders, its states, and sums.

use std::{collections::BTreeSet, sync::Arc};

use super::{ArcCounts, DeviceReport, HolderReport, IoReport, StateTime, track::StateTracker};
use crate::event::{DataIo, DeviceRef, EventData, EventProcess, MigFlags, StateEffect, VfioEvent};

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
        self.follow(event);
        match &event.data {
            EventData::Device(seen) => {
                self.migration = seen.migration.or(self.migration);
                self.flags = seen.migration_flags.or(self.flags);
                self.dirty_tracking = seen.dirty_tracking.or(self.dirty_tracking);
                self.gone = false;
            },
            EventData::Register(registered) => self.gone = !registered.outcome.is_ok(),
            EventData::Unregister(_) => self.gone = true,
            EventData::Held(holder) => self.holds(&event.process, Some(holder.fd)),
            EventData::Open(open) if open.outcome.is_ok() => {
                self.opens += 1;
                self.holds(&event.process, None);
            },
            EventData::Close(close) => self.lets_go(event.process.pid, close.open_count),
            EventData::Arc(arc) => self.arcs.count(arc.outcome),
            EventData::Desync(_) => self.desyncs += 1,
            EventData::SetState(request) => {
                self.requests += 1;
                self.requests_failed += u64::from(!request.outcome.is_ok());
                self.sessions.extend(request.session);
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
            EventData::Reset(reset) => self.resets += u64::from(reset.outcome.is_ok()),
            _ => {},
        }
    }

    /// Follows the state.
    fn follow(&mut self, event: &VfioEvent) {
        let presence = event.data.presence();
        if self.gone && presence == Some(true) {
            self.track.come_again(event.start_ns);
        }
        self.track.seen(event.start_ns);
        let effect = match (&event.data, event.data.state_effect()) {
            // It has come again: earlier facts belong to the device that went.
            (EventData::Device(_), StateEffect::Read(state)) if self.gone => StateEffect::Entered(state),
            (EventData::Device(_), _) if self.gone => StateEffect::Lost,
            // Within VFIO_DEVICE_RESET or an open it is part of that, whose event has the same effect right afterwards.
            (EventData::PciReset(_), StateEffect::Lost) => StateEffect::Doubted,
            (EventData::Reset(reset), effect) => {
                if reset.outcome.is_ok() {
                    self.track.reset(event);
                }
                effect
            },
            (_, effect) => effect,
        };
        self.track.apply(effect, event);
        if !self.gone && presence == Some(false) {
            self.track.leave(event.end_ns);
        }
    }

    /// Notes that a process has the device open; the descriptor is known only if it was open before tracing began.
    fn holds(&mut self, process: &EventProcess, fd: Option<u32>) {
        let (pid, comm) = (process.pid, process.comm.clone());
        // The inventory may find a file that was opened a moment ago.
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

    pub(super) fn report(&self, until_ns: u64) -> DeviceReport {
        let track = self.track.times((!self.gone).then_some(until_ns));
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
                .states
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

/// Counts sessions. Recent ones are recognised by their numbers, which only grow.
#[derive(Clone, Debug, Default)]
struct SessionCounter {
    recent: BTreeSet<u32>,
    /// Highest number that is no longer among the recent ones.
    before: Option<u32>,
    count: u64,
}

impl SessionCounter {
    /// Number of recent sessions that are kept: many more than a device has open at once.
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
