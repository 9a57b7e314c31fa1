//! What a device went through, to be looked up by time.

use super::side::failed as failed_outcome;
use crate::{
    event::{Outcome, Severity},
    model::{
        document::{Device, DirtyLog, Finding, Mark, Request, SizeSample, StateSpan, StepSpan},
        windows::Windows,
    },
};

/// A device with its findings.
pub(super) struct Timeline<'a> {
    pub(super) device: &'a Device,
    findings: Vec<&'a Finding>,
    failed_steps: Vec<&'a StepSpan>,
    failed_places: Vec<usize>,
    failed_arcs: Windows,
    found: Windows,
    steps: Windows,
    requests: Windows,
    states: Windows,
    marks: Windows,
    sizes: Windows,
    logs: Windows,
}

/// Of moments.
fn moments(times: impl Iterator<Item = u64>) -> Windows {
    Windows::new(times.map(|at| (at, at)))
}

impl<'a> Timeline<'a> {
    fn new(device: &'a Device, findings: Vec<&'a Finding>) -> Self {
        let failed = |step: &&StepSpan| matches!(step.outcome, Outcome::Failed(_));
        let failed_steps: Vec<&StepSpan> = device.steps.iter().filter(failed).collect();
        let failed_places: Vec<usize> =
            (0..device.arcs.len()).filter(|at| failed_outcome(device.arcs[*at].outcome)).collect();
        let failed_arcs = failed_places.iter().map(|at| &device.arcs[*at]);
        Self {
            device,
            failed_arcs: Windows::new(failed_arcs.map(|arc| (arc.start_ns, arc.end_ns))),
            failed_places,
            found: moments(findings.iter().map(|finding| finding.at_ns)),
            steps: Windows::new(failed_steps.iter().map(|step| (step.start_ns, step.end_ns))),
            requests: Windows::new(device.requests.iter().map(|one| (one.start_ns, one.end_ns))),
            states: Windows::new(device.states.iter().map(|span| (span.start_ns, span.end_ns))),
            marks: moments(device.marks.iter().map(|mark| mark.at_ns)),
            sizes: moments(device.sizes.iter().map(|size| size.at_ns)),
            logs: moments(device.dirty_logs.iter().map(|log| log.start_ns)),
            findings,
            failed_steps,
        }
    }

    /// Of all devices, by their numbers.
    pub(super) fn all(devices: &'a [Device], findings: &'a [Finding]) -> Vec<Self> {
        let mut of = vec![Vec::new(); devices.len()];
        for finding in findings {
            if let Some(of) = of.get_mut(finding.device as usize) {
                of.push(finding);
            }
        }
        devices.iter().zip(of).map(|(device, findings)| Self::new(device, findings)).collect()
    }

    /// Requests that were in progress at some time of a span.
    pub(super) fn requests(&self, start: u64, end: u64) -> impl Iterator<Item = &'a Request> {
        self.requests.overlapping(start, end).map(|at| &self.device.requests[at])
    }

    /// States that it was in at some time of a span.
    pub(super) fn states(&self, start: u64, end: u64) -> impl Iterator<Item = &'a StateSpan> {
        self.states.overlapping(start, end).map(|at| &self.device.states[at])
    }

    /// The last state that was entered by then.
    pub(super) fn state_at(&self, at: u64) -> Option<&'a StateSpan> {
        self.states.backwards(0, at).next().map(|at| &self.device.states[at])
    }

    /// Marks within a span.
    pub(super) fn marks(&self, start: u64, end: u64) -> impl Iterator<Item = &'a Mark> {
        self.marks.overlapping(start, end).map(|at| &self.device.marks[at])
    }

    /// The last answer about the size within a span.
    pub(super) fn size(&self, start: u64, end: u64) -> Option<&'a SizeSample> {
        self.sizes.backwards(start, end).next().map(|at| &self.device.sizes[at])
    }

    /// Dirty logs that were begun within a span.
    pub(super) fn logs(&self, start: u64, end: u64) -> impl Iterator<Item = &'a DirtyLog> {
        self.logs.overlapping(start, end).map(|at| &self.device.dirty_logs[at])
    }

    /// What the plug-in has found, in its order.
    pub(super) fn findings(&self) -> impl Iterator<Item = &'a Finding> {
        self.findings.iter().copied()
    }

    /// Whether one of a request's arcs has failed, which says more than that the request has.
    pub(super) fn told(&self, request: &Request) -> bool {
        let within = self.failed_arcs.overlapping(request.start_ns, request.end_ns);
        let mut within = within.map(|at| &self.device.arcs[self.failed_places[at]]);
        within.any(|arc| arc.start_ns >= request.start_ns && arc.end_ns <= request.end_ns)
    }

    /// What failed first within a call, and how: the step that the plug-in has found to be the reason, or else the
    /// innermost one.
    pub(super) fn first_failed(&self, start: u64, end: u64) -> Option<(String, Option<String>)> {
        let told = |finding: &&Finding| finding.severity == Severity::Error && finding.errno.is_some();
        let named = self.found.overlapping(start, end).map(|at| self.findings[at]).find(told);
        if let Some(finding) = named
            && let Some(step) = &finding.step
        {
            return Some((step.clone(), finding.errno.clone()));
        }
        let within = self.steps.overlapping(start, end).map(|at| self.failed_steps[at]);
        let within = within.filter(|step| step.start_ns >= start && step.end_ns <= end);
        // The innermost one returns first.
        let step = within.min_by_key(|step| step.end_ns)?;
        Some((step.name.clone(), step.outcome.errno().map(|errno| errno.name().into_owned())))
    }
}
