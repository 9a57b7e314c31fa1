//! `cargo xtask bench`: size of a long recording, and the time and memory that its readers need.

use std::{
    fs,
    path::Path,
    process::{Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::{build, cmd, progress::say, setup, workspace};

/// Measurement to make.
#[derive(clap::Subcommand)]
pub(crate) enum Verb {
    /// A recording of one migration with many reads and writes: its size, then time and memory of what reads it.
    Report {
        /// How many reads and writes.
        #[arg(long, value_name = "N", default_value_t = 10_000_000)]
        events: u64,
    },
}

/// Runs `cargo xtask bench`.
pub(crate) fn main(verb: &Verb) -> Result<ExitCode> {
    let Verb::Report { events } = verb;
    ensure!(*events >= 1_000, "a recording of {events} events tells nothing");
    setup::for_build()?;
    build::binaries()?;
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--quiet", "-p", "vfio-trace", "--example", "long-recording"]);
    cmd::run_loud(cargo.current_dir(workspace::root())).context("the example does not build")?;
    let folder = workspace::target_dir()?.join("bench");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    // A tenth of it first: the memory needed must not grow with the number of events.
    let small = measure(&folder, events / 10)?;
    let large = measure(&folder, *events)?;
    for ((name, small), (_, large)) in small.iter().zip(&large) {
        // A factor of two, and an allowance for the memory that an allocator keeps.
        ensure!(
            *large <= small.saturating_mul(2).saturating_add(64 << 10),
            "{name}: {small} KiB for a tenth of the events, {large} KiB for all"
        );
    }
    say("bench: memory does not grow with the number of events");
    Ok(ExitCode::SUCCESS)
}

/// Makes and reads one recording. Returns each reader's peak memory in KiB.
fn measure(folder: &Path, events: u64) -> Result<Vec<(&'static str, u64)>> {
    let bin = workspace::bin_dir()?;
    let file = folder.join("long.vft");
    let start = Instant::now();
    let mut make = Command::new(bin.join("examples/long-recording"));
    let calls: u64 =
        cmd::stdout(make.arg(&file).arg(events.to_string()))?.parse().context("no number of calls")?;
    let bytes = file.metadata()?.len();
    say(&format!(
        "bench: {calls} reads and writes: {bytes} bytes, {}.{:02} bytes each; written in {:.1} s",
        bytes / calls,
        bytes * 100 / calls % 100,
        start.elapsed().as_secs_f64()
    ));
    let mut peaks = Vec::new();
    let readers: [(&str, &[&str]); 3] = [
        ("report", &["report", "--json"]),
        ("replay", &["replay", "--format", "ndjson"]),
        ("export", &["export", "--format", "json"]),
    ];
    for (name, arguments) in readers {
        let known = Command::new(bin.join("vfio-trace")).args([name, "--help"]).output()?.status.success();
        if !known {
            say(&format!("bench: skipped: this vfio-trace has no verb {name}"));
            continue;
        }
        let out = folder.join(format!("{name}.out"));
        let mut command = Command::new(bin.join("vfio-trace"));
        command.args(arguments).arg(&file).stderr(Stdio::null());
        // The output of replay is gigabytes.
        let out_file = if name == "replay" { Stdio::null() } else { fs::File::create(&out)?.into() };
        let (took, peak) = run(command.stdout(out_file))?;
        if name == "report" {
            is_right(&fs::read(&out)?, calls)?;
        }
        say(&format!(
            "bench: {name}: {:.1} s, {} events/ms, at most {} MiB of memory",
            took.as_secs_f64(),
            u128::from(calls) / took.as_millis().max(1),
            peak >> 10
        ));
        peaks.push((name, peak));
    }
    fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?;
    Ok(peaks)
}

/// Runs a command to its end. Returns its duration and its peak resident memory in KiB.
fn run(command: &mut Command) -> Result<(Duration, u64)> {
    let start = Instant::now();
    let mut child = command.spawn().context("cannot start vfio-trace")?;
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    loop {
        // The kernel keeps the maximum, so only the last few ms can be missed.
        if let Ok(text) = fs::read_to_string(&status)
            && let Some(line) = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))
        {
            peak = line.trim().trim_end_matches("kB").trim().parse().context("VmHWM is no number")?;
        }
        match child.try_wait()? {
            Some(code) if code.success() => return Ok((start.elapsed(), peak)),
            Some(code) => bail!("vfio-trace failed ({code})"),
            None => thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// Checks that the report has one completed migration with all calls.
fn is_right(report: &[u8], calls: u64) -> Result<()> {
    let report: Value = serde_json::from_slice(report).context("the report is not JSON")?;
    let verdict = report.pointer("/migrations/0/verdict").and_then(Value::as_str);
    ensure!(verdict == Some("completed"), "the migration is {verdict:?}");
    let sessions = report.get("sessions").and_then(Value::as_array).context("no sessions")?;
    let parts = sessions.iter().filter_map(|session| session.get("parts")?.as_array()).flatten();
    let told: u64 = parts.filter_map(|part| part.get("calls")?.as_u64()).sum();
    ensure!(told == calls, "{told} of {calls} calls are in the report");
    Ok(())
}
