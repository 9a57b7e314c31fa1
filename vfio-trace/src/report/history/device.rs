//! History of one device, built event by event.

use super::dirty::DirtyHistory;
use crate::{
    event::{
        ArcStep, CallOutcome, DeviceFeature, DriverCall, EventData, EventMark, FeatureDetail, FeatureOp,
        MigState, VfioEvent,
    },
    report::{
        ModelLimits,
        document::{
            ArcSpan, DeviceMark, SessionEnd, SizeSample, StateRequest, StateSpan, StepSpan, TracedDevice,
        },
    },
};

/// Everything known about a device. [`HostHistory`](super::HostHistory) makes it at the device's first event and passes
/// every event of the device to it. Times are CLOCK_MONOTONIC in ns.
#[derive(Clone, Debug)]
pub(crate) struct DeviceHistory {
    pub(crate) doc: TracedDevice,
    dirty: DirtyHistory,
    /// State of the span that is not over; `None`: not known.
    state: Option<MigState>,
    since_ns: u64,
    seen: bool,
    limits: ModelLimits,
}

/// Numbers of entries in a device's lists, or in those of all devices.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct EntryCounts {
    pub(super) arcs: usize,
    pub(super) requests: usize,
    pub(super) states: usize,
    pub(super) marks: usize,
    pub(super) dirty_logs: usize,
    pub(super) steps: usize,
}

impl EntryCounts {
    /// Adds the growth of one device's lists to the totals.
    pub(super) const fn grow(&mut self, before: Self, now: Self) {
        self.arcs += now.arcs - before.arcs;
        self.requests += now.requests - before.requests;
        self.states += now.states - before.states;
        self.marks += now.marks - before.marks;
        self.dirty_logs += now.dirty_logs - before.dirty_logs;
        self.steps += now.steps - before.steps;
    }
}

impl DeviceHistory {
    pub(super) fn new(name: Option<String>, limits: ModelLimits) -> Self {
        Self {
            limits,
            doc: TracedDevice { name, ..TracedDevice::default() },
            dirty: DirtyHistory::default(),
            state: None,
            since_ns: 0,
            seen: false,
        }
    }

    /// Returns the time at which the device entered its present state.
    pub(super) const fn since_ns(&self) -> u64 {
        self.since_ns
    }

    pub(super) fn kept(&self) -> EntryCounts {
        EntryCounts {
            arcs: self.doc.arcs.len(),
            requests: self.doc.requests.len(),
            states: self.doc.states.len(),
            marks: self.doc.marks.len(),
            dirty_logs: self.dirty.len(),
            steps: self.doc.steps.len(),
        }
    }

    /// Returns the state at a time in the recent past.
    pub(super) fn state_at(&self, at_ns: u64) -> Option<MigState> {
        if at_ns >= self.since_ns {
            return self.state;
        }
        // A call that ends within an arc belongs to the state before the arc.
        let span = self.doc.states.iter().rev().find(|span| span.start_ns <= at_ns)?;
        span.state
    }

    /// Takes in an event. Returns how and when it ended the device's data sessions, if it did.
    pub(super) fn apply(&mut self, event: &VfioEvent, session: Option<u32>) -> Option<(SessionEnd, u64)> {
        let process = &event.process;
        if let Some(mark) = event.data.mark(process) {
            self.mark(event, mark);
        }
        match &event.data {
            EventData::Device(seen) => {
                self.doc.migration_flags = seen.migration_flags.or(self.doc.migration_flags);
                self.doc.dirty_tracking = seen.dirty_tracking.or(self.doc.dirty_tracking);
                // The state was read without a lock: it is good for a first state only.
                if let Some(state) = seen.known_state().filter(|_| !self.seen) {
                    self.enter(Some(state), event.end_ns);
                }
            },
            EventData::Unregister(_) => self.lose(event.end_ns),
            EventData::Open(open) if open.is_first() => match open.state {
                Some(state) => self.observe(state, event.end_ns),
                None => self.lose(event.end_ns),
            },
            EventData::Close(close) if close.is_last() => {
                self.dirty.stop_log(event.end_ns, None);
                return Some((SessionEnd::DeviceClose, event.end_ns));
            },
            EventData::Arc(arc) => return self.arc(event, arc),
            EventData::Desync(desync) => {
                // The time of the change is not known.
                self.leave(self.since_ns);
                self.state = None;
                self.observe(desync.found, event.end_ns);
            },
            EventData::SetState(request) => {
                self.doc.requests.push(StateRequest {
                    target: request.target,
                    start_ns: event.start_ns,
                    end_ns: event.end_ns,
                    arcs: request.arcs,
                    session,
                    pid: process.pid,
                    tid: process.tid,
                    comm: process.comm.clone(),
                    outcome: request.outcome,
                });
                if request.outcome.is_ok() {
                    self.observe(request.target, event.end_ns);
                }
            },
            EventData::GetState(request) => {
                if let Some(state) = request.state {
                    self.observe(state, event.end_ns);
                }
            },
            EventData::DataSize(_) if self.doc.sizes.len() >= self.limits.sizes => {
                self.doc.sizes_left_out += 1;
            },
            EventData::DataSize(size) => {
                let stop_copy_bytes = size.stop_copy_bytes.filter(|_| size.outcome.is_ok());
                self.doc.sizes.push(SizeSample { at_ns: event.end_ns, stop_copy_bytes });
            },
            EventData::Feature(call) if call.starts_log() => {
                self.dirty.start_log(event, call.detail.as_ref(), call.outcome);
            },
            EventData::Feature(call) => {
                match (&call.detail, call.feature.and_then(DeviceFeature::name).zip(call.op)) {
                    (Some(FeatureDetail::Migration { migration_flags }), _) if call.outcome.is_ok() => {
                        self.doc.migration_flags = Some(*migration_flags);
                    },
                    (_, Some((name, op))) if !op.probe => {
                        self.feature(event, name, op, call.detail.as_ref(), call.outcome);
                    },
                    _ => {},
                }
            },
            EventData::Reset(reset) => {
                return self.reset(event, reset.state, reset.outcome);
            },
            EventData::PciReset(reset) => {
                return self.reset(event, reset.state, reset.outcome);
            },
            EventData::Step(step) => self.step(event, step),
            _ => {},
        }
        None
    }

