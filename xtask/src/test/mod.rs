//! `cargo xtask test`: format and lints, unit tests, then the lab: real migrations compared with independent witnesses.

mod behaviour;
mod boot;
mod compare;
mod compat;
mod dirty;
mod doctor;
mod exercise;
mod export;
mod guest;
mod harness;
mod hisi;
mod hisi_traced;
mod hisi_views;
mod host;
mod merge;
mod mlx5;
mod mount;
mod past;
mod paths;
mod record;
mod report;
mod scenarios;
mod steps;
mod traced;

use std::{io::Write as _, process::ExitCode, time::Instant};

use anyhow::Result;

use crate::{lab, progress::say, setup::kernel};

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
}

/// What a check found, when all is well.
pub(crate) struct Found {
    /// One line: what was compared, with numbers.
    detail: String,
    /// Tests that ran inside it (a cargo test run has many).
    tests: u64,
}

impl Found {
    /// A check that is one test.
    fn one(detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), tests: 1 }
    }
}

/// What a check does.
type Run = dyn Fn(&guest::Lab) -> Result<Found>;

/// One check.
struct Check {
    name: String,
    /// Notes what it needs of a boot that it shares with others.
    want: Box<dyn Fn()>,
    run: Box<Run>,
}

impl Check {
    fn new(name: impl Into<String>, run: impl Fn(&guest::Lab) -> Result<Found> + 'static) -> Self {
        Self { name: name.into(), want: Box::new(|| ()), run: Box::new(run) }
    }

    fn wanting(self, want: impl Fn() + 'static) -> Self {
        Self { want: Box::new(want), ..self }
    }
}

fn checks() -> Vec<Check> {
    let mut checks = host::checks();
    checks.extend(harness::checks());
    checks.extend(scenarios::checks());
    checks.extend(steps::checks());
    checks.extend(behaviour::checks());
    checks.extend(dirty::checks());
    checks.extend(compat::checks());
    checks.extend(doctor::checks());
    checks.extend(hisi::checks());
    checks.extend(hisi_traced::checks());
    checks.extend(hisi_views::checks());
    checks.extend(mount::checks());
    checks.extend(mlx5::checks());
    checks.extend(record::checks());
    checks.extend(export::checks());
    checks.extend(exercise::checks());
    checks.extend(merge::checks());
    checks.extend(past::checks());
    checks.extend(report::checks());
    checks
}

/// Prints a line of the report, on standard output.
fn report(line: &str) {
    // Nobody left to read is no reason to stop testing.
    drop(writeln!(std::io::stdout().lock(), "{line}"));
}

/// `cargo xtask test`.
pub(crate) fn main(args: &Args) -> Result<ExitCode> {
    let wanted =
        |check: &Check| args.filter.as_ref().is_none_or(|filter| check.name.contains(filter.as_str()));
    let checks: Vec<Check> = checks().into_iter().filter(wanted).collect();
    if args.list {
        for check in &checks {
            report(&check.name);
        }
        return Ok(ExitCode::SUCCESS);
    }
    for check in &checks {
        (check.want)();
    }
    let lab = guest::Lab::new(lab::ready(&args.kernel, true)?)?;
    let (mut passed, mut failed) = (0, Vec::new());
    for check in &checks {
        let start = Instant::now();
        let result = (check.run)(&lab);
        let took = start.elapsed().as_secs_f64();
        match result {
            Ok(Found { detail, tests }) => {
                passed += tests;
                report(&format!("ok    {:<28} {took:6.1} s  {detail}", check.name));
            },
            Err(error) => {
                report(&format!("FAIL  {:<28} {took:6.1} s  {error:#}", check.name));
                failed.push(check.name.as_str());
            },
        }
    }
    if !failed.is_empty() {
        report(&format!("failed: {} (what they left is in {})", failed.join(", "), lab.folder().display()));
    }
    report(&format!("{passed} passed, {} failed", failed.len()));
    if checks.is_empty() {
        say("error: no check has that name; `cargo xtask test --list` shows them");
    }
    Ok(if failed.is_empty() && !checks.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
