//! Plans `save`, `resume`, `io-test` and `stress`.

use std::{rc::Rc, thread, time::Duration};

use super::{
    DeviceSelector, Errno, ExerciseRun, ExpectedEnd, ExpectedOutcome, ImageSink, MigState, PlanInputs,
    StageError, has_precopy, image, load, must, take_image,
};
use crate::{
    driver::{CommandChannel, DriverQuirks},
    units::human,
};

const FIRST: DeviceSelector = DeviceSelector::First;
const EBUSY: Errno = Errno(16);
const ENXIO: Errno = Errno(6);

/// Saves the image, like a write of 0 to the `debug` file of the series: stop, save, read.
pub(super) fn save(run: &mut ExerciseRun<'_>, means: &mut PlanInputs<'_>) -> Result<(), StageError> {
    run.stage("save", "save", |run| {
        let size = run.size(FIRST)?;
        must(run, FIRST, MigState::STOP_COPY)?;
        let mut keeper = means.keeper.take();
        let bytes = run.read(FIRST, ExpectedEnd::End, &mut |_, bytes| {
            if let Some(keeper) = &mut keeper {
                keeper.put(bytes);
            }
            Ok(())
        })?;
        if let Some(size) = size.filter(|size| *size < bytes) {
            run.note(format!("the device gave {bytes} bytes, more than the {size} that it had announced"));
        }
        let running = must(run, FIRST, MigState::RUNNING);
        if let Some(Err(why)) = keeper.map(ImageSink::finish) {
            run.note(format!("the image was not kept: {why}"));
        }
        running
    })
}

/// Saves and loads the image, like a write of 1: save, load, run.
pub(super) fn resume(run: &mut ExerciseRun<'_>, means: &PlanInputs<'_>) -> Result<(), StageError> {
    run.stage("resume", "resume", |run| {
        let before = image(run, means)?;
        load(run, FIRST, &before)?;
        let after = take_image(run, FIRST)?;
        run.note(compared(&before, &after));
        must(run, FIRST, MigState::RUNNING)
    })
}

/// Compares the image that was loaded with the one that was saved after it, in a sentence.
fn compared(before: &[u8], after: &[u8]) -> String {
    if before == after {
        "saved after it was loaded, the image is the same, byte for byte".to_owned()
    } else if before.len() == after.len() {
        let differ = before.iter().zip(after).filter(|(before, after)| before != after).count();
        format!("saved after it was loaded, {differ} of {} bytes of the image are others", after.len())
    } else {
        format!("saved after it was loaded, the image has {} bytes instead of {}", after.len(), before.len())
    }
}

/// Checks the command channel, like a write of 2, but by reading only.
pub(super) fn io_test(run: &mut ExerciseRun<'_>) -> Result<(), StageError> {
    let Some(channel) = run.bench(FIRST).quirks.and_then(|quirks: &DriverQuirks| quirks.channel.as_ref())
    else {
        run.skip(
            "io-test",
            "io-test",
            "not known for this driver: no register that tells whether it takes commands",
        );
        return Ok(());
    };
    run.stage("io-test", "io-test", |run| {
        let asked = format!("read {}", channel.name);
        run.step_without_check(FIRST, &asked, ExpectedOutcome::Success, |run, step| {
            let (word, reads) =
                answer(|| run.bench(FIRST).device()?.register(channel.region, channel.offset), channel);
            step.calls = Some(reads);
            let shown =
                word.map(|word| format!("region {} at {:#x}: {word:#010x}", channel.region, channel.offset));
            step.note = shown.clone().ok();
            match word? {
                word if word == channel.absent => {
                    step.note = shown.ok().map(|shown| format!("{shown}: no device answers"));
                    Err(ENXIO)
                },
                word if word & channel.busy != 0 => {
                    step.note =
                        shown.ok().map(|shown| format!("{shown}: a command is under way and does not end"));
                    Err(EBUSY)
                },
                _ => Ok(()),
            }
        })
        .map(drop)
    })
}

