//! A run of lab-step: devices, steps in order, clean-up.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail};

use super::bench::{Bench, Files};
use super::cli::Args;
use super::matrix;
use super::parse::{Action, Step};
use super::record::{Done, Expected, Outcome, Recorder};
use crate::clock::monotonic_ns;
use crate::errno;
use crate::evidence::Lines;
use crate::kernel::{self, DynamicDebug};
use crate::kmsg::KernelLog;
use crate::mdev::{self, Mdev};
use crate::report::FirstError;
use crate::states::MigState;

/// Does the steps; an error names the first one that was not as expected, after the devices are in order again.
pub(crate) fn run(args: &Args) -> Result<()> {
    kernel::load_module("vfio_iommu_type1", args.timeout())?;
    if !args.create.is_empty() {
        for module in ["mdev", "mtty"] {
            kernel::load_module(module, args.timeout())?;
        }
    }
    let log = args.dmesg.as_deref().map(start_log).transpose()?;
    let lines = args.json.as_deref().map(Lines::create).transpose()?;
    let mut session =
        Session { benches: Vec::new(), recorder: Recorder::new(lines), files: Files::default() };
    let mut errors = FirstError::default();
    errors.note(session.open(args).and_then(|()| session.steps(&args.steps)));
    session.finish(args.leave, &mut errors);
    if let Some((log, debug)) = log {
        errors.note(log.finish());
        drop(debug);
    }
    errors.into_result()
}

fn start_log(file: &Path) -> Result<(KernelLog, DynamicDebug)> {
    Ok((KernelLog::start(file)?, DynamicDebug::enable("mtty")?))
}

#[derive(Debug)]
struct Session {
    benches: Vec<Bench>,
    recorder: Recorder,
    files: Files,
}

impl Session {
    fn open(&mut self, args: &Args) -> Result<()> {
        for (index, mdev_type) in args.create.iter().enumerate() {
            let uuid = mdev::default_uuid(index)?;
            let mdev = Mdev::create(uuid, mdev_type, args.timeout())?;
            self.benches.push(Bench::new(uuid.to_owned(), Some(mdev)));
        }
        self.benches.extend(args.device.iter().map(|name| Bench::new(name.clone(), None)));
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
        let bench = self.benches.get_mut(step.device).context("there is no such device")?;
        if step.action == Action::Matrix {
            return matrix::run(bench, position, &mut self.recorder);
        }
        bench.guard(&step.action).with_context(|| format!("`{}` was not done", step.text))?;
        let start_ns = monotonic_ns();
        let outcome =
            bench.act(&step.action, &mut self.files).with_context(|| format!("`{}` failed", step.text))?;
        let end_ns = monotonic_ns();
        let as_expected = self.recorder.record(&Done {
            step: &step.text,
            position,
            device: &bench.name,
            start_ns,
            end_ns,
            implicit: false,
            expected: step.expected.map_or(Expected::Success, Expected::Errno),
            outcome: &outcome,
        });
        if as_expected { Ok(()) } else { Err(unexpected(step, &outcome)) }
    }

    /// Leaves each device RUNNING and closed; everything is tried.
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
        errors.note(self.recorder.finish());
    }

    fn tidy(&mut self, index: usize) -> Result<()> {
        let mut state = None;
        self.implicit(index, "get", |bench| {
            Ok(Outcome::of(bench.device()?.state(), |seen| {
                state = Some(seen);
                (serde_json::json!({"state": seen, "state_number": seen.0}), seen.to_string())
            }))
        })?;
        if state == Some(MigState::RUNNING) {
            return Ok(());
        }
        self.implicit(index, "reset", Bench::reset)
    }

    /// A step that nobody wrote, recorded like the others.
    fn implicit(
        &mut self,
        index: usize,
        step: &str,
        act: impl FnOnce(&mut Bench) -> Result<Outcome>,
    ) -> Result<()> {
        let bench = self.benches.get_mut(index).context("there is no such device")?;
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
            expected: Expected::Success,
            outcome: &outcome,
        });
        if fine { Ok(()) } else { bail!("{step} of {device} failed: {}", failure(&outcome)) }
    }
}

fn failure(outcome: &Outcome) -> String {
    outcome.errno.map_or_else(
        || "it succeeded".to_owned(),
        |errno| format!("{} ({})", errno::name(errno.raw_os_error()), errno.raw_os_error()),
    )
}

fn unexpected(step: &Step, outcome: &Outcome) -> anyhow::Error {
    match step.expected {
        Some(wanted) => {
            anyhow!("`{}` should have failed with {}: {}", step.text, errno::name(wanted), failure(outcome))
        },
        None => anyhow!("`{}` failed: {}", step.text, failure(outcome)),
    }
}
