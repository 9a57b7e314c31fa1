//! Formats an exercise for people: a line per step as it happens, a verdict per stage, and the first failure.

use std::{collections::BTreeSet, fmt::Write as _};

use crate::{
    event::{CallOutcome, DriverFinding, FindingSeverity, MigState},
    exercise::{
        EndState, ExerciseReport, ExerciseStage, ExerciseStep, ExerciseVerdict, ExercisedDevice,
        RecoveredDevice, TracingStatus,
    },
    units::{human, human::clean, width::padded},
};

/// Formatter of one exercise; it remembers the findings that it has printed.
#[derive(Clone, Debug, Default)]
pub struct ExerciseText {
    color: bool,
    /// Findings that were printed: a repeated one gets its code only.
    told: BTreeSet<String>,
}

const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const BOLD: &str = "1";
const DIM: &str = "2";

/// Most driver steps that are shown for one step of the exercise.
const MOST_STEPS: usize = 12;

impl ExerciseText {
    /// Makes a formatter, with colours or without.
    pub fn new(color: bool) -> Self {
        Self { color, told: BTreeSet::new() }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.color { format!("\x1b[{code}m{}\x1b[0m", clean(text)) } else { clean(text).into_owned() }
    }

    fn verdict(&self, verdict: ExerciseVerdict) -> String {
        let code = match verdict {
            ExerciseVerdict::Passed => GREEN,
            ExerciseVerdict::Warned | ExerciseVerdict::Skipped => YELLOW,
            ExerciseVerdict::Failed => RED,
        };
        self.paint(code, verdict.name())
    }

    /// Returns the lines before the first step.
    pub fn head(
        &self,
        subjects: &[ExercisedDevice],
        tracing: &TracingStatus,
        recovered: &[RecoveredDevice],
    ) -> String {
        let mut out = String::new();
        for subject in subjects {
            let _infallible = writeln!(
                out,
                "{}  {}  {}  through {}",
                self.paint(BOLD, &subject.device),
                clean(subject.driver.as_deref().unwrap_or("?")),
                subject.migration_flags,
                subject.via
            );
        }
        if let Some(why) = &tracing.reason {
            let _infallible =
                writeln!(out, "not traced, so that arcs and driver steps are not shown: {}", clean(why));
        }
        for found in recovered {
            let RecoveredDevice { device, closed_in, opened_in, by, danger } = found;
            let was = match closed_in {
                Some(state) if *opened_in == MigState::RUNNING => format!("closed in {state}"),
                _ => format!("left in {opened_in}"),
            };
            let how = if *by == "open" {
                "opening it was enough"
            } else {
                "VFIO_DEVICE_RESET, before anything else"
            };
            let _infallible = writeln!(
                out,
                "{} was {was} by an earlier user; brought back to RUNNING: {how}",
                clean(device)
            );
            if let Some(danger) = danger {
                let _infallible = writeln!(out, "  avoided: {}", clean(danger));
            }
        }
        out
    }

    /// Returns the line of a step, and the findings and driver steps within it.
    pub fn step(&mut self, step: &ExerciseStep) -> String {
        let mut out = String::new();
        let result = match (step.outcome, step.as_expected) {
            (CallOutcome::Ok | CallOutcome::Unknown, true) => "ok".to_owned(),
            (CallOutcome::Ok | CallOutcome::Unknown, false) => self.paint(RED, "ok, wrongly"),
            (CallOutcome::Failed(errno) | CallOutcome::Refused(errno), true) => {
                self.paint(DIM, &errno.name())
            },
            (CallOutcome::Failed(errno) | CallOutcome::Refused(errno), false) => {
                self.paint(RED, &errno.name())
            },
        };
        let mut details = Vec::new();
        if let Some(bytes) = step.bytes {
            let calls =
                step.calls.map_or_else(String::new, |calls| format!(" in {}", human::count(calls, "call")));
            details.push(format!("{}{calls}", human::bytes(bytes)));
        }
        if let Some(note) = &step.note {
            details.push(clean(note).into_owned());
        }
        let _infallible = writeln!(
            out,
            "{:>5}  {} {} {:>8}  {result}  {}",
            step.nr,
            padded(&clean(short(&step.device)), 9),
            padded(&clean(&step.asked), 22),
            human::duration(step.duration_ns),
            details.join("; ")
        );
        out.truncate(out.trim_end().len());
        out.push('\n');
        for arc in &step.arcs {
            let to = arc.to.map_or_else(|| "?".to_owned(), |to| to.to_string());
            let took = arc.duration_ns.map_or_else(String::new, human::duration);
            let _infallible = writeln!(
                out,
                "                 {:<30} {took:>8}  {}",
                format!("{} → {to}", arc.from),
                self.outcome(arc.outcome)
            );
        }
        for seen in step.driver_steps.iter().take(MOST_STEPS) {
            let took = seen.duration_ns.map_or_else(String::new, human::duration);
            let detail = seen.detail.as_ref().map_or_else(String::new, |detail| format!(" {detail}"));
            let _infallible = writeln!(
                out,
                "                   {} {took:>8}  {}",
                padded(&clean(&format!("{}{detail}", seen.name)), 28),
                self.outcome(seen.outcome)
            );
        }
        if let Some(more) = step.driver_steps.len().checked_sub(MOST_STEPS).filter(|more| *more > 0) {
            let _infallible = writeln!(out, "                   and {more} more of the driver's steps");
        }
        for finding in &step.findings {
            out.push_str(&self.finding(finding));
        }
        out
    }

