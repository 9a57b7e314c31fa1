//! The state after every request, compared with the kernel's own debugfs and with the driver's own answer.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{Case, Seen, device, has_debugfs, is_sampled, middle::row, migrating};
use crate::test::{
    guest::Left,
    paths::{Cell, STATES, Table},
    traced::text,
};

/// Returns true for sampled types that have a witness.
pub(super) fn applies(case: &Case, series: &str) -> bool {
    is_sampled(case, series, has_witness)
}

/// Returns true if there is a witness. Without debugfs only quayside can be asked (its attribute `where`), and types
/// that are the same there as another are left out.
fn has_witness(case: &Case, series: &str) -> bool {
    case.flags != 0 && (has_debugfs(series) || is_quayside_as_named(case))
}

/// Returns true for a quayside type whose devices have all the flags that its name says, on this kernel.
pub(super) fn is_quayside_as_named(case: &Case) -> bool {
    matches!(
        (case.mdev_type, case.flags),
        ("quayside-full", 7) | ("quayside-p2p", 3) | ("quayside-precopy", 5) | ("quayside-stopcopy", 1)
    )
}

/// Returns the kernel's files that `show` must print byte for byte; `features` is there since 6.18. A call takes a
/// second.
fn shown(case: &Case, series: &str) -> Option<&'static str> {
    match (series, case.mdev_type) {
        ("7.3", _) => Some("state features"),
        ("6.12", "mtty-2") => Some("state"),
        _ => None,
    }
}

type Pair = (&'static str, &'static str, Cell);

/// Returns the cells of a type in rounds of as many devices as can exist at once: mtty has 24 ports.
fn rounds(case: &Case) -> Result<Vec<Vec<Pair>>> {
    let cells: Vec<Pair> =
        Table::of(case.flags)?.cells().map(|(from, to, cell)| (from, to, cell.clone())).collect();
    Ok(cells.chunks(if case.is_mtty() { 12 } else { 60 }).map(<[Pair]>::to_vec).collect())
}

/// Returns the script: brings each device into its first state, asks it for the second, and looks at all of them.
pub(super) fn script(series: &str) -> Result<String> {
    let mut script = prelude();
    script.push_str("modprobe mtty && modprobe quayside || return 1\n");
    for case in migrating(series).iter().filter(|case| applies(case, series)) {
        let mdev_type = case.mdev_type;
        let image = format!("/run/part/{mdev_type}");
        writeln!(
            script,
            "lab-step --create {mdev_type} set=STOP_COPY read-all={image} >/dev/null || return 1"
        )?;
        for (round, cells) in rounds(case)?.iter().enumerate() {
            let (mut names, mut steps) = (String::new(), String::new());
            for (number, (from, to, cell)) in (1..).zip(cells) {
                write!(names, " --device {}", device(number))?;
                write!(steps, " {number}:set={from}")?;
                // A request can leave RESUMING only after a whole image.
                if *from == "RESUMING" && to != from {
                    write!(steps, " {number}:write={image}")?;
                }
                let expect = if *cell == Cell::Refused { "!EINVAL" } else { "" };
                write!(steps, " {number}:set={to}{expect}")?;
            }
            let (last, name) = (cells.len(), format!("{mdev_type}.{round}"));
            write!(
                script,
                "mdevs {mdev_type} 1 {last} || return 1\n\
                 hold held.{name}{names}{steps} pause=/run/part/{name}\n\
                 await pause [ -e /run/part/{name}.paused ] || {{ tail -1 held.{name}.out >&2; return 1; }}\n\
                 vfio-trace list --json >list.{name} || return 1\n"
            )?;
            if has_debugfs(series) {
                writeln!(script, "look $(seq 1 {last}) >kernel.{name} || return 1")?;
            }
            if !case.is_mtty() {
                writeln!(script, "ask $(seq 1 {last}) >driver.{name} || return 1")?;
            }
            if let Some(files) = shown(case, series).filter(|_| round == 0) {
                let there = format!("/sys/kernel/debug/vfio/$(device {last})/migration");
                writeln!(
                    script,
                    "for file in {files}; do vfio-trace show $(device {last}) $file >show.{mdev_type}.$file && \
                       cat {there}/$file >debugfs.{mdev_type}.$file || return 1; done"
                )?;
            }
            writeln!(script, "touch /run/part/{name}; wait $held && unmake || return 1")?;
        }
    }
    Ok(script)
}

pub(super) fn check(left: &Left, case: &Case, series: &str) -> Result<Seen> {
    let (mut cells, mut witnesses) = (0, Vec::new());
    for (round, pairs) in rounds(case)?.iter().enumerate() {
        let name = format!("{}.{round}", case.mdev_type);
        let list = left.json(&format!("list.{name}"))?;
        witnesses.clear();
        if has_debugfs(series) {
            witnesses.push(("debugfs", left.file(&format!("kernel.{name}"))?));
        }
        if !case.is_mtty() {
            witnesses.push(("the driver", left.file(&format!("driver.{name}"))?));
        }
        for (index, pair) in pairs.iter().enumerate() {
            compare(&list, &witnesses, index, pair)?;
            cells += 1;
        }
    }
    let mut seen: Vec<&str> = witnesses.iter().map(|(name, _)| *name).collect();
    let mut tests = cells * seen.len();
    for file in shown(case, series).into_iter().flat_map(str::split_whitespace) {
        let read = |name: &str| left.file(&format!("{name}.{}.{file}", case.mdev_type));
        let (ours, theirs) = (read("show")?, read("debugfs")?);
        ensure!(ours == theirs, "`show {file}` prints {ours:?}, the kernel's file has {theirs:?}");
        tests += 1;
        if file == "features" {
            seen.push("features too");
        }
    }
    Ok(Seen::new(format!("{cells}/{cells} as {}", seen.join(", ")), tests))
}

fn compare(list: &Value, witnesses: &[(&str, String)], index: usize, (from, to, cell): &Pair) -> Result<()> {
    let expected = if *cell == Cell::Refused { from } else { to };
    let ours = text(row(list, &device(index + 1))?, "state");
    ensure!(ours == Some(expected), "{from} to {to}: `list` says {ours:?}, the table {expected}");
    for (name, said) in witnesses {
        let line =
            said.lines().nth(index).with_context(|| format!("{name} says nothing of {from} to {to}"))?;
        ensure!(line == *expected, "{from} to {to}: {name} says {line}, `list` and the table {expected}");
    }
    ensure!(!witnesses.is_empty(), "nobody else was asked");
    Ok(())
}

/// Returns the shell functions of this part: `look` asks debugfs, `ask` quayside itself, which has numbers for states.
pub(super) fn prelude() -> String {
    let mut names = String::new();
    for (number, state) in (0_u32..).zip(STATES) {
        names.extend([&number.to_string(), ") echo ", state, ";; "]);
    }
    format!(
        "look() {{ for number; do read -r state </sys/kernel/debug/vfio/$(device $number)/migration/state \
           && echo $state || return 1; done; }}\n\
         ask() {{ for number; do read -r word state </sys/bus/mdev/devices/$(device $number)/quayside/where || return 1; \
           case $state in {names}esac; done; }}\n"
    )
}