/// Maximum number of reads of the register, and the pause between them: one second in all, as long as the driver waits.
const LOOKS: u64 = 100;
const PAUSE: Duration = Duration::from_millis(10);

/// Reads the register until no command is in progress, or for the maximum time. Returns the last value and the number
/// of reads.
fn answer(
    mut read: impl FnMut() -> Result<u32, Errno>,
    channel: &CommandChannel,
) -> (Result<u32, Errno>, u64) {
    let mut reads = 0;
    loop {
        let word = read();
        reads += 1;
        let busy = word.is_ok_and(|word| word != channel.absent && word & channel.busy != 0);
        if !busy || reads == LOOKS {
            return (word, reads);
        }
        thread::sleep(PAUSE);
    }
}

/// Saves and loads again and again, every other time through PRE_COPY if the device has it.
pub(super) fn stress(run: &mut ExerciseRun<'_>, means: &PlanInputs<'_>) -> Result<(), StageError> {
    let precopy = has_precopy(run.bench(FIRST).flags);
    run.stage("stress", "stress", |run| {
        run.only_count();
        let mut lengths: Option<[usize; 2]> = None;
        for round in 0..means.count {
            if precopy && round % 2 == 1 {
                must(run, FIRST, MigState::PRE_COPY)?;
                run.read(FIRST, ExpectedEnd::NoMessage, &mut |_, _| Ok(()))?;
                must(run, FIRST, MigState::STOP_COPY)?;
                run.read(FIRST, ExpectedEnd::End, &mut |_, _| Ok(()))?;
                must(run, FIRST, MigState::RUNNING)?;
                continue;
            }
            let image =
                means.image.as_ref().map_or_else(|| take_image(run, FIRST), |image| Ok(Rc::clone(image)))?;
            let [least, most] = lengths.unwrap_or([image.len(); 2]);
            lengths = Some([least.min(image.len()), most.max(image.len())]);
            load(run, FIRST, &image)?;
        }
        run.note(rounds(means.count, lengths.unwrap_or_default()));
        Ok(())
    })
}

/// Returns a summary of rounds that succeeded, with the shortest and longest length of the images that were loaded.
fn rounds(count: u32, [least, most]: [usize; 2]) -> String {
    let rounds = human::count(count.into(), "round");
    let lengths = if least == most { most.to_string() } else { format!("{least} to {most}") };
    format!("{rounds}, images of {lengths} bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANNEL: CommandChannel =
        CommandChannel { name: "mailbox", region: 2, offset: 0x300, busy: 1 << 13, absent: u32::MAX };

    #[test]
    fn the_same_is_said_only_of_what_is_the_same() {
        let same = "the image is the same, byte for byte";
        assert!(compared(&[1, 2, 3], &[1, 2, 3]).contains(same));
        assert!(compared(&[1, 2, 3], &[1, 2, 4]).ends_with(", 1 of 3 bytes of the image are others"));
        assert!(compared(&[1, 2, 3], &[1, 2]).ends_with(", the image has 2 bytes instead of 3"));
        assert_eq!(rounds(3, [40, 40]), "3 rounds, images of 40 bytes");
        assert_eq!(rounds(1, [40, 40]), "1 round, images of 40 bytes");
        assert_eq!(rounds(5, [40, 50]), "5 rounds, images of 40 to 50 bytes");
    }

    #[test]
    fn a_channel_is_waited_for() {
        let mut words = [Ok(1 << 13), Ok(1 << 13 | 4), Ok(4)].into_iter();
        assert_eq!(answer(|| words.next().unwrap_or(Err(Errno(5))), &CHANNEL), (Ok(4), 3));
        assert_eq!(answer(|| Ok(u32::MAX), &CHANNEL), (Ok(u32::MAX), 1));
        assert_eq!(answer(|| Err(ENXIO), &CHANNEL), (Err(ENXIO), 1));
    }
}
