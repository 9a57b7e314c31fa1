//! `list` and `show` against the kernel's own debugfs, on kernels whose vfio.ko was rebuilt to have it.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{
    Check, Found,
    guest::{Guest, Lab},
    traced::text,
};
use crate::lab::{self, guest::Extras};

const STATES: [&str; 7] =
    ["RUNNING", "RUNNING_P2P", "STOP", "PRE_COPY", "PRE_COPY_P2P", "STOP_COPY", "RESUMING"];

/// lab-step makes four devices at a time.
const DEVICES: [&str; 4] = [
    "11111111-1111-1111-1111-111111111111",
    "22222222-2222-2222-2222-222222222222",
    "33333333-3333-3333-3333-333333333333",
    "44444444-4444-4444-4444-444444444444",
];

pub(super) fn checks() -> Vec<Check> {
    let check =
        |series: &'static str| Check::new(format!("debugfs: from x to on {series}"), move |_| table(series));
    vec![check("6.12"), check("7.3"), Check::new("debugfs: a slow transition", |_| slow("7.3"))]
}

/// The core refuses to go back from STOP_COPY to PRE_COPY (facts: the path table of flags 7).
fn refused(from: &str, to: &str) -> bool {
    from == "STOP_COPY" && to.starts_with("PRE_COPY")
}

fn loads(from: &str, to: &str) -> bool {
    from == "RESUMING" && to != "RESUMING"
}

/// Every pair of states: the device is brought to the first, asked for the second, and then looked at by both.
fn table(series: &str) -> Result<Found> {
    let lab = Lab::with(lab::ready(series, false)?, Extras { debugfs: true, driver: None })?;
    let pairs: Vec<(&str, &str)> =
        STATES.iter().flat_map(|from| STATES.iter().map(move |to| (*from, *to))).collect();
    let mut script = "modprobe mtty && cd $LAB_RESULTS && \
                      lab-step --create mtty-2 set=STOP_COPY read-all=/run/image >image || exit 1\n"
        .to_owned();
    for (round, chunk) in pairs.chunks(DEVICES.len()).enumerate() {
        let mut steps = "--create mtty-2 ".repeat(chunk.len());
        for (number, (from, to)) in (1..).zip(chunk) {
            let expect = if refused(from, to) { "!EINVAL" } else { "" };
            // mtty leaves RESUMING only with a whole image.
            let load = if loads(from, to) { format!("{number}:write=/run/image ") } else { String::new() };
            write!(steps, "{number}:set={from} {load}{number}:set={to}{expect} ")?;
        }
        let lines = chunk.len() * 3 + chunk.iter().filter(|(from, to)| loads(from, to)).count();
        let devices = DEVICES[..chunk.len()].join(" ");
        write!(
            script,
            "lab-step --json held.{round} {steps} sleep=90000 >step.{round} 2>&1 & pid=$!\n\
             until [ \"$(cat held.{round} 2>/dev/null | wc -l)\" -ge {lines} ]; do\n\
               kill -0 $pid || {{ cat step.{round} >&2; exit 1; }}; sleep 0.1; done\n\
             vfio-trace list --json >list.{round} || exit 1\n\
             for device in {devices}; do cat /sys/kernel/debug/vfio/$device/migration/state; done >kernel.{round} || exit 1\n\
             kill -0 $pid || {{ echo round {round}: looked too late >&2; exit 1; }}\n"
        )?;
        if round == 0 {
            // `features` is there since 6.18; `show` prints both files byte for byte.
            write!(
                script,
                "vfio-trace show {device} state >show.state; vfio-trace show {device} features >show.features\n\
                 cp /sys/kernel/debug/vfio/{device}/migration/state debugfs.state\n\
                 cat /sys/kernel/debug/vfio/{device}/migration/features >debugfs.features 2>/dev/null\n",
                device = DEVICES[0]
            )?;
        }
        // It has done its part: nobody waits for the rest of its sleep. Its devices go before they are used again.
        write!(
            script,
            "kill -KILL $pid; wait $pid\n\
             for device in {devices}; do echo 1 >/sys/bus/mdev/devices/$device/remove || exit 1; done\n"
        )?;
    }
    let guest = lab.run(&format!("debugfs-{series}"), &script)?;
    let mut cells = 0;
    for (round, chunk) in pairs.chunks(DEVICES.len()).enumerate() {
        cells += compare(&guest, round, chunk).with_context(|| format!("round {round}"))?;
    }
    ensure!(
        guest.file("show.state")? == guest.file("debugfs.state")?,
        "`show state` differs from debugfs' file"
    );
    let theirs = guest.file("debugfs.features")?;
    let features = if theirs.is_empty() { "no features file on this kernel" } else { "features equal" };
    ensure!(
        theirs.is_empty() || guest.file("show.features")? == theirs,
        "`show features` differs from debugfs' file: {:?} and {theirs:?}",
        guest.file("show.features")?
    );
    Ok(Found { detail: format!("{cells} cells equal, {features}"), tests: cells })
}

fn compare(guest: &Guest, round: usize, chunk: &[(&str, &str)]) -> Result<u64> {
    let list: Value =
        serde_json::from_str(&guest.file(&format!("list.{round}"))?).context("list is not JSON")?;
    let rows = list.get("devices").and_then(Value::as_array).context("list has no devices")?;
    let kernel = guest.file(&format!("kernel.{round}"))?;
    ensure!(kernel.lines().count() == chunk.len(), "debugfs answered for {} devices", kernel.lines().count());
    let mut cells = 0;
    for (((from, to), device), theirs) in chunk.iter().zip(DEVICES).zip(kernel.lines()) {
        let row =
            rows.iter().find(|row| text(row, "device") == Some(device)).context("a device is not listed")?;
        let ours = text(row, "state").unwrap_or("nothing");
        let expected = if refused(from, to) { from } else { to };
        ensure!(
            ours == theirs && theirs == *expected,
            "{from} to {to}: `list` says {ours}, debugfs {theirs}, the table {expected}"
        );
        cells += 1;
    }
    Ok(cells)
}

/// A driver that takes seconds for an arc, with its lock held: the kernel's file waits for it, we do not.
fn slow(series: &str) -> Result<Found> {
    let lab = Lab::with(lab::ready(series, false)?, Extras { debugfs: true, driver: None })?;
    let device = DEVICES[0];
    let script = format!(
        "modprobe quayside && cd $LAB_RESULTS || exit 1\n\
         lab-step --json held --create quayside-full knob=delay_us:'RUNNING_P2P STOP 12000000' set=STOP >step 2>&1 & pid=$!\n\
         until [ \"$(cat held 2>/dev/null | wc -l)\" -ge 2 ]; do\n\
           kill -0 $pid || {{ cat step >&2; exit 1; }}; sleep 0.1; done\n\
         sleep 1; cat /sys/kernel/debug/vfio/{device}/migration/state >kernel & reader=$!\n\
         vfio-trace show {device} state >ours || exit 1\n\
         kill -0 $reader && echo waits >reader\n\
         wait $reader $pid"
    );
    let guest = lab.run("debugfs-slow", &script)?;
    ensure!(
        guest.file("reader").is_ok_and(|text| text == "waits\n"),
        "the kernel's file did not wait: nothing is shown by this"
    );
    let ours = guest.file("ours")?;
    ensure!(ours == "RUNNING_P2P\n", "during RUNNING_P2P to STOP, `show state` says {ours:?}");
    ensure!(guest.file("kernel")? == "STOP\n", "in the end the kernel says {:?}", guest.file("kernel")?);
    Ok(Found::one("`show` answers RUNNING_P2P at once, the kernel's file only after the arc"))
}
