//! A run of lab-step: devices, steps in order, clean-up.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail};
use rustix::io::Errno;

use super::bench::{Bench, Files};
use super::cli::Args;
use super::matrix;
use super::parse::{Action, Step};
use super::record::{Done, Expected, Outcome, Recorder, in_line};
use crate::clock::monotonic_ns;
use crate::errno;
use crate::evidence::Lines;
use crate::kernel::{self, DynamicDebug};
use crate::kmsg::KernelLog;
use crate::mdev::{self, Mdev};
use crate::report::FirstError;
use crate::states::MigState;

/// Does the steps and brings the devices back in order. An error names the first step that was not as expected.
pub(crate) fn run(args: &Args) -> Result<()> {
    let lines = args.json.as_deref().map(Lines::create).transpose()?;
    let mut recorder = Recorder::new(lines);
    let mut errors = FirstError::default();
    errors.note(drive(args, &mut recorder));
    errors.note(recorder.finish());
    errors.into_result()
}

/// Does the same with the caller's recorder, which can go on with other runs.
pub(crate) fn drive(args: &Args, recorder: &mut Recorder) -> Result<()> {
    kernel::load_module("vfio_iommu_type1", args.timeout())?;
    for mdev_type in &args.create {
        for module in ["mdev", mdev::module(mdev_type)] {
            kernel::load_module(module, args.timeout())?;
        }
    }
    let log = args.dmesg.as_deref().map(|file| start_log(file, args)).transpose()?;
    let mut session = Session { benches: Vec::new(), recorder, files: Files::default() };
    let mut errors = FirstError::default();
    errors.note(session.open(args).and_then(|()| session.steps(&args.steps)));
    session.finish(args.leave, &mut errors);
    if let Some((log, debug)) = log {
        errors.note(log.finish());
        drop(debug);
    }
    errors.into_result()
}

/// Starts copying the log, with the debug messages of the drivers of all devices of this run.
fn start_log(file: &Path, args: &Args) -> Result<(KernelLog, Vec<DynamicDebug>)> {
    let created = args.create.iter().map(|mdev_type| mdev::module(mdev_type).to_owned());
    let named = args.device.iter().filter_map(|name| mdev::driver(name));
    let modules: BTreeSet<String> = created.chain(named).collect();
    let debug = modules.iter().map(|module| DynamicDebug::enable(module)).collect::<Result<_>>()?;
    Ok((KernelLog::start(file)?, debug))
}

#[derive(Debug)]
struct Session<'r> {
    benches: Vec<Bench>,
    recorder: &'r mut Recorder,
    files: Files,
}

