//! Signals that end a run, FIFOs without a writer or a reader, a full disk.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::test::{
    Found,
    compat::device,
    guest::Left,
    steps::compare,
    traced::{Traced, text},
};

const LOAD: &str = "modprobe -a vfio_iommu_type1 mtty quayside || return 1\n";

/// Shell functions. `heeds PID`: waits until it catches SIGINT, or has ended. `over PID`: waits for its end, not for
/// ever.
const TOOLS: &str = r#"
    ended() { [ ! -e /proc/$1/status ] || grep -q '^State:.Z' /proc/$1/status; }
    heeds() {
        caught=$(sed -n 's/^SigCgt:.//p' /proc/$1/status 2>/dev/null)
        ended $1 || [ -z "$caught" ] || [ $((0x$caught & 2)) -ne 0 ]
    }
    over() { await "end of $1" ended $1 || kill -KILL $1; wait $1; }
"#;

pub(super) const HANGUP: &str = r#"
    modprobe -a vfio_iommu_type1 mtty || return 1
    vfio-trace tail --format ndjson >tail.ndjson 2>tail.err & tail=$!
    vfio-trace record -o rec.vft 2>rec.err & rec=$!
    all="$tail $rec"
    await tail [ -s tail.ndjson ] && await rec [ -s rec.vft ] || return 1
    lab-step --json steps --create mtty-2 set=STOP_COPY read-all set=RUNNING get || return 1
    kill -HUP $tail $rec; wait $tail; echo $? >tail.code; wait $rec; echo $? >rec.code
    vfio-trace replay --format ndjson rec.vft >rec.ndjson 2>replay.err; echo $? >replay.code
    # A terminal that goes away says so twice: while the end is written, too.
    for nr in 0 1 2 3 4 5; do
        vfio-trace record -o twice-$nr.vft 2>twice-$nr.err & rec=$!; all="$all $rec"
        await rec [ -s twice-$nr.vft ] || return 1
        kill -HUP $rec; sleep 0.0$nr; kill -HUP $rec 2>/dev/null; wait $rec
        vfio-trace replay twice-$nr.vft >/dev/null 2>again-$nr.err; echo $? >again-$nr.code
    done
"#;

fn code(left: &Left, name: &str, expected: i32) -> Result<()> {
    let (code, said) =
        (left.file(&format!("{name}.code"))?, left.file(&format!("{name}.err")).unwrap_or_default());
    ensure!(
        code.trim() == expected.to_string(),
        "{name} ended with {}, not {expected}:\n{said}",
        code.trim()
    );
    ensure!(!said.contains("panicked"), "{name}:\n{said}");
    Ok(())
}

/// Checks that all steps are in the trace, which has an end and no loss. Returns the number of steps compared.
fn whole(left: &Left, name: &str) -> Result<usize> {
    let traced = left.traced(name)?;
    traced.is_complete()?;
    let mut compared = 0;
    for step in &left.records("steps")? {
        compared += compare(&traced, step).with_context(|| format!("{name}: {step}"))?;
    }
    Ok(compared)
}

pub(super) fn hangup(left: &Left) -> Result<Found> {
    for name in ["tail", "rec", "replay"] {
        code(left, name, 0)?;
    }
    let steps = whole(left, "tail.ndjson")?;
    ensure!(whole(left, "rec.ndjson")? == steps && steps > 3, "{steps} steps");
    for nr in 0..6 {
        code(left, &format!("again-{nr}"), 0)?;
    }
    Ok(Found::one(format!(
        "both end with code 0, an end mark and the account in it; {steps} steps in both; a second one does no harm"
    )))
}

/// Number of requests of a command that goes on after the signal: far more than a buffer of 16 KiB takes.
const REQUESTS: usize = 900;

