//! One binary on every kernel of the lab, with every driver of the lab: what works where, measured.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{
    Check, Found,
    guest::{Guest, Lab},
    report,
    steps::compare,
    traced::{Traced, text},
};
use crate::lab;

/// A driver's device type on one kernel.
struct Case {
    series: &'static str,
    driver: &'static str,
    mdev_type: &'static str,
    /// What `list` must say; empty for a device without migration.
    flags: &'static [&'static str],
}

const FULL: &[&str] = &["stop-copy", "p2p", "pre-copy"];
const P2P: &[&str] = &["stop-copy", "p2p"];

/// 6.1 has no PRE_COPY, and its mtty no migration.
const CASES: &[Case] = &[
    Case { series: "6.1", driver: "quayside", mdev_type: "quayside-full", flags: P2P },
    Case { series: "6.1", driver: "quayside", mdev_type: "quayside-none", flags: &[] },
    Case { series: "6.12", driver: "mtty", mdev_type: "mtty-2", flags: FULL },
    Case { series: "6.12", driver: "quayside", mdev_type: "quayside-full", flags: FULL },
    Case { series: "6.12", driver: "quayside", mdev_type: "quayside-none", flags: &[] },
    Case { series: "7.3", driver: "mtty", mdev_type: "mtty-2", flags: FULL },
    Case { series: "7.3", driver: "quayside", mdev_type: "quayside-full", flags: FULL },
    Case { series: "7.3", driver: "quayside", mdev_type: "quayside-none", flags: &[] },
];

/// Devices as lab-step names them, in the order of creation.
const DEVICES: [&str; 3] = [
    "11111111-1111-1111-1111-111111111111",
    "22222222-2222-2222-2222-222222222222",
    "33333333-3333-3333-3333-333333333333",
];

pub(super) fn checks() -> Vec<Check> {
    vec![Check::new("compatibility: all kernels", |_| matrix())]
}

/// Runs all cases and prints the matrix.
fn matrix() -> Result<Found> {
    let mut table = format!("{:<6} {:<14} {}\n", "kernel", "device type", "what was seen");
    let mut tests = 0;
    for series in ["6.1", "6.12", "7.3"] {
        let lab = Lab::new(lab::ready(series, false)?)?;
        for case in CASES.iter().filter(|case| case.series == series) {
            let seen = run(&lab, case).with_context(|| format!("{} on {series}", case.mdev_type))?;
            tests += seen.len() as u64;
            writeln!(table, "{series:<6} {:<14} {}", case.mdev_type, seen.join(", "))?;
        }
    }
    for line in table.lines() {
        report(&format!("      {line}"));
    }
    Ok(Found { detail: format!("{} pairs of kernel and device type, {tests} features", CASES.len()), tests })
}

fn run(lab: &Lab, case: &Case) -> Result<Vec<String>> {
    let Case { series, driver, mdev_type, flags } = case;
    let name = format!("compat-{series}-{mdev_type}");
    if flags.is_empty() {
        let script = format!(
            "modprobe {driver}; cd $LAB_RESULTS; lab-step --create {mdev_type} --json held.ndjson sleep=9000 >/dev/null & \
             until [ -s held.ndjson ]; do sleep 0.2; done; vfio-trace list --json >list.json; \
             vfio-trace show {} state 2>show.err; echo $? >show.code; wait",
            DEVICES[0]
        );
        return no_migration(&lab.run(&name, &script)?);
    }
    let has_pre_copy = flags.contains(&"pre-copy");
    let pre_copy =
        if has_pre_copy { "set=PRE_COPY precopy-info read=8:/run/i set=STOP_COPY" } else { "set=STOP_COPY" };
    let third = if has_pre_copy { format!("--create {mdev_type} 3:set=PRE_COPY") } else { String::new() };
    let (held, lines) = if has_pre_copy { (3, 6) } else { (2, 4) };
    // The first part moves a state from one device to the other; the second holds devices in mid-migration and only
    // then starts looking.
    let script = format!(
        "modprobe {driver} && cd $LAB_RESULTS && vfio-trace tail --format ndjson -- lab-step --json steps.ndjson \
           --create {mdev_type} --create {mdev_type} flags get {pre_copy} read-all=/run/i set=RUNNING \
           2:set=RESUMING 2:write=/run/i 2:set=RUNNING 2:get reset >tail.ndjson || exit 1\n\
         lab-step --json held.ndjson --create {mdev_type} --create {mdev_type} set=STOP_COPY 2:set=RESUMING {third} \
           sleep=15000 >/dev/null & \n\
         until [ \"$(cat held.ndjson 2>/dev/null | wc -l)\" -ge {lines} ]; do sleep 0.2; done\n\
         vfio-trace list --json >list.json || exit 1\n\
         for device in {}; do vfio-trace show $device state; done >states || exit 1\n\
         vfio-trace show {} features >features || exit 1\n\
         vfio-trace tail --format ndjson --duration 1s >middle.ndjson || exit 1\n\
         wait",
        DEVICES[..held].join(" "),
        DEVICES[0]
    );
    let guest = lab.run(&name, &script)?;
    let mut seen = traced(&guest)?;
    seen.extend(in_the_middle(&guest, flags, held)?);
    Ok(seen)
}

