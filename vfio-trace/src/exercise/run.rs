//! A run: open devices, steps with their traces, stages with a verdict, and the way back to RUNNING.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use super::{
    begin_error::BeginError,
    bench::{ExerciseCandidate, TestDevice, open},
    device::{CallResult, OpenDevice},
    known_loop::AvoidedRequests,
    report::{EndState, ExerciseReport, ExerciseStage, ExerciseStep, ExerciseVerdict, ExpectedOutcome},
    watch::{self, ExerciseTracer},
};
use crate::event::{CallOutcome, DriverFinding, Errno, FindingSeverity, MigState, VfioEvent};

const EIO: Errno = Errno(5);

/// Receiver of everything that happens in a run, as it happens. The command line implements it to print progress.
pub trait ExerciseObserver {
    /// Reports that all devices are open.
    fn open(&mut self, report: &ExerciseReport);
    /// Reports the beginning of a stage.
    fn begin(&mut self, plan: &'static str, name: &str);
    /// Reports the end of a step.
    fn step(&mut self, step: &ExerciseStep);
    /// Reports the end of a stage.
    fn end(&mut self, stage: &ExerciseStage);
}

/// Reason why a stage does not go on.
#[derive(Debug)]
pub(super) enum StageError {
    /// Failure, in a sentence.
    Failed(String),
    /// Stop requested by the user.
    Stopped,
    /// Reason why a device cannot be brought back to RUNNING: it must not be used any more.
    DeviceUnrecoverable(String),
}

/// Selects one of the devices of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DeviceSelector {
    /// Device that is exercised; source of `full`.
    First,
    /// Device of `--to`.
    Second,
}

pub(super) struct ExerciseRun<'a> {
    first: TestDevice,
    second: Option<TestDevice>,
    witness: Option<&'a mut dyn ExerciseTracer>,
    observer: &'a mut dyn ExerciseObserver,
    stop: &'a AtomicBool,
    avoided: AvoidedRequests,
    /// True on the way back to RUNNING, which is not stopped.
    ending: bool,
    nr: u32,
    stage: ExerciseStage,
    /// Durations in ns by request, if there are too many steps to keep.
    totals: Option<BTreeMap<String, Vec<u64>>>,
    pub(super) report: ExerciseReport,
}

pub(super) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn empty_stage(plan: &'static str, name: &str) -> ExerciseStage {
    ExerciseStage {
        plan,
        name: name.to_owned(),
        verdict: ExerciseVerdict::Passed,
        why: None,
        findings: Vec::new(),
        notes: Vec::new(),
        steps: Vec::new(),
        duration_ns: 0,
    }
}

impl<'a> ExerciseRun<'a> {
    /// Opens the devices, and brings those back to RUNNING that an earlier user left in another state.
    pub(super) fn begin(
        mut report: ExerciseReport,
        first: ExerciseCandidate,
        second: Option<ExerciseCandidate>,
        avoided: AvoidedRequests,
        witness: Option<&'a mut dyn ExerciseTracer>,
        observer: &'a mut dyn ExerciseObserver,
        stop: &'a AtomicBool,
    ) -> Result<Self, BeginError> {
        // Opening a device may reset it.
        let open = |candidate, others: &[&TestDevice]| {
            if stop.load(Ordering::Relaxed) { Err(BeginError::Stopped) } else { open(candidate, others) }
        };
        let (first, found) = open(first, &[])?;
        let second = second.map(|second| open(second, &[&first])).transpose()?;
        report.recovered.extend(found);
        let second = second.map(|(bench, found)| {
            report.recovered.extend(found);
            bench
        });
        report.devices = std::iter::once(&first).chain(&second).map(TestDevice::subject).collect();
        let stage = empty_stage("", "");
        let mut run = Self {
            first,
            second,
            witness,
            observer,
            stop,
            avoided,
            ending: false,
            nr: 0,
            stage,
            totals: None,
            report,
        };
        // Events of opening belong to no step.
        run.watch();
        run.observer.open(&run.report);
        Ok(run)
    }

    pub(super) fn bench(&mut self, which: DeviceSelector) -> &mut TestDevice {
        match (which, &mut self.second) {
            (DeviceSelector::Second, Some(second)) => second,
            _ => &mut self.first,
        }
    }

    /// Returns the reason why a device in state `from` must not be asked for `to`; `None` if it may.
    pub(super) fn avoidance_reason(
        &mut self,
        which: DeviceSelector,
        from: Option<MigState>,
        to: MigState,
    ) -> Option<String> {
        let flags = self.bench(which).flags;
        self.avoided.request(flags, from, to).map(str::to_owned)
    }

    pub(super) const fn has_second(&self) -> bool {
        self.second.is_some()
    }

    pub(super) fn watch(&mut self) -> Vec<VfioEvent> {
        self.witness.as_mut().map_or_else(Vec::new, |witness| witness.events())
    }