    fn feature(
        &mut self,
        event: &VfioEvent,
        name: &str,
        op: FeatureOp,
        detail: Option<&FeatureDetail>,
        outcome: CallOutcome,
    ) {
        match name {
            "DMA_LOGGING_STOP" if op.set && outcome.is_ok() => {
                self.dirty.stop_log(event.end_ns, event.duration_ns);
            },
            "DMA_LOGGING_REPORT" if op.get => self.dirty.add_report(event, detail, outcome),
            _ => {},
        }
    }

    fn reset(
        &mut self,
        event: &VfioEvent,
        state: Option<MigState>,
        outcome: CallOutcome,
    ) -> Option<(SessionEnd, u64)> {
        if !outcome.is_ok() {
            return None;
        }
        match state {
            Some(state) => self.observe(state, event.end_ns),
            None => self.lose(event.end_ns),
        }
        self.dirty.stop_log(event.end_ns, None);
        Some((SessionEnd::Reset, event.end_ns))
    }

    fn step(&mut self, event: &VfioEvent, step: &DriverCall) {
        if self.doc.steps.len() >= self.limits.steps {
            self.doc.steps_left_out += 1;
            return;
        }
        let function = step.function.as_deref().map(str::to_owned);
        let name = step.step.clone().map(Into::into).or_else(|| function.clone());
        self.doc.steps.push(StepSpan {
            name: name.unwrap_or_else(|| "a step".to_owned()),
            function,
            detail: step.detail.clone(),
            start_ns: event.start_ns,
            end_ns: event.end_ns,
            tid: event.process.tid,
            outcome: step.outcome,
        });
    }

    fn mark(&mut self, event: &VfioEvent, mark: EventMark) {
        let EventMark { kind, text, outcome } = mark;
        // An event that ends a migration decides the way in which that ended, whatever came before.
        let cuts = outcome.is_ok() && kind.ends_activity();
        if self.doc.marks.len() >= self.limits.marks && !cuts {
            self.doc.marks_left_out += 1;
            return;
        }
        self.doc.marks.push(DeviceMark { kind, at_ns: event.end_ns, text, pid: event.process.pid, outcome });
    }

    fn arc(&mut self, event: &VfioEvent, arc: &ArcStep) -> Option<(SessionEnd, u64)> {
        self.doc.arcs.push(ArcSpan {
            from: arc.from,
            to: arc.to,
            target: arc.target,
            start_ns: event.start_ns,
            end_ns: event.end_ns,
            duration_ns: event.duration_ns,
            pid: event.process.pid,
            tid: event.process.tid,
            outcome: arc.outcome,
        });
        // Some events wait for a record that may not come; by then a newer state of the device is known.
        if self.seen && event.start_ns < self.since_ns {
            return None;
        }
        self.observe(arc.from, event.start_ns);
        let to = arc.to?;
        self.leave(event.start_ns);
        if !arc.outcome.is_ok() {
            // Most drivers stay in the state in which they were, but not all.
            self.enter(None, event.end_ns);
            return None;
        }
        self.enter(Some(to), event.end_ns);
        arc.from.ends_session(to).then_some((SessionEnd::Arc, event.end_ns))
    }

    /// Notes that the device is in this state now.
    fn observe(&mut self, state: MigState, at_ns: u64) {
        if self.seen && (self.state == Some(state) || at_ns < self.since_ns) {
            return;
        }
        self.leave(at_ns);
        self.enter(Some(state), at_ns);
    }

    /// Notes that the state is not known from now on.
    fn lose(&mut self, at_ns: u64) {
        if self.seen && self.state.is_some() && at_ns >= self.since_ns {
            self.leave(at_ns);
            self.enter(None, at_ns);
        }
    }

    /// Ends the present span; the next one begins with `enter`.
    fn leave(&mut self, at_ns: u64) {
        if self.seen && at_ns >= self.since_ns {
            self.doc.states.push(StateSpan { state: self.state, start_ns: self.since_ns, end_ns: at_ns });
        }
    }

    const fn enter(&mut self, state: Option<MigState>, at_ns: u64) {
        self.state = state;
        self.since_ns = at_ns;
        self.seen = true;
    }

    /// Returns the device for the document, up to a time.
    pub(crate) fn document(&self, until_ns: u64) -> TracedDevice {
        let mut doc = self.doc.clone();
        if self.seen {
            let end_ns = until_ns.max(self.since_ns);
            doc.states.push(StateSpan { state: self.state, start_ns: self.since_ns, end_ns });
        }
        doc.dirty_logs = self.dirty.document();
        doc
    }
}
