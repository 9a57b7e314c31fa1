//! `record` and `replay`: recordings of a guest, replayed on this host; and recorders that fail.

use std::{path::Path, process::Command, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{
    Check, Found, any_kernel,
    boot::{Boot, Part},
    guest::Left,
    traced::{Traced, data, text},
};
use crate::workspace;

/// Shell functions that start a recorder in the background and wait until it records, or has ended.
const BEGIN: &str = "is_begun() { [ -s $first ] || ! kill -0 $rec 2>/dev/null; }\n\
                     begin() { file=$1; first=$2; shift 2; vfio-trace record -o $file \"$@\" >$file.out 2>$file.err & \
                     rec=$!; all=\"$all $rec\"; await $first is_begun || return 1; \
                     [ -s $first ] || { cat $file.err >&2; return 1; }; sleep 0.3; }\n";

/// Steps of one save, with 17 events or more.
const STEPS: &str = "lab-step --create mtty-2 set=STOP_COPY read-all set=RUNNING";

/// A check: its name, its part of the boot, and the function that judges the part's files.
type Recorded = (&'static str, &'static str, fn(&Left) -> Result<Found>);

const ALL: [Recorded; 6] = [
    ("record: replayed on the host", "migration", migration),
    ("record: killed", "killed", killed),
    ("record: rotation", "rotation", rotation),
    ("record: no room", "no-room", no_room),
    ("record: through a pipe", "piped", piped),
    ("record: a backlog", "backlog", backlog),
];

pub(super) fn checks() -> Vec<Check> {
    let part = |name, script: fn(&str) -> Result<String>| Part { name, script };
    let parts = vec![
        part("migration", |_| Ok(migration_script())),
        part("killed", |_| Ok(killed_script())),
        part("rotation", |_| Ok(rotation_script())),
        part("no-room", |_| Ok(no_room_script())),
        part("piped", |_| Ok(piped_script())),
        part("backlog", |_| Ok(backlog_script())),
    ];
    let boot = Boot::new(any_kernel(), false, parts);
    let check = |(name, part, judge): Recorded| {
        let (wanted, boot) = (Arc::clone(&boot), Arc::clone(&boot));
        Check::new(name, move |_| judge(&boot.part(part)?)).wanting(move || wanted.want(part))
    };
    ALL.map(check).into()
}

/// Runs `vfio-trace replay` on this host. Returns exit code, standard output, standard error.
fn replay(files: &[&Path], arguments: &[&str]) -> Result<(Option<i32>, String, String)> {
    let program = workspace::bin_dir()?.join("vfio-trace");
    let output = Command::new(program)
        .arg("replay")
        .args(arguments)
        .args(files)
        .output()
        .context("cannot start vfio-trace")?;
    let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Ok((output.status.code(), out, err))
}

fn replayed(files: &[&Path]) -> Result<Traced> {
    let (code, out, err) = replay(files, &["--format", "ndjson"])?;
    ensure!(code == Some(0), "replay exited with {code:?}: {}", err.trim());
    let traced = Traced::parse(&out)?;
    traced.is_complete()?;
    Ok(traced)
}

/// Returns the parts of an event that are the same for two tracers of a device: everything but times and session
/// numbers.
pub(super) fn essence(event: &Value) -> String {
    let mut data = data(event).clone();
    if let Some(fields) = data.as_object_mut() {
        fields.remove("session");
        fields.remove("lifetime_ns");
    }
    let field = |name| text(event, name).unwrap_or("?").to_owned();
    format!("{} {} {} {data}", field("kind"), field("device"), field("comm"))
}

fn same(live: &Traced, replayed: &Traced) -> Result<usize> {
    let kinds = ["arc", "read", "write", "set_state", "precopy_info", "data_size", "get_state", "data_close"];
    let list = |traced: &Traced| -> Vec<String> {
        let wanted = |event: &&Value| text(event, "kind").is_some_and(|kind| kinds.contains(&kind));
        traced.events.iter().filter(wanted).map(essence).collect()
    };
    let (live, replayed) = (list(live), list(replayed));
    for (number, (one, other)) in live.iter().zip(&replayed).enumerate() {
        ensure!(one == other, "event {number} is {one} live and {other} replayed");
    }
    ensure!(live.len() == replayed.len(), "{} events live, {} replayed", live.len(), replayed.len());
    ensure!(live.len() > 20, "only {} events were compared", live.len());
    Ok(live.len())
}

fn exit_code(left: &Left, file: &str, expected: &str) -> Result<()> {
    let code = left.file(file)?;
    ensure!(code.trim() == expected, "{file} is {} instead of {expected}", code.trim());
    Ok(())
}

fn migration_script() -> String {
    format!(
        "modprobe mtty; {BEGIN}begin rec.vft rec.vft || return 1\n\
         vfio-trace tail --format ndjson -- lab-migrate --scenario ok >tail.ndjson 2>tail.err\n\
         sleep 1; kill -INT $rec; wait $rec; echo $? >code\n\
         vfio-trace replay --format ndjson rec.vft >guest.ndjson; ls -l rec.vft >mode; chmod a+r rec.vft"
    )
}

fn migration(left: &Left) -> Result<Found> {
    exit_code(left, "code", "0")?;
    ensure!(left.file("mode")?.starts_with("-rw-------"), "others may read it: {}", left.file("mode")?);
    let file = left.path("rec.vft");
    let traced = replayed(&[&file])?;
    let compared = same(&Traced::parse(&left.file("tail.ndjson")?)?, &traced)?;
    let (_, here, _) = replay(&[&file], &["--format", "ndjson"])?;
    ensure!(here == left.file("guest.ndjson")?, "this host replays it otherwise than the guest did");
    let (_, text, account) = replay(&[&file], &["--utc"])?;
    ensure!(text.contains("PRE_COPY_P2P → STOP_COPY"), "no arc in the text:\n{text}");
    ensure!(account.contains("0 lost, 0 missed"), "no account:\n{account}");
    let size = file.metadata()?.len();
    let events = traced.events.len();
    Ok(Found::one(format!(
        "{compared} events as live, {events} in {size} bytes; the same bytes in the guest"
    )))
}

fn killed_script() -> String {
    format!(
        "modprobe mtty; {BEGIN}begin rec.vft rec.vft || return 1\n\
         {STEPS}; sleep 1.6; {STEPS}; kill -9 $rec; wait $rec; chmod a+r rec.vft"
    )
}

fn killed(left: &Left) -> Result<Found> {
    let (code, out, err) = replay(&[&left.path("rec.vft")], &["--format", "ndjson"])?;
    ensure!(code == Some(5), "replay exited with {code:?}: {err}");
    ensure!(err.contains("without an end mark"), "it does not say what is missing: {err}");
    ensure!(!out.contains("\"kind\":\"summary\""), "a stream that was cut has a summary");
    let arcs = out.lines().filter(|line| line.contains("\"kind\":\"arc\"")).count();
    ensure!((6..=12).contains(&arcs), "{arcs} of 12 arcs are there, 6 of them older than a second");
    Ok(Found::one(format!("{arcs} of 12 arcs, exit code 5")))
}

fn rotation_script() -> String {
    format!(
        "modprobe mtty; {BEGIN}begin all.vft all.0001.vft --rotate 1500ms || return 1\n\
         whole=$rec; begin few.vft few.0001.vft --rotate 1s --keep 2 || return 1; few=$rec\n\
         vfio-trace tail --format ndjson -- sh -c 'for i in 1 2 3 4; do {STEPS}; sleep 1; done' >tail.ndjson 2>tail.err\n\
         sleep 1; kill -INT $whole $few; wait $whole; echo $? >all.code; wait $few; echo $? >few.code\n\
         vfio-trace record -o few.vft --rotate 1s -- true 2>again.err; echo $? >again.code; chmod a+r *.vft; ls *.vft >names"
    )
}

fn rotation(left: &Left) -> Result<Found> {
    exit_code(left, "all.code", "0")?;
    exit_code(left, "few.code", "0")?;
    exit_code(left, "again.code", "1")?;
    ensure!(left.file("again.err")?.contains("exists already"), "an old part would have been overwritten");
    let names = left.file("names")?;
    let parts = |stem: &str| -> Vec<_> {
        names.lines().filter(|name| name.starts_with(stem)).map(|name| left.path(name)).collect()
    };
    let (all, few) = (parts("all."), parts("few."));
    ensure!(all.len() >= 3, "it has not rotated: {names}");
    ensure!(few.len() == 2, "--keep 2 kept {}", few.len());
    // Any order will do: each says which part it is.
    let backwards: Vec<&Path> = all.iter().rev().map(AsRef::as_ref).collect();
    let whole = replayed(&backwards)?;
    let compared = same(&Traced::parse(&left.file("tail.ndjson")?)?, &whole)?;
    for part in &all {
        let (code, _, err) = replay(&[part], &[])?;
        ensure!(code == Some(0), "{} alone: {err}", part.display());
    }
    let (code, _, err) = replay(&[&all[0], &all[2]], &[])?;
    ensure!(
        code == Some(5) && err.contains("part 2 is not given"),
        "a missing part is not told: {code:?} {err}"
    );
    let kept: Vec<&Path> = few.iter().map(AsRef::as_ref).collect();
    let kept = replayed(&kept)?;
    Ok(Found::one(format!(
        "{} parts, {compared} events as live; the last 2 of another alone: {} events",
        all.len(),
        kept.events.len()
    )))
}

fn no_room_script() -> String {
    format!(
        "modprobe mtty; mkdir /run/small; mount -t tmpfs -o size=64k none /run/small\n\
         vfio-trace record -o /run/small/rec.vft -- sh -c '{STEPS}; sleep 1.6; \
           dd if=/dev/zero of=/run/small/fill bs=1k; {STEPS}; sleep 3' 2>full.err; echo $? >full.code\n\
         cp /run/small/rec.vft .; chmod a+r rec.vft; echo mine >mine.vft\n\
         vfio-trace record -o mine.vft -- true 2>mine.err; echo $? >mine.code\n\
         vfio-trace record -o /proc/no.vft -- true 2>proc.err; echo $? >proc.code\n\
         vfio-trace record -o forced.vft --stop-after 1s; vfio-trace record -o forced.vft --force -- {STEPS}; \
         chmod a+r forced.vft\n\
         mkdir theirs; chown 65534 theirs; chmod 755 theirs\n\
         vfio-trace record -o theirs/rec.vft --rotate 1s -- true 2>theirs.err; echo $? >theirs.code; ls theirs >left"
    )
}

fn no_room(left: &Left) -> Result<Found> {
    exit_code(left, "full.code", "1")?;
    ensure!(left.file("full.err")?.contains("No space left"), "{}", left.file("full.err")?);
    let (code, out, err) = replay(&[&left.path("rec.vft")], &["--format", "ndjson"])?;
    ensure!(code == Some(5), "a recording that ran out of room: {code:?} {err}");
    ensure!(out.matches("\"kind\":\"arc\"").count() >= 6, "what was written before is not there:\n{out}");
    exit_code(left, "mine.code", "1")?;
    ensure!(left.file("mine.vft")? == "mine\n", "a file was overwritten");
    ensure!(left.file("mine.err")?.contains("exists already"), "{}", left.file("mine.err")?);
    exit_code(left, "proc.code", "1")?;
    let forced = replayed(&[&left.path("forced.vft")])?;
    ensure!(
        forced.events.iter().any(|event| text(event, "kind") == Some("arc")),
        "--force has not replaced it"
    );
    // The first part is created before the recorder gives up the right to write anywhere, the others after.
    exit_code(left, "theirs.code", "1")?;
    ensure!(left.file("theirs.err")?.contains("a folder that you own"), "{}", left.file("theirs.err")?);
    Ok(Found::one("disk full, foreign file, unwritable place, --force, a folder of somebody else"))
}

fn piped_script() -> String {
    format!(
        "modprobe mtty\n\
         vfio-trace record -o - -- {STEPS} 2>record.err | vfio-trace replay --format ndjson - >replay.ndjson\n\
         sh -c 'echo $$ >rec.pid; exec vfio-trace record -o -' 2>live.err | \
           vfio-trace replay --kind arc - >live.txt 2>replay.err &\n\
         all=\"$all $!\"; await rec.pid [ -s rec.pid ] || return 1; rec=$(cat rec.pid); all=\"$all $rec\"\n\
         await live.txt grep -q TIME live.txt || return 1; {STEPS}; sleep 1.5; cp live.txt early.txt\n\
         kill -INT $rec; wait; cat replay.err"
    )
}

fn piped(left: &Left) -> Result<Found> {
    let traced = Traced::parse(&left.file("replay.ndjson")?)?;
    traced.is_complete()?;
    let early = left.file("early.txt")?;
    ensure!(early.contains("STOP → STOP_COPY"), "events do not come out while it records:\n{early}");
    Ok(Found::one(format!("{} events, and while it goes on", traced.events.len())))
}

/// Returns the script: both readers stand still for 3 s while more events come than they take at a time. Nothing may be
/// lost, and every request must have its ioctl, live and replayed.
fn backlog_script() -> String {
    format!(
        "modprobe mtty; {BEGIN}begin rec.vft rec.vft --buffer 16M || return 1\n\
         vfio-trace tail --buffer 16M --format ndjson >tail.ndjson 2>tail.err & tail=$!\n\
         all=\"$all $tail\"; await tail.ndjson [ -s tail.ndjson ] || return 1; sleep 0.5\n\
         steps=; for i in $(seq 300); do steps=\"$steps get get get get get get set=STOP get get set=RUNNING\"; done\n\
         kill -STOP $tail $rec; lab-step --create mtty-2 $steps >steps.out 2>&1; echo $? >steps.code; sleep 3\n\
         kill -CONT $tail $rec; sleep 3; kill -INT $tail $rec; wait $tail; wait $rec; chmod a+r rec.vft"
    )
}

fn backlog(left: &Left) -> Result<Found> {
    exit_code(left, "steps.code", "0")?;
    let live = Traced::parse(&left.file("tail.ndjson")?)?;
    live.is_complete()?;
    let replayed = replayed(&[&left.path("rec.vft")])?;
    let mut counts = Vec::new();
    for (how, traced) in [("live", &live), ("replayed", &replayed)] {
        let requests = traced
            .events
            .iter()
            .filter(|event| matches!(text(event, "kind"), Some("get_state" | "set_state")));
        let vias: Vec<Option<&str>> = requests.map(|event| data(event)["via"].as_str()).collect();
        let split = vias.iter().filter(|via| **via != Some("ioctl")).count();
        ensure!(split == 0, "{how}: {split} of {} requests are told without their ioctl", vias.len());
        // A request has two records or three: more than a reader takes at a time.
        ensure!(vias.len() >= 3000, "{how}: only {} requests", vias.len());
        counts.push(vias.len());
    }
    ensure!(counts.first() == counts.last(), "{counts:?} requests live and replayed");
    Ok(Found::one(format!("{counts:?} requests, each with its ioctl")))
}
