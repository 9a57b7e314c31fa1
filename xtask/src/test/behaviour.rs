//! Behaviour of `tail` besides its correctness: filters, limits, signals, exit codes, drivers that come late.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{
    Check, Found, any_kernel,
    boot::{Boot, Part},
    guest::Left,
    traced::{Traced, text},
};

/// Saves and loads once between two devices.
const STEPS: &str = "lab-step --create mtty-2 --create mtty-2 set=STOP_COPY read-all=/run/i set=RUNNING \
                     2:set=RESUMING 2:write=/run/i 2:set=RUNNING";

/// A check, its part of the boot, about how long that takes, and what judges it.
type TailCheck = (&'static str, &'static str, u32, fn(&Left) -> Result<Found>);

const ALL: [TailCheck; 5] = [
    ("tail: filters and limits", "filters", 55, filters),
    ("tail: signals and readers", "signals", 35, signals),
    ("tail: readers that stall, hangups, closed folders", "stalled", 65, stalled),
    ("tail: privileges", "privileges", 10, privileges),
    ("tail: drivers come and go", "late", 30, late),
];

pub(super) fn checks() -> Vec<Check> {
    let part = |name, script| Part { name, script };
    let parts = vec![
        // First, while nothing is loaded.
        part("late", |_| Ok(late_script())),
        part("filters", |_| Ok(filters_script())),
        part("signals", |_| Ok(signals_script())),
        part("stalled", |_| Ok(stalled_script())),
        // Last: it lowers perf_event_paranoid.
        part("privileges", |_| Ok(privileges_script())),
    ];
    let boot = Boot::new(any_kernel(), false, parts);
    let check = |(name, part, seconds, judge): TailCheck| {
        let (wanted, boot) = (Arc::clone(&boot), Arc::clone(&boot));
        Check::new(name, move |_| judge(&boot.part(part)?))
            .lasting(seconds)
            .wanting(move || wanted.want(part))
    };
    ALL.map(check).into()
}

/// `code NAME COMMAND…` keeps a command's exit code and streams under a name; `shows FILE PID` waits for the header of
/// a table.
const PRELUDE: &str = r#"
code() { name=$1; shift; "$@" >$name.out 2>$name.err; echo $? >$name.code; }
shows() { until grep -q TIME $1; do kill -0 $2 || return 1; sleep 0.1; done; }
"#;

fn code(left: &Left, name: &str, expected: i32) -> Result<()> {
    let code = left.file(&format!("{name}.code"))?;
    ensure!(
        code.trim() == expected.to_string(),
        "{name} exited with {} instead of {expected}: {}",
        code.trim(),
        left.file(&format!("{name}.err"))?.lines().last().unwrap_or_default()
    );
    Ok(())
}

