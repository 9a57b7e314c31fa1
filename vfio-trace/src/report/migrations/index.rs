//! Index of a device's history by time.

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

/// A device with its findings. [`DocumentBuilder`](super::DocumentBuilder) makes one per device of the document;
/// verdicts, failures and warnings look events up in it. Times are those of the document.
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

/// Makes an index of single times.
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

    /// Returns the indexes of all devices, by their numbers.
    pub(super) fn all(devices: &'a [TracedDevice], findings: &'a [ReportFinding]) -> Vec<Self> {
        let mut of = vec![Vec::new(); devices.len()];
        for finding in findings {
            if let Some(of) = of.get_mut(finding.device as usize) {
                of.push(finding);
            }
        }
        devices.iter().zip(of).map(|(device, findings)| Self::new(device, findings)).collect()
    }

    /// Returns the requests that were in progress at any time of a span.
    pub(super) fn requests(&self, start: u64, end: u64) -> impl Iterator<Item = &'a StateRequest> {
        self.requests.overlapping(start, end).map(|at| &self.device.requests[at])
    }

    /// Returns the states of the device at any time of a span.
    pub(super) fn states(&self, start: u64, end: u64) -> impl Iterator<Item = &'a StateSpan> {
        self.states.overlapping(start, end).map(|at| &self.device.states[at])
    }

    /// Returns the last state that was entered by a time.
    pub(super) fn state_at(&self, at: u64) -> Option<&'a StateSpan> {
        self.states.overlapping_backwards(0, at).next().map(|at| &self.device.states[at])
    }

    /// Returns the marks within a span.
    pub(super) fn marks(&self, start: u64, end: u64) -> impl Iterator<Item = &'a DeviceMark> {
        self.marks.overlapping(start, end).map(|at| &self.device.marks[at])
    }

    /// Returns the last answer to VFIO_DEVICE_FEATURE_MIG_DATA_SIZE within a span.
    pub(super) fn size(&self, start: u64, end: u64) -> Option<&'a SizeSample> {
        self.sizes.overlapping_backwards(start, end).next().map(|at| &self.device.sizes[at])
    }

    /// Returns the dirty logs that began within a span.
    pub(super) fn logs(&self, start: u64, end: u64) -> impl Iterator<Item = &'a DirtyLog> {
        self.logs.overlapping(start, end).map(|at| &self.device.dirty_logs[at])
    }

    /// Returns the findings of the plug-in, in its order.
    pub(super) fn findings(&self) -> impl Iterator<Item = &'a ReportFinding> {
        self.findings.iter().copied()
    }

    /// Returns true if one of a request's arcs has failed: that says more than the request's own failure.
    pub(super) fn has_failed_arc(&self, request: &StateRequest) -> bool {
        let within = self.failed_arcs.overlapping(request.start_ns, request.end_ns);
        let mut within = within.map(|at| &self.device.arcs[self.failed_places[at]]);
        within.any(|arc| arc.start_ns >= request.start_ns && arc.end_ns <= request.end_ns)
    }

    /// Returns the step that failed first within a call, and its error: the step that a finding of the plug-in names as
    /// the cause, or else the innermost one.
    pub(super) fn first_failed(&self, call: &FailedCall) -> Option<(String, Option<String>)> {
        let (start, end) = (call.start_ns, call.end_ns);
        // A finding is made at the end of a call: one at this call's beginning belongs to the call before it. Of those
        // after its end, only those that are known to belong to it count.
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
        // Steps of other threads do not belong to this call.
        let within = within.filter(|step| {
            step.start_ns >= start && step.end_ns <= end && call.tid.is_none_or(|tid| tid == step.tid)
        });
        // The innermost step returns first.
        let step = within.min_by_key(|step| step.end_ns)?;
        Some((step.name.clone(), step.outcome.errno().map(|errno| errno.name().into_owned())))
    }
}

/// A call that failed and whose cause is looked up.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FailedCall {
    pub(super) start_ns: u64,
    pub(super) end_ns: u64,
    /// TID of its thread, if that is known.
    pub(super) tid: Option<u32>,
    /// Data session that the call was on.
    pub(super) session: Option<u32>,
    /// Time after its end in which a copy of its file, and so a finding, may have been made, in ns.
    pub(super) copied_ns: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Errno;

    /// Makes a step of thread 1 that failed with EIO.
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

    /// Returns the name of the first failed step of a call from 100 to 200 by thread 1.
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
        // A finding without a step hides no finding with one, and neither does one that is no error.
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
        // A finding at the beginning of this call belongs to the call before it; one after its end belongs to the next.
        assert!(stop(&[found(Some("before"), 100)]));
        assert!(stop(&[found(Some("later"), 201)]));
        // A finding from a read() on another thread at the same time.
        assert!(stop(&[ReportFinding { session: Some(3), ..found(Some("read"), 150) }]));
        let read = FailedCall { session: Some(3), copied_ns: 50, ..FailedCall::default() };
        let of_read = |finding: ReportFinding| first(&[], &[finding], read);
        assert_eq!(
            of_read(ReportFinding { session: Some(3), ..found(Some("read"), 240) }).as_deref(),
            Some("read")
        );
        assert_eq!(of_read(ReportFinding { session: Some(4), ..found(Some("read"), 150) }), None);
        // A finding of no session may belong to a call if it lies within it, but not if it comes later.
        assert_eq!(of_read(found(Some("match"), 150)).as_deref(), Some("match"));
        assert_eq!(of_read(found(Some("reset"), 240)), None);
    }

    #[test]
    fn steps_of_others_are_none_of_its_own() {
        let other = StepSpan { tid: 2, ..step("another thread's", 110, 120) };
        assert_eq!(of_call(&[other.clone(), step("own", 130, 140)], &[]).as_deref(), Some("own"));
        assert_eq!(of_call(&[other], &[]), None);
        // Steps of the next call, so soon that a copy could belong to this one.
        let soon = FailedCall { copied_ns: 50, ..FailedCall::default() };
        assert_eq!(first(&[step("the next one's", 205, 220)], &[], soon), None);
        assert_eq!(first(&[step("begun before", 90, 150)], &[], soon), None);
    }
}
