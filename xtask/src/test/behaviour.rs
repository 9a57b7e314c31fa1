//! What a user may expect of `tail` besides the truth: filters, limits, signals, exit codes, drivers that come late.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{
    Check, Found,
    guest::{Guest, Lab},
    traced::{Traced, text},
};

/// Saves and loads once between two devices.
const STEPS: &str = "lab-step --create mtty-2 --create mtty-2 set=STOP_COPY read-all=/run/i set=RUNNING \
                     2:set=RESUMING 2:write=/run/i 2:set=RUNNING";

pub(super) fn checks() -> Vec<Check> {
    vec![
        Check::new("tail: filters and limits", filters).lasting(60),
        Check::new("tail: signals and readers", signals).lasting(35),
        Check::new("tail: readers that stall, hangups, closed folders", stalled).lasting(150),
        Check::new("tail: privileges", privileges),
        Check::new("tail: drivers come and go", late),
    ]
}

/// Runs a script in which `code NAME COMMAND…` keeps a command's exit code and streams under a name.
fn run(lab: &Lab, name: &str, script: &str) -> Result<Guest> {
    let prelude =
        "cd $LAB_RESULTS; code() { name=$1; shift; \"$@\" >$name.out 2>$name.err; echo $? >$name.code; }\n";
    lab.run(name, &format!("{prelude}{script}"))
}

fn code(guest: &Guest, name: &str, expected: i32) -> Result<()> {
    let code = guest.file(&format!("{name}.code"))?;
    ensure!(
        code.trim() == expected.to_string(),
        "{name} exited with {} instead of {expected}: {}",
        code.trim(),
        guest.file(&format!("{name}.err"))?.lines().last().unwrap_or_default()
    );
    Ok(())
}

fn traced(guest: &Guest, name: &str) -> Result<Traced> {
    code(guest, name, 0)?;
    Traced::parse(&guest.file(&format!("{name}.out"))?).with_context(|| format!("output of {name}"))
}

/// All events have this value in this field; and there are some.
fn all(traced: &Traced, field: &str, wanted: &[&str]) -> Result<()> {
    ensure!(!traced.events.is_empty(), "no event with {field} {wanted:?}");
    for event in &traced.events {
        let value = text(event, field).unwrap_or("nothing");
        ensure!(wanted.contains(&value), "an event with {field} {value} passed a filter for {wanted:?}");
    }
    Ok(())
}

fn filters(lab: &Lab) -> Result<Found> {
    let tail = "code NAME vfio-trace tail --format ndjson ARGS -- STEPS\n";
    let script: String = [
        ("plain", ""),
        ("kind", "--kind arc,read"),
        ("device", "--device 2222"),
        ("pid", "--pid 1"),
        ("count", "--count 3"),
    ]
    .iter()
    .map(|(name, args)| tail.replace("NAME", name).replace("ARGS", args).replace("STEPS", STEPS))
    .collect();
    let script = format!(
        "modprobe mtty\n{script}\
         code duration vfio-trace tail --format ndjson --duration 700ms\n\
         code text vfio-trace tail --utc -- {STEPS}\n\
         code quiet vfio-trace tail --quiet --kind open -- {STEPS}\n\
         code color vfio-trace tail --color always --kind arc -- {STEPS}\n\
         code failing vfio-trace tail -- sh -c 'exit 9'\n\
         code usage vfio-trace tail --kind nonsense\n\
         code missing vfio-trace tail -- no-such-command"
    );
    let guest = run(lab, "tail-filters", &script)?;
    let plain = traced(&guest, "plain")?;
    plain.is_complete()?;
    all(&traced(&guest, "kind")?, "kind", &["arc", "read"])?;
    all(&traced(&guest, "device")?, "device", &["22222222-2222-2222-2222-222222222222"])?;
    ensure!(traced(&guest, "pid")?.events.is_empty(), "events of process 1?");
    let count = traced(&guest, "count")?;
    ensure!(count.events.len() == 3, "--count 3 showed {} events", count.events.len());
    let duration =
        traced(&guest, "duration")?.summary.get("duration_ns").and_then(Value::as_u64).unwrap_or(0);
    ensure!((700_000_000..5_000_000_000).contains(&duration), "--duration 700ms took {duration} ns");

    code(&guest, "text", 0)?;
    let lines = guest.file("text.out")?;
    ensure!(lines.starts_with("TIME"), "the text has no header");
    ensure!(
        lines.contains("STOP → STOP_COPY") && lines.contains("target STOP_COPY"),
        "no arc in the text:\n{lines}"
    );
    ensure!(!lines.contains('\u{1b}'), "colours without a terminal");
    let account = guest.file("text.err")?;
    ensure!(
        account.contains("0 lost, 0 missed") && account.contains("mtty_save_read"),
        "no account:\n{account}"
    );
    code(&guest, "quiet", 0)?;
    ensure!(!guest.file("quiet.err")?.contains("lost"), "--quiet gave an account");
    code(&guest, "color", 0)?;
    ensure!(guest.file("color.out")?.contains('\u{1b}'), "--color always has no colours");
    code(&guest, "failing", 1)?;
    ensure!(guest.file("failing.err")?.contains("sh exited with 9"), "the command's code is not told");
    code(&guest, "usage", 2)?;
    ensure!(guest.file("usage.err")?.contains("nonsense"), "a wrong kind is not named");
    code(&guest, "missing", 1)?;
    ensure!(
        guest.file("missing.err")?.contains("cannot start no-such-command"),
        "a wrong command is not named"
    );
    Ok(Found::one(format!(
        "{} events unfiltered; device, kind, pid, count, duration, colours, exit codes",
        plain.events.len()
    )))
}

