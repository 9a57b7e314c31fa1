//! PRE_COPY, and a whole migration from one device to another.

use super::{CHUNK, Expected, Halt, MigState, Run, Until, Which, has_precopy, must};
use crate::event::Errno;

const FIRST: Which = Which::First;
const SECOND: Which = Which::Second;

fn info(run: &mut Run<'_>) -> Result<(), Halt> {
    run.plain(FIRST, "precopy info", Expected::Success, |run, step| {
        let (initial, dirty) = run.bench(FIRST).device()?.precopy_info()?;
        step.note = Some(format!("{initial} initial bytes, {dirty} dirty"));
        Ok(())
    })
    .map(drop)
}

/// Once to the end, once given up.
pub(super) fn precopy(run: &mut Run<'_>) -> Result<(), Halt> {
    if !has_precopy(run.bench(FIRST).flags) {
        run.skip("precopy", "precopy", "the device has no PRE_COPY");
        return Ok(());
    }
    run.stage("precopy", "to the end", |run| {
        must(run, FIRST, MigState::PRE_COPY)?;
        info(run)?;
        run.read(FIRST, Until::Dry, &mut |_, _| Ok(()))?;
        info(run)?;
        must(run, FIRST, MigState::STOP_COPY)?;
        run.read(FIRST, Until::End, &mut |_, _| Ok(()))?;
        must(run, FIRST, MigState::RUNNING)
    })?;
    run.stage("precopy", "given up", |run| {
        must(run, FIRST, MigState::PRE_COPY)?;
        run.read(FIRST, Until::Dry, &mut |_, _| Ok(()))?;
        must(run, FIRST, MigState::RUNNING)
    })
}

/// The stream as far as it goes, from one device into the other.
fn copy(run: &mut Run<'_>, until: Until) -> Result<u64, Halt> {
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
        (Err(Halt::Stage(_)), Some(errno)) => Err(Halt::Stage(format!(
            "{} refused the stream: write failed with {errno}",
            run.bench(SECOND).name
        ))),
        (copied, _) => copied,
    }
}

/// What a VMM does, without a VM.
pub(super) fn full(run: &mut Run<'_>) -> Result<(), Halt> {
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
            bytes += copy(run, Until::Dry)?;
        }
        must(run, FIRST, MigState::STOP_COPY)?;
        bytes += copy(run, Until::End)?;
        must(run, SECOND, MigState::RUNNING)?;
        must(run, FIRST, MigState::STOP)?;
        run.note(format!("{bytes} bytes moved; the destination runs with the source's state"));
        // Both are nobody's: the source may go on, too.
        must(run, FIRST, MigState::RUNNING)
    })
}
