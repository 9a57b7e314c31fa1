//! What happened on one host, kept in a bounded amount of memory however much data moves: the first half of a document.

mod busy;
mod device;
mod dirty;
mod session;
mod thinned;

use crate::event::{ClockAnchor, Data, DeviceRef, Direction, Event, MigState};

pub(crate) use self::{busy::Busy, device::DeviceHistory, session::SessionHistory};
use super::document::{Finding, Host, SessionEnd};

/// The history of one host. Pure; the same events give the same history.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub(crate) host: Host,
    pub(crate) anchor: ClockAnchor,
    /// What the host's kernel promises its wall clock is off UTC at most, in ns; `None`: it is not synchronised.
    pub(crate) clock_error_ns: Option<u64>,
    pub(crate) devices: Vec<DeviceHistory>,
    pub(crate) sessions: Vec<SessionHistory>,
    pub(crate) findings: Vec<Finding>,
    first_ns: Option<u64>,
    last_ns: u64,
    /// Session that the last call was of: the next one is likely to be of it too.
    recent: usize,
}

impl History {
    /// A history that has seen nothing. The caller fills in what is known of the host; its times are CLOCK_MONOTONIC
    /// until a document is made. `clock_error_ns`: what its kernel promises its wall clock is off UTC at most; `None`
    /// if that is not synchronised, or not known.
    pub fn new(host: Host, anchor: ClockAnchor, clock_error_ns: Option<u64>) -> Self {
        Self { host, anchor, clock_error_ns, ..Self::default() }
    }

    /// What is known of the host.
    pub const fn host_mut(&mut self) -> &mut Host {
        &mut self.host
    }

    /// First and last time seen, CLOCK_MONOTONIC in ns.
    pub fn span(&self) -> Option<(u64, u64)> {
        self.first_ns.map(|first| (first, self.last_ns.max(first)))
    }

    /// Takes in the next event.
    pub fn apply(&mut self, event: &Event) {
        self.host.events += 1;
        // What the inventory finds began long ago; that is not when tracing began.
        self.first_ns = Some(self.first_ns.map_or(event.end_ns, |first| first.min(event.end_ns)));
        self.last_ns = self.last_ns.max(event.end_ns);
        match &event.data {
            Data::Read(io) | Data::Write(io) => {
                let direction =
                    if matches!(event.data, Data::Read(_)) { Direction::Save } else { Direction::Resume };
                let device = self.device(event.device.as_ref());
                let state = self.devices[device].state_at(event.end_ns);
                if let Some(session) = self.session(io.session, device, event) {
                    session.io(event, io, direction, state);
                }
            },
            Data::PrecopyInfo(info) => {
                let device = self.device(event.device.as_ref());
                if let Some(session) = self.session(info.session, device, event) {
                    session.info(event, info);
                }
            },
            Data::DataClose(close) => {
                let device = self.device(event.device.as_ref());
                if let Some(session) = self.session(close.session, device, event) {
                    session.closed(event, close);
                }
            },
            Data::Finding(finding) => {
                let device = self.device(event.device.as_ref());
                self.findings.push(Finding {
                    at_ns: event.end_ns,
                    device: device as u32,
                    code: finding.code.clone().into_owned(),
                    severity: finding.severity,
                    step: finding.step.clone().map(Into::into),
                    errno: finding.errno.clone().map(Into::into),
                    text: finding.text.clone(),
                    check: finding.check.clone().into_owned(),
                });
            },
            Data::Image(image) => {
                if let Some((number, stream)) = image.session.zip(image.stream) {
                    let device = self.device(event.device.as_ref());
                    if let Some(session) = self.session(Some(number), device, event) {
                        session.shown(stream);
                    }
                }
            },
            Data::DataIoctl(_) => {},
            _ if event.device.is_none() => {},
            _ => self.of_device(event),
        }
    }

    fn of_device(&mut self, event: &Event) {
        let device = self.device(event.device.as_ref());
        let opened = match &event.data {
            Data::SetState(request) => request.session.and_then(|number| {
                self.session(Some(number), device, event)?.begun(request.target, event.end_ns);
                self.place(number)
            }),
            _ => None,
        };
        let end = self.devices[device].apply(event, opened.map(|at| at as u32));
        if let Some((end, at_ns)) = end {
            self.end_sessions(device, end, at_ns);
        }
    }

    fn end_sessions(&mut self, device: usize, end: SessionEnd, at_ns: u64) {
        for session in &mut self.sessions {
            if session.doc.device as usize == device && session.doc.start_ns <= at_ns {
                session.ended(end, at_ns);
            }
        }
    }

    /// A device by its name, which outlives the kernel's structure; one without a name by its number.
    fn device(&mut self, device: Option<&DeviceRef>) -> usize {
        let (nr, name) = device.map_or((u32::MAX, None), |device| (device.nr, device.name.as_ref()));
        let known = self.devices.iter().position(|known| match name {
            Some(name) => known.doc.name.as_deref() == Some(&**name),
            None => known.doc.name.is_none() && known.nr == nr,
        });
        let at = known.unwrap_or_else(|| {
            self.devices.push(DeviceHistory::new(nr, name.map(ToString::to_string)));
            self.devices.len() - 1
        });
        if let Some(driver) = device.and_then(|device| device.driver.as_deref())
            && self.devices[at].doc.driver.as_deref() != Some(driver)
        {
            self.devices[at].doc.driver = Some(driver.to_owned());
        }
        at
    }

    fn place(&self, number: u32) -> Option<usize> {
        self.sessions.iter().rposition(|session| session.doc.session == number)
    }

    fn session(&mut self, number: Option<u32>, device: usize, event: &Event) -> Option<&mut SessionHistory> {
        let number = number?;
        if self.sessions.get(self.recent).is_none_or(|recent| recent.doc.session != number) {
            self.recent = self.place(number).unwrap_or_else(|| {
                self.sessions.push(SessionHistory::new(number, device as u32, event.start_ns));
                self.sessions.len() - 1
            });
        }
        self.sessions.get_mut(self.recent)
    }
}

/// The state in which data is saved.
pub(crate) const fn is_pre_copy(state: MigState) -> bool {
    matches!(state, MigState::PRE_COPY | MigState::PRE_COPY_P2P)
}
