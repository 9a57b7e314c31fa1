//! Losses, provoked: what was seen, lost, missed and left unmatched must add up to what the driver itself has counted.

mod account;
mod full;
mod script;

use std::{fmt::Write as _, path::Path, process::Command, sync::Arc};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use self::account::{Account, Called};
use super::{
    Check, Found,
    boot::{Boot, Part},
    full as is_full,
    guest::Left,
    traced::{Traced, text},
};
use crate::{setup::kernel, workspace};

/// Parts of a kernel's boot that others share.
pub(super) fn parts() -> [Part; 4] {
    [
        Part { name: "flood", script: |series| Ok(script::flood(series)) },
        Part { name: "stopped", script: |series| Ok(script::stopped(series)) },
        Part { name: "crowd", script: |_| Ok(script::crowd()) },
        Part { name: "nested", script: |_| Ok(script::nested()) },
    ]
}

/// The checks of one kernel, by its boot. Outside of `--full` those that no kernel makes come out otherwise run on one
/// only.
pub(super) fn checks(boot: &Arc<Boot>) -> Vec<Check> {
    type Judge = fn(&Left, &str) -> Result<String>;
    let judges: [(&str, &'static str, Judge); 4] = [
        ("a small buffer", "flood", |left, _| flood(left, "flood")),
        ("more calls at once than return probes", "crowd", crowd),
        ("a stopped reader", "stopped", |left, _| flood(left, "stopped")),
        ("nested calls", "nested", nested),
    ];
    let differing = if is_full() || boot.series == kernel::DEFAULT { judges.len() } else { 2 };
    let check = |(name, part, judge): (&str, &'static str, Judge)| {
        let (wanted, boot) = (Arc::clone(boot), Arc::clone(boot));
        let run = move |_: &_| judge(&boot.part(part)?, boot.series).map(Found::one);
        Check::new(format!("losses {}: {name}", wanted.series), run).wanting(move || wanted.want(part))
    };
    judges.into_iter().take(differing).map(check).collect()
}

/// The checks that have a boot of their own.
pub(super) fn own_checks() -> Vec<Check> {
    full::checks()
}

/// Returns true if the kernel counts the calls that its probes have missed.
fn tells_misses(series: &str) -> bool {
    series != "6.1"
}

/// Runs a `vfio-trace` on this host on a recording; returns exit code, standard output and standard error.
fn read(arguments: &[&str], file: &Path) -> Result<(Option<i32>, String, String)> {
    let program = workspace::bin_dir()?.join("vfio-trace");
    let output =
        Command::new(program).args(arguments).arg(file).output().context("cannot start vfio-trace")?;
    let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Ok((output.status.code(), out, err))
}

/// Returns the two traces of a part: live, and replayed here from the recording.
fn both(left: &Left, name: &str) -> Result<[(&'static str, Traced); 2]> {
    let live = left.traced(&format!("{name}.ndjson"))?;
    let file = left.path(&format!("{name}.vft"));
    let (code, out, err) = read(&["replay", "--format", "ndjson"], &file)?;
    ensure!(code == Some(0), "replay exited with {code:?}: {err}");
    Ok([("live", live), ("replayed", Traced::parse(&out).context("replayed")?)])
}

/// A flood that a buffer of 4 KiB cannot take.
fn flood(left: &Left, name: &str) -> Result<String> {
    let called = Called::between(left, name)?;
    let mut told = String::new();
    for (how, traced) in both(left, name)? {
        let account = Account::of(&traced)?;
        for (role, calls) in called.by_role() {
            let one = account.role(role);
            ensure!(
                one.seen + one.lost + one.missed.unwrap_or(0) == calls && one.unmatched == 0,
                "{how}: the driver has counted {calls} calls of {role}, the tracer {one:?}"
            );
        }
        ensure!(account.lost > 0, "{how}: nothing was lost; the flood was none");
        write!(told, "{how} {} of {} records lost; ", account.lost, account.lost + account.records)?;
    }
    let calls: u64 = called.by_role().iter().map(|(_, calls)| calls).sum();
    bounds(left, name)?;
    Ok(format!("{told}{calls} calls, all of them in the account; no downtime is called exact"))
}

/// Threads that wait in one function: there are no more return probes for the later ones.
fn crowd(left: &Left, series: &str) -> Result<String> {
    let called = Called::between(left, "crowd")?;
    let mut told = String::new();
    for (how, traced) in both(left, "crowd")? {
        let account = Account::of(&traced)?;
        ensure!(account.lost == 0, "{how}: {} records were lost", account.lost);
        for (role, calls) in called.by_role() {
            let one = account.role(role);
            // Each thread came again, after a call whose return was missed: that is how it is noticed in any case.
            let missed = match one.missed {
                Some(missed) => {
                    ensure!(one.unmatched == missed, "{how}: {role}: {one:?}");
                    missed
                },
                None if tells_misses(series) => bail!("{how}: {role}: this kernel counts, but {one:?}"),
                None => one.unmatched,
            };
            ensure!(one.seen + missed == calls, "{how}: {calls} calls of {role}, and {one:?}");
            ensure!(missed > 0 || !["set_state", "device_ioctl"].contains(&role), "{how}: {role}: {one:?}");
        }
        let total = traced.summary.get("missed").cloned().unwrap_or_default();
        ensure!(total.is_null() != tells_misses(series), "{how}: the summary counts {total} missed");
        let one = account.role("set_state");
        write!(told, "{how} {} seen, {:?} missed, {} unmatched; ", one.seen, one.missed, one.unmatched)?;
    }
    bounds(left, "crowd")?;
    Ok(format!("{told}{} set_state calls by the driver's count", called.set_state))
}

/// A function that calls itself: the outer call is not told, and counted.
fn nested(left: &Left, _series: &str) -> Result<String> {
    let called = Called::between(left, "nested")?;
    ensure!(called.nests > 0 && called.nests < called.read, "{called:?}");
    for (how, traced) in both(left, "nested")? {
        let account = Account::of(&traced)?;
        let one = account.role("read");
        ensure!(one.unmatched == called.nests, "{how}: {called:?}, but {one:?}");
        ensure!(one.seen + one.unmatched == called.read, "{how}: {called:?}, but {one:?}");
        ensure!(account.lost == 0 && one.missed.unwrap_or(0) == 0, "{how}: {one:?}");
    }
    bounds(left, "nested")?;
    Ok(format!("{} reads, {} of them around another one: unmatched", called.read, called.nests))
}

/// Checks `report` on the recording: values that are just not known must not appear as exact, failed or absent.
fn bounds(left: &Left, name: &str) -> Result<()> {
    let file = left.path(&format!("{name}.vft"));
    let (code, out, err) = read(&["report", "--json"], &file)?;
    // Nothing has failed, and the file is whole.
    ensure!(code == Some(0), "report exited with {code:?}: {err}");
    let document: Value = serde_json::from_str(&out).context("report --json")?;
    let at = |pointer: &str| document.pointer(pointer).cloned().unwrap_or_default();
    let list = |pointer: &str| at(pointer).as_array().cloned().unwrap_or_default();
    let warned: Vec<String> =
        list("/warnings").iter().filter_map(|one| text(one, "code").map(str::to_owned)).collect();
    for (lacking, code) in
        [("control", "transitions-lacking"), ("data", "data-lacking"), ("other", "events-lacking")]
    {
        let lacks = !list(&format!("/hosts/0/losses/{lacking}")).is_empty();
        ensure!(lacks == warned.iter().any(|one| one == code), "{lacking} lacks: {lacks}, but {warned:?}");
    }
    ensure!(!warned.is_empty(), "report warns of nothing");
    let (_, replayed, _) = read(&["replay", "--format", "ndjson"], &file)?;
    let summary = Traced::parse(&replayed)?.summary;
    for count in ["lost", "missed", "unmatched"] {
        let (told, counted) = (at(&format!("/hosts/0/losses/{count}")), summary.get(count).cloned());
        ensure!(Some(&told) == counted.as_ref(), "report: {told} {count}; the summary: {counted:?}");
    }
    for (number, migration) in list("/migrations").iter().enumerate() {
        let verdict = text(migration, "verdict");
        ensure!(verdict != Some("failed"), "migration {number} is said to have failed: {migration}");
        let bound = migration.pointer("/downtime/bound").and_then(Value::as_str);
        ensure!(bound != Some("exact"), "migration {number}: the downtime is called exact");
    }
    let (_, text, _) = read(&["report"], &file)?;
    ensure!(!text.contains("\nno migration:"), "it denies what it may not have seen:\n{text}");
    Ok(())
}
