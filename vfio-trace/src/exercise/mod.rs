//! Drives an idle device through its migration states, one request at a time. The only room that acts on devices.

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
    bench::{BeginError, ExerciseCandidate},
    device::{DeviceOpenError, OpenRefusal},
    known_loop::force_warning,
    plans::{ExercisePlan, MOST_BYTES},
    report::{
        DriverStep, EndState, ExerciseArc, ExerciseFailure, ExerciseReport, ExerciseStage, ExerciseStep,
        ExerciseVerdict, ExercisedDevice, ExpectedOutcome, RecoveredDevice, SCHEMA_ID, TracingStatus, json,
    },
    run::ExerciseObserver,
    watch::{ExerciseTracer, UntracedReason},
};
use self::{plans::PlanInputs, run::StageError};
use crate::kernel::KernelVersion;

/// What keeps an image. What goes wrong with that is no matter of the device's: its steps go on.
pub trait ImageSink {
    /// The devices are open, and nothing was asked of them yet.
    ///
    /// # Errors
    ///
    /// Why nothing can be kept.
    fn begin(&mut self) -> Result<(), String>;
    /// The next bytes.
    fn put(&mut self, bytes: &[u8]);
    /// That was all of it.
    ///
    /// # Errors
    ///
    /// Why it was not kept.
    fn finish(&mut self) -> Result<(), String>;
}

/// What is to be done.
pub struct ExerciseTask<'a> {
    /// The plans, in order.
    pub plans: Vec<ExercisePlan>,
    /// Plans that are left out, and why.
    pub left_out: Vec<(ExercisePlan, String)>,
    /// How often `stress` goes round.
    pub count: u32,
    /// What keeps the image that the first `save` reads.
    pub keeper: Option<&'a mut dyn ImageSink>,
    /// The image to be loaded; saved from the device itself if there is none.
    pub image: Option<Vec<u8>>,
    /// An image of another kind of device, for `faults`.
    pub wrong: Option<Vec<u8>>,
    /// Why nothing is traced, where there is no witness.
    pub tracing_off_reason: Option<String>,
    /// What the kernel says of itself.
    pub kernel: KernelVersion,
    /// Also what may hang the host is asked for.
    pub force: bool,
}

/// Opens the device, and the one that it is moved to, does what is to be done, and leaves both RUNNING and closed. `stop`
/// ends it after the step at hand.
///
/// # Errors
///
/// [`BeginError`]: nothing was done, or no more than a reset of what was left behind.
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
