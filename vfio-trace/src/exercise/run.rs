//! A run: open devices, steps with what the tracer saw of them, stages with a verdict, and the way back to RUNNING.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use super::{
    bench::{BeginError, Bench, Candidate, open},
    device::{Called, Device},
    known_loop::Avoided,
    report::{End, Expected, Report, Stage, Step, Verdict},
    watch::{self, Witness},
};
use crate::event::{Errno, Event, Finding, MigState, Outcome, Severity};

const EIO: Errno = Errno(5);

/// Told of everything as it happens.
pub trait Observer {
    /// All devices are open.
    fn open(&mut self, report: &Report);
    /// A stage begins.
    fn begin(&mut self, plan: &'static str, name: &str);
    /// A step is over.
    fn step(&mut self, step: &Step);
    /// A stage is over.
    fn end(&mut self, stage: &Stage);
}

/// Why a stage does not go on.
#[derive(Debug)]
pub(super) enum Halt {
    /// It failed.
    Stage(String),
    /// The user wants an end.
    Stop,
    /// A device cannot be brought back to RUNNING: nothing more may be done with it.
    Lost(String),
}

/// Which device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// The one that is exercised; source of `full`.
    First,
    /// The one of `--to`.
    Second,
}

pub(super) struct Run<'a> {
    first: Bench,
    second: Option<Bench>,
    witness: Option<&'a mut dyn Witness>,
    observer: &'a mut dyn Observer,
    stop: &'a AtomicBool,
    avoided: Avoided,
    /// The way back is not stopped.
    ending: bool,
    nr: u32,
    stage: Stage,
    /// Durations by what was asked, where steps are too many to be kept.
    totals: Option<BTreeMap<String, Vec<u64>>>,
    pub(super) report: Report,
}

pub(super) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn empty_stage(plan: &'static str, name: &str) -> Stage {
    Stage {
        plan,
        name: name.to_owned(),
        verdict: Verdict::Passed,
        why: None,
        findings: Vec::new(),
        notes: Vec::new(),
        steps: Vec::new(),
        duration_ns: 0,
    }
}

impl<'a> Run<'a> {
    /// Opens the devices, and brings back to RUNNING what an earlier user left in another state.
    pub(super) fn begin(
        mut report: Report,
        first: Candidate,
        second: Option<Candidate>,
        avoided: Avoided,
        witness: Option<&'a mut dyn Witness>,
        observer: &'a mut dyn Observer,
        stop: &'a AtomicBool,
    ) -> Result<Self, BeginError> {
        // Opening one may reset it.
        let open = |candidate, others: &[&Bench]| {
            if stop.load(Ordering::Relaxed) { Err(BeginError::Stopped) } else { open(candidate, others) }
        };
        let (first, found) = open(first, &[])?;
        let second = second.map(|second| open(second, &[&first])).transpose()?;
        report.recovered.extend(found);
        let second = second.map(|(bench, found)| {
            report.recovered.extend(found);
            bench
        });
        report.devices = std::iter::once(&first).chain(&second).map(Bench::subject).collect();
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
        // What opening has shown belongs to no step.
        run.watch();
        run.observer.open(&run.report);
        Ok(run)
    }

    pub(super) fn bench(&mut self, which: Which) -> &mut Bench {
        match (which, &mut self.second) {
            (Which::Second, Some(second)) => second,
            _ => &mut self.first,
        }
    }

    /// Why a device that is in a state must not be asked for another, if that is so.
    pub(super) fn avoids(&mut self, which: Which, from: Option<MigState>, to: MigState) -> Option<String> {
        let flags = self.bench(which).flags;
        self.avoided.request(flags, from, to).map(str::to_owned)
    }

    pub(super) const fn has_second(&self) -> bool {
        self.second.is_some()
    }

    pub(super) fn watch(&mut self) -> Vec<Event> {
        self.witness.as_mut().map_or_else(Vec::new, |witness| witness.events())
    }

    /// Before anything is judged by what was seen, or was not.
    fn count_losses(&mut self) {
        if let Some(witness) = &mut self.witness {
            self.report.tracing.lost = witness.lost();
        }
    }

    pub(super) fn wants_stop(&self) -> bool {
        !self.ending && self.stop.load(Ordering::Relaxed)
    }

    /// Something that is worth knowing, though all is well.
    pub(super) fn note(&mut self, text: impl Into<String>) {
        self.stage.notes.push(text.into());
    }

    /// The stage goes on, and is no more than `warned` from now on, or failed.
    pub(super) fn find(&mut self, verdict: Verdict, finding: Finding) {
        if verdict > self.stage.verdict {
            self.stage.verdict = verdict;
            self.stage.why = Some(finding.text.clone());
        }
        if verdict == Verdict::Failed
            && let Some(step) = self.stage.steps.last_mut()
        {
            step.as_expected = false;
        }
        watch::note(&mut self.stage.findings, finding);
    }

