//! The state during a request, between two of its arcs. The driver holds its lock then, so that the kernel's
//! own file cannot answer; quayside's attribute `where` can.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};

use super::{
    Case, Seen, device, has_debugfs, is_sampled,
    middle::row,
    migrating,
    settled::{is_quayside_as_named, prelude},
};
use crate::test::{
    guest::Left,
    paths::{Cell, Table},
    traced::text,
};

/// Returns true for sampled quayside types: only quayside can be made to stay in an arc.
pub(super) fn applies(case: &Case, series: &str) -> bool {
    is_sampled(case, series, |case, _| is_quayside_as_named(case))
}

/// A request that is held in an arc which is not its first.
struct Hold {
    from: &'static str,
    target: &'static str,
    /// State that it has reached; `next` is the state to which the arc that holds it leads.
    at: &'static str,
    next: &'static str,
}

fn holds(case: &Case) -> Result<Vec<Hold>> {
    let table = Table::of(case.flags)?;
    let mut holds = Vec::new();
    for (from, target, cell) in table.cells() {
        let Cell::Arcs(path) = cell else { continue };
        holds.extend(path.iter().zip(path.iter().skip(1)).map(|(at, next)| Hold { from, target, at, next }));
    }
    Ok(holds)
}

/// Returns the script: each request in a process of its own, all at once.
pub(super) fn script(series: &str) -> Result<String> {
    let mut script = prelude();
    script.push_str(
        "modprobe quayside || return 1\n\
         paused() { set -- $1 /run/part/$2.*.paused; [ $# -gt $1 ]; }\n\
         at() { [ \"$(ask $1)\" = $2 ]; }\n",
    );
    for case in migrating(series).iter().filter(|case| applies(case, series)) {
        let mdev_type = case.mdev_type;
        let image = format!("/run/part/{mdev_type}");
        let holds = holds(case)?;
        let last = holds.len();
        write!(
            script,
            "lab-step --create {mdev_type} set=STOP_COPY read-all={image} >/dev/null || return 1\n\
             mdevs {mdev_type} 1 {last} || return 1\n"
        )?;
        for (number, Hold { from, target, at, next }) in (1..).zip(&holds) {
            let load = if *from == "RESUMING" { format!("write={image}") } else { String::new() };
            writeln!(
                script,
                "hold held.{mdev_type}.{number} --device {} set={from} {load} \"knob=delay_us:{at} {next} 90000000\" \
                   pause=/run/part/{mdev_type}.{number} set={target}",
                device(number)
            )?;
        }
        write!(
            script,
            "await pause paused {last} {mdev_type} || return 1\n\
             for number in $(seq 1 {last}); do : >/run/part/{mdev_type}.$number; done\n"
        )?;
        for (number, Hold { from, target, at, .. }) in (1..).zip(&holds) {
            writeln!(script, "await \"{from} to {target} at {at}\" at {number} {at} || return 1")?;
        }
        if has_debugfs(series) {
            writeln!(
                script,
                "cat /sys/kernel/debug/vfio/$(device 1)/migration/state >kernel.{mdev_type} & reader=$!"
            )?;
        }
        writeln!(script, "vfio-trace list --json >list.{mdev_type} || return 1")?;
        if has_debugfs(series) {
            writeln!(script, "kill -0 $reader && echo waits >waits.{mdev_type}")?;
        }
        // The state is still the same: the look in between did not meet a change.
        writeln!(script, "ask $(seq 1 {last}) >driver.{mdev_type} || return 1\nrelease || return 1")?;
    }
    Ok(script)
}

pub(super) fn check(left: &Left, case: &Case, series: &str) -> Result<Seen> {
    let list = left.json(&format!("list.{}", case.mdev_type))?;
    let driver = left.file(&format!("driver.{}", case.mdev_type))?;
    let holds = holds(case)?;
    for (number, Hold { from, target, at, next }) in (1..).zip(&holds) {
        let what = || format!("{from} to {target}, held between {at} and {next}");
        let ours = text(row(&list, &device(number))?, "state");
        let theirs = driver.lines().nth(number - 1).with_context(what)?;
        ensure!(ours == Some(at) && theirs == *at, "{}: `list` says {ours:?}, the driver {theirs}", what());
    }
    let mut said = format!("{0}/{0} as the driver", holds.len());
    if has_debugfs(series) {
        let waits = left.file(&format!("waits.{}", case.mdev_type)).is_ok_and(|text| text == "waits\n");
        ensure!(waits, "the kernel's file did not wait for the arc: nothing is shown by this");
        said += ", debugfs waits";
    }
    Ok(Seen::new(said, holds.len()))
}