fn signals(lab: &Lab) -> Result<Found> {
    let script = format!(
        "modprobe mtty\n\
         for signal in INT TERM; do\n\
           vfio-trace tail >$signal.out 2>$signal.err & pid=$!\n\
           while ! grep -q TIME $signal.out; do sleep 0.1; done\n\
           {STEPS}; kill -$signal $pid; wait $pid; echo $? >$signal.code\n\
         done\n\
         vfio-trace tail >child.out 2>child.err -- sh -c 'trap \"echo told >told; exit 0\" TERM; \
           while :; do sleep 0.1; done' & pid=$!\n\
         while ! grep -q TIME child.out; do sleep 0.1; done; sleep 1; kill -TERM $pid; wait $pid; echo $? >child.code\n\
         vfio-trace tail -- {STEPS} 2>reader.err | head -2 >reader.out\n"
    );
    let guest = run(lab, "tail-signals", &script)?;
    for name in ["INT", "TERM"] {
        code(&guest, name, 0)?;
        let account = guest.file(&format!("{name}.err"))?;
        ensure!(account.contains("0 lost, 0 missed"), "SIG{name} ended without an account:\n{account}");
        ensure!(
            guest.file(&format!("{name}.out"))?.contains("RESUMING → STOP"),
            "events are missing after SIG{name}"
        );
    }
    code(&guest, "child", 0)?;
    ensure!(guest.file("told")? == "told\n", "the signal was not passed on to the command");
    ensure!(guest.file("reader.out")?.lines().count() == 2, "`head -2` got something else than two lines");
    ensure!(!guest.file("reader.err")?.contains("panicked"), "a closed pipe made it panic");
    Ok(Found::one("SIGINT, SIGTERM, a signal passed on, a reader that leaves"))
}

