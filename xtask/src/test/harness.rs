//! Checks of the lab itself: what goes wrong in a VM is never reported as a pass.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{Check, Found, guest::Lab};
use crate::lab::vm::Outcome;

pub(super) fn checks() -> Vec<Check> {
    vec![
        Check::new("lab: exit code and streams", |lab| {
            let script = "echo to-stdout; echo to-stderr >&2; printf '%s|' \"a b\" \"c'd\" >/dev/stdout; \
                          echo kept >$LAB_RESULTS/file; exit 7";
            let guest = lab.boot("lab-exit", script, Duration::from_mins(1))?;
            ensure!(guest.outcome == Outcome::Exited(7), "expected exit code 7: {}", guest.outcome);
            ensure!(guest.stdout == "to-stdout\na b|c'd|", "stdout was {:?}", guest.stdout);
            ensure!(guest.stderr == "to-stderr\n", "stderr was {:?}", guest.stderr);
            ensure!(guest.file("file")? == "kept\n", "the results folder did not keep a file");
            Ok(Found::one("code 7, both streams, results folder"))
        }),
        Check::new("lab: a guest that hangs", |lab| {
            let guest = lab.boot("lab-hang", "echo began; sleep 1000", Duration::from_secs(15))?;
            ensure!(
                matches!(guest.outcome, Outcome::TimedOut { started: true, .. })
                    && guest.outcome.exit_code() == 124,
                "a hung guest was reported as: {}",
                guest.outcome
            );
            ensure!(guest.stdout == "began\n", "stdout was {:?}", guest.stdout);
            Ok(Found::one("reported as timed out, exit code 124"))
        }),
        Check::new("lab: a kernel that dies", |lab| {
            let guest =
                lab.boot("lab-panic", "echo c >/proc/sysrq-trigger; sleep 60", Duration::from_mins(1))?;
            ensure!(
                matches!(&guest.outcome, Outcome::Panicked(line) if line.contains("sysrq"))
                    && guest.outcome.exit_code() == 125,
                "a panic was reported as: {}",
                guest.outcome
            );
            Ok(Found::one("reported as a kernel panic, exit code 125"))
        }),
        Check::new("lab: a QEMU that dies", died),
    ]
}

/// The guest reboots without a word: to the host that is a QEMU that ended.
fn died(lab: &Lab) -> Result<Found> {
    let guest = lab.boot("lab-died", "echo b >/proc/sysrq-trigger; sleep 60", Duration::from_mins(1))?;
    ensure!(
        matches!(guest.outcome, Outcome::Died { started: true, .. }) && guest.outcome.exit_code() == 125,
        "it was reported as: {}",
        guest.outcome
    );
    Ok(Found::one("reported as ended while the command ran, exit code 125"))
}
