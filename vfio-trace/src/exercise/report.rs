//! Result of an exercise: the types are serialised as they are into `vfio-trace.exercise/1`.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::{plans::ExercisePlan, watch::UntracedReason};
use crate::{
    event::{CallOutcome, DriverFinding, Errno, FindingSeverity, MigFlags, MigState},
    units::schema::{SchemaHead, schema_of},
};

/// Result of a stage or of the run. The greatest of all stages is that of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ExerciseVerdict {
    /// Stage that was not tried; the reason is given.
    Skipped,
    /// Success: all steps had the required outcome.
    Passed,
    /// Success, with something that the user must know.
    Warned,
    /// Failure: the device did something that it must not do, or did not do something that it must.
    Failed,
}

impl ExerciseVerdict {
    /// Returns the name used in output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Skipped => "skipped",
            Self::Passed => "passed",
            Self::Warned => "warned",
            Self::Failed => "failed",
        }
    }
}

/// Device under test.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ExercisedDevice {
    /// PCI address or mdev UUID.
    pub device: String,
    /// Name of its driver.
    pub driver: Option<String>,
    /// Way in which it was opened: `group` or `cdev`.
    #[schemars(extend("enum" = ["group", "cdev"]))]
    pub via: &'static str,
    /// migration_flags of the device.
    pub migration_flags: MigFlags,
    /// True if it announces VFIO_DEVICE_RESET; some drivers have it without announcing it.
    pub reset: bool,
}

/// State in which an earlier user left a device, and the way in which it was brought back from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RecoveredDevice {
    /// Name of the device.
    pub device: String,
    /// State that its driver had in memory before the device was opened, if that could be read.
    pub closed_in: Option<MigState>,
    /// State that the device reported once it was open.
    pub opened_in: MigState,
    /// `open`: opening was enough; `reset`: VFIO_DEVICE_RESET.
    #[schemars(extend("enum" = ["open", "reset"]))]
    pub by: &'static str,
    /// Consequence that was avoided, if the driver is known for one.
    pub danger: Option<&'static str>,
}

/// State in which a device was left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct EndState {
    /// Name of the device.
    pub device: String,
    /// State, read just before the device was closed; null if it could not be read.
    pub state: Option<MigState>,
    /// True if it had to be reset at the end.
    pub reset: bool,
}

/// Arc that the kernel was seen to take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ExerciseArc {
    /// State it starts from.
    pub from: MigState,
    /// State it leads to; null if the core refused to name one.
    pub to: Option<MigState>,
    /// Duration in ns, if it was seen.
    pub duration_ns: Option<u64>,
    /// Outcome of the arc.
    #[serde(flatten)]
    pub outcome: CallOutcome,
}

/// Function of the driver that was seen to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DriverStep {
    /// Plug-in's name for it, otherwise the function's.
    pub name: String,
    /// Description of its arguments by the plug-in.
    pub detail: Option<String>,
    /// Duration in ns, if it was seen.
    pub duration_ns: Option<u64>,
    /// Outcome of the function.
    #[serde(flatten)]
    pub outcome: CallOutcome,
}

/// Required outcome of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpectedOutcome {
    /// Success.
    Success,
    /// Failure with this errno.
    Refusal(Errno),
    /// Any outcome: the stage evaluates it.
    Either,
}

/// One request to a device, with everything that was seen of it. Made by a run, kept in its stage.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ExerciseStep {
    /// Number within the run, from 1.
    #[schemars(range(min = 1))]
    pub nr: u32,
    /// Name of the device.
    pub device: String,
    /// Request: `set STOP_COPY`, `read`.
    pub asked: String,
    /// Outcome; `errno` is the one that user space got.
    #[serde(flatten)]
    pub outcome: CallOutcome,
    /// True if it is the required outcome.
    pub as_expected: bool,
    /// Duration seen from user space, in ns.
    pub duration_ns: u64,
    /// Number of bytes moved by reads or writes.
    pub bytes: Option<u64>,
    /// Number of calls it took.
    pub calls: Option<u64>,
    /// State that the device reported afterwards.
    pub state: Option<MigState>,
    /// Additional remark.
    pub note: Option<String>,
    /// Arcs that the kernel took; empty also if nothing is traced.
    pub arcs: Vec<ExerciseArc>,
    /// Steps of the driver that ran meanwhile.
    pub driver_steps: Vec<DriverStep>,
    /// Findings of the driver's plug-in.
    pub findings: Vec<DriverFinding>,
}

/// Part of a plan with a verdict of its own.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ExerciseStage {
    /// Name of the plan.
    #[schemars(extend("enum" = ExercisePlan::ALL.map(ExercisePlan::name)))]
    pub plan: &'static str,
    /// Name of the part; the plan's name if it has one part only.
    pub name: String,
    /// Result of the stage.
    pub verdict: ExerciseVerdict,
    /// Reason for the verdict, in a sentence; null if everything was as required.
    pub why: Option<String>,
    /// Findings of the stage, besides those of its steps.
    pub findings: Vec<DriverFinding>,
    /// Remarks that are useful although the stage passed.
    pub notes: Vec<String>,
    /// Steps, in order.
    pub steps: Vec<ExerciseStep>,
    /// Duration in ns.
    pub duration_ns: u64,
}