/// A whole migration, step by step.
fn traced(guest: &Guest) -> Result<Vec<String>> {
    let traced = Traced::parse(&guest.file("tail.ndjson")?).context("tail.ndjson")?;
    let count = |name: &str| traced.summary.get(name).and_then(Value::as_u64);
    for name in ["lost", "unmatched", "undecoded"] {
        ensure!(count(name) == Some(0), "the summary counts {:?} {name}", count(name));
    }
    // Before 6.7 the kernel does not say how many calls its probes missed.
    let missed = match count("missed") {
        None => "missed calls not countable",
        Some(0) => "no call missed",
        Some(more) => anyhow::bail!("{more} calls were missed"),
    };
    let mut steps = 0;
    for line in guest.file("steps.ndjson")?.lines() {
        let step: Value = serde_json::from_str(line).context("steps.ndjson")?;
        steps += compare(&traced, &step).with_context(|| line.to_owned())?;
    }
    let kinds = |kind: &str| traced.events.iter().filter(|event| text(event, "kind") == Some(kind)).count();
    let (arcs, reads, writes) = (kinds("arc"), kinds("read"), kinds("write"));
    ensure!(
        steps > 5 && arcs > 5 && reads > 1 && writes > 0,
        "{steps} steps, {arcs} arcs, {reads} reads, {writes} writes"
    );
    Ok(vec![
        format!("{arcs} arcs"),
        format!("{reads} reads"),
        format!("{writes} writes"),
        format!("{steps} steps"),
        missed.to_owned(),
    ])
}

/// Devices that were in mid-migration before anybody looked.
fn in_the_middle(guest: &Guest, flags: &[&str], held: usize) -> Result<Vec<String>> {
    let expected = &["STOP_COPY", "RESUMING", "PRE_COPY"][..held];
    let states = guest.file("states")?;
    ensure!(
        states.lines().eq(expected.iter().copied()),
        "`show state` says {states:?} instead of {expected:?}"
    );
    let features = guest.file("features")?;
    let shown: Vec<&str> = features.lines().filter(|line| *line != "dirty-tracking").collect();
    ensure!(shown == flags, "`show features` says {features:?} instead of {flags:?}");
    let list: Value = serde_json::from_str(&guest.file("list.json")?).context("list.json")?;
    ensure!(text(&list, "schema") == Some("vfio-trace.list/1"), "list.json has another schema");
    for (device, state) in DEVICES.iter().zip(expected) {
        let row = row(&list, device)?;
        ensure!(text(row, "state") == Some(state), "`list` says {:?} of {device}", row.get("state"));
        let holders = row.get("holders").and_then(Value::as_array).map_or(0, Vec::len);
        ensure!(holders == 1, "`list` knows {holders} holders of {device}");
    }
    let middle = Traced::parse(&guest.file("middle.ndjson")?).context("middle.ndjson")?;
    for (device, state) in DEVICES.iter().zip(expected) {
        let event = middle.of("device", device).next().with_context(|| format!("tail shows no {device}"))?;
        let at = event.get("data").and_then(|data| text(data, "state"));
        ensure!(at == Some(state), "tail says {at:?} of {device} at attach");
    }
    Ok(vec![
        format!("state at attach of {}", expected.join(", ")),
        "holders".to_owned(),
        "features".to_owned(),
    ])
}

fn row<'list>(list: &'list Value, device: &str) -> Result<&'list Value> {
    let rows = list.get("devices").and_then(Value::as_array).context("list.json has no devices")?;
    rows.iter()
        .find(|row| text(row, "device") == Some(device))
        .with_context(|| format!("`list` has no {device}"))
}

/// A device whose driver has no migration.
fn no_migration(guest: &Guest) -> Result<Vec<String>> {
    let list: Value = serde_json::from_str(&guest.file("list.json")?).context("list.json")?;
    let row = row(&list, DEVICES[0])?;
    ensure!(
        row.get("migration") == Some(&Value::Bool(false)),
        "`list` says migration {:?}",
        row.get("migration")
    );
    ensure!(guest.file("show.code")?.trim() == "4", "`show` exits with {}", guest.file("show.code")?.trim());
    ensure!(guest.file("show.err")?.contains("no mig_ops"), "`show` does not say why");
    Ok(vec!["listed without migration".to_owned(), "show says why".to_owned()])
}
