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
    bench::{BeginError, Candidate},
    device::{Doubt, OpenError},
    known_loop::insisted,
    plans::{MOST_BYTES, Plan},
    report::{
        Arc, DriverStep, End, Expected, Failure, Recovered, Report, SCHEMA_ID, Stage, Step, Subject, Tracing,
        Verdict, json,
    },
    run::Observer,
    watch::{Blindness, Witness},
};
use self::{plans::Means, run::Halt};
use crate::kernel::KernelWords;

/// What keeps an image. What goes wrong with that is no matter of the device's: its steps go on.
pub trait Keep {
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
    fn whole(&mut self) -> Result<(), String>;
}

/// What is to be done.
pub struct Task<'a> {
    /// The plans, in order.
    pub plans: Vec<Plan>,
    /// Plans that are left out, and why.
    pub left_out: Vec<(Plan, String)>,
    /// How often `stress` goes round.
    pub count: u32,
    /// What keeps the image that the first `save` reads.
    pub keeper: Option<&'a mut dyn Keep>,
    /// The image to be loaded; saved from the device itself if there is none.
    pub image: Option<Vec<u8>>,
    /// An image of another kind of device, for `faults`.
    pub wrong: Option<Vec<u8>>,
    /// Why nothing is traced, where there is no witness.
    pub blind: Option<String>,
    /// What the kernel says of itself.
    pub kernel: KernelWords,
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
    task: Task<'a>,
    first: Candidate,
    second: Option<Candidate>,
    witness: Option<&'a mut dyn Witness>,
    observer: &'a mut dyn Observer,
    stop: &'a AtomicBool,
) -> Result<Report, BeginError> {
    let Task { plans, left_out, count, mut keeper, image, wrong, blind, kernel, force } = task;
    let avoided = known_loop::Avoided::of(&kernel, force);
    let report = Report {
        schema: SCHEMA_ID,
        version: env!("CARGO_PKG_VERSION"),
        kernel: kernel.release,
        plans: plans.iter().map(|plan| plan.name()).collect(),
        devices: Vec::new(),
        tracing: Tracing { on: witness.is_some(), reason: blind, ..Tracing::default() },
        recovered: Vec::new(),
        stages: Vec::new(),
        end: Vec::new(),
        stopped: None,
        first_failure: None,
        verdict: Verdict::Skipped,
    };
    let mut run = run::Run::begin(report, first, second, avoided, witness, observer, stop)?;
    if let Some(keeper) = &mut keeper {
        keeper.begin().map_err(BeginError::Keep)?;
    }
    let mut means = Means { count, keeper, image: image.map(Rc::from), wrong: wrong.map(Rc::from) };
    for plan in plans {
        if let Some((_, why)) = left_out.iter().find(|(left_out, _)| *left_out == plan) {
            run.skip(plan.name(), plan.name(), why.clone());
            continue;
        }
        let why = match plans::run(&mut run, plan, &mut means) {
            Ok(()) => continue,
            Err(Halt::Stop) => "a signal asked for it".to_owned(),
            Err(Halt::Stage(why) | Halt::Lost(why)) => why,
        };
        run.report.stopped = Some(why);
        break;
    }
    Ok(run.finish())
}
