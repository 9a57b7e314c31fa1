//! History of one host, kept in a bounded amount of memory for any amount of data: the first half of a document.

mod busy;
mod device;
mod dirty;
mod host_clock;
mod session;
mod thinned;

use std::{collections::HashMap, convert::Infallible};

use crate::{
    event::{
        ClockAnchor, DataDirection, DeviceRef, EventData, FindingSeverity, GapFunction, MigState, ProbeGap,
        VfioEvent, WallClock, functions_of,
    },
    pipeline::EventConsumer,
};

use self::device::EntryCounts;
pub(crate) use self::{
    busy::BusyIntervals, device::DeviceHistory, host_clock::HostClock, session::SessionHistory,
};
use super::{
    ModelLimits,
    document::{LeftOutCounts, ReportFinding, SessionEnd, TracedHost},
};

/// Most gaps that are kept: each device is compared with each gap of its driver.
const MOST_GAPS: usize = 1_000;
/// Most functions of gaps that are not over; all of them are compared when one ends. A host has fewer functions to
/// probe.
const MOST_GAP_FUNCTIONS: usize = 1 << 14;

/// History of one host. `cli::histories` makes one per recording and passes all events to it; `report::document` makes
/// the document from the histories of all hosts. Pure: the same events give the same history. Times are CLOCK_MONOTONIC
/// in ns.
#[derive(Clone, Debug, Default)]
pub struct HostHistory {
    pub(crate) host: TracedHost,
    clock: WallClock,
    pub(crate) clocks: HostClock,
    pub(crate) devices: Vec<DeviceHistory>,
    pub(crate) sessions: Vec<SessionHistory>,
    pub(crate) findings: Vec<ReportFinding>,
    /// Times in which functions were not probed, CLOCK_MONOTONIC in ns.
    pub(crate) gaps: Vec<ProbeGap>,
    /// Number of gaps for which there was no room.
    pub(crate) gaps_left_out: u64,
    first_ns: Option<u64>,
    last_ns: u64,
    /// Indexes of devices by name, one per driver that they had; devices without a name are in `by_nr`.
    by_name: HashMap<String, Vec<usize>>,
    by_nr: HashMap<u32, usize>,
    /// Indexes of sessions by their number in the events.
    by_session: HashMap<u32, usize>,
    /// Indexes of each device's sessions that may not be over.
    open: Vec<Vec<usize>>,
    /// Indexes of each device's sessions that have moved data since the device's state changed last.
    moving: Vec<Vec<usize>>,
    /// The last call on a data fd, or copy of its file: a finding may belong to it.
    call: Option<LastCall>,
    limits: ModelLimits,
    /// Numbers of entries of all devices together.
    kept: EntryCounts,
    /// Events and entries for which there was no room; the time is CLOCK_MONOTONIC.
    pub(crate) left_out: LeftOutCounts,
}

/// The call that a finding is matched against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LastCall {
    device: usize,
    session: usize,
    tid: u32,
    end_ns: u64,
}

impl EventConsumer for HostHistory {
    type Error = Infallible;

    fn event(&mut self, event: VfioEvent) -> Result<(), Infallible> {
        self.apply(&event);
        Ok(())
    }
}

impl HostHistory {
    /// Makes an empty history. The caller fills in the facts about the host; its times are CLOCK_MONOTONIC until a
    /// document is made. `clock_error_ns`: the kernel's bound for the wall clock's distance from UTC; `None` if the
    /// clock is not synchronised, or if that is not known.
    pub fn new(host: TracedHost, anchor: ClockAnchor, clock_error_ns: Option<u64>) -> Self {
        let clocks = HostClock::new(anchor, clock_error_ns);
        Self { host, clock: anchor.into(), clocks, ..Self::default() }
    }