fn traced(left: &Left, name: &str) -> Result<Traced> {
    code(left, name, 0)?;
    Traced::parse(&left.file(&format!("{name}.out"))?).with_context(|| format!("output of {name}"))
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

fn filters_script() -> String {
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
    format!(
        "{PRELUDE}modprobe mtty\n{script}\
         code duration vfio-trace tail --format ndjson --duration 700ms\n\
         code text vfio-trace tail --utc -- {STEPS}\n\
         code quiet vfio-trace tail --quiet --kind open -- {STEPS}\n\
         code color vfio-trace tail --color always --kind arc -- {STEPS}\n\
         code failing vfio-trace tail -- sh -c 'exit 9'\n\
         code usage vfio-trace tail --kind nonsense\n\
         code missing vfio-trace tail -- no-such-command"
    )
}

fn filters(left: &Left) -> Result<Found> {
    let plain = traced(left, "plain")?;
    plain.is_complete()?;
    all(&traced(left, "kind")?, "kind", &["arc", "read"])?;
    all(&traced(left, "device")?, "device", &["22222222-2222-2222-2222-222222222222"])?;
    ensure!(traced(left, "pid")?.events.is_empty(), "events of process 1?");
    let count = traced(left, "count")?;
    ensure!(count.events.len() == 3, "--count 3 showed {} events", count.events.len());
    let duration = traced(left, "duration")?.summary.get("duration_ns").and_then(Value::as_u64).unwrap_or(0);
    ensure!((700_000_000..5_000_000_000).contains(&duration), "--duration 700ms took {duration} ns");

    code(left, "text", 0)?;
    let lines = left.file("text.out")?;
    ensure!(lines.starts_with("TIME"), "the text has no header");
    ensure!(
        lines.contains("STOP → STOP_COPY") && lines.contains("target STOP_COPY"),
        "no arc in the text:\n{lines}"
    );
    ensure!(!lines.contains('\u{1b}'), "colours without a terminal");
    let account = left.file("text.err")?;
    ensure!(
        account.contains("0 lost, 0 missed") && account.contains("mtty_save_read"),
        "no account:\n{account}"
    );
    code(left, "quiet", 0)?;
    ensure!(!left.file("quiet.err")?.contains("lost"), "--quiet gave an account");
    code(left, "color", 0)?;
    ensure!(left.file("color.out")?.contains('\u{1b}'), "--color always has no colours");
    code(left, "failing", 1)?;
    ensure!(left.file("failing.err")?.contains("sh exited with 9"), "the command's code is not told");
    code(left, "usage", 2)?;
    ensure!(left.file("usage.err")?.contains("nonsense"), "a wrong kind is not named");
    code(left, "missing", 1)?;
    ensure!(
        left.file("missing.err")?.contains("cannot start no-such-command"),
        "a wrong command is not named"
    );
    Ok(Found::one(format!(
        "{} events unfiltered; device, kind, pid, count, duration, colours, exit codes",
        plain.events.len()
    )))
}

fn signals_script() -> String {
    format!(
        "{PRELUDE}modprobe mtty\n\
         for signal in INT TERM; do\n\
           vfio-trace tail >$signal.out 2>$signal.err & pid=$!; all=\"$all $pid\"\n\
           shows $signal.out $pid || return 1\n\
           {STEPS}; kill -$signal $pid; wait $pid; echo $? >$signal.code\n\
         done\n\
         vfio-trace tail >child.out 2>child.err -- sh -c 'trap \"echo told >told; exit 0\" TERM; \
           while :; do sleep 0.1; done' & pid=$!; all=\"$all $pid\"\n\
         shows child.out $pid || return 1; sleep 1; kill -TERM $pid; wait $pid; echo $? >child.code\n\
         vfio-trace tail -- {STEPS} 2>reader.err | head -2 >reader.out\n"
    )
}

fn signals(left: &Left) -> Result<Found> {
    for name in ["INT", "TERM"] {
        code(left, name, 0)?;
        let account = left.file(&format!("{name}.err"))?;
        ensure!(account.contains("0 lost, 0 missed"), "SIG{name} ended without an account:\n{account}");
        ensure!(
            left.file(&format!("{name}.out"))?.contains("RESUMING → STOP"),
            "events are missing after SIG{name}"
        );
    }
    code(left, "child", 0)?;
    ensure!(left.file("told")? == "told\n", "the signal was not passed on to the command");
    ensure!(left.file("reader.out")?.lines().count() == 2, "`head -2` got something else than two lines");
    ensure!(!left.file("reader.err")?.contains("panicked"), "a closed pipe made it panic");
    Ok(Found::one("SIGINT, SIGTERM, a signal passed on, a reader that leaves"))
}

fn stalled_script() -> String {
    const DEVICE: &str = "11111111-1111-1111-1111-111111111111";
    format!(
        "{PRELUDE}{}{}",
        r#"
        modprobe -a mtty vfio_iommu_type1 || modprobe mtty
        full() { mkfifo $1; sleep 1000 <$1 & all="$all $!"; head -c 65536 /dev/zero >$1; }
        lives() { grep -q '^State:[[:space:]]*[A-Y]' /proc/$1/status 2>/dev/null; }
        gone() { for i in $(seq 100); do lives $1 || return 0; sleep 0.1; done; return 1; }
        stop() { kill -TERM $1; gone $1; echo $? >$2.stayed; kill -KILL $1 2>/dev/null; wait $1; echo $? >$2.code; }
        full tail.fifo
        vfio-trace tail --format ndjson >tail.fifo 2>tail.err & pid=$!; all="$all $pid"; sleep 3; stop $pid tail
        full record.fifo
        vfio-trace record -o record.fifo 2>record.err & pid=$!; all="$all $pid"; sleep 3; stop $pid record
        vfio-trace tail >twice.out 2>twice.err & pid=$!; all="$all $pid"
        shows twice.out $pid || return 1
        (trap '' HUP; exec vfio-trace tail >hup.out 2>hup.err) & pid2=$!; all="$all $pid2"
        shows hup.out $pid2 || return 1
        kill -HUP $pid $pid2; wait $pid; echo $? >twice.code
        sleep 1; lives $pid2; echo $? >hup.alive; kill -TERM $pid2; wait $pid2; echo $? >hup.code
        mkdir home; printf '#!/bin/sh\nexit 0\n' >home/run; chmod 700 home/run home; chown -R 4711 home
        cd home; code ../home vfio-trace tail -- ./run; cd ..
        "#,
        format_args!(
            r#"
        echo {DEVICE} >"$(echo /sys/class/mdev_bus/*/mdev_supported_types/mtty-2/create)" || return 1
        group=$(readlink /sys/bus/mdev/devices/{DEVICE}/iommu_group)
        until [ -e /dev/vfio/${{group##*/}} ]; do sleep 0.05; done
        full exercise.fifo
        vfio-trace exercise {DEVICE} --yes --plan all --verbose >exercise.fifo 2>exercise.err & pid=$!; all="$all $pid"
        for i in $(seq 3000); do
            if ls -l /proc/$pid/fd | grep -q '/dev/vfio/'; then seen=yes; elif [ -n "$seen" ]; then break; fi
        done
        echo $seen >exercise.opened; ls -l /proc/$pid/fd >exercise.fds
        stop $pid exercise
        true
        "#
        )
    )
}

/// A pipe that is full, and whose reader takes nothing, is written to: one signal ends it, and the device is back
/// before.
fn stalled(left: &Left) -> Result<Found> {
    for name in ["tail", "record", "exercise"] {
        let stayed = left.file(&format!("{name}.stayed"))?;
        ensure!(
            stayed.trim() == "0",
            "{name} was not ended by a signal: {}",
            left.file(&format!("{name}.err"))?
        );
    }
    for name in ["tail", "record"] {
        code(left, name, 1)?;
        let said = left.file(&format!("{name}.err"))?;
        ensure!(said.contains("it was to stop, and its reader"), "{name}: {said}");
    }
    ensure!(left.file("exercise.opened")?.trim() == "yes", "it never had the device open");
    let fds = left.file("exercise.fds")?;
    ensure!(!fds.contains("/dev/vfio/") && fds.contains("exercise.fifo"), "it still has the device:\n{fds}");
    // 128 + SIGTERM: the device is back, and nothing else to be brought to an end.
    code(left, "exercise", 143)?;
    code(left, "twice", 0)?;
    ensure!(left.file("hup.alive")?.trim() == "0", "a hangup that is ignored has ended it");
    code(left, "hup", 0)?;
    code(left, "home", 0)?;
    Ok(Found::one("tail, record and exercise into a full pipe; nohup; a command in a home of mode 0700"))
}

fn privileges_script() -> String {
    let with = |caps: &str| {
        let list: Vec<String> = caps.split_whitespace().map(|cap| format!("+{cap}")).collect();
        let list = list.join(",");
        let keep =
            if list.is_empty() { String::new() } else { format!("--inh-caps {list} --ambient-caps {list}") };
        format!("setpriv --reuid 1000 --regid 1000 --clear-groups {keep} vfio-trace tail --duration 300ms")
    };
    format!(
        "{PRELUDE}modprobe mtty\n\
         code none {}\ncode perfmon {}\ncode paranoid {}\n\
         sysctl -qw kernel.perf_event_paranoid=2\n\
         code enough {}\n",
        with(""),
        with("perfmon"),
        with("bpf perfmon"),
        with("bpf perfmon")
    )
}

fn privileges(left: &Left) -> Result<Found> {
    for (name, words) in [
        ("none", ["CAP_BPF", "CAP_PERFMON"].as_slice()),
        ("perfmon", &["CAP_BPF", "setcap"]),
        ("paranoid", &["CAP_SYS_ADMIN", "perf_event_paranoid"]),
    ] {
        code(left, name, 3)?;
        let said = left.file(&format!("{name}.err"))?;
        for word in words {
            ensure!(said.contains(word), "with {name}, {word} is not named:\n{said}");
        }
    }
    code(left, "enough", 0)?;
    Ok(Found::one(
        "missing capabilities are named; CAP_BPF and CAP_PERFMON are enough with perf_event_paranoid 2",
    ))
}

fn late_script() -> String {
    format!(
        "{PRELUDE}code late vfio-trace tail --format ndjson -- sh -c '\
           modprobe mtty; sleep 3; {STEPS} || exit 1; rmmod mtty; sleep 2; modprobe mtty; sleep 3; {STEPS}'"
    )
}

/// No driver, no vfio even, when tracing starts; then the driver is loaded, used, unloaded, loaded again.
fn late(left: &Left) -> Result<Found> {
    let late = traced(left, "late")?;
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
    let said = left.file("late.err")?;
    ensure!(said.contains("vfio is not loaded yet"), "it does not say that it waits:\n{said}");
    ensure!(
        said.lines().any(|line| line.starts_with("no longer probing ") && line.contains("mtty_set_state")),
        "it does not say that the driver went:\n{said}"
    );
    Ok(Found::one("24 arcs of a driver that was loaded twice after the start"))
}
