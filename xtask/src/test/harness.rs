//! Checks of the lab itself: a failure in a VM is never reported as a pass.

use std::{process::Command, time::Duration};

use anyhow::{Result, ensure};

use super::{Check, Found, guest::Lab, host::HOST_CRATES};
use crate::{cmd, lab::vm::Outcome, workspace};

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
            let guest = lab.boot("lab-hang", "echo began; sleep 1000", Duration::from_secs(30))?;
            ensure!(
                matches!(guest.outcome, Outcome::TimedOut { started: true, .. })
                    && guest.outcome.exit_code() == 124,
                "a hung guest was reported as: {}",
                guest.outcome
            );
            ensure!(guest.stdout == "began\n", "stdout was {:?}", guest.stdout);
            Ok(Found::one("reported as timed out, exit code 124"))
        })
        .lasting(30),
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
        Check::new("lab: facts of a real kernel", facts),
    ]
}

/// Checks a guest that reboots without a message: for the host QEMU has just ended.
fn died(lab: &Lab) -> Result<Found> {
    let guest = lab.boot("lab-died", "echo b >/proc/sysrq-trigger; sleep 60", Duration::from_mins(1))?;
    ensure!(
        matches!(guest.outcome, Outcome::Died { started: true, .. }) && guest.outcome.exit_code() == 125,
        "it was reported as: {}",
        guest.outcome
    );
    Ok(Found::one("reported as ended while the command ran, exit code 125"))
}

/// Runs the unit test that needs BTF and symbols of a real kernel, with those of the lab's.
fn facts(lab: &Lab) -> Result<Found> {
    let guest = lab.run(
        "lab-facts",
        "cd $LAB_RESULTS && modprobe mtty && modprobe quayside && modprobe vfio_pci && mkdir btf && cd btf && \
         for module in vmlinux vfio vfio_pci_core mtty quayside; do cat /sys/kernel/btf/$module >$module || exit 1; done && \
         cat /proc/kallsyms >../kallsyms",
    )?;
    let mut cargo = Command::new("cargo");
    cargo.args(["test", "--quiet"]).args(HOST_CRATES).args(["--lib", "real_kernel", "--", "--ignored"]);
    cargo.env("VFIO_TRACE_TEST_BTF_DIR", guest.results.join("btf"));
    cargo.env("VFIO_TRACE_TEST_KALLSYMS", guest.results.join("kallsyms"));
    let output = cmd::run(cargo.current_dir(workspace::root()))?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(said.lines().filter(|line| line.contains(" 1 passed")).count() == 1, "it did not run: {said}");
    Ok(Found::one("the unit test that needs a kernel's BTF and symbols has the lab's, and passes"))
}