impl ExerciseStage {
    /// Returns `matrix: RUNNING to STOP`; just the name for a plan with one part.
    pub fn title(&self) -> String {
        if self.plan == self.name { self.name.clone() } else { format!("{}: {}", self.plan, self.name) }
    }

    /// Returns all findings, those of the steps first.
    pub fn all_findings(&self) -> impl Iterator<Item = &DriverFinding> {
        self.steps.iter().flat_map(|step| &step.findings).chain(&self.findings)
    }

    /// Returns the first step without the required outcome.
    pub fn first_unexpected(&self) -> Option<&ExerciseStep> {
        self.steps.iter().find(|step| !step.as_expected)
    }
}

/// Share of the tracer in a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TracingStatus {
    /// True if the tracer was on.
    pub on: bool,
    /// Reason why it was not.
    pub reason: Option<String>,
    /// Number of records that were lost, and of calls that were not seen: arcs may be missing, and from the
    /// first loss on unexpected ones are not held against the device.
    pub lost: u64,
    /// Number of requests that must have taken arcs.
    pub requests: u64,
    /// Number of those requests whose arcs were not seen, and so not checked. If that is all of them, the
    /// verdict is `warned` or `failed`.
    pub unseen: u64,
    /// Reason why nothing was seen, if nothing was.
    #[serde(skip)]
    pub untraced_reason: UntracedReason,
}

impl TracingStatus {
    /// Returns a sentence, and its effect on the verdict, if the tracer was on and saw none of the requests.
    pub fn untraced_verdict(&self) -> Option<(ExerciseVerdict, String)> {
        if !self.on || self.requests == 0 || self.unseen < self.requests {
            return None;
        }
        let without = "--no-trace judges by results only";
        // If tracing itself does not work, the results are judged as without it. If only this process's id is unknown,
        // the run fails: the check that was asked for is possible on the host.
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

/// First failure, with its explanation.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ExerciseFailure {
    /// Title of the stage.
    pub stage: String,
    /// Number of the step, if a step failed.
    #[schemars(range(min = 1))]
    pub step: Option<u32>,
    /// Request of that step.
    pub asked: Option<String>,
    /// Reason, in a sentence.
    pub why: String,
    /// Findings of the driver's plug-in, and of this program.
    pub findings: Vec<DriverFinding>,
}

/// Report of a run.
///
/// [`exercise()`](super::exercise()) makes it empty and fills it during the run; `judge` sets the verdict at its end.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ExerciseReport {
    /// Name of the schema, `vfio-trace.exercise/1`.
    pub schema: &'static str,
    /// Version of vfio-trace.
    pub version: &'static str,
    /// Kernel release.
    pub kernel: String,
    /// Names of the plans, in order.
    #[schemars(extend("items" = {"type": "string", "enum": ExercisePlan::ALL.map(ExercisePlan::name)}))]
    pub plans: Vec<&'static str>,
    /// Device under test, and that of `--to`.
    pub devices: Vec<ExercisedDevice>,
    /// Share of the tracer in the run.
    pub tracing: TracingStatus,
    /// Devices that had been left in another state than RUNNING.
    pub recovered: Vec<RecoveredDevice>,
    /// Stages, in order.
    pub stages: Vec<ExerciseStage>,
    /// States in which the devices were left.
    pub end: Vec<EndState>,
    /// Reason why the run ended early.
    pub stopped: Option<String>,
    /// First failure.
    pub first_failure: Option<ExerciseFailure>,
    /// Worst verdict of all stages; `skipped` if nothing was tried.
    pub verdict: ExerciseVerdict,
}

/// Name of the schema.
pub const SCHEMA_ID: &str = "vfio-trace.exercise/1";

const HEAD: SchemaHead = SchemaHead {
    name: SCHEMA_ID,
    title: "What vfio-trace exercise --json prints",
    description: "docs/exercise.md explains the fields. Readers ignore fields that they do not know: version 1 may gain some.",
};

/// Makes the schema of the document, as kept in `docs/schema`.
pub fn exercise_schema() -> Value {
    schema_of::<ExerciseReport>(&HEAD)
}

impl ExerciseReport {
    /// Sets the verdict and the first failure.
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

/// Makes a finding of this program's own.
pub(super) fn finding(
    code: &'static str,
    severity: FindingSeverity,
    text: String,
    check: &'static str,
) -> DriverFinding {
    DriverFinding { code: code.into(), severity, step: None, errno: None, text, check: check.into() }
}

/// Returns a JSON document, with a newline.
///
/// # Errors
///
/// None that the types here can cause; serde's interface has them.
pub fn json(report: &ExerciseReport) -> serde_json::Result<String> {
    crate::units::visible::json_pretty(report).map(|text| format!("{text}\n"))
}
