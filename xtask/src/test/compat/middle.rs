//! Tracing that begins in the middle of migrations, with live data sessions: its knowledge, and its report of the rest.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{Case, Seen, device, migrating};
use crate::test::{
    guest::Left,
    steps::{compare, pieces, within_any_device},
    traced::{Traced, data, text},
};

/// Bytes of the stream that have moved before the tracer starts: fewer than the header of mtty's 96 bytes.
const BEFORE: u64 = 16;

/// Size of mtty's stream: 24 bytes of header, 36 per port.
const MTTY_BYTES: u64 = 96;

/// Returns the devices of a case, each with the state in which the tracer finds it.
fn devices(case: &Case) -> impl Iterator<Item = (usize, &'static str)> {
    let first = case.number * 10 + 1;
    (first..).zip(case.middle_states().iter().copied())
}

pub(super) fn script(series: &str) -> Result<String> {
    let mut script = "modprobe mtty && modprobe quayside || return 1\n".to_owned();
    let (mut names, mut before, mut after, mut position) = (String::new(), String::new(), String::new(), 0);
    for case in migrating(series) {
        let mdev_type = case.mdev_type;
        let (first, last) = (case.number * 10 + 1, case.number * 10 + case.middle_states().len());
        let image = format!("/run/part/{mdev_type}");
        write!(
            script,
            "lab-step --create {mdev_type} set=STOP_COPY read-all={image} >/dev/null || return 1\n\
             head -c {BEFORE} {image} >{image}.first; tail -c +{} {image} >{image}.rest\n\
             mdevs {mdev_type} {first} {last} || return 1\n",
            BEFORE + 1
        )?;
        for (number, state) in devices(&case) {
            position += 1;
            let at = |steps: &str| format!(" {steps}").replace(' ', &format!(" {position}:"));
            write!(names, " --device {}", device(number))?;
            before += &at(&format!("set={state}"));
            match state {
                "RESUMING" => {
                    before += &at(&format!("write={image}.first"));
                    after += &at(&format!("write={image}.rest set=STOP close-data"));
                },
                "PRE_COPY" => {
                    before += &at(&format!("read={BEFORE}"));
                    after += &at("read-all set=STOP_COPY read-all set=STOP close-data");
                },
                _ => {
                    before += &at(&format!("read={BEFORE}"));
                    after += &at("read-all set=STOP close-data");
                },
            }
        }
    }
    let shown: Vec<String> =
        migrating(series).iter().take(1).flat_map(devices).map(|(n, _)| n.to_string()).collect();
    write!(
        script,
        "hold held{names}{before} pause=/run/part/go{after} pause=/run/part/end\n\
         await pause [ -e /run/part/go.paused ] || return 1\n\
         vfio-trace list --json >list.json || return 1\n\
         for number in {}; do vfio-trace show $(device $number) state; done >states || return 1\n\
         vfio-trace show $(device 1) features >features.mtty-2 || return 1\n\
         vfio-trace show $(device 11) features >features.quayside-full || return 1\n\
         vfio-trace tail --format ndjson >tail.ndjson -- sh -c '\
           touch /run/part/go; until [ -e /run/part/end.paused ]; do sleep 0.1; done'\n\
         touch /run/part/end; wait $held",
        shown.join(" ")
    )?;
    Ok(script)
}

/// Returns a device's row of `list --json`.
pub(super) fn row<'list>(list: &'list Value, device: &str) -> Result<&'list Value> {
    ensure!(text(list, "schema") == Some("vfio-trace.list/1"), "list.json has another schema");
    let rows = list.get("devices").and_then(Value::as_array).context("list.json has no devices")?;
    rows.iter()
        .find(|row| text(row, "device") == Some(device))
        .with_context(|| format!("`list` has no {device}"))
}

