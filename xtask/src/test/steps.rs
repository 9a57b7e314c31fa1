//! The uAPI stepper under `tail`: the result and the time of every step in user space, compared with the trace.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use lab::oracle::MttyLog;
use serde_json::Value;

use super::{
    Check, Found,
    boot::{Boot, Part},
    compare::with_mtty,
    guest::Left,
    traced::{Traced, data, text},
};

/// Steps of a save and a load between two devices, in small pieces, then requests that must be refused.
const SAVE_AND_LOAD: &str = "\
    --create mtty-2 --create mtty-2 \
    flags get size probe=MIGRATION probe=DMA_LOGGING_START \
    set=PRE_COPY precopy-info read=10:/run/image set=PRE_COPY_P2P set=PRE_COPY set=STOP_COPY precopy-info!EINVAL \
    read-all=/run/image:16 size set=PRE_COPY!EINVAL set=STOP close-data \
    2:set=RESUMING 2:write=/run/image:7 2:set=RUNNING 2:get 2:close-data \
    set=RUNNING set=RUNNING set=STOP_COPY read=4096 set=RUNNING read=4096!ENODEV \
    2:set=RESUMING 2:write-zero=24!EFAULT 2:reset 2:get \
    set=PRE_COPY reset read=4096!ENODEV get reopen get";

/// Returns the parts of a boot that they share with QEMU's migrations.
pub(super) fn parts() -> [Part; 2] {
    [
        Part { name: "steps", script: |_| Ok(script(SAVE_AND_LOAD)) },
        Part { name: "steps-matrix", script: |_| Ok(script("--create mtty-2 matrix")) },
    ]
}

pub(super) fn checks(boot: &Arc<Boot>) -> Vec<Check> {
    let check = |(name, part): (&str, &'static str)| {
        let (wanted, boot) = (Arc::clone(boot), Arc::clone(boot));
        Check::new(name, move |_| judge(&boot.part(part)?)).wanting(move || wanted.want(part))
    };
    [("steps: save and load", "steps"), ("steps: every from x to", "steps-matrix")].map(check).into()
}

fn script(arguments: &str) -> String {
    format!(
        "modprobe mtty && vfio-trace tail --format ndjson -- lab-step --json steps.ndjson --dmesg dmesg.txt \
         {arguments} >tail.ndjson"
    )
}

fn judge(guest: &Left) -> Result<Found> {
    let traced = Traced::parse(&guest.file("tail.ndjson")?).context("tail.ndjson")?;
    traced.is_complete()?;
    let counts = with_mtty(&traced, &MttyLog::parse(&guest.file("dmesg.txt")?))?;
    let mut steps = 0;
    for (number, line) in (1..).zip(guest.file("steps.ndjson")?.lines()) {
        let step: Value = serde_json::from_str(line).with_context(|| format!("step {number} is not JSON"))?;
        steps += compare(&traced, &step).with_context(|| format!("step {number}: {line}"))?;
    }
    ensure!(steps > 0, "no step was compared");
    Ok(Found::one(format!("{steps} steps with their times; {counts}")))
}

/// Returns the events that lie within a step's time and belong to its device and process.
pub(super) fn within<'t>(traced: &'t Traced, step: &Value, kind: &str) -> Vec<&'t Value> {
    let device = text(step, "device");
    let mut events = within_any_device(traced, step, kind);
    events.retain(|event| text(event, "device") == device);
    events
}

/// Returns the same whatever their device is: data of a session whose beginning was not seen may have none.
pub(super) fn within_any_device<'t>(traced: &'t Traced, step: &Value, kind: &str) -> Vec<&'t Value> {
    let number = |value: &Value, name: &str| value.get(name).and_then(Value::as_u64).unwrap_or(0);
    let (pid, start, end) = (step.get("pid"), number(step, "start_ns"), number(step, "end_ns"));
    let is = |event: &&Value| {
        text(event, "kind") == Some(kind)
            && event.get("pid") == pid
            && number(event, "start_mono_ns") >= start
            && number(event, "mono_ns") <= end
    };
    traced.events.iter().filter(is).collect()
}

/// Compares one step. Returns 0 for a step of which the trace has no event.
pub(super) fn compare(traced: &Traced, step: &Value) -> Result<usize> {
    let errno = text(step, "errno");
    if errno == Some("EBADF") {
        return Ok(0);
    }
    let values = step.get("values").unwrap_or(&Value::Null);
    let name = text(step, "step").unwrap_or_default();
    let verb = name.split(['=', '!', ':']).find(|word| word.parse::<u64>().is_err()).unwrap_or_default();
    let (kind, fields): (&str, &[(&str, &str)]) = match verb {
        "set" => ("set_state", &[("target", "state")]),
        "get" => ("get_state", &[("state", "state")]),
        "size" => ("data_size", &[("stop_copy_bytes", "stop_copy_length")]),
        "precopy-info" => {
            ("precopy_info", &[("initial_bytes", "initial_bytes"), ("dirty_bytes", "dirty_bytes")])
        },
        "read" => ("read", &[("bytes", "bytes"), ("requested_bytes", "asked")]),
        "flags" | "probe" => ("feature", &[]),
        "reset" => ("reset", &[]),
        "read-all" => return pieces(&within(traced, step, "read"), values),
        "write" => return pieces(&within(traced, step, "write"), values),
        _ => return Ok(0),
    };
    let events = within(traced, step, kind);
    ensure!(events.len() == 1, "the trace has {} {kind} events in its time", events.len());
    let data = data(events[0]);
    ensure!(text(data, "errno") == errno, "the trace says {:?}", text(data, "errno"));
    if errno.is_none() {
        for (ours, theirs) in fields {
            ensure!(data.get(ours) == values.get(theirs), "{ours} is {:?} in the trace", data.get(ours));
        }
    }
    Ok(1)
}

/// Compares a step of several calls: their number and their bytes.
pub(super) fn pieces(events: &[&Value], values: &Value) -> Result<usize> {
    let calls = values.get("calls").and_then(Value::as_u64);
    ensure!(Some(events.len() as u64) == calls, "the trace has {} calls", events.len());
    let bytes: u64 = events.iter().filter_map(|event| data(event).get("bytes")?.as_u64()).sum();
    ensure!(Some(bytes) == values.get("bytes").and_then(Value::as_u64), "the trace has {bytes} bytes");
    Ok(1)
}
