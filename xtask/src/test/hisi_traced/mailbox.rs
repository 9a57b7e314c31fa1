//! Compares the mailbox commands that the tracer saw with those that the simulated hardware got.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::Scenario;
use crate::test::traced::{data, text};

/// Functions whose driver steps are mailbox commands.
const COMMANDS: [&str; 2] = ["hisi_qm_mb", "hisi_qm_mb_read"];

/// Compares all devices of a scenario. Returns the number of commands.
pub(super) fn compare(scenario: &Scenario) -> Result<usize> {
    let mut compared = 0;
    for device in scenario.devices() {
        let witness = scenario
            .steps
            .iter()
            .rev()
            .find(|step| text(step, "step") == Some("commands") && text(step, "device") == Some(device));
        let values = witness.and_then(|step| step.get("values")).context("no witness of the mailbox")?;
        let hardware: Vec<&str> = text(values, "value").unwrap_or_default().lines().collect();
        // The hardware remembers the last 64.
        ensure!(hardware.len() < 64, "{device}'s hardware saw more commands than it remembers");
        // The fault mb-busy keeps the mailbox busy with a command 0 of its own.
        let hardware: Vec<&str> = hardware.into_iter().filter(|row| !row.starts_with("0x0 set")).collect();
        let seen: Vec<&Value> = scenario
            .of("step", device)
            .map(data)
            .filter(|step| text(step, "function").is_some_and(|name| COMMANDS.contains(&name)))
            .collect();
        let seen = sent(&seen, &hardware)?;
        let rows: Vec<String> =
            hardware.iter().map(|row| row_of(row)).collect::<Option<_>>().context("an odd witness")?;
        ensure!(seen == rows, "{device}: the tracer saw {seen:?}, the hardware {rows:?}");
        compared += rows.len();
    }
    Ok(compared)
}

/// Returns `0x4 get 0x700030000 ok` without the address.
fn row_of(row: &str) -> Option<String> {
    let words: Vec<&str> = row.split(' ').collect();
    let &[command, direction, _, result] = words.as_slice() else { return None };
    Some(format!("{command} {direction} {result}"))
}

/// Returns the tracer's steps in the same form: those that reached the hardware.
fn sent(steps: &[&Value], hardware: &[&str]) -> Result<Vec<String>> {
    // A command that does not end blocks the mailbox; the driver gives up later commands before it sends them.
    let stuck = hardware.iter().position(|row| row.ends_with("stuck"));
    let mut rows = Vec::new();
    for step in steps {
        let detail = text(step, "detail").context("a mailbox command without detail")?;
        let words: Vec<&str> = detail.split(' ').collect();
        let command = *words.get(1).context("a mailbox command without number")?;
        let direction = if words.last() == Some(&"read") { "get" } else { "set" };
        let result = match text(step, "result") {
            Some("ok") => "ok",
            Some("failed") if stuck == Some(rows.len()) => "stuck",
            Some("failed") if stuck.is_some_and(|index| rows.len() > index) => continue,
            Some("failed") => "error",
            other => anyhow::bail!("a mailbox command that ended as {other:?}"),
        };
        rows.push(format!("{command} {direction} {result}"));
    }
    Ok(rows)
}