pub(super) fn check(left: &Left, case: &Case, _series: &str) -> Result<Seen> {
    let (list, traced) = (left.json("list.json")?, left.traced("tail.ndjson")?);
    let held = left.records("held")?;
    let pid = held.first().and_then(|step| step.get("pid")).context("no steps")?;
    let shown_states = left.file("states")?;
    let mut compared = 0;
    for (index, (number, state)) in devices(case).enumerate() {
        let device = device(number);
        known(&list, &traced, &device, case, state, pid).context(device.clone())?;
        if case.is_mtty() {
            let shown = shown_states.lines().nth(index);
            ensure!(shown == Some(state), "`show state` says {shown:?} of {device}, which is in {state}");
        }
        let after = held.iter().skip_while(|step| !is_pause(step)).skip(1).take_while(|step| !is_pause(step));
        for step in after.filter(|step| text(step, "device") == Some(&device)) {
            compared += moved(&traced, step, case).with_context(|| step.to_string())?;
        }
        if case.is_mtty() {
            account(&traced, &device).with_context(|| device.clone())?;
        }
    }
    if let Ok(features) = left.file(&format!("features.{}", case.mdev_type)) {
        let shown: Vec<&str> = features.lines().filter(|line| *line != "dirty-tracking").collect();
        ensure!(shown == case.flag_names(), "`show features` says {features:?}");
    }
    let desyncs = traced.events.iter().filter(|event| text(event, "kind") == Some("desync")).count();
    ensure!(desyncs == 0, "{desyncs} desync events, and nothing happened unseen");
    let states = case.middle_states();
    ensure!(compared >= 2 * states.len(), "only {compared} steps were compared");
    // quayside's structures do not lead from a device to its files, so the device of a session that is older than the
    // trace stays unknown. Those of all drivers in the kernel do.
    let missed = if case.is_mtty() { "missed bytes told" } else { "old sessions without device" };
    Ok(Seen::new(format!("{}; holders, features; {missed}", states.join(", ")), compared))
}

fn is_pause(step: &Value) -> bool {
    text(step, "step").is_some_and(|step| step.contains("pause"))
}

/// Checks the tracer's knowledge of a device before the device does anything.
fn known(list: &Value, traced: &Traced, device: &str, case: &Case, state: &str, pid: &Value) -> Result<()> {
    let row = row(list, device)?;
    ensure!(text(row, "state") == Some(state), "`list` says {:?}, it is in {state}", row.get("state"));
    let flags: Vec<&str> = row
        .get("migration_flags")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    ensure!(flags == case.flag_names(), "`list` says {flags:?}");
    let holders: Vec<_> = row
        .get("holders")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|holder| holder.get("pid"))
        .collect();
    ensure!(holders == [Some(pid)], "`list` says {holders:?} hold it, it is {pid}");
    let event = traced.of("device", device).next().context("tail does not show it")?;
    let at = text(data(event), "state");
    ensure!(at == Some(state), "tail says that it is in {at:?} at attach, it is in {state}");
    let holders: Vec<_> = traced.of("held", device).map(|event| event.get("pid")).collect();
    ensure!(holders == [Some(pid)], "tail says {holders:?} hold it, it is {pid}");
    Ok(())
}

/// Compares a step after the attach. Data of an old session has a device only if the tracer finds it in the driver's
/// memory.
fn moved(traced: &Traced, step: &Value, case: &Case) -> Result<usize> {
    let name = text(step, "step").unwrap_or_default();
    let kind = if name.contains("read-all") {
        "read"
    } else if name.contains("write=") {
        "write"
    } else {
        return compare(traced, step);
    };
    let events = within_any_device(traced, step, kind);
    let device = if case.is_mtty() { text(step, "device") } else { None };
    for event in &events {
        ensure!(text(event, "device") == device, "an event of {:?}, not {device:?}", event.get("device"));
    }
    pieces(&events, step.get("values").unwrap_or(&Value::Null))
}

/// Checks the account of a session that was older than the trace: the bytes that moved before are counted as missed.
fn account(traced: &Traced, device: &str) -> Result<()> {
    let close = traced.of("data_close", device).next().map(data).context("no data_close")?;
    let number = |name: &str| close.get(name).and_then(Value::as_u64);
    let seen = number("read_bytes").zip(number("written_bytes")).map(|(read, written)| read + written);
    let partial = close.get("partial") == Some(&Value::Bool(true));
    ensure!(
        partial && number("missed_bytes") == Some(BEFORE) && seen == Some(MTTY_BYTES - BEFORE),
        "{BEFORE} of {MTTY_BYTES} bytes moved before the trace; its account is {close}"
    );
    let io = traced.of("read", device).chain(traced.of("write", device)).next().map(data);
    let offset = io.and_then(|io| io.get("offset_bytes")).and_then(Value::as_u64);
    ensure!(offset == Some(BEFORE), "the first call that was seen is said to be at {offset:?}");
    Ok(())
}
