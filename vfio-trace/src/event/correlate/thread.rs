//! State of one thread: an arc in progress, and a driver's call that an ioctl may still claim.

use vfio_trace_common::wire::{self, Header};

use super::ioctl::DeviceRequest;
use crate::event::{
    ArcStep, CallOutcome, DeviceRef, EventData, EventKind, EventProcess, MigState, VfioEvent,
};

/// Arcs of one request that are remembered: the longest path of the state machine has 5.
const MAX_BEGUN: usize = 64;

/// Request and arc in progress of one thread.
#[derive(Debug, Default)]
pub(super) struct ThreadState {
    /// The arc that has begun last and is not known to be over.
    pub(super) arc: Option<OpenArc>,
    /// A driver's call that may be part of an ioctl whose return is still to come.
    pub(super) held: Option<HeldCall>,
    /// A held call that was given up, in case its ioctl comes after all.
    pub(super) reported: Option<ReportedCall>,
    /// Start times of the arcs of the request in progress.
    begun: Vec<u64>,
    /// Time at which the core refused an arc of the request in progress.
    refused_ns: Option<u64>,
    /// Further facts about the dirty-tracking ioctl whose record should come next.
    pub(super) log: Option<DirtyIoctl>,
}

/// Further facts about one dirty-tracking ioctl.
#[derive(Debug)]
pub(super) struct DirtyIoctl {
    /// Entry time of the ioctl, which identifies it.
    pub(super) start_ns: u64,
    /// Time at which this was read. The ioctl's own record may have been lost.
    pub(super) since_ns: u64,
    pub(super) log: DirtyDetail,
}

/// Facts about a dirty-tracking ioctl that do not fit into its record.
#[derive(Debug)]
pub(super) enum DirtyDetail {
    Ranges(Box<wire::LogRanges>),
    Dirty(u64),
}

/// An arc whose end is still to come.
#[derive(Debug)]
pub(super) struct OpenArc {
    pub(super) from: MigState,
    pub(super) to: MigState,
    pub(super) target: MigState,
    pub(super) start_ns: u64,
    pub(super) pointer: u64,
    pub(super) device: Option<DeviceRef>,
    pub(super) process: EventProcess,
    /// Time at which another record showed that the device has moved on. This thread's own record may still be on its
    /// way: a driver releases its lock before its function returns.
    pub(super) overtaken_ns: Option<u64>,
}

/// A driver's call, as the event it becomes if no ioctl claims it.
#[derive(Debug)]
pub(super) struct HeldCall {
    pub(super) event: VfioEvent,
    pub(super) pointer: u64,
}

/// Facts reported of a held call when it was given up.
#[derive(Debug)]
pub(super) struct ReportedCall {
    pub(super) kind: EventKind,
    pub(super) start_ns: u64,
    pub(super) outcome: Option<CallOutcome>,
    /// Time at which it was given up. It is not kept for ever: its thread may be gone.
    pub(super) since_ns: u64,
}

impl ThreadState {
    /// Returns true if there is nothing to remember.
    pub(super) fn is_idle(&self) -> bool {
        let Self { arc, held, reported, begun, refused_ns, log } = self;
        arc.is_none()
            && held.is_none()
            && reported.is_none()
            && begun.is_empty()
            && refused_ns.is_none()
            && log.is_none()
    }

    /// Starts an arc.
    pub(super) fn begin(&mut self, arc: OpenArc) {
        if self.begun.len() >= MAX_BEGUN {
            self.begun.clear();
        }
        self.begun.push(arc.start_ns);
        self.arc = Some(arc);
    }

    /// Takes in that the core refused an arc.
    pub(super) fn refuse(&mut self, now_ns: u64) {
        self.refused_ns = Some(now_ns);
    }

    /// Ends the request that began at `start_ns`; returns the number of its arcs, and true if one was refused.
    pub(super) fn end_request(&mut self, start_ns: u64) -> (u32, bool) {
        let arcs = self.begun.drain(..).filter(|&begun| begun >= start_ns).count();
        (u32::try_from(arcs).unwrap_or(u32::MAX), self.refused_ns.take().is_some_and(|at| at >= start_ns))
    }

    /// Returns the request of an ioctl whose header could not be read: the held call within it shows it.
    pub(super) fn within(&self, ioctl: &Header) -> DeviceRequest {
        let held = self.held.as_ref().filter(|held| held.is_within(ioctl));
        match held.map(|held| held.event.kind()) {
            Some(EventKind::SetState) => DeviceRequest::SetState(None),
            Some(EventKind::GetState) => DeviceRequest::GetState,
            Some(EventKind::DataSize) => DeviceRequest::DataSize,
            _ => DeviceRequest::Feature(None),
        }
    }

    /// Takes the held call if it happened within the ioctl; another one becomes an event of its own.
    pub(super) fn claim(
        &mut self,
        kind: EventKind,
        ioctl: &Header,
        out: &mut Vec<VfioEvent>,
    ) -> Option<HeldCall> {
        let held = self.held.take()?;
        if held.event.kind() == kind && held.is_within(ioctl) {
            return Some(held);
        }
        out.push(held.event);
        None
    }

    /// Returns true if an event for this request is out already and says the same.
    pub(super) fn has_reported(&mut self, kind: EventKind, ioctl: &Header, outcome: CallOutcome) -> bool {
        self.reported.take().is_some_and(|reported| {
            reported.kind == kind
                && reported.start_ns >= ioctl.start_ns
                && reported.outcome.is_some_and(|before| before.errno() == outcome.errno())
        })
    }
}

impl HeldCall {
    fn is_within(&self, ioctl: &Header) -> bool {
        self.event.start_ns >= ioctl.start_ns && same_device(self.pointer, ioctl.device)
    }
}

impl OpenArc {
    /// Returns true if the arc is part of a request of this device and target, entered at `start_ns`.
    pub(super) fn is_of(&self, start_ns: u64, target: MigState, pointer: u64) -> bool {
        self.start_ns >= start_ns && self.target == target && same_device(self.pointer, pointer)
    }

    /// Makes the event. `end_ns`: time at which the arc was over; `None` if it is not known: `now_ns` is the latest
    /// possible.
    pub(super) fn into_event(self, outcome: CallOutcome, end_ns: Option<u64>, now_ns: u64) -> VfioEvent {
        let Self { from, to, target, start_ns, pointer: _, device, process, overtaken_ns: _ } = self;
        VfioEvent {
            start_ns,
            end_ns: end_ns.unwrap_or(now_ns).max(start_ns),
            duration_ns: end_ns.map(|end| end.saturating_sub(start_ns)),
            device,
            process,
            data: EventData::Arc(ArcStep { from, to: Some(to), target, outcome }),
        }
    }
}

/// Returns true if two addresses may be the same device: 0 is "not known".
pub(super) fn same_device(a: u64, b: u64) -> bool {
    a == b || a == 0 || b == 0
}
