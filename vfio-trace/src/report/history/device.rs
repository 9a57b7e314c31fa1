//! History of one device, built event by event.

use super::dirty::DirtyHistory;
use crate::{
    event::{
        ArcStep, CallOutcome, DeviceFeature, DriverCall, EventData, EventMark, FeatureDetail, FeatureOp,
        MigState, StateTimeline, VfioEvent,
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
    timeline: StateTimeline,
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
            timeline: StateTimeline::default(),
        }
    }

    /// Returns the time at which the device entered its present state.
    pub(super) const fn since_ns(&self) -> u64 {
        self.timeline.since_ns()
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
        if at_ns >= self.timeline.since_ns() {
            return self.timeline.state();
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
        // An arc that is told late was overtaken: what it ended may have begun anew since.
        let is_late = matches!(event.data, EventData::Arc(_)) && self.timeline.is_past(event.start_ns);
        let (effect, states) = (event.data.state_effect(), &mut self.doc.states);
        self.timeline.apply(effect, event.start_ns, event.end_ns, |span| states.push(span.into()));
        match &event.data {
            EventData::Device(seen) => {
                self.doc.migration_flags = seen.migration_flags.or(self.doc.migration_flags);
                self.doc.dirty_tracking = seen.dirty_tracking.or(self.doc.dirty_tracking);
            },
            EventData::Arc(arc) => self.arc(event, arc),
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
            EventData::Step(step) => self.step(event, step),
            _ => {},
        }
        let end = SessionEnd::from(event.data.session_ending().filter(|_| !is_late)?);
        // An arc ends what it moved, not the log.
        if end != SessionEnd::Arc {
            self.dirty.stop_log(event.end_ns, None);
        }
        Some((end, event.end_ns))
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

    fn arc(&mut self, event: &VfioEvent, arc: &ArcStep) {
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
    }

    /// Returns the device for the document, up to a time.
    pub(crate) fn document(&self, until_ns: u64) -> TracedDevice {
        let mut doc = self.doc.clone();
        doc.states.extend(self.timeline.present(until_ns).map(StateSpan::from));
        doc.dirty_logs = self.dirty.document();
        doc
    }
}
