//! The kernel's hisi_acc_vfio_pci on simulated hardware: every fault gives its errno, before anything traces it.

use std::{collections::BTreeSet, fs};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{
    Check, Found, full,
    guest::{Guest, Lab},
    notes,
    traced::text,
};
use crate::{
    lab::{self, guest::Extras},
    setup::kernel::Driver,
};

/// Functions that the compiler inlines into their callers unless it is told to keep them.
const KEPT: [&str; 4] = [
    "hisi_acc_vf_set_device_state",
    "hisi_acc_vf_load_state",
    "hisi_acc_vf_start_device",
    "vf_qm_check_match",
];

pub(super) fn checks() -> Vec<Check> {
    let all = |series: &'static str| Check::new(format!("hisi: faults on {series}"), move |_| faults(series));
    let kept =
        |series: &'static str| Check::new(format!("hisi: kept on {series}"), move |_| noinline(series));
    let mut checks = vec![all("6.12"), Check::new("hisi: debugfs", |_| debugfs("7.3"))];
    if full() {
        // The checks of the traced driver test these, too, on both kernels and of both builds.
        checks.extend([all("7.3"), kept("6.12"), kept("7.3")]);
    }
    // The driver has timeouts of 1 ms.
    checks.into_iter().map(Check::alone).collect()
}

/// Runs a script in a guest with the driver. The guest's kernel must give no warning.
pub(super) fn boot(series: &str, debugfs: bool, driver: Driver, name: &str, script: &str) -> Result<Guest> {
    let extras = Extras { debugfs, driver: Some(driver) };
    let lab = Lab::with(lab::ready(series, false)?, extras)?;
    let guest =
        lab.run(name, &format!("cd $LAB_RESULTS; {script}\ncode=$?; dmesg >dmesg.txt; exit $code"))?;
    let log = guest.file("dmesg.txt")?;
    let bad = ["WARNING: ", "BUG: ", "Oops", "Call Trace", "Broken toolchain"];
    if let Some(line) = log.lines().find(|line| bad.iter().any(|word| line.contains(word))) {
        anyhow::bail!("the guest kernel said: {line}");
    }
    Ok(guest)
}

/// Parts of the messages in the kernel's log when the driver, or the mailbox under it, ran into a timeout. Some of
/// these are 1 ms, and the VM may get no processor for longer than that.
const LATE: [&str; 8] = [
    "QM device is not ready",
    "writeback sqc cache fail",
    "mailbox is busy",
    "mailbox operation timeout",
    "mailbox is not idle",
    "does not end",
    "failed to get vft qp nums",
    "failed to write QM_VF_STATE",
];

/// Returns the reason why a scenario that failed may be tried again: the driver's report of a timeout. Nothing that the
/// tracer did or saw is a reason: steps are results in user space.
pub(super) fn was_late(log: &str, steps: &[&Value]) -> Option<String> {
    let failed = |step: &&&Value| step.get("as_expected") != Some(&Value::Bool(true));
    if steps.iter().filter(failed).any(|step| text(step, "errno") == Some("ETIMEDOUT")) {
        return Some("the driver gave ETIMEDOUT".to_owned());
    }
    let time = |step: &Value, name: &str| step.get(name).and_then(Value::as_f64).map(|ns| ns / 1e9);
    let start = steps.iter().find_map(|step| time(step, "start_ns"))?;
    let end = steps.iter().rev().find_map(|step| time(step, "end_ns"))?;
    // The clock of the log differs slightly from that of the steps.
    let within = (start - 0.1)..(end + 0.1);
    log.lines().find_map(|line| {
        let at: f64 = line.trim_start_matches('[').split(']').next()?.trim().parse().ok()?;
        let late = LATE.iter().find(|words| line.contains(**words))?;
        within.contains(&at).then(|| format!("the driver said: {late}"))
    })
}

