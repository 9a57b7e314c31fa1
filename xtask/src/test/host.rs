//! Checks that need no VM: format, lints, unit tests, documentation.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use super::{
    Check, Found,
    notes::{self, LeftOut},
};
use crate::{cmd, workspace};

/// Cargo arguments for the crates that are built for this machine; the eBPF crate is checked for its own target.
pub(super) const HOST_CRATES: [&str; 10] =
    ["-p", "vfio-trace", "-p", "vfio-trace-common", "-p", "vfio-uapi", "-p", "lab", "-p", "xtask"];

pub(super) fn checks() -> Vec<Check> {
    vec![
        Check::new("host: rustfmt", |_| {
            cmd::run(&mut cargo(&["fmt", "--all", "--check"]))?;
            Ok(Found::one("all crates"))
        })
        .sharing("cargo"),
        Check::new("host: clippy", |_| {
            let mut clippy = vec!["clippy", "--quiet", "--all-targets"];
            clippy.extend(HOST_CRATES);
            clippy.extend(["--", "-D", "warnings"]);
            cmd::run(&mut cargo(&clippy))?;
            Ok(Found::one("no warnings"))
        })
        .sharing("cargo"),
        Check::new("host: clippy, eBPF", |_| {
            let target = workspace::target_dir()?.join("bpf-clippy");
            let mut clippy =
                cargo(&["clippy", "--release", "--quiet", "-p", "vfio-trace-ebpf", "-Z", "build-std=core"]);
            clippy
                .args(["--target", "bpfel-unknown-none", "--target-dir"])
                .arg(target)
                .args(["--", "-D", "warnings"]);
            // As vfio-trace/build.rs does it: a stable compiler may then build `core`.
            clippy.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", "--cfg=bpf_target_arch=\"x86_64\"");
            cmd::run(&mut clippy)?;
            Ok(Found::one("no warnings"))
        })
        .sharing("cargo"),
        Check::new("host: cargo test", |_| cargo_test()).sharing("cargo"),
    ]
}

fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.args(arguments).current_dir(workspace::root());
    command
}

/// Runs all unit tests, and notes those that were left out.
fn cargo_test() -> Result<Found> {
    // Without optimisation: compiling takes most of the time, and debug assertions are tested, too.
    let mut arguments = vec!["test"];
    arguments.extend(HOST_CRATES);
    // With the output of passing tests, too: a test that tested nothing says so there.
    arguments.extend(["--", "--show-output"]);
    let output = cargo(&arguments).stdin(Stdio::null()).output().context("cannot start cargo")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let Tally { passed, left_out, failures } = Tally::read(&said);
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        let errors: Vec<&str> = errors.lines().filter(|line| !is_progress(line)).collect();
        failures.into_iter().chain(errors).for_each(notes::line);
        bail!("cargo test failed ({})", output.status);
    }
    ensure!(passed > 0, "no unit test ran");
    let detail = format!("{passed} tests, {} left out", left_out.len());
    left_out.into_iter().for_each(notes::left_out);
    Ok(Found { detail, tests: passed })
}

/// Returns true for lines of cargo about its own progress.
fn is_progress(line: &str) -> bool {
    let word = line.trim_start().split(' ').next().unwrap_or_default();
    ["Compiling", "Finished", "Running", "Doc-tests", "Blocking", "Fresh"].contains(&word)
}

/// Summary of the output of test programs.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally<'text> {
    passed: u64,
    /// Tests that were ignored, or that said that there is nothing to test.
    left_out: Vec<LeftOut>,
    /// Output of failing tests.
    failures: Vec<&'text str>,
}

impl<'text> Tally<'text> {
    fn read(text: &'text str) -> Self {
        let mut tally = Self::default();
        let (mut test, mut failing) = ("", false);
        for line in text.lines() {
            if let Some((passed, _)) = parse_result(line) {
                tally.passed += passed;
            }
            match line {
                "failures:" => failing = true,
                "successes:" => failing = false,
                _ if line.starts_with("running ") => failing = false,
                _ => {},
            }
            if let Some(name) = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----"))
            {
                test = name;
            }
            let ignored = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... ignored"));
            let left_out = match (ignored, line.strip_prefix("SKIPPED")) {
                (Some((test, why)), _) => Some((test, why.trim_start_matches(", "))),
                (None, Some(why)) => Some((test, why.trim_start_matches([':', ' ']))),
                (None, None) => None,
            };
            let owned = |(test, why): (&str, &str)| LeftOut { test: test.to_owned(), why: why.to_owned() };
            tally.left_out.extend(left_out.map(owned));
            if failing {
                tally.failures.push(line);
            }
        }
        tally
    }
}

/// Returns the passed and ignored tests of `test result: ok. 12 passed; 0 failed; 1 ignored; …`.
fn parse_result(line: &str) -> Option<(u64, u64)> {
    let rest = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let count = |what: &str| -> Option<u64> {
        rest.split("; ").find_map(|part| part.strip_suffix(what))?.trim().parse().ok()
    };
    Some((count(" passed")?, count(" ignored")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargos_result_line() {
        let line =
            "test result: ok. 12 passed; 0 failed; 3 ignored; 0 measured; 0 filtered out; finished in 0.02s";
        assert_eq!(parse_result(line), Some((12, 3)));
        assert_eq!(parse_result("running 12 tests"), None);
    }

    #[test]
    fn what_tests_say_of_themselves() {
        let text = "\
running 4 tests
test a::real ... ignored, needs a kernel
test a::some ... ok
test b::bare ... ignored

successes:

---- a::some stdout ----
SKIPPED: this machine has no BTF

successes:
    a::some

failures:

---- c::bad stdout ----
thread panicked

test result: FAILED. 1 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.02s
";
        let tally = Tally::read(text);
        assert_eq!(tally.passed, 1);
        let left_out: Vec<(&str, &str)> =
            tally.left_out.iter().map(|one| (one.test.as_str(), one.why.as_str())).collect();
        assert_eq!(
            left_out,
            [("a::real", "needs a kernel"), ("b::bare", ""), ("a::some", "this machine has no BTF")]
        );
        assert!(
            tally.failures.contains(&"thread panicked")
                && !tally.failures.contains(&"test b::bare ... ignored")
        );
    }
}
