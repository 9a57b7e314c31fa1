//! A driver that is loaded and used at once: each call is traced, or lies in a time that is reported as a gap. Once that
//! is over, each is traced.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::test::{
    Found,
    guest::Left,
    steps::within_any_device,
    traced::{Traced, data, text},
};

/// Steps of a migration between two devices of quayside, with all kinds of calls.
const STEPS: &str = "flags get size set=PRE_COPY precopy-info read-all=/run/part/image set=STOP_COPY read-all=/run/part/image \
                     set=STOP close-data 2:set=RESUMING 2:write=/run/part/image:4096 2:set=RUNNING get knob=where 2:knob=where";

/// Returns the script. `waits` is true for a recorder that was started without any vfio, false for a `tail` that knew
/// vfio, and not the driver.
pub(super) fn script(waits: bool) -> String {
    // How much of the first use is seen is a matter of time: on a busy machine nothing is.
    let step = |file| {
        format!("lab-step --json {file} --create quayside-full --create quayside-full {STEPS} || return 1")
    };
    let use_it = format!(
        "modprobe -a vfio_iommu_type1 quayside && {}\nawait probed grep -q '^probing .*quay_unload' rec.err || return 1\n{}",
        step("steps"),
        step("later")
    );
    if waits {
        return format!(
            r#"
            ! grep -q '^vfio ' /proc/modules || {{ echo "vfio is loaded already" >&2; return 1; }}
            vfio-trace record -o rec.vft 2>rec.err & rec=$!; all="$rec"
            await rec [ -s rec.vft ] || return 1
            {use_it}
            kill -INT $rec; wait $rec || return 1
            vfio-trace replay --format ndjson rec.vft >tail.ndjson
            "#
        );
    }
    format!(
        r#"
        rmmod quayside 2>/dev/null; modprobe vfio_iommu_type1 || return 1
        vfio-trace tail --format ndjson >tail.ndjson 2>rec.err & tail=$!; all="$tail"
        await tail [ -s tail.ndjson ] || return 1
        {use_it}
        kill -INT $tail; wait $tail
        "#
    )
}

/// A kind of event, the driver's function for it, quayside's counter, and lab-step's steps that make such calls.
const CALLS: [(&str, &str, &str, &[&str]); 6] = [
    ("set_state", "quay_shift", "shifts", &["set"]),
    ("get_state", "quay_where", "glances", &["get"]),
    ("data_size", "quay_tonnage", "tonnages", &["size"]),
    ("precopy_info", "quay_manifest", "manifests", &["precopy-info"]),
    ("read", "quay_unload", "unloads", &["read", "read-all"]),
    ("write", "quay_load", "loads", &["write"]),
];

fn number(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_u64).unwrap_or_default()
}

/// Returns the verb of a step such as `2:read-all=FILE`.
fn verb(step: &Value) -> &str {
    let name = text(step, "step").unwrap_or_default();
    name.split(['=', '!', ':']).find(|word| word.parse::<u64>().is_err()).unwrap_or_default()
}

/// Returns true if the event shows the driver's own function.
fn is_of_driver(event: &Value) -> bool {
    let kind = text(event, "kind").unwrap_or_default();
    !["set_state", "get_state", "data_size"].contains(&kind) || !data(event)["driver_call"].is_null()
}

/// Returns the times in which a function was reported as not probed. All have an end: it is probed by now.
fn told(traced: &Traced, function: &str) -> Result<Vec<(u64, u64)>> {
    let gaps = traced.events.iter().filter(|event| text(event, "kind") == Some("probe_gap")).map(data);
    let mine = gaps.filter(|gap| {
        let functions = gap.get("functions").and_then(Value::as_array);
        functions.is_some_and(|all| all.iter().any(|one| text(one, "function") == Some(function)))
    });
    mine.map(|gap| {
        let time = |name| {
            gap.get(name).and_then(Value::as_u64).with_context(|| format!("{function}: no {name} in {gap}"))
        };
        Ok((time("from_mono_ns")?, time("until_mono_ns")?))
    })
    .collect()
}

