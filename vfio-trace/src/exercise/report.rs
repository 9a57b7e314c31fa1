//! What an exercise has found: the types serialise as they are into `vfio-trace.exercise/1`.

use serde::Serialize;

use super::watch::UntracedReason;
use crate::event::{CallOutcome, DriverFinding, Errno, FindingSeverity, MigFlags, MigState};

/// How a stage ended, or the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ExerciseVerdict {
    /// It was not tried; the reason is told.
    Skipped,
    /// All as it has to be.
    Passed,
    /// It worked, with something that one must know.
    Warned,
    /// The device did what it must not do, or did not do what it must.
    Failed,
}

impl ExerciseVerdict {
    /// The name used in output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Skipped => "skipped",
            Self::Passed => "passed",
            Self::Warned => "warned",
            Self::Failed => "failed",
        }
    }
}

/// A device under test.
#[derive(Clone, Debug, Serialize)]
pub struct ExercisedDevice {
    /// PCI address or mdev UUID.
    pub device: String,
    /// Its driver.
    pub driver: Option<String>,
    /// `group` or `cdev`.
    pub via: &'static str,
    /// What its migration can do.
    pub migration_flags: MigFlags,
    /// Whether it announces VFIO_DEVICE_RESET; some drivers have it and do not say so.
    pub reset: bool,
}

/// A state that an earlier user left, and how the device was brought back from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecoveredDevice {
    /// The device.
    pub device: String,
    /// What its driver had in memory before it was opened, if that could be read.
    pub closed_in: Option<MigState>,
    /// What the device said once it was open.
    pub opened_in: MigState,
    /// `open`: opening was enough; `reset`: VFIO_DEVICE_RESET.
    pub by: &'static str,
    /// What would have happened otherwise, if the driver is known for something.
    pub danger: Option<&'static str>,
}

/// How a device was left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EndState {
    /// The device.
    pub device: String,
    /// Its state, read just before it was closed; `None` if it could not be read.
    pub state: Option<MigState>,
    /// Whether it had to be reset for it.
    pub reset: bool,
}

/// An arc that the kernel was seen to take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExerciseArc {
    /// State it starts from.
    pub from: MigState,
    /// State it leads to; `None` if the core refused to name one.
    pub to: Option<MigState>,
    /// How long it took, if that was seen.
    pub duration_ns: Option<u64>,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: CallOutcome,
}

/// A function of the driver that was seen to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DriverStep {
    /// What the plug-in calls it, else the function.
    pub name: String,
    /// What the plug-in reads from its arguments.
    pub detail: Option<String>,
    /// How long it took, if that was seen.
    pub duration_ns: Option<u64>,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: CallOutcome,
}

/// What has to come of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpectedOutcome {
    /// It works.
    Success,
    /// It fails with this errno.
    Refusal(Errno),
    /// The stage looks at what came of it.
    Either,
}

/// One thing that was asked of a device.
#[derive(Clone, Debug, Serialize)]
pub struct ExerciseStep {
    /// Number within the run, from 1.
    pub nr: u32,
    /// The device.
    pub device: String,
    /// What was asked: `set STOP_COPY`, `read`.
    pub asked: String,
    /// How it ended; `errno` is what user space got.
    #[serde(flatten)]
    pub outcome: CallOutcome,
    /// Whether that is what it had to be.
    pub as_expected: bool,
    /// How long it took, seen from user space, in ns.
    pub duration_ns: u64,
    /// Bytes moved by reads or writes.
    pub bytes: Option<u64>,
    /// Calls it took.
    pub calls: Option<u64>,
    /// The state that the device said it was in afterwards.
    pub state: Option<MigState>,
    /// What else there is to say.
    pub note: Option<String>,
    /// The arcs that the kernel took; empty also where nothing is traced.
    pub arcs: Vec<ExerciseArc>,
    /// The driver's steps in it.
    pub driver_steps: Vec<DriverStep>,
    /// What the driver's plug-in makes of it.
    pub findings: Vec<DriverFinding>,
}

/// A part of a plan with a verdict of its own.
#[derive(Clone, Debug, Serialize)]
pub struct ExerciseStage {
    /// The plan.
    pub plan: &'static str,
    /// Which part of it; the plan's name if it has one part only.
    pub name: String,
    /// How it ended.
    pub verdict: ExerciseVerdict,
    /// Why, in a sentence; `None` if all was as it has to be.
    pub why: Option<String>,
    /// What it found, besides what its steps did.
    pub findings: Vec<DriverFinding>,
    /// What is worth knowing of a stage that passed.
    pub notes: Vec<String>,
    /// What was done.
    pub steps: Vec<ExerciseStep>,
    /// How long it took, in ns.
    pub duration_ns: u64,
}

impl ExerciseStage {
    /// `matrix: RUNNING to STOP`; a plan with one part is just its name.
    pub fn title(&self) -> String {
        if self.plan == self.name { self.name.clone() } else { format!("{}: {}", self.plan, self.name) }
    }

    /// All findings, the steps' first.
    pub fn all_findings(&self) -> impl Iterator<Item = &DriverFinding> {
        self.steps.iter().flat_map(|step| &step.findings).chain(&self.findings)
    }