    /// Updates the number of losses. Called before anything is judged by events that were seen, or not seen.
    fn count_losses(&mut self) {
        if let Some(witness) = &mut self.witness {
            self.report.tracing.lost = witness.lost();
        }
    }

    pub(super) fn wants_stop(&self) -> bool {
        !self.ending && self.stop.load(Ordering::Relaxed)
    }

    /// Adds a remark to a stage that may pass nevertheless.
    pub(super) fn note(&mut self, text: impl Into<String>) {
        self.stage.notes.push(text.into());
    }

    /// Adds a finding to the stage, which goes on. Its verdict is at least `verdict` from now on.
    pub(super) fn add_finding(&mut self, verdict: ExerciseVerdict, finding: DriverFinding) {
        if verdict > self.stage.verdict {
            self.stage.verdict = verdict;
            self.stage.why = Some(finding.text.clone());
        }
        if verdict == ExerciseVerdict::Failed
            && let Some(step) = self.stage.steps.last_mut()
        {
            step.as_expected = false;
        }
        watch::note(&mut self.stage.findings, finding);
    }

    /// Runs a stage: a part of a plan. Returns only errors that end the run.
    pub(super) fn stage(
        &mut self,
        plan: &'static str,
        name: &str,
        body: impl FnOnce(&mut Self) -> Result<(), StageError>,
    ) -> Result<(), StageError> {
        self.observer.begin(plan, name);
        self.stage = empty_stage(plan, name);
        let start = Instant::now();
        let mut done = body(self);
        if let Some(totals) = self.totals.take() {
            self.tell(totals);
        }
        let failed = match &done {
            Ok(()) => None,
            Err(StageError::Failed(why) | StageError::DeviceUnrecoverable(why)) => Some(why.clone()),
            Err(StageError::Stopped) => Some("it was stopped".to_owned()),
        };
        if failed.is_some() {
            self.stage.verdict = ExerciseVerdict::Failed;
            self.stage.why = failed;
        }
        if !matches!(done, Err(StageError::DeviceUnrecoverable(_)))
            && let Err(lost) = self.tidy()
        {
            self.stage.verdict = ExerciseVerdict::Failed;
            if let StageError::DeviceUnrecoverable(why) = &lost {
                self.stage.why.get_or_insert_with(|| why.clone());
            }
            done = Err(lost);
        }
        // An error explains why a step failed, which may have been required. A warning is about something that no call
        // reported.
        let silent = |finding: &&DriverFinding| finding.severity == FindingSeverity::Warning;
        let found = self.stage.all_findings().find(silent);
        if let Some(why) = found.map(|finding| format!("{}: {}", finding.code, finding.text))
            && self.stage.verdict == ExerciseVerdict::Passed
        {
            self.stage.verdict = ExerciseVerdict::Warned;
            self.stage.why = Some(why);
        }
        self.stage.duration_ns = nanoseconds(start.elapsed());
        let stage = std::mem::replace(&mut self.stage, empty_stage("", ""));
        self.observer.end(&stage);
        self.report.stages.push(stage);
        match done {
            Err(StageError::Failed(_)) => Ok(()),
            other => other,
        }
    }

    /// Reports a stage that is not tried.
    pub(super) fn skip(&mut self, plan: &'static str, name: &str, why: impl Into<String>) {
        self.observer.begin(plan, name);
        let why = Some(why.into());
        let stage = ExerciseStage { verdict: ExerciseVerdict::Skipped, why, ..empty_stage(plan, name) };
        self.observer.end(&stage);
        self.report.stages.push(stage);
    }

    /// Lets steps that succeed be counted only, until the end of the stage.
    pub(super) fn only_count(&mut self) {
        self.totals = Some(BTreeMap::new());
    }

    fn tell(&mut self, totals: BTreeMap<String, Vec<u64>>) {
        for (asked, mut times) in totals {
            times.sort_unstable();
            let [min, median, max] = [0, times.len() / 2, times.len().saturating_sub(1)]
                .map(|at| times.get(at).copied().unwrap_or(0));
            self.nr += 1;
            let mut step = self.new_step(DeviceSelector::First, asked);
            step.calls = Some(times.len() as u64);
            step.duration_ns = median;
            step.note = Some(format!(
                "median of {}, from {} to {}",
                times.len(),
                crate::units::human::duration(min),
                crate::units::human::duration(max)
            ));
            self.observer.step(&step);
            self.stage.steps.push(step);
        }
    }

    fn new_step(&mut self, which: DeviceSelector, asked: String) -> ExerciseStep {
        let (nr, device) = (self.nr, self.bench(which).name.clone());
        ExerciseStep {
            nr,
            device,
            asked,
            outcome: CallOutcome::Ok,
            as_expected: true,
            duration_ns: 0,
            bytes: None,
            calls: None,
            state: None,
            note: None,
            arcs: Vec::new(),
            driver_steps: Vec::new(),
            findings: Vec::new(),
        }
    }

