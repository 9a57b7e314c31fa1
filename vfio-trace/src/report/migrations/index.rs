//! What a device went through, to be looked up by time.

use super::side::failed as failed_outcome;
use crate::{
    event::{CallOutcome, FindingSeverity},
    report::{
        document::{
            DeviceMark, DirtyLog, ReportFinding, SizeSample, StateRequest, StateSpan, StepSpan, TracedDevice,
        },
        windows::SpanIndex,
    },
};

/// A device with its findings.
pub(super) struct DeviceIndex<'a> {
    pub(super) device: &'a TracedDevice,
    findings: Vec<&'a ReportFinding>,
    failed_steps: Vec<&'a StepSpan>,
    failed_places: Vec<usize>,
    failed_arcs: SpanIndex,
    found: SpanIndex,
    steps: SpanIndex,
    requests: SpanIndex,
    states: SpanIndex,
    marks: SpanIndex,
    sizes: SpanIndex,
    logs: SpanIndex,
}

/// Of moments.
fn moments(times: impl Iterator<Item = u64>) -> SpanIndex {
    SpanIndex::new(times.map(|at| (at, at)))
}

impl<'a> DeviceIndex<'a> {
    fn new(device: &'a TracedDevice, findings: Vec<&'a ReportFinding>) -> Self {
        let failed = |step: &&StepSpan| matches!(step.outcome, CallOutcome::Failed(_));
        let failed_steps: Vec<&StepSpan> = device.steps.iter().filter(failed).collect();
        let failed_places: Vec<usize> =
            (0..device.arcs.len()).filter(|at| failed_outcome(device.arcs[*at].outcome)).collect();
        let failed_arcs = failed_places.iter().map(|at| &device.arcs[*at]);
        Self {
            device,
            failed_arcs: SpanIndex::new(failed_arcs.map(|arc| (arc.start_ns, arc.end_ns))),
            failed_places,
            found: moments(findings.iter().map(|finding| finding.at_ns)),
            steps: SpanIndex::new(failed_steps.iter().map(|step| (step.start_ns, step.end_ns))),
            requests: SpanIndex::new(device.requests.iter().map(|one| (one.start_ns, one.end_ns))),
            states: SpanIndex::new(device.states.iter().map(|span| (span.start_ns, span.end_ns))),
            marks: moments(device.marks.iter().map(|mark| mark.at_ns)),
            sizes: moments(device.sizes.iter().map(|size| size.at_ns)),
            logs: moments(device.dirty_logs.iter().map(|log| log.start_ns)),
            findings,
            failed_steps,
        }
    }

    /// Of all devices, by their numbers.
    pub(super) fn all(devices: &'a [TracedDevice], findings: &'a [ReportFinding]) -> Vec<Self> {
        let mut of = vec![Vec::new(); devices.len()];
        for finding in findings {
            if let Some(of) = of.get_mut(finding.device as usize) {
                of.push(finding);
            }
        }
        devices.iter().zip(of).map(|(device, findings)| Self::new(device, findings)).collect()
    }

    /// Requests that were in progress at some time of a span.
    pub(super) fn requests(&self, start: u64, end: u64) -> impl Iterator<Item = &'a StateRequest> {
        self.requests.overlapping(start, end).map(|at| &self.device.requests[at])
    }

    /// States that it was in at some time of a span.
    pub(super) fn states(&self, start: u64, end: u64) -> impl Iterator<Item = &'a StateSpan> {
        self.states.overlapping(start, end).map(|at| &self.device.states[at])
    }

    /// The last state that was entered by then.
    pub(super) fn state_at(&self, at: u64) -> Option<&'a StateSpan> {
        self.states.overlapping_backwards(0, at).next().map(|at| &self.device.states[at])
    }

    /// Marks within a span.
    pub(super) fn marks(&self, start: u64, end: u64) -> impl Iterator<Item = &'a DeviceMark> {
        self.marks.overlapping(start, end).map(|at| &self.device.marks[at])
    }

    /// The last answer about the size within a span.
    pub(super) fn size(&self, start: u64, end: u64) -> Option<&'a SizeSample> {
        self.sizes.overlapping_backwards(start, end).next().map(|at| &self.device.sizes[at])
    }

    /// Dirty logs that were begun within a span.
    pub(super) fn logs(&self, start: u64, end: u64) -> impl Iterator<Item = &'a DirtyLog> {
        self.logs.overlapping(start, end).map(|at| &self.device.dirty_logs[at])
    }

    /// What the plug-in has found, in its order.
    pub(super) fn findings(&self) -> impl Iterator<Item = &'a ReportFinding> {
        self.findings.iter().copied()
    }

    /// Whether one of a request's arcs has failed, which says more than that the request has.
    pub(super) fn has_failed_arc(&self, request: &StateRequest) -> bool {
        let within = self.failed_arcs.overlapping(request.start_ns, request.end_ns);
        let mut within = within.map(|at| &self.device.arcs[self.failed_places[at]]);
        within.any(|arc| arc.start_ns >= request.start_ns && arc.end_ns <= request.end_ns)
    }

    /// What failed first within a call, and how: the step that the plug-in has found to be the reason, or else the
    /// innermost one.
    pub(super) fn first_failed(&self, call: &FailedCall) -> Option<(String, Option<String>)> {
        let (start, end) = (call.start_ns, call.end_ns);
        // What is found is found at the end of something: at this call's beginning, of the one before it. Behind its
        // end, only what is known to come of it.
        let of_call = |finding: &&ReportFinding| match (finding.session, call.session) {
            (Some(one), Some(other)) => one == other,
            (Some(_), None) => false,
            (None, _) => (finding.at_ns > start || start == end) && finding.at_ns <= end,
        };
        let names = |finding: &ReportFinding| {
            let told = finding.severity == FindingSeverity::Error && finding.errno.is_some();
            Some((finding.step.clone().filter(|_| told)?, finding.errno.clone()))
        };
        let found = self.found.overlapping(start, end.saturating_add(call.copied_ns));
        let named = found.map(|at| self.findings[at]).filter(of_call).find_map(names);
        if named.is_some() {
            return named;
        }
        let within = self.steps.overlapping(start, end).map(|at| self.failed_steps[at]);
        // What another thread did meanwhile is nothing of this call's.
        let within = within.filter(|step| {
            step.start_ns >= start && step.end_ns <= end && call.tid.is_none_or(|tid| tid == step.tid)
        });
        // The innermost one returns first.
        let step = within.min_by_key(|step| step.end_ns)?;
        Some((step.name.clone(), step.outcome.errno().map(|errno| errno.name().into_owned())))
    }
}

