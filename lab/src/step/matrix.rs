//! The matrix: every state set from every state, with the device's answers.

use anyhow::{Context as _, Result, anyhow};
use rustix::io::Errno;
use serde_json::json;

use super::bench::Bench;
use super::known_loop;
use super::parse::Action;
use super::record::{Done, Expected, Outcome, Recorder};
use crate::clock::monotonic_ns;
use crate::states::MigState;

/// Bytes of each read and write: more than the state of any driver that is worth moving 56 times.
const CHUNK: usize = 1 << 20;

/// For each pair of states: resets, sets the first, sets the second. Only the second set_state is reported; its failure
/// is an answer. Pairs on which the kernel may loop are left out, and reported as such.
pub(crate) fn run(bench: &mut Bench, position: usize, recorder: &mut Recorder) -> Result<()> {
    bench.guard(&Action::Set(MigState::RUNNING))?;
    let image =
        image(bench).context("the matrix needs an image to leave RESUMING with, and cannot take one")?;
    let name = bench.name.clone();
    for from in MigState::ALL.into_iter().filter(|state| *state != MigState::ERROR) {
        for to in MigState::ALL {
            let step = format!("matrix {from} -> {to}");
            expect(bench.reset()?).with_context(|| format!("{step}: reset failed"))?;
            let reached = prepare(bench, from, &image).with_context(|| step.clone())?;
            let avoided = reached && bench.may_loop(to)?;
            let start_ns = monotonic_ns();
            let set = match (reached, avoided) {
                (true, false) => bench.set(to)?,
                (true, true) => Outcome::plain(Ok(())),
                (false, _) => Outcome::plain(Err(Errno::INVAL)),
            };
            let end_ns = monotonic_ns();
            let after = bench.device()?.state().ok();
            let told = match after {
                _ if avoided => known_loop::why(),
                Some(state) => format!("now {state}"),
                None => "state unknown".to_owned(),
            };
            let outcome = Outcome {
                values: json!({
                    "from": from,
                    "to": to,
                    "from_reached": reached,
                    "avoided": avoided,
                    "new_data_fd": set.values.get("data_fd").is_some_and(|fd| !fd.is_null()),
                    "state_after": after,
                }),
                told,
                ..set
            };
            recorder.record(&Done {
                step: &step,
                position,
                device: &name,
                start_ns,
                end_ns,
                implicit: false,
                expected: Expected::Anything,
                value: None,
                outcome: &outcome,
            });
        }
    }
    expect(bench.reset()?).context("the reset after the matrix failed")
}

/// Brings a device that was reset into a state. Returns false if the device has no such state.
fn prepare(bench: &mut Bench, state: MigState, image: &[u8]) -> Result<bool> {
    let outcome = bench.set(state)?;
    if outcome.errno == Some(Errno::INVAL) {
        return Ok(false);
    }
    expect(outcome)?;
    if state == MigState::RESUMING {
        // The image must be whole, or every arc out of RESUMING fails for that reason alone.
        for chunk in image.chunks(CHUNK) {
            bench.device()?.write(chunk).context("the image was refused")?;
        }
    }
    Ok(true)
}

/// Returns the bytes that the device saves in STOP_COPY.
fn image(bench: &mut Bench) -> Result<Vec<u8>> {
    expect(bench.reset()?)?;
    expect(bench.set(MigState::STOP_COPY)?)?;
    let (mut image, mut buffer) = (Vec::new(), vec![0; CHUNK]);
    loop {
        let length = bench.device()?.read(&mut buffer)?;
        if length == 0 {
            return Ok(image);
        }
        image.extend_from_slice(&buffer[..length]);
    }
}

fn expect(outcome: Outcome) -> Result<()> {
    outcome.errno.map_or(Ok(()), |errno| Err(anyhow!(errno)))
}