impl Session<'_> {
    fn open(&mut self, args: &Args) -> Result<()> {
        for (index, mdev_type) in args.create.iter().enumerate() {
            let uuid = mdev::default_uuid(index)?;
            let mdev = Mdev::create(uuid, mdev_type, args.timeout())?;
            self.benches.push(Bench::new(uuid.to_owned(), Some(mdev)).with_knobs(&args.knobs));
        }
        let named = args.device.iter().map(|name| Bench::new(name.clone(), None));
        self.benches.extend(named.map(|bench| bench.with_knobs(&args.knobs)));
        for index in 0..self.benches.len() {
            self.implicit(index, "open", |bench| {
                bench.open()?;
                Ok(Outcome::plain(Ok(())))
            })?;
        }
        Ok(())
    }

    fn steps(&mut self, steps: &[Step]) -> Result<()> {
        steps.iter().try_for_each(|step| self.step(step))
    }

    fn step(&mut self, step: &Step) -> Result<()> {
        let position = step.device + 1;
        let bench = self.benches.get_mut(step.device).context(NO_DEVICE)?;
        if step.action == Action::Matrix {
            return matrix::run(bench, position, self.recorder);
        }
        bench.guard(&step.action).with_context(|| format!("`{}` was not done", step.text))?;
        let start_ns = monotonic_ns();
        let outcome = match step.action {
            Action::CopyTo { device, chunk } => self.copy(step.device, device, chunk),
            _ => bench.act(&step.action, &mut self.files),
        };
        let outcome = outcome.with_context(|| format!("`{}` failed", step.text))?;
        let end_ns = monotonic_ns();
        let bench = self.benches.get(step.device).context(NO_DEVICE)?;
        let as_expected = self.recorder.record(&Done {
            step: &step.text,
            position,
            device: &bench.name,
            start_ns,
            end_ns,
            implicit: false,
            expected: step.expected.map_or(Expected::Success, Expected::Errno),
            value: step.value.as_deref(),
            outcome: &outcome,
        });
        if as_expected { Ok(()) } else { Err(unexpected(step, &outcome)) }
    }

    fn copy(&mut self, from: usize, to: usize, chunk: usize) -> Result<Outcome> {
        let [from, to] = self
            .benches
            .get_disjoint_mut([from, to])
            .context("a copy needs two devices: the stream of one does not fit into its own data fd")?;
        from.copy_to(to, chunk)
    }

    /// Leaves each device RUNNING and closed. After a failure the rest is still tried.
    fn finish(mut self, leave: bool, errors: &mut FirstError) {
        for index in (0..self.benches.len()).rev() {
            let open = self.benches.get(index).is_some_and(Bench::is_open);
            if open && !leave {
                errors.note(self.tidy(index));
            }
            if open {
                errors.note(self.implicit(index, "close", |bench| {
                    bench.close();
                    Ok(Outcome::plain(Ok(())))
                }));
            }
        }
        for bench in self.benches {
            errors.note(bench.discard(leave));
        }
    }

    fn tidy(&mut self, index: usize) -> Result<()> {
        let mut state = None;
        self.implicit_or(index, "get", &[Errno::NOTTY], |bench| {
            let seen = bench.device()?.state();
            state = Some(seen);
            Ok(Outcome::of(seen, |seen| {
                (serde_json::json!({"state": seen, "state_number": seen.0}), seen.to_string())
            }))
        })?;
        // A device without migration has no state to reset.
        if matches!(state, Some(Ok(MigState::RUNNING) | Err(Errno::NOTTY))) {
            return Ok(());
        }
        self.implicit(index, "reset", Bench::reset)
    }

    /// Does a step that is not on the command line, and records it like the others.
    fn implicit(
        &mut self,
        index: usize,
        step: &str,
        act: impl FnOnce(&mut Bench) -> Result<Outcome>,
    ) -> Result<()> {
        self.implicit_or(index, step, &[], act)
    }

    /// Does an implicit step that may fail with these errnos as well.
    fn implicit_or(
        &mut self,
        index: usize,
        step: &str,
        errnos: &[Errno],
        act: impl FnOnce(&mut Bench) -> Result<Outcome>,
    ) -> Result<()> {
        let bench = self.benches.get_mut(index).context(NO_DEVICE)?;
        let start_ns = monotonic_ns();
        let outcome = act(bench)?;
        let end_ns = monotonic_ns();
        let device = bench.name.clone();
        let fine = self.recorder.record(&Done {
            step,
            position: index + 1,
            device: &device,
            start_ns,
            end_ns,
            implicit: true,
            expected: outcome
                .errno
                .filter(|errno| errnos.contains(errno))
                .map_or(Expected::Success, |errno| Expected::Errno(errno.raw_os_error())),
            value: None,
            outcome: &outcome,
        });
        if fine { Ok(()) } else { bail!("{step} of {device} failed: {}", failure(&outcome)) }
    }
}

const NO_DEVICE: &str = "there is no such device";

fn failure(outcome: &Outcome) -> String {
    outcome.errno.map_or_else(
        || "it succeeded".to_owned(),
        |errno| format!("{} ({})", errno::name(errno.raw_os_error()), errno.raw_os_error()),
    )
}

fn unexpected(step: &Step, outcome: &Outcome) -> anyhow::Error {
    let number = outcome.errno.map(Errno::raw_os_error);
    if let Some(wanted) = step.value.as_deref().filter(|_| number == step.expected) {
        let seen = outcome.value().unwrap_or_else(|| "nothing".to_owned());
        return anyhow!("`{}` should have seen {}: it saw {}", step.text, in_line(wanted), in_line(&seen));
    }
    match step.expected {
        Some(wanted) => {
            anyhow!("`{}` should have failed with {}: {}", step.text, errno::name(wanted), failure(outcome))
        },
        None => anyhow!("`{}` failed: {}", step.text, failure(outcome)),
    }
}