/// Returns the sum of a counter of quayside over both devices, failed calls included.
fn counted(steps: &[Value], counter: &str) -> Result<u64> {
    let errors = format!("{}_errors", counter.trim_end_matches('s'));
    let count = |said: &str, name: &str| -> Option<u64> {
        said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    };
    let said = steps.iter().filter(|step| verb(step) == "knob").filter_map(|step| {
        let said = step.pointer("/values/value")?.as_str()?;
        Some(count(said, counter)? + count(said, &errors).unwrap_or(0))
    });
    let all: Vec<u64> = said.collect();
    ensure!(all.len() == 2, "quayside's {counter}: {all:?} in {steps:?}");
    Ok(all.iter().sum())
}

pub(super) fn at_once(left: &Left) -> Result<Found> {
    judge(left)
}

pub(super) fn waits(left: &Left) -> Result<Found> {
    let said = left.file("rec.err")?;
    ensure!(said.contains("vfio is not loaded yet"), "it does not say that it waits:\n{said}");
    judge(left)
}

/// Numbers of calls, by what became of them.
#[derive(Debug, Default)]
struct Calls {
    seen: u64,
    /// Calls that were not seen, all of them in a gap that is reported.
    unseen: u64,
    longest_gap_ns: u64,
}

fn judge(left: &Left) -> Result<Found> {
    let traced = left.traced("tail.ndjson")?;
    for name in ["lost", "undecoded"] {
        ensure!(number(&traced.summary, name) == 0, "{name}: {}", traced.summary);
    }
    let first = compare(&traced, &left.records("steps")?).context("at once")?;
    let later = compare(&traced, &left.records("later")?).context("once it is probed")?;
    ensure!(
        later.unseen == 0 && later.seen > 0,
        "{} of {} calls were not seen, after the tool had said that it probes",
        later.unseen,
        later.seen + later.unseen
    );
    ensure!(
        number(&traced.summary, "probe_gaps") > 0 || first.unseen == 0,
        "{} calls were not seen, and the account has no gap: {}",
        first.unseen,
        traced.summary
    );
    Ok(Found {
        detail: format!(
            "at once {} calls seen, {} in a gap that is told; the longest of {} ms; later all {}",
            first.seen,
            first.unseen,
            first.longest_gap_ns / 1_000_000,
            later.seen
        ),
        tests: first.seen + first.unseen + later.seen,
    })
}

/// Compares the calls of a run of lab-step with the trace and with what the driver has counted.
fn compare(traced: &Traced, all: &[Value]) -> Result<Calls> {
    // The steps that lab-step does by itself at its end come after it has read the counters.
    let steps = &all[..=all.iter().rposition(|step| verb(step) == "knob").context("no counters")?];
    let mut sum = Calls::default();
    for (kind, function, counter, verbs) in CALLS {
        let gaps = told(traced, function)?;
        let (mut own, mut calls) = (0, 0);
        for step in steps.iter().filter(|step| verbs.contains(&verb(step))) {
            let made = step.pointer("/values/calls").and_then(Value::as_u64).unwrap_or(1);
            let events = within_any_device(traced, step, kind);
            let events = events.iter().filter(|event| is_of_driver(event)).count() as u64;
            ensure!(events <= made, "{step}: {events} {kind} events");
            if events < made {
                let (start, end) = (number(step, "start_ns"), number(step, "end_ns"));
                ensure!(
                    gaps.iter().any(|(from, until)| start <= *until && end >= *from),
                    "{step}: {events} of {made} {kind} seen, and the gaps told are {gaps:?}"
                );
            }
            (own, calls) = (own + events, calls + made);
        }
        ensure!(calls > 0, "no {kind} was asked for");
        // The steps are the calls that the driver counted, except that lab-step also looks at the state by itself.
        let counted = counted(steps, counter)?;
        ensure!(counted >= own, "{counter} is {counted}; the trace has {own} {kind}");
        ensure!(
            ["set_state", "get_state"].contains(&kind) || counted == calls,
            "{counter}: {counted}, asked {calls}"
        );
        (sum.seen, sum.unseen) = (sum.seen + own, sum.unseen + calls - own);
        let lengths = gaps.iter().map(|(from, until)| until.saturating_sub(*from));
        sum.longest_gap_ns = lengths.fold(sum.longest_gap_ns, u64::max);
    }
    Ok(sum)
}