    /// A part of a plan. An error is only what ends the run.
    pub(super) fn stage(
        &mut self,
        plan: &'static str,
        name: &str,
        body: impl FnOnce(&mut Self) -> Result<(), Halt>,
    ) -> Result<(), Halt> {
        self.observer.begin(plan, name);
        self.stage = empty_stage(plan, name);
        let start = Instant::now();
        let mut done = body(self);
        if let Some(totals) = self.totals.take() {
            self.tell(totals);
        }
        let failed = match &done {
            Ok(()) => None,
            Err(Halt::Stage(why) | Halt::Lost(why)) => Some(why.clone()),
            Err(Halt::Stop) => Some("it was stopped".to_owned()),
        };
        if failed.is_some() {
            self.stage.verdict = Verdict::Failed;
            self.stage.why = failed;
        }
        if !matches!(done, Err(Halt::Lost(_)))
            && let Err(lost) = self.tidy()
        {
            self.stage.verdict = Verdict::Failed;
            if let Halt::Lost(why) = &lost {
                self.stage.why.get_or_insert_with(|| why.clone());
            }
            done = Err(lost);
        }
        // An error explains why a step failed, which it may have had to; a warning is of what nobody was told.
        let silent = |finding: &&Finding| finding.severity == Severity::Warning;
        let found = self.stage.all_findings().find(silent);
        if let Some(why) = found.map(|finding| format!("{}: {}", finding.code, finding.text))
            && self.stage.verdict == Verdict::Passed
        {
            self.stage.verdict = Verdict::Warned;
            self.stage.why = Some(why);
        }
        self.stage.duration_ns = nanoseconds(start.elapsed());
        let stage = std::mem::replace(&mut self.stage, empty_stage("", ""));
        self.observer.end(&stage);
        self.report.stages.push(stage);
        match done {
            Err(Halt::Stage(_)) => Ok(()),
            other => other,
        }
    }

    /// A part that is not tried.
    pub(super) fn skip(&mut self, plan: &'static str, name: &str, why: impl Into<String>) {
        self.observer.begin(plan, name);
        let why = Some(why.into());
        let stage = Stage { verdict: Verdict::Skipped, why, ..empty_stage(plan, name) };
        self.observer.end(&stage);
        self.report.stages.push(stage);
    }

    /// From now on to the end of the stage, steps that go well are only counted.
    pub(super) fn only_count(&mut self) {
        self.totals = Some(BTreeMap::new());
    }

    fn tell(&mut self, totals: BTreeMap<String, Vec<u64>>) {
        for (asked, mut times) in totals {
            times.sort_unstable();
            let [min, median, max] = [0, times.len() / 2, times.len().saturating_sub(1)]
                .map(|at| times.get(at).copied().unwrap_or(0));
            self.nr += 1;
            let mut step = self.new_step(Which::First, asked);
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

    fn new_step(&mut self, which: Which, asked: String) -> Step {
        let (nr, device) = (self.nr, self.bench(which).name.clone());
        Step {
            nr,
            device,
            asked,
            outcome: Outcome::Ok,
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

    /// One step. `judge` complains about what the tracer saw, or the state, of one that worked as expected.
    pub(super) fn step<T>(
        &mut self,
        which: Which,
        asked: impl Into<String>,
        expected: Expected,
        act: impl FnOnce(&mut Self, &mut Step) -> Called<T>,
        judge: impl FnOnce(&Self, &Step, &Called<T>) -> Option<String>,
    ) -> Result<Called<T>, Halt> {
        if self.wants_stop() {
            return Err(Halt::Stop);
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
            step.outcome = Outcome::Failed(*errno);
        }
        let asked = step.asked.clone();
        let complaint = match (expected, &done) {
            (Expected::Success, Err(errno)) => Some(format!("{asked} failed with {errno}")),
            (Expected::Refusal(errno), Ok(_)) => Some(format!("{asked} worked, and must fail with {errno}")),
            (Expected::Refusal(wanted), Err(errno)) if wanted != *errno => {
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
        complaint.map_or(Ok(done), |why| Err(Halt::Stage(why)))
    }

    /// A step that works, and nothing more is asked of it.
    pub(super) fn plain<T>(
        &mut self,
        which: Which,
        asked: &str,
        expected: Expected,
        act: impl FnOnce(&mut Self, &mut Step) -> Called<T>,
    ) -> Result<Called<T>, Halt> {
        self.step(which, asked, expected, act, |_, _, _| None)
    }

    /// Closes and opens again: what a driver keeps per open is fresh.
    pub(super) fn reopen(&mut self, which: Which) -> Result<(), Halt> {
        let mut failed = None;
        let done = self.plain(which, "close, open", Expected::Success, |run, step| {
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
            (Err(Halt::Stage(_)), Some(why)) => Err(Halt::Lost(why.to_string())),
            (done, _) => done.map(drop),
        }
    }

    /// Back to RUNNING, by a reset if need be.
    fn tidy(&mut self) -> Result<(), Halt> {
        let before = std::mem::replace(&mut self.ending, true);
        let mut done = Ok(());
        for which in [Which::Second, Which::First] {
            if which == Which::Second && !self.has_second() {
                continue;
            }
            let state = self.bench(which).device().and_then(Device::state).ok();
            self.bench(which).state = state;
            if state != Some(MigState::RUNNING) {
                let reset = self.reset(which);
                done = done.and(reset);
            }
        }
        self.ending = before;
        done
    }

    /// Leaves the devices RUNNING and closed; gives what was found.
    pub(super) fn finish(mut self) -> Report {
        self.ending = true;
        for which in [Which::Second, Which::First] {
            if which == Which::Second && !self.has_second() {
                continue;
            }
            let bench = self.bench(which);
            let mut end = End { device: bench.name.clone(), state: None, reset: false };
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
            self.report.tracing.blindness = witness.blindness();
        }
        self.report.end.reverse();
        self.report.judge();
        self.report
    }
}
