//! Checks that need no VM: format, lints, unit tests, documentation.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{Check, Found, report};
use crate::{cmd, workspace};

/// Crates that are built for this machine; the eBPF crate is checked for its own target.
pub(super) const HOST_CRATES: [&str; 8] =
    ["-p", "vfio-trace", "-p", "vfio-trace-common", "-p", "lab", "-p", "xtask"];

pub(super) fn checks() -> Vec<Check> {
    vec![
        Check::new("host: rustfmt", |_| {
            cmd::run(&mut cargo(&["fmt", "--all", "--check"]))?;
            Ok(Found::one("all crates"))
        }),
        Check::new("host: clippy", |_| {
            let mut clippy = vec!["clippy", "--release", "--quiet", "--all-targets"];
            clippy.extend(HOST_CRATES);
            clippy.extend(["--", "-D", "warnings"]);
            cmd::run(&mut cargo(&clippy))?;
            Ok(Found::one("no warnings"))
        }),
        Check::new("host: clippy, eBPF", |_| {
            let target = workspace::target_dir()?.join("bpf-clippy");
            let mut clippy =
                cargo(&["clippy", "--release", "--quiet", "-p", "vfio-trace-ebpf", "-Z", "build-std=core"]);
            clippy
                .args(["--target", "bpfel-unknown-none", "--target-dir"])
                .arg(target)
                .args(["--", "-D", "warnings"]);
            // As vfio-trace/build.rs does: a stable compiler may then build `core`.
            clippy.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", "--cfg=bpf_target_arch=\"x86_64\"");
            cmd::run(&mut clippy)?;
            Ok(Found::one("no warnings"))
        }),
        Check::new("host: cargo test", |_| cargo_test()),
    ]
}

fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.args(arguments).current_dir(workspace::root());
    command
}

/// Runs all unit tests and shows what cargo shows.
fn cargo_test() -> Result<Found> {
    let mut arguments = vec!["test", "--release", "--quiet"];
    arguments.extend(HOST_CRATES);
    let mut child = cargo(&arguments).stdout(Stdio::piped()).spawn().context("cannot start cargo")?;
    let output = child.stdout.take().context("no pipe")?;
    let (mut passed, mut ignored) = (0, 0);
    for line in BufReader::new(output).lines() {
        let line = line.context("cannot read what cargo prints")?;
        let result = parse_result(&line);
        if let Some((ran, left_out)) = result {
            passed += ran;
            ignored += left_out;
        }
        // Crates without tests say so at length.
        if !(line.is_empty() || line == "running 0 tests" || result == Some((0, 0))) {
            report(&format!("      {line}"));
        }
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("cargo test failed ({status})");
    }
    ensure!(passed > 0, "no unit test ran");
    Ok(Found { detail: format!("{passed} tests, {ignored} ignored"), tests: passed })
}

/// Passed and ignored tests of `test result: ok. 12 passed; 0 failed; 1 ignored; …`.
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
}