/// Returns the script: a command that ignores the signal, and one that ignores it so that a second signal is needed.
pub(super) fn grace_script() -> String {
    let gets = "get get get get get get get get get sleep=10 ".repeat(REQUESTS / 9);
    format!(
        r#"{LOAD}
        vfio-trace tail --buffer 16K --format ndjson >tail.ndjson 2>tail.err -- sh -c 'trap "" TERM
            lab-step --json steps --create quayside-full pause=/run/part/go {gets} >steps.out 2>&1; echo $? >steps.code' & tail=$!
        all="$tail"
        await paused [ -e /run/part/go.paused ] || return 1
        now >signalled; kill -TERM $tail; : >/run/part/go; wait $tail; echo $? >tail.code
        await command [ -e steps.code ] || return 1
        vfio-trace tail --format ndjson >twice.ndjson 2>twice.err -- sh -c 'trap ": >told" TERM; echo $$ >child; while :; do sleep 0.1; done' & tail=$!
        all="$all $tail"
        await child [ -s child ] || return 1
        kill -TERM $tail; await told [ -e told ] || return 1
        now >twice.signalled; kill -TERM $tail; wait $tail; echo $? >twice.code
        kill $(cat child) 2>/dev/null; kill -KILL $(cat child) || return 1
        vfio-trace record -o outlived.vft --stop-after 300ms 2>outlived.err -- sh -c 'echo $$ >outlives; exec sleep 60'
        echo $? >outlived.code; kill $(cat outlives) || return 1
        vfio-trace record -o /dev/full 2>unwritten.err -- sh -c 'echo $$ >unwritten; exec sleep 60'; echo $? >unwritten.code
        await unwritten [ -s unwritten ] && kill $(cat unwritten) || return 1
        vfio-trace record -o short.vft 2>short.err -- true; echo $? >short.code
        vfio-trace record -o failed.vft 2>failed.err -- sh -c 'exit 7'; echo $? >failed.code
        "#
    )
}

/// Returns the CLOCK_MONOTONIC of a moment that `now` wrote down. The VM is never suspended: both clocks are the same.
fn moment(left: &Left, name: &str) -> Result<u64> {
    let seconds: f64 = left.file(name)?.trim().parse().context("no time")?;
    Ok((seconds * 1e9) as u64)
}

fn number(value: &Value, name: &str) -> Result<u64> {
    value.get(name).and_then(Value::as_u64).with_context(|| format!("no {name} in {value}"))
}

/// Returns the time at which the probes were off.
fn ended(traced: &Traced) -> Result<u64> {
    let began = traced.start.pointer("/clock/mono_ns").and_then(Value::as_u64).context("no clock")?;
    Ok(began + number(&traced.summary, "duration_ns")?)
}

/// Message about a command that still runs when tracing has ended.
const GOES_ON: &str = "sh goes on without being traced";

/// Within this time before or after the end of the run a command may be there, or have ended: both is right.
const AROUND_NS: u64 = 1_000_000_000;

/// Checks that the output has exactly these words about the command.
fn of_command(said: &str, words: Option<&str>) -> Result<()> {
    let all = ["goes on", "exited with", "was ended by"];
    let found: Vec<&str> = said.lines().filter(|line| all.iter().any(|one| line.contains(one))).collect();
    ensure!(found == words.as_slice(), "of the command is said {found:?}, not {words:?}:\n{said}");
    Ok(())
}

pub(super) fn grace(left: &Left) -> Result<Found> {
    let traced = left.traced("tail.ndjson")?;
    traced.is_complete()?;
    let (signalled, ended_ns) = (moment(left, "signalled")?, ended(&traced)?);
    let steps = left.records("steps")?;
    let (mut seen, mut last) = (0, 0);
    for step in steps.iter().filter(|step| text(step, "step") == Some("get")) {
        ensure!(number(step, "start_ns")? >= signalled, "{step} was before the signal");
        last = number(step, "end_ns")?.max(last);
        // Only steps that end within the run. The run's duration is exact only to the clock's steps at the start.
        if number(step, "end_ns")? + 50_000_000 < ended_ns {
            seen += compare(&traced, step).with_context(|| step.to_string())?;
        }
    }
    // Each request has two records, 240 bytes: this is twice the size of the buffer, even on a slow machine.
    ensure!(
        seen > 140,
        "only {seen} requests were made while the command was waited for: too few to fill the buffer"
    );
    let twice = left.traced("twice.ndjson")?;
    let (second, ended) = (moment(left, "twice.signalled")?, ended(&twice)?);
    // On a slow machine it has not made all its requests when its time is over; and it ends a little after the last.
    let said = left.file("tail.err")?;
    let tail = if last.abs_diff(ended_ns) < AROUND_NS { said.contains(GOES_ON) } else { last > ended_ns };
    for (name, code, words) in [
        ("tail", 0, tail.then_some(GOES_ON)),
        ("twice", 0, Some(GOES_ON)),
        ("outlived", 0, Some(GOES_ON)),
        ("unwritten", 1, Some(GOES_ON)),
        ("short", 0, None),
        ("failed", 1, Some("sh exited with 7")),
    ] {
        self::code(left, name, code)?;
        of_command(&left.file(&format!("{name}.err"))?, words).context(name)?;
    }
    let later = ended.saturating_sub(second) / 1_000_000;
    ensure!(later < 4_000, "after the second signal it went on for {later} ms");
    Ok(Found::one(format!(
        "{seen} requests after the signal, all seen with a buffer of 16 KiB; a second signal ends it after {later} ms; a \
         command is said to go on where it does, and only there"
    )))
}

