//! Plans: requests to a device, their order, and their required outcomes.

mod basic;
mod faults;
mod matrix;
mod moves;

use std::rc::Rc;

use super::{
    ImageSink,
    report::{ExerciseVerdict, ExpectedOutcome, finding},
    requests::{CHUNK, ExpectedEnd},
    run::{DeviceSelector, ExerciseRun, StageError},
};
use crate::event::{Errno, FindingSeverity, MigFlags, MigState};

/// Plan, by its name on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExercisePlan {
    /// Stop, save, read the image.
    Save,
    /// Save, load the image back, run.
    Resume,
    /// Check whether the command channel answers, by reading only.
    IoTest,
    /// Save, beginning while the device runs.
    Precopy,
    /// A whole migration to another device.
    Full,
    /// Requests for every state in every state.
    Matrix,
    /// Save and load again and again.
    Stress,
    /// Images that must be refused.
    Faults,
}

impl ExercisePlan {
    /// All plans, in the order of `all`.
    pub const ALL: [Self; 8] = [
        Self::IoTest,
        Self::Save,
        Self::Resume,
        Self::Precopy,
        Self::Full,
        Self::Matrix,
        Self::Stress,
        Self::Faults,
    ];

    /// Returns the name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Save => "save",
            Self::Resume => "resume",
            Self::IoTest => "io-test",
            Self::Precopy => "precopy",
            Self::Full => "full",
            Self::Matrix => "matrix",
            Self::Stress => "stress",
            Self::Faults => "faults",
        }
    }

    /// Returns a description of its effects on a device, for the question before the run.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Save => "stops the device, reads its state, lets it run again",
            Self::Resume => {
                "stops the device, reads its state (or takes that of --in), loads it back, lets it run again"
            },
            Self::IoTest => "reads a register of the device; changes nothing",
            Self::Precopy => "reads its state beginning while it runs, twice: to the end, and given up",
            Self::Full => "migrates it to the device of --to, whose own state is lost",
            Self::Matrix => "brings it from every state to every other, also where that must be refused",
            Self::Stress => "saves and loads it --count times",
            Self::Faults => "loads damaged images, which it must refuse, and then a good one",
        }
    }
}

/// Inputs of the plans besides the devices.
pub(super) struct PlanInputs<'a> {
    /// Value of `--count`.
    pub(super) count: u32,
    /// Destination of the image that the first `save` reads.
    pub(super) keeper: Option<&'a mut dyn ImageSink>,
    /// Image to be loaded; if there is none, it is saved from the device itself.
    pub(super) image: Option<Rc<[u8]>>,
    /// Image of another kind of device.
    pub(super) wrong: Option<Rc<[u8]>>,
}

/// Maximum length of an image that is kept in memory, in bytes. Those of `save` and `full` may be longer.
pub const MOST_BYTES: usize = 1 << 30;

const EFBIG: Errno = Errno(27);

pub(super) fn run(
    run: &mut ExerciseRun<'_>,
    plan: ExercisePlan,
    means: &mut PlanInputs<'_>,
) -> Result<(), StageError> {
    match plan {
        ExercisePlan::Save => basic::save(run, means),
        ExercisePlan::Resume => basic::resume(run, means),
        ExercisePlan::IoTest => basic::io_test(run),
        ExercisePlan::Precopy => moves::precopy(run),
        ExercisePlan::Full => moves::full(run),
        ExercisePlan::Matrix => matrix::matrix(run, means),
        ExercisePlan::Stress => basic::stress(run, means),
        ExercisePlan::Faults => faults::faults(run, means),
    }
}

const PRE_COPY: u64 = vfio_trace_common::uapi::migration_flags::PRE_COPY;

const fn has_precopy(flags: MigFlags) -> bool {
    flags.0 & PRE_COPY != 0
}

/// Asks for a state that must be reached.
fn must(run: &mut ExerciseRun<'_>, which: DeviceSelector, state: MigState) -> Result<(), StageError> {
    run.set(which, state, ExpectedOutcome::Success).map(drop)
}

/// Returns the device's own image, and leaves it in STOP_COPY.
fn take_image(run: &mut ExerciseRun<'_>, which: DeviceSelector) -> Result<Rc<[u8]>, StageError> {
    must(run, which, MigState::STOP_COPY)?;
    let mut image = Vec::new();
    run.read(which, ExpectedEnd::End, &mut |_, bytes| {
        if image.len().saturating_add(bytes.len()) > MOST_BYTES {
            return Err(EFBIG);
        }
        image.extend_from_slice(bytes);
        Ok(())
    })?;
    Ok(image.into())
}

/// Returns the image to be loaded: the one of `--in`, otherwise the device's own.
fn image(run: &mut ExerciseRun<'_>, means: &PlanInputs<'_>) -> Result<Rc<[u8]>, StageError> {
    if let Some(image) = &means.image {
        return Ok(Rc::clone(image));
    }
    take_image(run, DeviceSelector::First)
}

/// Loads an image that must be accepted, and lets the device run.
fn load(run: &mut ExerciseRun<'_>, which: DeviceSelector, image: &[u8]) -> Result<(), StageError> {
    must(run, which, MigState::RESUMING)?;
    run.write(which, "write the image", image, ExpectedOutcome::Success).map(drop)?;
    must(run, which, MigState::RUNNING)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_plan_has_a_name_of_its_own() {
        let mut names = ExercisePlan::ALL.map(ExercisePlan::name).to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ExercisePlan::ALL.len());
        assert!(has_precopy(MigFlags(5)) && !has_precopy(MigFlags(3)));
    }
}
