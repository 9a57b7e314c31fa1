//! Plan `matrix`: asks for every state in every state.

use super::{
    DeviceSelector, Errno, ExerciseRun, ExpectedOutcome, MigState, PlanInputs, StageError, image, must,
};
use crate::exercise::path;

const FIRST: DeviceSelector = DeviceSelector::First;

pub(super) fn matrix(run: &mut ExerciseRun<'_>, means: &PlanInputs<'_>) -> Result<(), StageError> {
    let flags = run.bench(FIRST).flags;
    if !run.can_reset(FIRST) {
        run.skip(
            "matrix",
            "matrix",
            "the device has no VFIO_DEVICE_RESET that works, to be brought back by after each of them",
        );
        return Ok(());
    }
    let mut whole = None;
    run.stage("matrix", "an image to leave RESUMING with", |run| {
        whole = Some(image(run, means)?);
        Ok(())
    })?;
    // Without an image, leaving RESUMING must fail, and would prove nothing.
    let Some(whole) = whole else { return Ok(()) };
    for from in path::STATES.into_iter().filter(|state| path::has(flags, *state)) {
        for to in path::STATES {
            let expected = match path::path(flags, from, to) {
                Some(_) => ExpectedOutcome::Success,
                None => ExpectedOutcome::Refusal(Errno::EINVAL),
            };
            let name = format!("{from} to {to}");
            if let Some(why) = run.avoidance_reason(FIRST, Some(from), to) {
                run.skip("matrix", &name, why);
                continue;
            }
            run.stage("matrix", &name, |run| {
                must(run, FIRST, from)?;
                if from == MigState::RESUMING {
                    run.write(FIRST, "write the image", &whole, ExpectedOutcome::Success).map(drop)?;
                }
                run.set(FIRST, to, expected).map(drop)
            })?;
        }
    }
    Ok(())
}