/// Checks every scenario. lab-hisi knows the right answers of this kernel's driver.
fn faults(series: &str) -> Result<Found> {
    let (mut wanted, mut seen, mut steps, mut errors) = (BTreeSet::new(), BTreeSet::new(), 0, 0);
    let mut left = Vec::new();
    for suffix in ["", "-again", "-last"] {
        let script = format!(
            "lab-hisi --list >list && {{ lab-hisi --json steps.ndjson {} >steps; :; }}",
            left.join(" ")
        );
        let guest = boot(series, false, Driver::Hisi, &format!("hisi-{series}{suffix}"), &script)?;
        let first = |line: &str| line.split_whitespace().next().map(str::to_owned);
        wanted.extend(guest.file("list")?.lines().filter_map(first));
        let mut failed: Vec<String> = Vec::new();
        let all = guest.left("").records("steps.ndjson")?;
        for step in &all {
            let name = text(step, "scenario").context("a step of no scenario")?.to_owned();
            if step.get("as_expected") != Some(&Value::Bool(true)) && failed.last() != Some(&name) {
                ensure!(suffix != "-last", "not as expected, in three boots: {step}");
                failed.push(name.clone());
            }
            seen.insert(name);
            steps += 1;
            errors += usize::from(text(step, "errno").is_some());
        }
        ensure!(failed.len() <= 3, "not as expected: {}", failed.join(", "));
        let log = guest.file("dmesg.txt")?;
        for name in &failed {
            let steps: Vec<&Value> = all.iter().filter(|step| text(step, "scenario") == Some(name)).collect();
            let why = was_late(&log, &steps)
                .with_context(|| format!("{name} is not as expected, and no lateness explains it"))?;
            notes::retry(format!("{name}, {why}"));
        }
        left = failed;
        if left.is_empty() {
            break;
        }
    }
    ensure!(
        seen == wanted && errors > wanted.len() / 2,
        "{} of {} scenarios ran, with {errors} errors",
        seen.len(),
        wanted.len()
    );
    Ok(Found::one(format!("{} scenarios, {steps} steps, {errors} of them errors as expected", wanted.len())))
}

/// Checks that the driver's other build has the functions that it is made for, and migrates.
fn noinline(series: &str) -> Result<Found> {
    let script =
        "lab-hisi precopy there-and-back >steps && grep -w hisi_acc_vfio_pci /proc/kallsyms >symbols";
    let guest = boot(series, false, Driver::HisiNoinline, &format!("hisi-noinline-{series}"), script)?;
    let symbols = guest.file("symbols")?;
    for function in KEPT {
        ensure!(symbols.lines().any(|line| line.contains(&format!(" t {function}\t"))), "{function} is gone");
    }
    Ok(Found::one(format!("{} are there, and a VF migrates there and back", KEPT.join(", "))))
}

/// Compares the driver's debugfs file of the last migration with the bytes read from the data fd.
fn debugfs(series: &str) -> Result<Found> {
    let script = "\
        set -- $LAB_ZIP; root=/sys/kernel/debug/vfio\n\
        lab-hisi stop-copy >steps && cp /run/hisi stream &&\n\
        cat $root/$1/migration/hisi_acc/migf_data >source && cat $root/$2/migration/hisi_acc/migf_data >destination &&\n\
        lab-step --device $1 --knobs /sys/kernel/debug/hisi_sim/{} --knobs $root/{}/migration/hisi_acc \
        'knob=dev_data!ETIMEDOUT' knob=guest:7 'knob=cmd_state -> mailbox cmd channel ready!' knob=dev_data >live";
    let guest = boot(series, true, Driver::Hisi, "hisi-debugfs", script)?;
    let stream = fs::read(guest.results.join("stream")).context("no stream was kept")?;
    // The driver does not show the queues' addresses.
    let shown = stream.get(..144).context("the stream is too short")?;
    for name in ["source", "destination"] {
        let text = guest.file(name)?;
        let bytes: Vec<u8> = text
            .lines()
            .filter_map(|line| line.strip_prefix("Mig Data:")?.split_once(": "))
            .flat_map(|(_, row)| row.split_whitespace())
            .filter_map(|byte| u8::from_str_radix(byte, 16).ok())
            .collect();
        ensure!(bytes == shown, "migf_data of the {name} is not what the data fd gave:\n{text}");
        ensure!(text.contains("migrate data length: 176"), "no length in migf_data of the {name}");
    }
    ensure!(guest.file("live")?.contains("Dev Data:00000080:"), "dev_data of an open device is empty");
    Ok(Found::one("migf_data of both sides equals the stream; dev_data and cmd_state answer"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_lateness_is_a_reason_to_try_again() {
        let log =
            "[    9.000000] dev: QM mailbox operation timeout!\n[   20.5] dev: failed to match VF devices";
        let step = |start: f64, as_expected: bool, errno: &str| json!({"start_ns": start * 1e9, "end_ns": start * 1e9 + 1e6, "as_expected": as_expected, "errno": errno});
        let reason = |step: Value| was_late(log, &[&step]);
        assert!(reason(step(9.0, false, "EINVAL")).is_some_and(|why| why.contains("timeout")));
        assert!(reason(step(5.0, false, "ETIMEDOUT")).is_some());
        assert_eq!(reason(step(20.5, false, "EINVAL")), None, "another message");
        assert_eq!(reason(step(5.0, false, "EINVAL")), None, "another time");
        assert_eq!(reason(step(5.0, true, "ETIMEDOUT")), None, "as expected");
    }
}