    fn outcome(&self, outcome: CallOutcome) -> String {
        match outcome {
            CallOutcome::Ok => "ok".to_owned(),
            CallOutcome::Unknown => String::new(),
            CallOutcome::Failed(errno) => self.paint(RED, &errno.name()),
            CallOutcome::Refused(errno) => format!("refused {errno}"),
        }
    }

    fn finding(&mut self, finding: &DriverFinding) -> String {
        let code = match finding.severity {
            FindingSeverity::Error => RED,
            FindingSeverity::Warning => YELLOW,
            FindingSeverity::Info => DIM,
        };
        if !self.told.insert(format!("{} {}", finding.code, finding.text)) {
            return format!("       {}  as before\n", self.paint(code, &finding.code));
        }
        let step = finding.step.as_ref().map_or_else(String::new, |step| format!("{step}: "));
        let errno = finding.errno.as_ref().map_or_else(String::new, |errno| format!("{errno}: "));
        let (name, text) = (self.paint(code, &finding.code), clean(&finding.text));
        format!(
            "       {name}  {}{text}\n         check: {}\n",
            clean(&format!("{errno}{step}")),
            clean(&finding.check)
        )
    }

    /// Returns the line of a stage that is over.
    pub fn end(&mut self, stage: &ExerciseStage) -> String {
        let mut out = format!("  {:<44} {}", clean(&stage.title()), self.verdict(stage.verdict));
        if stage.verdict != ExerciseVerdict::Skipped {
            let _infallible = write!(out, "  {}", human::duration(stage.duration_ns));
        }
        if let Some(why) = &stage.why {
            let _infallible = write!(out, "  {}", clean(why));
        }
        out.push('\n');
        for finding in &stage.findings {
            out.push_str(&self.finding(finding));
        }
        for note in &stage.notes {
            let _infallible = writeln!(out, "       {}", clean(note));
        }
        out
    }

    /// Returns the verdicts by plan, the states in which the devices were left, and the first failure.
    pub fn summary(&mut self, report: &ExerciseReport) -> String {
        let mut out = "\n".to_owned();
        let mut plans: Vec<&str> = Vec::new();
        for stage in &report.stages {
            if !plans.contains(&stage.plan) {
                plans.push(stage.plan);
            }
        }
        for plan in plans {
            let stages = || report.stages.iter().filter(move |stage| stage.plan == plan);
            let worst = stages().map(|stage| stage.verdict).max().unwrap_or(ExerciseVerdict::Skipped);
            let count = |verdict| stages().filter(|stage| stage.verdict == verdict).count();
            let parts = match stages().count() {
                1 => stages().find_map(|stage| stage.why.clone()).unwrap_or_default(),
                all => [
                    (ExerciseVerdict::Passed),
                    ExerciseVerdict::Warned,
                    ExerciseVerdict::Failed,
                    ExerciseVerdict::Skipped,
                ]
                .into_iter()
                .filter(|verdict| count(*verdict) > 0)
                .map(|verdict| format!("{} of {all} {}", count(verdict), verdict.name()))
                .collect::<Vec<_>>()
                .join(", "),
            };
            let line = format!("{plan:<9} {}  {}", self.verdict(worst), clean(&parts));
            let _infallible = writeln!(out, "{}", line.trim_end());
        }
        if let Some(why) = &report.stopped {
            let _infallible = writeln!(out, "stopped before its end: {}", clean(why));
        }
        if let Some(failure) = &report.first_failure {
            let step = failure.step.map_or_else(String::new, |step| format!(", step {step}"));
            let _infallible =
                writeln!(out, "first failure: {}{step}: {}", clean(&failure.stage), clean(&failure.why));
            // Findings are printed in full once more: this part is read first.
            self.told.clear();
            for finding in &failure.findings {
                out.push_str(&self.finding(finding));
            }
        }
        for EndState { device, state, reset } in &report.end {
            let state =
                state.map_or_else(|| "in a state that cannot be read".to_owned(), |state| state.to_string());
            let how = if *reset { ", after a reset" } else { "" };
            let _infallible = writeln!(out, "{} is {state} and closed{how}", clean(device));
        }
        if report.tracing.lost > 0 {
            let _infallible = writeln!(
                out,
                "the tracer lost {} records, or did not see calls: arcs may be missing above; since then other ones than \
                 there must be are not held against the device",
                report.tracing.lost
            );
        }
        match report.tracing.untraced_verdict() {
            Some((_, why)) => {
                let _infallible = writeln!(out, "{why}");
            },
            None if report.tracing.unseen > 0 => {
                let TracingStatus { requests, unseen, .. } = report.tracing;
                let _infallible = writeln!(
                    out,
                    "of {unseen} of {requests} requests no arc was seen: theirs were not checked"
                );
            },
            None => {},
        }
        let _infallible = writeln!(out, "verdict: {}", self.verdict(report.verdict));
        out
    }
}

/// Returns a short name of a device: the end of a PCI address, or the beginning of a UUID.
fn short(device: &str) -> &str {
    let at = if device.contains(':') { device.split_once(':').map_or("", |(_, rest)| rest) } else { device };
    at.get(..8).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names() {
        assert_eq!(short("0000:75:00.1"), "75:00.1");
        assert_eq!(short("11111111-1111-1111-1111-111111111111"), "11111111");
        assert_eq!(short("odd"), "odd");
    }
}