const FULL: &str = r#"
    modprobe -a vfio_iommu_type1 mtty || return 1
    steps="set=STOP_COPY read-all set=RUNNING"
    free() { ! pgrep -x lab-step >/dev/null; }
    for format in text ndjson; do
        vfio-trace tail --format $format >/dev/full 2>$format.err -- lab-step --create mtty-2 $steps; echo $? >$format.code
        await free free || return 1
    done
    vfio-trace tail >/dev/full 2>alone.err & tail=$!; all="$tail"
    await alone heeds $tail || return 1
    lab-step --create mtty-2 $steps >steps.out 2>&1 || return 1
    kill $tail 2>/dev/null; wait $tail; echo $? >alone.code
    vfio-trace record -o /dev/full -- sh -c 'sleep 1; : >went-on' 2>begin.err; echo $? >begin.code
    await went-on [ -e went-on ]
"#;

pub(super) fn full_script() -> String {
    format!("{TOOLS}{FULL}")
}

pub(super) fn full(left: &Left) -> Result<Found> {
    for name in ["text", "ndjson", "alone"] {
        code(left, name, 1)?;
        let said = left.file(&format!("{name}.err"))?;
        ensure!(
            said.contains("error: cannot write standard output") && said.contains("No space left"),
            "{name}:\n{said}"
        );
        ensure!(
            !said.contains("0 lost, 0 missed"),
            "{name} gives an account of what nobody has got:\n{said}"
        );
    }
    code(left, "begin", 1)?;
    let said = left.file("begin.err")?;
    for words in ["error: cannot record to /dev/full", "No space left", "sh goes on without being traced"] {
        ensure!(said.contains(words), "begin:\n{said}");
    }
    ensure!(!said.contains("replay"), "there is nothing that could be replayed:\n{said}");
    Ok(Found::one(
        "an error, code 1, and no account that all is well; nothing is said to be recorded that is not",
    ))
}

/// Returns the script: a FIFO that has no writer is read, and one that has no reader is written to.
pub(super) fn fifos_script() -> String {
    let own = device(1);
    format!(
        r#"{LOAD}{TOOLS}
        mdevs quayside-full 1 1 || return 1
        where=/sys/bus/mdev/devices/{own}/quayside/where
        mkdir btf && mkfifo btf/vmlinux image out || return 1
        timeout -s KILL 60 vfio-trace doctor --btf btf >btf.out 2>btf.err; echo $? >btf.code
        vfio-trace exercise {own} --yes --plan resume --in image >in.out 2>in.err & run=$!; all="$run"
        await in heeds $run || return 1
        kill -INT $run; over $run; echo $? >in.code; cat $where >in.where
        vfio-trace exercise {own} --yes --plan save --out out >out.out 2>out.err & run=$!; all="$all $run"
        await out [ -s out.out ] || return 1
        sleep 2; kill -INT $run; over $run; echo $? >out.code; cat $where >out.where
        "#
    )
}

