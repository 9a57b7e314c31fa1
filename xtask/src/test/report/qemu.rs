//! Migrations by QEMU: verdicts, bytes, states and times, compared with QEMU's own events, trace log and counters.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::{Document, Found, list, number, report, word};
use crate::test::guest::{Guest, Lab};

/// Longest time from the kernel's answer to QEMU's line. EARLY_NS is the difference that clocks of different resolution
/// may have.
const LATE_NS: i128 = 3_000_000_000;
const EARLY_NS: i128 = 5_000_000;

struct Scenario {
    name: &'static str,
    arguments: &'static str,
    migrations: usize,
    verdict: &'static str,
    /// True if the source runs again; none for a migration that completes.
    recovered: Option<bool>,
    /// The first failure: text, errno.
    failure: Option<(&'static str, &'static str)>,
}

const fn good(name: &'static str, arguments: &'static str, migrations: usize) -> Scenario {
    Scenario { name, arguments, migrations, verdict: "completed", recovered: None, failure: None }
}

const fn given_up(name: &'static str, arguments: &'static str) -> Scenario {
    Scenario { verdict: "cancelled", recovered: Some(true), ..good(name, arguments, 1) }
}

const SCENARIOS: &[Scenario] = &[
    good("ok", "", 1),
    given_up("cancel", "--scenario cancel"),
    given_up("kill-destination", "--scenario kill-destination"),
    Scenario {
        verdict: "failed",
        failure: Some(("write()", "EFAULT")),
        ..given_up("mismatch", "--scenario mismatch")
    },
    good("pause", "--scenario pause", 1),
    good("ping-pong", "--count 3 --ping-pong", 3),
];

pub(super) fn check(lab: &Lab) -> Result<Found> {
    let mut script = "cd $LAB_RESULTS; modprobe mtty; ".to_owned();
    for Scenario { name, arguments, .. } in SCENARIOS {
        writeln!(
            script,
            "vfio-trace record -o {name}.vft -- lab-migrate {arguments} --evidence {name} >{name}.out 2>{name}.err \
             || exit 1\nchmod a+r {name}.vft"
        )?;
    }
    let guest = lab.run("report-qemu", &script)?;
    let (mut requests, mut migrations, mut times) = (0, 0, Vec::new());
    for scenario in SCENARIOS {
        let (document, code) = report(&guest.results.join(format!("{}.vft", scenario.name)))?;
        let named = || format!("scenario {}", scenario.name);
        let failed = i32::from(scenario.verdict == "failed");
        ensure!(code == Some(failed), "{}: exit code {code:?}", named());
        requests += states(&document, &guest.results.join(scenario.name)).with_context(named)?;
        outcome(&document, scenario, &guest, &mut times).with_context(named)?;
        migrations += scenario.migrations;
    }
    Ok(Found::one(format!(
        "{migrations} migrations as they have to be, {requests} changes of state as in QEMU's trace; downtime of VFIO \
         within QEMU's: {} ms",
        times.join(", ")
    )))
}

fn outcome(document: &Document, scenario: &Scenario, guest: &Guest, times: &mut Vec<String>) -> Result<()> {
    let told = guest.left(scenario.name).json("migrate.json")?;
    let told = list(&told, "migrations");
    let migrations = document.migrations();
    ensure!(
        migrations.len() == scenario.migrations && told.len() == scenario.migrations,
        "{} migrations instead of {}: {:?}",
        migrations.len(),
        scenario.migrations,
        migrations.iter().map(|one| word(one, "text")).collect::<Vec<_>>()
    );
    for (migration, told) in migrations.iter().zip(told) {
        let text = word(migration, "text");
        ensure!(word(migration, "verdict") == scenario.verdict, "{text}");
        ensure!(
            migration.get("recovered").and_then(Value::as_bool) == scenario.recovered,
            "recovered: {text}"
        );
        let [device] = list(migration, "devices") else { bail!("not one device: {text}") };
        for (role, nothing) in [("source", &Value::Null), ("destination", &Value::Null)] {
            let (side, theirs) = (device.get(role).unwrap_or(nothing), told.get(role).unwrap_or(nothing));
            ensure!(document.name(side) == word(theirs, "uuid"), "another {role} than QEMU's: {text}");
            let party = migration.get(role).and_then(|party| number(party, "pid"));
            ensure!(party == number(theirs, "pid"), "the {role}'s process is {party:?}");
        }
        let sides = ["source", "destination"].map(|role| device.get(role));
        let failures: Vec<(&str, &str)> = sides
            .iter()
            .flatten()
            .flat_map(|side| list(side, "failures"))
            .map(|failure| (word(failure, "what"), word(failure, "errno")))
            .collect();
        ensure!(failures.first().copied() == scenario.failure, "failures: {failures:?}");
        let stream = device.get("stream").context("no stream")?;
        let (read, written) = (number(stream, "read_bytes"), number(stream, "written_bytes"));
        let downtime = migration.get("downtime").filter(|downtime| downtime.is_object());
        if scenario.verdict != "completed" {
            ensure!(read >= written, "{written:?} bytes written of {read:?} that were read");
            continue;
        }
        let theirs = number(told, "vfio_transferred");
        ensure!(
            theirs.is_some() && read == theirs && written == theirs,
            "{read:?}, {written:?}, QEMU: {theirs:?}"
        );
        let downtime = downtime.context("no downtime")?;
        ensure!(word(downtime, "bound") == "exact", "{downtime}");
        let total = number(downtime, "total_ns").context("no total")? / 1_000_000;
        let window = number(told, "downtime_ms").context("QEMU tells no downtime")?;
        let whole = number(told, "total_time_ms").context("QEMU tells no total time")?;
        // QEMU's downtime ends on the source with the destination's message that it has loaded everything, before its
        // guest runs.
        ensure!(total <= window + 1_000, "downtime {total} ms, QEMU's {window} ms");
        ensure!(window <= whole, "QEMU's own times");
        let stages = ["stop", "save", "read", "write", "load", "start"];
        ensure!(
            stages.iter().all(|stage| super::busy(downtime, stage) > Some(0)),
            "not all stages: {downtime}"
        );
        times.push(format!("{total} of {window}"));
    }
    Ok(())
}

