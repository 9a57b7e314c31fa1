//! `merge`: a migration from one lab VM to another, each with its own kernel, clocks and tracer.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{
    Check, Found, export,
    guest::{Guest, Lab},
    notes,
};
use crate::{cmd, lab::vm, workspace};

/// Seconds by which the destination's wall clock is set back: data seems to be written before it was read.
const BACK_S: u64 = 40;

/// Returns the checks of `merge`.
pub(super) fn checks() -> Vec<Check> {
    vec![Check::new("merge: from one VM to another", two_vms).alone()]
}

/// Script for both VMs that finds the port to the other one.
const PORT: &str = r#"for port in /sys/class/virtio-ports/*; do
    [ "$(cat $port/name)" != link ] || link=/dev/${port##*/}
done
cd $LAB_RESULTS; modprobe mtty
"#;

fn two_vms(lab: &Lab) -> Result<Found> {
    // QEMU does not remove the socket.
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("link");
    let end = |listen| Some(vm::Link { path: socket.clone(), listen });
    // Data on its way is lost when one VM ends: the source waits for the other to be ready, and to be done.
    let source = format!(
        "{PORT}vfio-trace record -q -o src.vft -- \
         lab-half source \"exec:exec 3<>$link; read ready <&3; cat >&3\" --evidence . >half.out && read done <$link"
    );
    // QEMU waits for the end of the program that it has started; it does not wait for the writer of a pipe that exists
    // already.
    let destination = format!(
        "{PORT}date -s @$(($(date +%s) - {BACK_S})) >date.out; mkfifo /run/stream\n\
         ( exec 3<>$link 4>/run/stream; echo ready >&3; exec cat <&3 >&4 ) & relay=$!\n\
         vfio-trace record -q -o dst.vft -- \
         lab-half destination file:/run/stream --evidence . >half.out || exit\n\
         kill $relay; wait $relay; echo done >$link"
    );
    let boot = |name, script: &str, link| lab.boot_linked(name, script, Duration::from_mins(4), link);
    let (from, to) = thread::scope(|scope| {
        let notes = notes::Handle::current();
        let to = scope.spawn(move || {
            notes.enter();
            boot("merge-destination", &destination, end(true))
        });
        while !socket.exists() && !to.is_finished() {
            thread::sleep(Duration::from_millis(20));
        }
        let from = boot("merge-source", &source, end(false));
        (from, to.join())
    });
    let to = to.map_err(|panic| anyhow::anyhow!("the destination's boot panicked: {panic:?}"))??;
    let from = from?;
    for (name, guest) in [("source", &from), ("destination", &to)] {
        let said = guest.stderr.trim();
        ensure!(guest.outcome == vm::Outcome::Exited(0), "the {name}: {}; it said:\n{said}", guest.outcome);
    }
    compare(&from, &to)
}

fn compare(from: &Guest, to: &Guest) -> Result<Found> {
    let binary = workspace::bin_dir()?.join("vfio-trace");
    let (src, dst) = (from.results.join("src.vft"), to.results.join("dst.vft"));
    let run = |arguments: &[&std::ffi::OsStr]| {
        let mut command = std::process::Command::new(&binary);
        command.args(arguments);
        cmd::stdout(&mut command)
    };
    let report = |files: &[&std::path::Path]| -> Result<Value> {
        let mut arguments = vec!["report".as_ref(), "--json".as_ref()];
        arguments.extend(files.iter().map(|file| file.as_os_str()));
        serde_json::from_str(&run(&arguments)?).context("report --json is not JSON")
    };
    let merged = from.results.join("merged.vft");
    let made = run(&[
        "merge".as_ref(),
        src.as_os_str(),
        dst.as_os_str(),
        "--force".as_ref(),
        "-o".as_ref(),
        merged.as_os_str(),
    ])?;
    ensure!(made.contains("completed, downtime"), "merge said: {made}");
    let document = report(&[&merged])?;
    let mut both = report(&[&src, &dst])?;
    // The hosts differ only in the file from which they were read.
    for (host, of) in both["hosts"]
        .as_array_mut()
        .context("no hosts")?
        .iter_mut()
        .zip(document["hosts"].as_array().context("no hosts")?)
    {
        host["source"] = of["source"].clone();
    }
    ensure!(both == document, "a merged file and its two recordings give different reports");

    let [migration] = document["migrations"].as_array().context("no migrations")?.as_slice() else {
        anyhow::bail!("not one migration: {}", document["migrations"]);
    };
    ensure!(migration["verdict"] == "completed", "{migration}");
    ensure!(migration["source"]["host"] == 0 && migration["destination"]["host"] == 1, "{migration}");
    let device = &migration["devices"][0];
    let stream = &device["stream"];
    ensure!(
        stream["read_bytes"] == stream["written_bytes"] && stream["read_bytes"].as_u64() > Some(0),
        "{stream}"
    );
    let clock = &document["merge"][0];
    ensure!(clock["method"] == "causality", "the destination's clock is {BACK_S} s late: {clock}");
    let offset = clock["offset_ns"].as_i64().context("no offset")?;
    // Both VMs have the host's clock until one is set back by whole seconds.
    let expected = i64::try_from(BACK_S)? * 1_000_000_000;
    let off = (offset - expected).abs();
    ensure!(off < 20_000_000_000, "offset {offset} ns, the clock was set back by {expected} ns");
    let downtime = &migration["downtime"];
    let total = downtime["total_ns"].as_u64().context("no downtime")?;
    let sum: u64 = downtime["stages"]
        .as_array()
        .context("no stages")?
        .iter()
        .filter_map(|stage| stage["share_ns"].as_u64())
        .sum();
    ensure!(sum == total, "the stages' shares are {sum} ns, the total {total} ns");
    let stages = ["stop", "save", "read", "gap", "write", "load", "start"];
    for stage in stages {
        let there =
            downtime["stages"].as_array().is_some_and(|all| all.iter().any(|one| one["stage"] == stage));
        ensure!(there, "no {stage} in {downtime}");
    }
    // Each tracer alone knows its part, and reports that it is one.
    for (file, part) in [(&src, "source"), (&dst, "destination")] {
        let alone = report(&[file])?;
        let one = &alone["migrations"][0];
        ensure!(one["downtime"]["bound"] == "at_least", "{part} alone: {}", one["downtime"]);
        ensure!(one["verdict"] == "completed", "{part} alone: {one}");
    }
    let exported = export::check(&[merged], &from.results.join("export"))?;
    Ok(Found::one(format!(
        "downtime {} ms, 7 stages; clock moved by {} ms, {} ms from what it was set back by; {}; exported: {exported}",
        total / 1_000_000,
        offset / 1_000_000,
        off / 1_000_000,
        clock["text"].as_str().unwrap_or_default()
    )))
}