pub(super) fn fifos(left: &Left) -> Result<Found> {
    let (btf, said) = (left.file("btf.code")?, left.file("btf.err")?);
    ensure!(btf.trim() != "137" && btf.trim() != "0", "doctor --btf ended with {}:\n{said}", btf.trim());
    ensure!(said.contains("it is no regular file"), "{said}");
    for (name, words) in [("in", "was to stop"), ("out", "was to stop")] {
        code(left, name, 1)?;
        let said = left.file(&format!("{name}.err"))?;
        ensure!(said.contains(words), "{name}:\n{said}");
        // State 2 is RUNNING.
        let state = left.file(&format!("{name}.where"))?;
        ensure!(state.starts_with("state 2\n"), "after {name}: {state}");
    }
    ensure!(
        left.file("in.where")?.contains("\nshifts 0\n"),
        "the device was driven before its image was there"
    );
    Ok(Found::one(
        "--btf refuses one; --in and --out end with a signal, the device untouched or RUNNING again",
    ))
}

/// Script for Ctrl-C on a terminal of its own, and for a signal from elsewhere: NAME, `typed` or not.
const TERMINAL: &str = r#"
import os, pty, signal, sys, time
name, how = sys.argv[1:]
pid, terminal = pty.fork()
if pid == 0:
    os.execvp("vfio-trace", ["vfio-trace", "tail", "--", "python3", "counter.py", name])
limit = time.monotonic() + 60
while not os.path.exists(name + ".ready") and time.monotonic() < limit:
    time.sleep(0.05)
if how == "typed":
    os.write(terminal, b"\x03")
else:
    os.kill(pid, signal.SIGINT)
try:
    while os.read(terminal, 4096):
        pass
except OSError:
    pass
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

/// Program that notes each SIGINT, for a while after the first.
const COUNTER: &str = r#"
import signal, sys, time
name, end = sys.argv[1], None
def note(*_):
    global end
    end = end or time.monotonic() + 1.5
    with open(name, "a") as file:
        file.write("INT\n")
signal.signal(signal.SIGINT, note)
open(name + ".ready", "w").close()
while end is None or time.monotonic() < end:
    time.sleep(0.02)
"#;

/// Returns the script: signals before the run has begun, and the processes that get later ones.
pub(super) fn early_script() -> String {
    let own = device(1);
    format!(
        r#"{LOAD}{TOOLS}
        mdevs quayside-full 1 1 || return 1
        where=/sys/bus/mdev/devices/{own}/quayside/where
        cat >terminal.py <<'END'
{TERMINAL}
END
        cat >counter.py <<'END'
{COUNTER}
END
        early() {{
            name=$1; shift
            vfio-trace "$@" >$name.out 2>$name.err & run=$!; all="$all $run"
            until heeds $run; do :; done
            kill -INT $run; over $run; echo $? >$name.code
        }}
        early tail tail -- touch started
        early record record -o early.vft -- touch started
        cat $where >before
        early exercise exercise {own} --yes --plan save
        cat $where >after
        ls started early.vft >made 2>&1
        for how in typed sent; do timeout -s KILL 120 python3 terminal.py $how $how; echo $? >$how.code; done
        "#
    )
}

pub(super) fn early(left: &Left) -> Result<Found> {
    for name in ["tail", "record"] {
        code(left, name, 1)?;
        let said = left.file(&format!("{name}.err"))?;
        ensure!(said.contains("touch was not started"), "{name}:\n{said}");
    }
    let made = left.file("made")?;
    ensure!(made.lines().filter(|line| line.contains("No such file")).count() == 2, "made: {made}");
    code(left, "exercise", 1)?;
    let said = left.file("exercise.err")?;
    ensure!(said.contains("a signal asked for the end before it began"), "{said}");
    let (before, after) = (left.file("before")?, left.file("after")?);
    ensure!(before == after && before.contains("shifts 0"), "before\n{before}after\n{after}");
    for name in ["typed", "sent"] {
        let (code, count) = (left.file(&format!("{name}.code"))?, left.file(name)?);
        ensure!(code.trim() == "0", "{name}: tail ended with {code}");
        ensure!(count == "INT\n", "{name}: the command had {} signals", count.lines().count());
    }
    Ok(Found::one(
        "before the start: no command, no recording, no device opened; Ctrl-C comes to the command once, and so does kill -INT",
    ))
}