/// Checks that every change of a device's state that QEMU logged is a request that worked, in the same order and at
/// that time.
fn states(document: &Document, evidence: &Path) -> Result<usize> {
    let logged = logged(evidence)?;
    let origin = origin(document)?;
    let mut compared = 0;
    for device in document.devices() {
        let name = word(device, "name");
        let theirs: Vec<&Line> = logged.iter().filter(|line| line.device == name).collect();
        let mine: Vec<&Value> =
            list(device, "requests").iter().filter(|request| word(request, "result") == "ok").collect();
        let words = |lines: &[&Line]| lines.iter().map(|line| line.state.clone()).collect::<Vec<_>>();
        let targets: Vec<&str> = mine.iter().map(|request| word(request, "target")).collect();
        ensure!(words(&theirs) == targets, "{name}: {targets:?}, QEMU's trace: {:?}", words(&theirs));
        for (request, line) in mine.iter().zip(&theirs) {
            let end = origin + i128::from(number(request, "end_ns").context("no end")?);
            ensure!(
                (-EARLY_NS..LATE_NS).contains(&(line.at_ns - end)),
                "{name} {}: {} ns between the kernel's answer and QEMU's line",
                line.state,
                line.at_ns - end
            );
        }
        compared += theirs.len();
    }
    ensure!(compared > 0, "nothing was compared");
    Ok(compared)
}

/// A line `vfio_migration_set_device_state` in QEMU's trace.
struct Line {
    at_ns: i128,
    device: String,
    state: String,
}

fn logged(evidence: &Path) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(evidence).with_context(|| format!("cannot read {}", evidence.display()))? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "trace") {
            continue;
        }
        // PID@SECONDS.MICROSECONDS:vfio_migration_set_device_state  (UUID) state STATE
        for line in fs::read_to_string(&path)?.lines() {
            let Some((when, rest)) = line.split_once(":vfio_migration_set_device_state ") else { continue };
            let parsed = || {
                let (seconds, micros) = when.split_once('@')?.1.split_once('.')?;
                let (device, state) = rest.trim().strip_prefix('(')?.split_once(") state ")?;
                let micros: i128 = format!("{seconds}{micros}").parse().ok()?;
                Some(Line {
                    at_ns: micros * 1_000,
                    device: device.to_owned(),
                    state: state.trim().to_owned(),
                })
            };
            lines.push(parsed().with_context(|| format!("not as expected: {line}"))?);
        }
    }
    ensure!(!lines.is_empty(), "this QEMU logs no changes of state");
    lines.sort_by_key(|line| line.at_ns);
    Ok(lines)
}

/// Returns the wall time of the document's 0 in ns: that of the first host, by its clock then.
fn origin(document: &Document) -> Result<i128> {
    let text = word(&document.0, "origin");
    wall_ns(text).with_context(|| format!("{text} is no time"))
}

/// Parses `2026-11-22T23:01:02.000000003Z` into ns since 1970.
fn wall_ns(text: &str) -> Option<i128> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.split('-').map(|part| part.parse::<i128>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let seconds = time.split(':').try_fold(0, |sum, part| Some(sum * 60 + part.parse::<i128>().ok()?))?;
    // Days since 1970 in the Gregorian calendar, with years that begin in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1 - 719_468;
    Some((days * 86_400 + seconds) * 1_000_000_000 + format!("{fraction:0<9}").parse::<i128>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_times() {
        assert_eq!(wall_ns("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(wall_ns("2026-11-22T15:40:20.5Z"), Some(1_795_362_020_500_000_000));
        assert_eq!(wall_ns("2000-02-29T23:59:59.000000001Z"), Some(951_868_799_000_000_001));
        assert_eq!(wall_ns("yesterday"), None);
    }
}