/// A call that failed, of which it is looked up why.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FailedCall {
    pub(super) start_ns: u64,
    pub(super) end_ns: u64,
    /// Its thread, if that is known.
    pub(super) tid: Option<u32>,
    /// The data session that it was on.
    pub(super) session: Option<u32>,
    /// How long after its end its file may have been copied, which is when something is found.
    pub(super) copied_ns: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Errno;

    /// A step of thread 1 that failed with EIO.
    fn step(name: &str, start_ns: u64, end_ns: u64) -> StepSpan {
        StepSpan {
            name: name.to_owned(),
            function: None,
            detail: None,
            start_ns,
            end_ns,
            tid: 1,
            outcome: CallOutcome::Failed(Errno(5)),
        }
    }

    fn found(step: Option<&str>, at_ns: u64) -> ReportFinding {
        ReportFinding {
            at_ns,
            device: 0,
            session: None,
            code: "x/y".to_owned(),
            severity: FindingSeverity::Error,
            step: step.map(ToOwned::to_owned),
            errno: Some("EBUSY".to_owned()),
            text: String::new(),
            check: String::new(),
        }
    }

    /// The name of the first failed step of a call from 100 to 200 by thread 1.
    fn first(steps: &[StepSpan], findings: &[ReportFinding], call: FailedCall) -> Option<String> {
        let device = TracedDevice { steps: steps.to_vec(), ..TracedDevice::default() };
        let devices = [device];
        let lines = DeviceIndex::all(&devices, findings);
        let call = FailedCall { start_ns: 100, end_ns: 200, tid: Some(1), ..call };
        Some(lines[0].first_failed(&call)?.0)
    }

    fn of_call(steps: &[StepSpan], findings: &[ReportFinding]) -> Option<String> {
        first(steps, findings, FailedCall::default())
    }

    #[test]
    fn what_a_finding_names_goes_before_a_helper() {
        let steps =
            [step("wait for the mailbox", 110, 120), step("read SQC", 105, 150), step("stop", 101, 199)];
        assert_eq!(of_call(&steps, &[]).as_deref(), Some("wait for the mailbox"));
        assert_eq!(of_call(&steps, &[found(Some("read SQC"), 200)]).as_deref(), Some("read SQC"));
        // One that names no step hides none that does, and one that is no error none.
        let info = ReportFinding { severity: FindingSeverity::Info, ..found(Some("something"), 130) };
        let silent = ReportFinding { errno: None, ..found(Some("something"), 130) };
        let findings =
            [found(None, 120), info, silent, found(Some("read SQC"), 200), found(Some("late"), 200)];
        assert_eq!(of_call(&steps, &findings).as_deref(), Some("read SQC"));
        assert_eq!(of_call(&steps, &findings[..3]).as_deref(), Some("wait for the mailbox"));
        assert_eq!(of_call(&[], &findings[..3]), None);
    }

    #[test]
    fn what_was_found_of_another_call_names_nothing() {
        let steps = [step("stop", 101, 199)];
        let stop = |findings: &[ReportFinding]| of_call(&steps, findings).as_deref() == Some("stop");
        // At the moment in which this call began, the one before it had ended; behind the end comes the next.
        assert!(stop(&[found(Some("before"), 100)]));
        assert!(stop(&[found(Some("later"), 201)]));
        // A read() on another thread, meanwhile.
        assert!(stop(&[ReportFinding { session: Some(3), ..found(Some("read"), 150) }]));
        let read = FailedCall { session: Some(3), copied_ns: 50, ..FailedCall::default() };
        let of_read = |finding: ReportFinding| first(&[], &[finding], read);
        assert_eq!(
            of_read(ReportFinding { session: Some(3), ..found(Some("read"), 240) }).as_deref(),
            Some("read")
        );
        assert_eq!(of_read(ReportFinding { session: Some(4), ..found(Some("read"), 150) }), None);
        // Of no session: within the call it may be of it, behind it is of something else.
        assert_eq!(of_read(found(Some("match"), 150)).as_deref(), Some("match"));
        assert_eq!(of_read(found(Some("reset"), 240)), None);
    }

    #[test]
    fn steps_of_others_are_none_of_its_own() {
        let other = StepSpan { tid: 2, ..step("another thread's", 110, 120) };
        assert_eq!(of_call(&[other.clone(), step("own", 130, 140)], &[]).as_deref(), Some("own"));
        assert_eq!(of_call(&[other], &[]), None);
        // The next call's, so soon that a copy could be of this one.
        let soon = FailedCall { copied_ns: 50, ..FailedCall::default() };
        assert_eq!(first(&[step("the next one's", 205, 220)], &[], soon), None);
        assert_eq!(first(&[step("begun before", 90, 150)], &[], soon), None);
    }
}
