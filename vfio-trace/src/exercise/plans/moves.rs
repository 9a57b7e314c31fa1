//! Plans `precopy` and `full`: PRE_COPY, and a whole migration from one device to another.

use super::{
    CHUNK, DeviceSelector, ExerciseRun, ExpectedEnd, ExpectedOutcome, MigState, StageError, has_precopy, must,
};
use crate::event::Errno;

const FIRST: DeviceSelector = DeviceSelector::First;
const SECOND: DeviceSelector = DeviceSelector::Second;

fn info(run: &mut ExerciseRun<'_>) -> Result<(), StageError> {
    run.step_without_check(FIRST, "precopy info", ExpectedOutcome::Success, |run, step| {
        let (initial, dirty) = run.bench(FIRST).device()?.precopy_info()?;
        step.note = Some(format!("{initial} initial bytes, {dirty} dirty"));
        Ok(())
    })
    .map(drop)
}

/// Runs PRE_COPY twice: once to the end, once given up.
pub(super) fn precopy(run: &mut ExerciseRun<'_>) -> Result<(), StageError> {
    if !has_precopy(run.bench(FIRST).flags) {
        run.skip("precopy", "precopy", "the device has no PRE_COPY");
        return Ok(());
    }
    run.stage("precopy", "to the end", |run| {
        must(run, FIRST, MigState::PRE_COPY)?;
        info(run)?;
        run.read(FIRST, ExpectedEnd::NoMessage, &mut |_, _| Ok(()))?;
        info(run)?;
        must(run, FIRST, MigState::STOP_COPY)?;
        run.read(FIRST, ExpectedEnd::End, &mut |_, _| Ok(()))?;
        must(run, FIRST, MigState::RUNNING)
    })?;
    run.stage("precopy", "given up", |run| {
        must(run, FIRST, MigState::PRE_COPY)?;
        run.read(FIRST, ExpectedEnd::NoMessage, &mut |_, _| Ok(()))?;
        must(run, FIRST, MigState::RUNNING)
    })
}

/// Copies the stream from the first device to the second, as far as it goes. Returns the number of bytes.
fn copy(run: &mut ExerciseRun<'_>, until: ExpectedEnd) -> Result<u64, StageError> {
    let mut refused: Option<Errno> = None;
    let copied = run.read(FIRST, until, &mut |run, bytes| {
        for chunk in bytes.chunks(CHUNK) {
            if let Err(errno) = run.put(SECOND, chunk) {
                refused = Some(errno);
                return Err(errno);
            }
        }
        Ok(())
    });
    match (copied, refused) {
        (Err(StageError::Failed(_)), Some(errno)) => Err(StageError::Failed(format!(
            "{} refused the stream: write failed with {errno}",
            run.bench(SECOND).name
        ))),
        (copied, _) => copied,
    }
}

/// Migrates like a VMM, without a VM.
pub(super) fn full(run: &mut ExerciseRun<'_>) -> Result<(), StageError> {
    if !run.has_second() {
        run.skip("full", "full", "it needs a second device: --to");
        return Ok(());
    }
    let precopy = has_precopy(run.bench(FIRST).flags);
    run.stage("full", "full", |run| {
        must(run, SECOND, MigState::RESUMING)?;
        let mut bytes = 0;
        if precopy {
            must(run, FIRST, MigState::PRE_COPY)?;
            bytes += copy(run, ExpectedEnd::NoMessage)?;
        }
        must(run, FIRST, MigState::STOP_COPY)?;
        bytes += copy(run, ExpectedEnd::End)?;
        must(run, SECOND, MigState::RUNNING)?;
        must(run, FIRST, MigState::STOP)?;
        run.note(format!("{bytes} bytes moved; the destination runs with the source's state"));
        // No VM uses either device: the source may run, too.
        must(run, FIRST, MigState::RUNNING)
    })
}