    /// Sets other limits.
    #[must_use]
    pub const fn with_limits(mut self, limits: ModelLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Takes in a later reading of the clocks, CLOCK_BOOTTIME among them, which were read at most `error_ns` apart, and
    /// the kernel's bound at that time.
    pub fn sample(&mut self, found: ClockAnchor, boot_ns: u64, error_ns: u64, clock_error_ns: Option<u64>) {
        self.clock.sample(found, error_ns);
        self.clocks.sample(found, boot_ns, error_ns, clock_error_ns);
    }

    /// Returns the wall clock, with its steps.
    pub const fn clock(&self) -> &WallClock {
        &self.clock
    }

    /// Returns the time whose clock readings a document's wall times are computed from: the beginning of the last data
    /// session, because sessions are compared with those of other hosts; without a session the last event. The document
    /// does not mention other steps of the wall clock.
    fn converted_ns(&self) -> u64 {
        self.sessions.iter().map(|session| session.doc.start_ns).max().unwrap_or(self.last_ns)
    }

    /// Returns CLOCK_REALTIME minus CLOCK_BOOTTIME, by the reading nearest to that time.
    pub(crate) fn ahead_ns(&self) -> i128 {
        self.clocks.ahead_at(self.converted_ns())
    }

    /// Returns CLOCK_REALTIME minus CLOCK_MONOTONIC, by the reading nearest to that time.
    pub(crate) fn distance_ns(&self) -> i128 {
        self.ahead_ns() + self.clocks.asleep_at(self.converted_ns())
    }

    /// Returns the kernel's bound for the wall clock's distance from UTC at that time.
    pub(crate) fn clock_error_ns(&self) -> Option<u64> {
        self.clocks.error_at(self.converted_ns())
    }

    /// Returns the facts about the host.
    pub const fn host_mut(&mut self) -> &mut TracedHost {
        &mut self.host
    }

    /// Returns the first and the last time seen, CLOCK_MONOTONIC in ns.
    pub fn span(&self) -> Option<(u64, u64)> {
        self.first_ns.map(|first| (first, self.last_ns.max(first)))
    }

    /// Takes in the next event.
    pub fn apply(&mut self, event: &VfioEvent) {
        self.host.events += 1;
        if self.left_out.from_ns.is_some() {
            self.left_out.events += 1;
            self.left_out.failed += u64::from(event.data.is_failure());
            return;
        }
        // The inventory reports devices that were opened long ago; tracing did not begin then.
        self.first_ns = Some(self.first_ns.map_or(event.end_ns, |first| first.min(event.end_ns)));
        self.last_ns = self.last_ns.max(event.end_ns);
        self.take(event);
        self.check_room();
    }

    /// Ends the intake of events once a list that verdicts are made from is full: otherwise a part of a migration would
    /// look like the whole.
    fn check_room(&mut self) {
        let (kept, limits) = (&self.kept, &self.limits);
        let full = [
            ("arcs", kept.arcs, limits.arcs),
            ("requests", kept.requests, limits.requests),
            ("states", kept.states, limits.states),
            ("marks", kept.marks, limits.all_marks),
            ("dirty logs", kept.dirty_logs, limits.dirty_logs),
            ("sessions", self.sessions.len(), limits.sessions),
        ];
        if let Some((what, ..)) = full.into_iter().find(|(_, count, most)| count >= most) {
            self.left_out.from_ns = Some(self.last_ns);
            self.left_out.full = Some(what.to_owned());
        }
    }

    fn take(&mut self, event: &VfioEvent) {
        match &event.data {
            EventData::Read(io) | EventData::Write(io) => {
                let direction = if matches!(event.data, EventData::Read(_)) {
                    DataDirection::Save
                } else {
                    DataDirection::Resume
                };
                let Some(device) = self.device(event.device.as_ref()) else { return };
                let state = self.devices[device].state_at(event.end_ns);
                if let Some(session) = self.session(io.session, device, event) {
                    session.io(event, io, direction, state);
                    self.called(io.session, device, event);
                    self.moves(io.session, device);
                }
            },
            EventData::PrecopyInfo(info) => {
                let Some(device) = self.device(event.device.as_ref()) else { return };
                if let Some(session) = self.session(info.session, device, event) {
                    session.info(event, info);
                }
            },
            EventData::DataClose(close) => {
                let Some(device) = self.device(event.device.as_ref()) else { return };
                if let Some(session) = self.session(close.session, device, event) {
                    session.close_session(event, close);
                }
            },
            EventData::Finding(finding) if self.findings.len() >= self.limits.findings => {
                self.left_out.findings += 1;
                self.left_out.errors += u64::from(finding.severity == FindingSeverity::Error);
            },
            EventData::Finding(finding) => {
                let Some(device) = self.device(event.device.as_ref()) else { return };
                let session = self.call.filter(|call| {
                    (call.device, call.tid, call.end_ns) == (device, event.process.tid, event.end_ns)
                });
                self.findings.push(ReportFinding {
                    at_ns: event.end_ns,
                    device: device as u32,
                    session: session.map(|call| call.session as u32),
                    code: finding.code.clone().into_owned(),
                    severity: finding.severity,
                    step: finding.step.clone().map(Into::into),
                    errno: finding.errno.clone().map(Into::into),
                    text: finding.text.clone(),
                    check: finding.check.clone().into_owned(),
                });
            },
            EventData::Image(image) => {
                if let Some(number) = image.session {
                    let Some(device) = self.device(event.device.as_ref()) else { return };
                    if let Some(stream) = image.stream
                        && let Some(session) = self.session(Some(number), device, event)
                    {
                        session.set_stream_hash(stream);
                    }
                    self.called(Some(number), device, event);
                }
            },
            EventData::DataIoctl(_) => {},
            EventData::ProbeGap(gap) => self.gap(gap),
            _ if event.device.is_none() => {},
            _ => self.of_device(event),
        }
    }

    /// Keeps a gap. A gap with an end also ends earlier gaps of the same functions that had none.
    fn gap(&mut self, gap: &ProbeGap) {
        let (mut ended, over) = (Vec::new(), functions_of(gap));
        for open in self.gaps.iter_mut().filter(|open| {
            gap.until_mono_ns.is_some() && open.until_mono_ns.is_none() && open.module == gap.module
        }) {
            let is_over = |function: &GapFunction| over.contains(function);
            if open.functions.iter().all(is_over) {
                open.until_mono_ns = gap.until_mono_ns;
            } else if open.functions.iter().any(is_over) {
                let functions = open.functions.iter().filter(|function| is_over(function)).cloned().collect();
                ended.push(ProbeGap { functions, until_mono_ns: gap.until_mono_ns, ..open.clone() });
                open.functions.retain(|function| !is_over(function));
            }
        }
        ended.push(gap.clone());
        for gap in ended {
            let open = |gap: &&ProbeGap| gap.until_mono_ns.is_none();
            let functions: usize = self.gaps.iter().filter(open).map(|gap| gap.functions.len()).sum();
            let too_many = open(&&gap) && functions + gap.functions.len() > MOST_GAP_FUNCTIONS;
            if self.gaps.len() >= MOST_GAPS || too_many {
                self.gaps_left_out += 1;
            } else if !self.gaps.contains(&gap) {
                self.gaps.push(gap);
            }
        }
    }

    fn of_device(&mut self, event: &VfioEvent) {
        let Some(device) = self.device(event.device.as_ref()) else { return };
        if matches!(event.data, EventData::Step(_)) && self.kept.steps >= self.limits.all_steps {
            self.devices[device].doc.steps_left_out += 1;
            return;
        }
        let opened = match &event.data {
            EventData::SetState(request) => request.session.and_then(|number| {
                self.session(Some(number), device, event)?.begin_session(request.target, event.end_ns);
                self.place(number)
            }),
            _ => None,
        };
        let (before, since_ns) = (self.devices[device].kept(), self.devices[device].since_ns());
        let end = self.devices[device].apply(event, opened.map(|at| at as u32));
        self.kept.grow(before, self.devices[device].kept());
        let now_ns = self.devices[device].since_ns();
        match event.data {
            EventData::Arc(_) => self.changed(device, &[event.start_ns, event.end_ns]),
            _ if now_ns != since_ns => self.changed(device, &[now_ns]),
            _ => {},
        }
        if let Some((end, at_ns)) = end {
            self.end_sessions(device, end, at_ns);
        }
    }

    /// Notes that a session has moved data.
    fn moves(&mut self, number: Option<u32>, device: usize) {
        let place = number.and_then(|number| self.place(number));
        if let (Some(at), Some(moving)) = (place, self.moving.get_mut(device))
            && self.sessions[at].take_moved()
        {
            moving.push(at);
        }
    }

    /// Tells the sessions that have moved data that their device's state changed at these times.
    fn changed(&mut self, device: usize, times: &[u64]) {
        let Some(moving) = self.moving.get_mut(device) else { return };
        for at in moving.drain(..) {
            if let Some(session) = self.sessions.get_mut(at) {
                for at_ns in times {
                    session.note_state_change(*at_ns);
                }
            }
        }
    }

    fn end_sessions(&mut self, device: usize, end: SessionEnd, at_ns: u64) {
        let Some(open) = self.open.get_mut(device) else { return };
        open.retain(|at| {
            let Some(session) = self.sessions.get_mut(*at) else { return false };
            let begun = session.doc.start_ns <= at_ns;
            if begun {
                session.end_session(end, at_ns);
            }
            !begun
        });
    }

    /// Returns the index of a device, found by its name, which outlives the kernel's structure, or by its number if it
    /// has no name. Under another driver it is another device, because its history belongs to the driver. `None`: there
    /// is no room for another device.
    fn device(&mut self, device: Option<&DeviceRef>) -> Option<usize> {
        let (nr, name) = device.map_or((u32::MAX, None), |device| (device.nr, device.name.as_deref()));
        let driver = device.and_then(|device| device.driver.as_deref());
        let known = match name {
            Some(name) => self.by_name.get(name).and_then(|places| {
                let fits = |at: &&usize| {
                    driver.zip(self.devices[**at].doc.driver.as_deref()).is_none_or(|(one, two)| one == two)
                };
                places.iter().rev().find(fits)
            }),
            None => self.by_nr.get(&nr),
        };
        if known.is_none() && self.devices.len() >= self.limits.devices {
            self.left_out.device_events += 1;
            return None;
        }
        let at = known.copied().unwrap_or_else(|| {
            let at = self.devices.len();
            match name {
                Some(name) => self.by_name.entry(name.to_owned()).or_default().push(at),
                None => _ = self.by_nr.insert(nr, at),
            }
            self.devices.push(DeviceHistory::new(name.map(ToOwned::to_owned), self.limits));
            self.open.push(Vec::new());
            self.moving.push(Vec::new());
            at
        });
        if let Some(driver) = driver
            && self.devices[at].doc.driver.as_deref() != Some(driver)
        {
            self.devices[at].doc.driver = Some(driver.to_owned());
        }
        Some(at)
    }

    fn place(&self, number: u32) -> Option<usize> {
        self.by_session.get(&number).copied()
    }

    /// Notes the last call, or the last copy of a data fd's file.
    fn called(&mut self, number: Option<u32>, device: usize, event: &VfioEvent) {
        let session = number.and_then(|number| self.place(number));
        let (tid, end_ns) = (event.process.tid, event.end_ns);
        self.call = session.map(|session| LastCall { device, session, tid, end_ns });
    }

    fn session(
        &mut self,
        number: Option<u32>,
        device: usize,
        event: &VfioEvent,
    ) -> Option<&mut SessionHistory> {
        let number = number?;
        let at = self.place(number).unwrap_or_else(|| {
            let at = self.sessions.len();
            self.by_session.insert(number, at);
            self.sessions.push(SessionHistory::new(number, device as u32, event.start_ns));
            if let Some(open) = self.open.get_mut(device) {
                open.push(at);
            }
            at
        });
        self.sessions.get_mut(at)
    }
}

/// Returns true for PRE_COPY and PRE_COPY_P2P, in which data is saved before the device stops.
pub(crate) const fn is_pre_copy(state: MigState) -> bool {
    matches!(state, MigState::PRE_COPY | MigState::PRE_COPY_P2P)
}
