//! `cargo xtask test`: format and lints, unit tests, then the lab: real migrations compared with independent witnesses.

mod behaviour;
mod boot;
mod compare;
mod compat;
mod dirty;
mod doctor;
mod documented;
mod documents;
mod edges;
mod exercise;
mod export;
mod guest;
mod harness;
mod hisi;
mod hisi_traced;
mod hisi_views;
mod host;
mod html;
mod licences;
mod losses;
mod may_skip;
mod merge;
mod mlx5;
mod mount;
mod notes;
mod past;
mod paths;
mod record;
mod report;
mod scenarios;
mod schedule;
mod steps;
mod summary;
mod traced;

use std::{
    io::Write as _,
    process::ExitCode,
    sync::{Mutex, OnceLock, PoisonError},
    thread,
    time::Instant,
};

use anyhow::{Result, anyhow};

use self::{schedule::Needs, summary::Account};
use crate::{lab, progress::say, setup, setup::kernel};

/// Arguments of `test`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only checks whose name contains this.
    #[arg(value_name = "FILTER")]
    filter: Option<String>,
    /// Kernel series to boot.
    #[arg(long, value_name = "SERIES", default_value = kernel::DEFAULT)]
    kernel: String,
    /// List the checks and do nothing.
    #[arg(long)]
    list: bool,
    /// Also the parts of the long matrices that are otherwise sampled.
    #[arg(long)]
    full: bool,
    /// What cannot be checked here is a failure. The default where CI=true.
    #[arg(long)]
    strict: bool,
    /// Checks to run side by side; those that race with a clock are never beside each other.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=16))]
    jobs: u8,
}

/// True if the long matrices are wanted whole (`--full`).
static FULL: OnceLock<bool> = OnceLock::new();

/// Kernel for checks that are not about one kernel (`--kernel`).
static KERNEL: OnceLock<&'static str> = OnceLock::new();

/// Returns the kernel for checks that are not about one kernel.
fn any_kernel() -> &'static str {
    KERNEL.get().copied().unwrap_or(kernel::DEFAULT)
}

/// Returns true if nothing may be sampled.
fn full() -> bool {
    FULL.get().copied().unwrap_or(false)
}

/// Result of a check that passed. The summary prints it and adds up the tests.
pub(crate) struct Found {
    /// The things that were compared, with numbers, in one line.
    detail: String,
    /// Number of tests that ran inside it (a cargo test run has many).
    tests: u64,
}

impl Found {
    /// Returns the result of a check that is one test.
    fn one(detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), tests: 1 }
    }
}

/// Reason why a check could not be made on this machine. Not a pass: it is shown, and counted.
#[derive(Debug)]
struct Skipped(String);

impl std::fmt::Display for Skipped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skipped {}

/// Returns the error of a check that this machine cannot make.
fn skip(why: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Skipped(why.into()))
}

/// The function of a check.
type Run = dyn Fn(&guest::Lab) -> Result<Found> + Send + Sync;

/// One check. The `checks()` of each module make them; `schedule.rs` decides when they run.
struct Check {
    name: String,
    /// Notes the parts of shared boots that it needs.
    want: Box<dyn Fn() + Send + Sync>,
    run: Box<Run>,
    needs: Needs,
}

impl Check {
    fn new(
        name: impl Into<String>,
        run: impl Fn(&guest::Lab) -> Result<Found> + Send + Sync + 'static,
    ) -> Self {
        Self { name: name.into(), want: Box::new(|| ()), run: Box::new(run), needs: Needs::default() }
    }

    /// Sets the function that notes parts of shared boots. It runs before any check.
    fn wanting(self, want: impl Fn() + Send + Sync + 'static) -> Self {
        Self { want: Box::new(want), ..self }
    }

    /// Sets the duration of a check that takes much longer than others: it starts before them, so that at the end
    /// nothing waits for it.
    fn lasting(mut self, seconds: u32) -> Self {
        self.needs.seconds = seconds;
        self
    }

    /// Marks a check that races with a clock (a driver's timeout of a millisecond, a time that is compared): it runs
    /// beside no other such check, and before the others.
    fn alone(mut self) -> Self {
        self.needs.alone = true;
        self
    }

