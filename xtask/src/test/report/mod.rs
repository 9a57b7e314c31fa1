//! `report` on real migrations: compared with QEMU, with a driver of known delays and with hisi_acc's faults.

mod delays;
mod faults;
mod qemu;

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{Check, Found};
use crate::workspace;

pub(super) fn checks() -> Vec<Check> {
    vec![
        Check::new("report: migrations by QEMU", qemu::check).alone(),
        Check::new("report: known delays", delays::check).alone(),
        Check::new("report: hisi faults", |_| faults::check()).alone(),
    ]
}

/// Runs `vfio-trace report --json` on this host. Returns the document and the exit code.
fn report(file: &Path) -> Result<(Document, Option<i32>)> {
    let program = workspace::bin_dir()?.join("vfio-trace");
    let output = Command::new(program)
        .args(["report", "--json"])
        .arg(file)
        .output()
        .context("cannot start vfio-trace")?;
    let document = serde_json::from_slice(&output.stdout).with_context(|| {
        format!("report of {}: {}", file.display(), String::from_utf8_lossy(&output.stderr).trim())
    })?;
    let document = Document(document);
    document.is_sound().with_context(|| format!("report of {}", file.display()))?;
    Ok((document, output.status.code()))
}

/// A report, read only by the names that are documented.
struct Document(Value);

fn list<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn number(value: &Value, name: &str) -> Option<u64> {
    value.get(name)?.as_u64()
}

fn word<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or("-")
}

impl Document {
    fn migrations(&self) -> &[Value] {
        list(&self.0, "migrations")
    }

    fn devices(&self) -> &[Value] {
        list(&self.0, "devices")
    }

    /// Returns the migrations that began between two times of CLOCK_MONOTONIC, in ns.
    fn started_within(&self, from: u64, to: u64) -> Result<Vec<&Value>> {
        let host = list(&self.0, "hosts").first().context("no host")?;
        let origin = host.get("mono_at_origin_ns").and_then(Value::as_i64).context("no origin")?;
        let starts = |migration: &&Value| {
            let start = number(migration, "start_ns").and_then(|start| start.checked_add_signed(origin));
            start.is_some_and(|start| (from..to).contains(&start))
        };
        Ok(self.migrations().iter().filter(starts).collect())
    }

    /// Returns the name of a side's device.
    fn name(&self, side: &Value) -> &str {
        let device = number(side, "device").and_then(|nr| self.devices().get(usize::try_from(nr).ok()?));
        device.map_or("-", |device| word(device, "name"))
    }

    /// Checks that nothing was lost, and that the shares of each downtime add up to it.
    fn is_sound(&self) -> Result<()> {
        for host in list(&self.0, "hosts") {
            let losses = host.get("losses").context("a host without losses")?;
            let whole = losses.get("complete") == Some(&Value::Bool(true))
                && ["lost", "missed", "unmatched", "undecoded"]
                    .iter()
                    .all(|name| number(losses, name) == Some(0));
            ensure!(whole, "not all was recorded: {losses}");
        }
        for migration in self.migrations() {
            let downtimes = list(migration, "devices").iter().chain([migration]);
            for downtime in downtimes.filter_map(|one| one.get("downtime").filter(|one| one.is_object())) {
                let shares: u64 =
                    list(downtime, "stages").iter().filter_map(|one| number(one, "share_ns")).sum();
                ensure!(Some(shares) == number(downtime, "total_ns"), "shares do not add up: {downtime}");
            }
        }
        Ok(())
    }
}

/// Returns the time in ns in which a stage was in progress.
fn busy(downtime: &Value, stage: &str) -> Option<u64> {
    let stages = list(downtime, "stages");
    number(stages.iter().find(|one| word(one, "stage") == stage)?, "busy_ns")
}