/// A pipe that is full, and whose reader takes nothing, is written to: one signal ends it, and the device is back before.
fn stalled(lab: &Lab) -> Result<Found> {
    const DEVICE: &str = "11111111-1111-1111-1111-111111111111";
    let script = format!(
        "{}{}",
        r#"
        modprobe -a mtty vfio_iommu_type1 || modprobe mtty
        full() { mkfifo $1; sleep 1000 <$1 & sleepers="$sleepers $!"; head -c 65536 /dev/zero >$1; }
        lives() { grep -q '^State:[[:space:]]*[A-Y]' /proc/$1/status 2>/dev/null; }
        gone() { for i in $(seq 100); do lives $1 || return 0; sleep 0.1; done; return 1; }
        stop() { kill -TERM $1; gone $1; echo $? >$2.stayed; kill -KILL $1 2>/dev/null; wait $1; echo $? >$2.code; }
        full tail.fifo
        vfio-trace tail --format ndjson >tail.fifo 2>tail.err & pid=$!; sleep 3; stop $pid tail
        full record.fifo
        vfio-trace record -o record.fifo 2>record.err & pid=$!; sleep 3; stop $pid record
        vfio-trace tail >twice.out 2>twice.err & pid=$!
        while ! grep -q TIME twice.out; do sleep 0.1; done
        (trap '' HUP; exec vfio-trace tail >hup.out 2>hup.err) & pid2=$!
        while ! grep -q TIME hup.out; do sleep 0.1; done
        kill -HUP $pid $pid2; wait $pid; echo $? >twice.code
        sleep 1; lives $pid2; echo $? >hup.alive; kill -TERM $pid2; wait $pid2; echo $? >hup.code
        mkdir home; printf '#!/bin/sh\nexit 0\n' >home/run; chmod 700 home/run home; chown -R 4711 home
        cd home; code ../home vfio-trace tail -- ./run; cd ..
        "#,
        format_args!(
            r#"
        echo {DEVICE} >"$(echo /sys/class/mdev_bus/*/mdev_supported_types/mtty-2/create)" || exit 1
        group=$(readlink /sys/bus/mdev/devices/{DEVICE}/iommu_group)
        until [ -e /dev/vfio/${{group##*/}} ]; do sleep 0.05; done
        full exercise.fifo
        vfio-trace exercise {DEVICE} --yes --plan all --verbose >exercise.fifo 2>exercise.err & pid=$!
        for i in $(seq 3000); do
            if ls -l /proc/$pid/fd | grep -q '/dev/vfio/'; then seen=yes; elif [ -n "$seen" ]; then break; fi
        done
        echo $seen >exercise.opened; ls -l /proc/$pid/fd >exercise.fds
        stop $pid exercise
        kill $sleepers; true
        "#
        )
    );
    let guest = run(lab, "tail-stalled", &script)?;
    for name in ["tail", "record", "exercise"] {
        let stayed = guest.file(&format!("{name}.stayed"))?;
        ensure!(
            stayed.trim() == "0",
            "{name} was not ended by a signal: {}",
            guest.file(&format!("{name}.err"))?
        );
    }
    for name in ["tail", "record"] {
        code(&guest, name, 1)?;
        let said = guest.file(&format!("{name}.err"))?;
        ensure!(said.contains("it was to stop, and its reader"), "{name}: {said}");
    }
    ensure!(guest.file("exercise.opened")?.trim() == "yes", "it never had the device open");
    let fds = guest.file("exercise.fds")?;
    ensure!(!fds.contains("/dev/vfio/") && fds.contains("exercise.fifo"), "it still has the device:\n{fds}");
    // 128 + SIGTERM: the device is back, and nothing else to be brought to an end.
    code(&guest, "exercise", 143)?;
    code(&guest, "twice", 0)?;
    ensure!(guest.file("hup.alive")?.trim() == "0", "a hangup that is ignored has ended it");
    code(&guest, "hup", 0)?;
    code(&guest, "home", 0)?;
    Ok(Found::one("tail, record and exercise into a full pipe; nohup; a command in a home of mode 0700"))
}

fn privileges(lab: &Lab) -> Result<Found> {
    let with = |caps: &str| {
        let list: Vec<String> = caps.split_whitespace().map(|cap| format!("+{cap}")).collect();
        let list = list.join(",");
        let keep =
            if list.is_empty() { String::new() } else { format!("--inh-caps {list} --ambient-caps {list}") };
        format!("setpriv --reuid 1000 --regid 1000 --clear-groups {keep} vfio-trace tail --duration 300ms")
    };
    let script = format!(
        "modprobe mtty\n\
         code none {}\ncode perfmon {}\ncode paranoid {}\n\
         sysctl -qw kernel.perf_event_paranoid=2\n\
         code enough {}\n",
        with(""),
        with("perfmon"),
        with("bpf perfmon"),
        with("bpf perfmon")
    );
    let guest = run(lab, "tail-privileges", &script)?;
    for (name, words) in [
        ("none", ["CAP_BPF", "CAP_PERFMON"].as_slice()),
        ("perfmon", &["CAP_BPF", "setcap"]),
        ("paranoid", &["CAP_SYS_ADMIN", "perf_event_paranoid"]),
    ] {
        code(&guest, name, 3)?;
        let said = guest.file(&format!("{name}.err"))?;
        for word in words {
            ensure!(said.contains(word), "with {name}, {word} is not named:\n{said}");
        }
    }
    code(&guest, "enough", 0)?;
    Ok(Found::one(
        "missing capabilities are named; CAP_BPF and CAP_PERFMON are enough with perf_event_paranoid 2",
    ))
}

/// No driver, no vfio even, when tracing starts; then the driver is loaded, used, unloaded, loaded again.
fn late(lab: &Lab) -> Result<Found> {
    let script = format!(
        "code late vfio-trace tail --format ndjson -- sh -c '\
           modprobe mtty; sleep 3; {STEPS} || exit 1; rmmod mtty; sleep 2; modprobe mtty; sleep 3; {STEPS}'"
    );
    let guest = run(lab, "tail-late", &script)?;
    let late = traced(&guest, "late")?;
    late.is_complete()?;
    let count = |kind: &str| late.events.iter().filter(|event| text(event, "kind") == Some(kind)).count();
    // Per round: RUNNING to STOP_COPY 3 arcs and back 3; to RESUMING 3 and on to RUNNING 3.
    ensure!(count("arc") == 24, "two rounds have 24 arcs, the trace has {}", count("arc"));
    ensure!(
        count("set_state") == 8,
        "two rounds have 8 set_state calls, the trace has {}",
        count("set_state")
    );
    ensure!(count("data_close") == 4, "two rounds close 4 data fds, the trace has {}", count("data_close"));
    let said = guest.file("late.err")?;
    ensure!(said.contains("vfio is not loaded yet"), "it does not say that it waits:\n{said}");
    ensure!(
        said.lines().any(|line| line.starts_with("no longer probing ") && line.contains("mtty_set_state")),
        "it does not say that the driver went:\n{said}"
    );
    Ok(Found::one("24 arcs of a driver that was loaded twice after the start"))
}
