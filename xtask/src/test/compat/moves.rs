//! A whole migration, step by step, with every step's result compared; then every request from every state.

use std::fmt::Write as _;

use anyhow::{Result, ensure};
use serde_json::Value;

use super::{Case, Seen, is_thorough, migrating};
use crate::test::{
    guest::Left,
    steps::compare,
    traced::{Traced, text},
};

/// Returns the script. One tracer for all devices: its start takes longer than the rest.
pub(super) fn script(series: &str) -> Result<String> {
    let mut steps = String::new();
    for case in migrating(series) {
        let Case { mdev_type, flags, .. } = case;
        let pre_copy = if flags & 4 == 0 {
            "set=STOP_COPY"
        } else {
            "set=PRE_COPY precopy-info read=8:/run/part/i set=STOP_COPY"
        };
        // Requests that a device must refuse are made as well: the refusal is traced.
        let image = format!("/run/part/i.{mdev_type}");
        let pre_copy = pre_copy.replace("/run/part/i", &image);
        writeln!(
            steps,
            "lab-step --json moves.{mdev_type} --create {mdev_type} --create {mdev_type} flags get {pre_copy} \
               read-all={image} set=RUNNING 2:set=RESUMING 2:write={image} 2:set=RUNNING 2:get reset || exit 1"
        )?;
        if is_thorough(&case, series) {
            writeln!(
                steps,
                "lab-step --json matrix.{mdev_type} --create {mdev_type} flags matrix || exit 1"
            )?;
        }
    }
    Ok(format!(
        "modprobe mtty && modprobe quayside && \
         vfio-trace tail --format ndjson >tail.ndjson -- sh -c '\n{steps}'"
    ))
}

pub(super) fn check(left: &Left, case: &Case, _series: &str) -> Result<Seen> {
    let traced = left.traced("tail.ndjson")?;
    let count = |name: &str| traced.summary.get(name).and_then(Value::as_u64);
    for name in ["lost", "unmatched", "undecoded"] {
        ensure!(count(name) == Some(0), "the summary counts {:?} {name}", count(name));
    }
    // Before 6.7 the kernel does not count the calls that its probes missed.
    let missed = match count("missed") {
        None => "missed calls not countable",
        Some(0) => "no call missed",
        Some(more) => anyhow::bail!("{more} calls were missed"),
    };
    let records = left.records(&format!("moves.{}", case.mdev_type))?;
    let mut steps = 0;
    for step in &records {
        steps += compare(&traced, step).map_err(|error| error.context(step.to_string()))?;
    }
    let pid = records.first().and_then(|step| step.get("pid"));
    let kinds = |kind: &str| of(&traced, pid, kind);
    let (arcs, reads, writes) = (kinds("arc"), kinds("read"), kinds("write"));
    ensure!(
        steps > 5 && arcs > 5 && reads > 1 && writes > 0,
        "{steps} steps, {arcs} arcs, {reads} reads, {writes} writes"
    );
    Ok(Seen::new(format!("{arcs} arcs, {reads} reads, {writes} writes, {missed}"), steps))
}

fn of(traced: &Traced, pid: Option<&Value>, kind: &str) -> usize {
    let is = |event: &&Value| text(event, "kind") == Some(kind) && event.get("pid") == pid;
    traced.events.iter().filter(is).count()
}