    /// Runs one step. `judge` checks the trace and the state of a step with the required outcome, and returns a
    /// complaint.
    pub(super) fn step<T>(
        &mut self,
        which: DeviceSelector,
        asked: impl Into<String>,
        expected: ExpectedOutcome,
        act: impl FnOnce(&mut Self, &mut ExerciseStep) -> CallResult<T>,
        judge: impl FnOnce(&Self, &ExerciseStep, &CallResult<T>) -> Option<String>,
    ) -> Result<CallResult<T>, StageError> {
        if self.wants_stop() {
            return Err(StageError::Stopped);
        }
        self.nr += 1;
        let mut step = self.new_step(which, asked.into());
        let start = Instant::now();
        let done = act(self, &mut step);
        if step.duration_ns == 0 {
            step.duration_ns = nanoseconds(start.elapsed());
        }
        let events = self.watch();
        watch::add(&mut step, &events);
        self.count_losses();
        if let Err(errno) = &done {
            step.outcome = CallOutcome::Failed(*errno);
        }
        let asked = step.asked.clone();
        let complaint = match (expected, &done) {
            (ExpectedOutcome::Success, Err(errno)) => Some(format!("{asked} failed with {errno}")),
            (ExpectedOutcome::Refusal(errno), Ok(_)) => {
                Some(format!("{asked} worked, and must fail with {errno}"))
            },
            (ExpectedOutcome::Refusal(wanted), Err(errno)) if wanted != *errno => {
                Some(format!("{asked} failed with {errno}, and must fail with {wanted}"))
            },
            _ => judge(self, &step, &done),
        };
        step.as_expected = complaint.is_none();
        if complaint.is_some() {
            step.note.clone_from(&complaint);
        }
        let dull = step.as_expected && step.findings.is_empty();
        match &mut self.totals {
            Some(totals) if dull => totals.entry(asked).or_default().push(step.duration_ns),
            _ => {
                self.observer.step(&step);
                self.stage.steps.push(step);
            },
        }
        complaint.map_or(Ok(done), |why| Err(StageError::Failed(why)))
    }

    /// Runs a step without a check of its trace and state.
    pub(super) fn step_without_check<T>(
        &mut self,
        which: DeviceSelector,
        asked: &str,
        expected: ExpectedOutcome,
        act: impl FnOnce(&mut Self, &mut ExerciseStep) -> CallResult<T>,
    ) -> Result<CallResult<T>, StageError> {
        self.step(which, asked, expected, act, |_, _, _| None)
    }

    /// Closes the device and opens it again, so that the driver's data per open is fresh.
    pub(super) fn reopen(&mut self, which: DeviceSelector) -> Result<(), StageError> {
        let mut failed = None;
        let done = self.step_without_check(which, "close, open", ExpectedOutcome::Success, |run, step| {
            let bench = run.bench(which);
            let device = bench.device.take().ok_or(EIO)?;
            match device.reopen(&bench.info) {
                Ok(device) => bench.device = Some(device),
                Err(why) => {
                    failed = Some(why);
                    return Err(EIO);
                },
            }
            step.state = bench.device()?.state().ok();
            bench.state = step.state;
            Ok(())
        });
        match (done, failed) {
            (Err(StageError::Failed(_)), Some(why)) => Err(StageError::DeviceUnrecoverable(why.to_string())),
            (done, _) => done.map(drop),
        }
    }

    /// Brings all devices back to RUNNING, with a reset if necessary.
    fn tidy(&mut self) -> Result<(), StageError> {
        let before = std::mem::replace(&mut self.ending, true);
        let mut done = Ok(());
        for which in [DeviceSelector::Second, DeviceSelector::First] {
            if which == DeviceSelector::Second && !self.has_second() {
                continue;
            }
            let state = self.bench(which).device().and_then(OpenDevice::state).ok();
            self.bench(which).state = state;
            if state != Some(MigState::RUNNING) {
                let reset = self.reset(which);
                done = done.and(reset);
            }
        }
        self.ending = before;
        done
    }

    /// Leaves the devices RUNNING and closed, and returns the report.
    pub(super) fn finish(mut self) -> ExerciseReport {
        self.ending = true;
        for which in [DeviceSelector::Second, DeviceSelector::First] {
            if which == DeviceSelector::Second && !self.has_second() {
                continue;
            }
            let bench = self.bench(which);
            let mut end = EndState { device: bench.name.clone(), state: None, reset: false };
            if let Ok(device) = bench.device() {
                device.close_data();
                end.state = device.state().ok();
                if end.state != Some(MigState::RUNNING) {
                    end.reset = device.reset().is_ok();
                    end.state = device.state().ok();
                }
            }
            bench.device = None;
            self.report.end.push(end);
        }
        self.watch();
        self.count_losses();
        if let Some(witness) = &mut self.witness {
            self.report.tracing.untraced_reason = witness.find_untraced_reason();
        }
        self.report.end.reverse();
        self.report.judge();
        self.report
    }
}
