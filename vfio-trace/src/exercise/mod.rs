//! Drives an idle device through its migration states, one request at a time. The only module that acts on devices.

mod begin_error;
mod bench;
mod device;
mod known_loop;
pub mod path;
mod plans;
mod report;
mod requests;
mod run;
mod watch;

use std::{rc::Rc, sync::atomic::AtomicBool};

pub use self::{
    begin_error::BeginError,
    bench::ExerciseCandidate,
    device::DeviceOpenError,
    known_loop::force_warning,
    plans::{ExercisePlan, MOST_BYTES},
    report::{
        DriverStep, EndState, ExerciseArc, ExerciseFailure, ExerciseReport, ExerciseStage, ExerciseStep,
        ExerciseVerdict, ExercisedDevice, ExpectedOutcome, RecoveredDevice, SCHEMA_ID, TracingStatus,
        exercise_schema, json,
    },
    run::ExerciseObserver,
    watch::{ExerciseTracer, UntracedReason},
};
use self::{plans::PlanInputs, run::StageError};
use crate::kernel::KernelVersion;

/// Destination of a saved image. Its errors do not concern the device: the steps go on.
///
/// The command line implements it (`exercise --out`); the first `save` calls it.
pub trait ImageSink {
    /// Prepares for the image. Called when the devices are open and nothing was asked of them yet.
    ///
    /// # Errors
    ///
    /// The reason why no image can be kept.
    fn begin(&mut self) -> Result<(), String>;
    /// Appends the next bytes.
    fn put(&mut self, bytes: &[u8]);
    /// Completes the image.
    ///
    /// # Errors
    ///
    /// The reason why it was not kept.
    fn finish(&mut self) -> Result<(), String>;
}

/// Work for a run. Made by the command line, taken by [`exercise()`].
pub struct ExerciseTask<'a> {
    /// Plans, in order.
    pub plans: Vec<ExercisePlan>,
    /// Plans that are left out, with the reason.
    pub left_out: Vec<(ExercisePlan, String)>,
    /// Number of rounds of `stress`.
    pub count: u32,
    /// Destination of the image that the first `save` reads.
    pub keeper: Option<&'a mut dyn ImageSink>,
    /// Image to be loaded; if there is none, it is saved from the device itself.
    pub image: Option<Vec<u8>>,
    /// Image of another kind of device, for `faults`.
    pub wrong: Option<Vec<u8>>,
    /// Reason why nothing is traced, if there is no witness.
    pub tracing_off_reason: Option<String>,
    /// Version that the kernel reports.
    pub kernel: KernelVersion,
    /// True if requests that may hang the host are made, too.
    pub force: bool,
}

/// Opens the device and, if given, the second one, runs the plans, and leaves both devices RUNNING and closed. `stop`
/// ends the run after the current step.
///
/// # Errors
///
/// [`BeginError`]: nothing was done, except perhaps the reset of a device that was left in another state.
pub fn exercise<'a>(
    task: ExerciseTask<'a>,
    first: ExerciseCandidate,
    second: Option<ExerciseCandidate>,
    witness: Option<&'a mut dyn ExerciseTracer>,
    observer: &'a mut dyn ExerciseObserver,
    stop: &'a AtomicBool,
) -> Result<ExerciseReport, BeginError> {
    let ExerciseTask {
        plans,
        left_out,
        count,
        mut keeper,
        image,
        wrong,
        tracing_off_reason: blind,
        kernel,
        force,
    } = task;
    let avoided = known_loop::AvoidedRequests::of(&kernel, force);
    let report = ExerciseReport {
        schema: SCHEMA_ID,
        version: env!("CARGO_PKG_VERSION"),
        kernel: kernel.release,
        plans: plans.iter().map(|plan| plan.name()).collect(),
        devices: Vec::new(),
        tracing: TracingStatus { on: witness.is_some(), reason: blind, ..TracingStatus::default() },
        recovered: Vec::new(),
        stages: Vec::new(),
        end: Vec::new(),
        stopped: None,
        first_failure: None,
        verdict: ExerciseVerdict::Skipped,
    };
    let mut run = run::ExerciseRun::begin(report, first, second, avoided, witness, observer, stop)?;
    if let Some(keeper) = &mut keeper {
        keeper.begin().map_err(BeginError::ImageNotKept)?;
    }
    let mut means = PlanInputs { count, keeper, image: image.map(Rc::from), wrong: wrong.map(Rc::from) };
    for plan in plans {
        if let Some((_, why)) = left_out.iter().find(|(left_out, _)| *left_out == plan) {
            run.skip(plan.name(), plan.name(), why.clone());
            continue;
        }
        let why = match plans::run(&mut run, plan, &mut means) {
            Ok(()) => continue,
            Err(StageError::Stopped) => "a signal asked for it".to_owned(),
            Err(StageError::Failed(why) | StageError::DeviceUnrecoverable(why)) => why,
        };
        run.report.stopped = Some(why);
        break;
    }
    Ok(run.finish())
}