    /// Adds a thing that several checks share (a folder, a lock): they run one after the other.
    fn sharing(mut self, what: impl Into<String>) -> Self {
        self.needs.shared.push(what.into());
        self
    }
}

fn checks() -> Vec<Check> {
    let mut checks = host::checks();
    checks.extend(documents::checks());
    checks.extend(licences::checks());
    checks.extend(harness::checks());
    let migrations = scenarios::boot();
    checks.extend(scenarios::checks(&migrations));
    checks.extend(steps::checks(&migrations));
    checks.extend(behaviour::checks());
    checks.extend(dirty::checks());
    checks.extend(compat::checks());
    checks.extend(losses::own_checks());
    checks.extend(doctor::checks());
    checks.extend(hisi::checks());
    checks.extend(hisi_traced::checks());
    checks.extend(hisi_views::checks());
    checks.extend(mount::checks());
    checks.extend(mlx5::checks());
    checks.extend(record::checks());
    checks.extend(export::checks());
    checks.extend(exercise::checks());
    checks.extend(html::checks());
    checks.extend(merge::checks());
    checks.extend(past::checks());
    checks.extend(edges::checks());
    checks.extend(report::checks());
    checks
}

/// Prints a line of the report, on standard output.
fn report(line: &str) {
    // A closed standard output is no reason to stop testing.
    drop(writeln!(std::io::stdout().lock(), "{line}"));
}

/// Prepares kernels and browser before checks wait for them, in the order of need. Errors are dropped: the checks
/// report them.
fn prepare_ahead() {
    // The newest first: the checks that run one at a time need it.
    for series in kernel::names().rev() {
        drop(lab::ready(series, false));
    }
    drop(setup::browser::prepare());
}

/// Runs a check. A panic is a failure of the check.
fn tried(check: &Check, lab: &guest::Lab) -> Result<Found> {
    let run = std::panic::AssertUnwindSafe(|| (check.run)(lab));
    std::panic::catch_unwind(run).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(anyhow!("the check itself panicked: {}", text.unwrap_or("without a word")))
    })
}

/// Runs `cargo xtask test`.
pub(crate) fn main(args: &Args) -> Result<ExitCode> {
    let start = Instant::now();
    FULL.get_or_init(|| args.full);
    KERNEL.get_or_init(|| kernel::name(&args.kernel).unwrap_or(kernel::DEFAULT));
    let wanted =
        |check: &Check| args.filter.as_ref().is_none_or(|filter| check.name.contains(filter.as_str()));
    let mut checks: Vec<Check> = checks().into_iter().filter(wanted).collect();
    if args.list {
        for check in &checks {
            report(&check.name);
        }
        return Ok(ExitCode::SUCCESS);
    }
    if checks.is_empty() {
        say("error: no check has that name; `cargo xtask test --list` shows them");
        return Ok(ExitCode::FAILURE);
    }
    for check in &mut checks {
        (check.want)();
        check.needs.shared.extend(boot::take_wanted());
    }
    let lab = guest::Lab::new(lab::ready(&args.kernel, true)?)?;
    let strict = args.strict || std::env::var_os("CI").is_some_and(|value| value == "true");
    let account = Account::new(checks.iter().map(|check| check.name.as_str()).collect(), strict);
    let account = Mutex::new(account);
    let needs: Vec<Needs> = checks.iter().map(|check| check.needs.clone()).collect();
    thread::scope(|scope| {
        if args.filter.is_none() {
            scope.spawn(prepare_ahead);
        }
        schedule::run(&needs, args.jobs.into(), |number| {
            let Some(check) = checks.get(number) else { return };
            let notes = notes::Handle::default();
            notes.enter();
            let start = Instant::now();
            let result = tried(check, &lab);
            let mut account = account.lock().unwrap_or_else(PoisonError::into_inner);
            // Under the lock, so that lines of one check stay together.
            for line in account.add(number, result, start.elapsed(), notes.take()) {
                report(&line);
            }
        });
    });
    let account = account.into_inner().unwrap_or_else(PoisonError::into_inner);
    let folder = lab.folder().display().to_string();
    let (lines, fine) = account.finish(start.elapsed(), &folder, args.filter.is_none());
    for line in &lines {
        report(line);
    }
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
