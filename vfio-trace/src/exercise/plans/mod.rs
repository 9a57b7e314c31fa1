//! The plans: what is asked of a device, in which order, and what has to come of it.

mod basic;
mod faults;
mod matrix;
mod moves;

use std::rc::Rc;

use super::{
    Keep,
    report::{Expected, Verdict, finding},
    requests::{CHUNK, Until},
    run::{Halt, Run, Which},
};
use crate::event::{Errno, MigFlags, MigState, Severity};

/// A plan, by its name on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Stop, save, read the image.
    Save,
    /// Save, load the image back, run.
    Resume,
    /// See whether the command channel answers, by reading only.
    IoTest,
    /// Save, beginning while the device runs.
    Precopy,
    /// A whole migration, to another device.
    Full,
    /// Every state from every state.
    Matrix,
    /// Save and load again and again.
    Stress,
    /// Images that must be refused.
    Faults,
}

impl Plan {
    /// All, in the order of `all`.
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

    /// The name.
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

    /// What it does to a device, for those who are asked whether it may.
    pub const fn does(self) -> &'static str {
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

/// What plans need besides the devices.
pub(super) struct Means<'a> {
    /// `--count`.
    pub(super) count: u32,
    /// What keeps the image that the first `save` reads.
    pub(super) keeper: Option<&'a mut dyn Keep>,
    /// The image to be loaded; saved from the device itself if there is none.
    pub(super) image: Option<Rc<[u8]>>,
    /// An image of another kind of device.
    pub(super) wrong: Option<Rc<[u8]>>,
}

/// The most that is kept of an image in memory, in bytes. Those of `save` and `full` may be longer.
pub const MOST_BYTES: usize = 1 << 30;

const EFBIG: Errno = Errno(27);

pub(super) fn run(run: &mut Run<'_>, plan: Plan, means: &mut Means<'_>) -> Result<(), Halt> {
    match plan {
        Plan::Save => basic::save(run, means),
        Plan::Resume => basic::resume(run, means),
        Plan::IoTest => basic::io_test(run),
        Plan::Precopy => moves::precopy(run),
        Plan::Full => moves::full(run),
        Plan::Matrix => matrix::matrix(run, means),
        Plan::Stress => basic::stress(run, means),
        Plan::Faults => faults::faults(run, means),
    }
}

const PRE_COPY: u64 = vfio_trace_common::uapi::migration_flags::PRE_COPY;

const fn has_precopy(flags: MigFlags) -> bool {
    flags.0 & PRE_COPY != 0
}

/// Sets a state that must be reached.
fn must(run: &mut Run<'_>, which: Which, state: MigState) -> Result<(), Halt> {
    run.set(which, state, Expected::Success).map(drop)
}

/// The device's own image, by way of STOP_COPY, where it is left.
fn take_image(run: &mut Run<'_>, which: Which) -> Result<Rc<[u8]>, Halt> {
    must(run, which, MigState::STOP_COPY)?;
    let mut image = Vec::new();
    run.read(which, Until::End, &mut |_, bytes| {
        if image.len().saturating_add(bytes.len()) > MOST_BYTES {
            return Err(EFBIG);
        }
        image.extend_from_slice(bytes);
        Ok(())
    })?;
    Ok(image.into())
}

/// The image that is to be loaded: the one of `--in`, else the device's own.
fn image(run: &mut Run<'_>, means: &Means<'_>) -> Result<Rc<[u8]>, Halt> {
    if let Some(image) = &means.image {
        return Ok(Rc::clone(image));
    }
    take_image(run, Which::First)
}

/// Loads an image that must be taken, and lets the device run.
fn load(run: &mut Run<'_>, which: Which, image: &[u8]) -> Result<(), Halt> {
    must(run, which, MigState::RESUMING)?;
    run.write(which, "write the image", image, Expected::Success).map(drop)?;
    must(run, which, MigState::RUNNING)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_plan_has_a_name_of_its_own() {
        let mut names = Plan::ALL.map(Plan::name).to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Plan::ALL.len());
        assert!(has_precopy(MigFlags(5)) && !has_precopy(MigFlags(3)));
    }
}