    /// The first step that was not as it had to be.
    pub fn first_unexpected(&self) -> Option<&ExerciseStep> {
        self.steps.iter().find(|step| !step.as_expected)
    }
}

/// Whether the tracer watched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TracingStatus {
    /// It did.
    pub on: bool,
    /// Why not.
    pub reason: Option<String>,
    /// Records that were lost on the way, and calls that were not seen: arcs may be missing.
    pub lost: u64,
    /// Requests that must have taken arcs.
    pub requests: u64,
    /// Those of them whose arcs were not seen, and so not checked.
    pub unseen: u64,
    /// Why nothing was seen, where that is so.
    #[serde(skip)]
    pub untraced_reason: UntracedReason,
}

impl TracingStatus {
    /// What to say, and what it makes of the verdict, where the tracer was there and has seen nothing of what was done.
    pub fn untraced_verdict(&self) -> Option<(ExerciseVerdict, String)> {
        if !self.on || self.requests == 0 || self.unseen < self.requests {
            return None;
        }
        let without = "--no-trace judges by results only";
        // Where tracing itself does not work, results are judged as without it. A stranger has been asked to check, and
        // could from elsewhere.
        let (verdict, why) = match &self.untraced_reason {
            _ if self.lost > 0 => (
                ExerciseVerdict::Warned,
                format!(": {} records were lost, or calls not seen; try it again, or {without}", self.lost),
            ),
            UntracedReason::OwnPidUnknown => (
                ExerciseVerdict::Failed,
                ", as in a container that has a PID namespace of its own and does not show who opens a device; run it on the \
                 host, or with --no-trace, which judges by results only"
                    .to_owned(),
            ),
            UntracedReason::Known(why) => {
                (ExerciseVerdict::Warned, format!(": {why}; see `vfio-trace doctor`; {without}"))
            },
            UntracedReason::Unknown => (
                ExerciseVerdict::Warned,
                format!(", and it is not known why; see `vfio-trace doctor`; {without}"),
            ),
        };
        Some((verdict, format!("could not be checked: none of {} requests was traced{why}", self.requests)))
    }
}

/// The first thing that failed, explained.
#[derive(Clone, Debug, Serialize)]
pub struct ExerciseFailure {
    /// The stage.
    pub stage: String,
    /// The step's number, if it was a step.
    pub step: Option<u32>,
    /// What was asked in it.
    pub asked: Option<String>,
    /// What is wrong.
    pub why: String,
    /// What the driver's plug-in, or this program, makes of it.
    pub findings: Vec<DriverFinding>,
}

/// All of it.
#[derive(Clone, Debug, Serialize)]
pub struct ExerciseReport {
    /// `vfio-trace.exercise/1`.
    pub schema: &'static str,
    /// Version of vfio-trace.
    pub version: &'static str,
    /// Kernel release.
    pub kernel: String,
    /// The plans, in order.
    pub plans: Vec<&'static str>,
    /// The device, and the one of `--to`.
    pub devices: Vec<ExercisedDevice>,
    /// Whether the tracer watched.
    pub tracing: TracingStatus,
    /// What was found left behind.
    pub recovered: Vec<RecoveredDevice>,
    /// What was done.
    pub stages: Vec<ExerciseStage>,
    /// How the devices were left.
    pub end: Vec<EndState>,
    /// What ended the run before its end.
    pub stopped: Option<String>,
    /// The first failure.
    pub first_failure: Option<ExerciseFailure>,
    /// The worst of all stages'; `skipped` if nothing was tried.
    pub verdict: ExerciseVerdict,
}

/// The schema's name.
pub const SCHEMA_ID: &str = "vfio-trace.exercise/1";

impl ExerciseReport {
    /// Draws the conclusion.
    pub(crate) fn judge(&mut self) {
        let worst = self.stages.iter().map(|stage| stage.verdict).max();
        let left = self.end.iter().any(|end| end.state != Some(MigState::RUNNING));
        let blind = self.tracing.untraced_verdict().map(|(verdict, _)| verdict);
        self.verdict = match worst {
            _ if left || self.stopped.is_some() => ExerciseVerdict::Failed,
            Some(worst) => blind.map_or(worst, |blind| blind.max(worst)),
            None => ExerciseVerdict::Skipped,
        };
        let failed = self.stages.iter().find(|stage| stage.verdict == ExerciseVerdict::Failed);
        self.first_failure = failed.map(|stage| {
            let step = stage.first_unexpected();
            ExerciseFailure {
                stage: stage.title(),
                step: step.map(|step| step.nr),
                asked: step.map(|step| step.asked.clone()),
                why: stage.why.clone().unwrap_or_default(),
                findings: stage.all_findings().cloned().collect(),
            }
        });
    }
}

/// A finding of this program's own.
pub(super) fn finding(
    code: &'static str,
    severity: FindingSeverity,
    text: String,
    check: &'static str,
) -> DriverFinding {
    DriverFinding { code: code.into(), severity, step: None, errno: None, text, check: check.into() }
}

/// One JSON document, with a newline.
///
/// # Errors
///
/// None that the types here can cause; serde's interface has them.
pub fn json(report: &ExerciseReport) -> serde_json::Result<String> {
    crate::units::visible::json_pretty(report).map(|text| format!("{text}\n"))
}
