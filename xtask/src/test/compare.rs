//! Compares a trace with independent witnesses: mtty's debug messages and QEMU's events. No I/O.

use std::{collections::BTreeMap, fmt};

use anyhow::{Context as _, Result, ensure};
use lab::oracle::{MttyLog, QmpLog};
use serde_json::Value;

use super::traced::{Traced, data, text};

/// Numbers of things that were compared and found equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Arcs, compared with mtty's messages.
    pub(crate) arcs: usize,
    /// Calls of set_state, compared with mtty's messages.
    pub(crate) requests: usize,
    /// Reads, compared with mtty's messages.
    pub(crate) reads: usize,
    /// Writes, compared with mtty's messages.
    pub(crate) writes: usize,
    /// Device states, compared with QEMU's events.
    pub(crate) states: usize,
    /// Final states, compared with the kernel's answer.
    pub(crate) finals: usize,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { arcs, requests, reads, writes, states, finals } = self;
        write!(
            f,
            "mtty: {arcs} arcs, {requests} set_state, {reads} reads, {writes} writes; QMP: {states} states; \
             kernel: {finals} final states"
        )
    }
}

/// Compares two lists, which must be equal. The error names the first difference.
fn same(what: &str, device: &str, ours: &[String], theirs: &[String]) -> Result<usize> {
    if ours == theirs {
        return Ok(ours.len());
    }
    let at = ours.iter().zip(theirs).take_while(|(a, b)| a == b).count();
    let show = |list: &[String]| list.get(at).cloned().unwrap_or_else(|| "nothing more".to_owned());
    anyhow::bail!(
        "{what} of {device} differ: number {} is \"{}\" in the trace and \"{}\" by the witness ({} against {})",
        at + 1,
        show(ours),
        show(theirs),
        ours.len(),
        theirs.len()
    )
}

fn word(value: &Value, name: &str) -> String {
    match value.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => "-".to_owned(),
        Some(other) => other.to_string(),
    }
}

/// Compares arcs, requests, reads and writes of every device with the driver's own messages.
pub(crate) fn with_mtty(traced: &Traced, log: &MttyLog) -> Result<Counts> {
    ensure!(log.lost == 0, "mtty's messages are incomplete ({} lost), nothing can be compared", log.lost);
    ensure!(!log.devices.is_empty(), "mtty said nothing");
    let mut counts = Counts::default();
    let mut devices = traced.devices();
    devices.extend(log.devices.keys().cloned());
    devices.sort();
    devices.dedup();
    for device in &devices {
        let witness = log.device(device);
        let ours: Vec<String> = traced
            .of("arc", device)
            .map(data)
            .filter(|arc| text(arc, "result") != Some("refused"))
            .map(|arc| format!("{} -> {} {}", word(arc, "from"), word(arc, "to"), word(arc, "result")))
            .collect();
        let theirs: Vec<String> = witness
            .arcs()
            .iter()
            .map(|arc| format!("{} -> {} {}", arc.from, arc.to, if arc.failed { "failed" } else { "ok" }))
            .collect();
        counts.arcs += same("arcs", device, &ours, &theirs)?;

        let ours: Vec<String> =
            traced.of("set_state", device).map(|event| word(data(event), "target")).collect();
        let theirs: Vec<String> = witness.targets().iter().map(ToString::to_string).collect();
        counts.requests += same("set_state calls", device, &ours, &theirs)?;

        let ours: Vec<String> = traced
            .of("read", device)
            .map(data)
            .map(|read| {
                format!(
                    "{} of {} {}",
                    word(read, "bytes"),
                    word(read, "requested_bytes"),
                    word(read, "errno")
                )
            })
            .collect();
        let theirs: Vec<String> = witness
            .reads()
            .iter()
            .map(|read| match read.result {
                Ok(bytes) => format!("{bytes} of {} -", read.asked),
                Err(errno) => format!("- of {} {}", read.asked, lab::errno::name(errno)),
            })
            .collect();
        counts.reads += same("reads", device, &ours, &theirs)?;

        // mtty logs a write after copying the data. A write that it refuses before that is not in its messages.
        let ours: Vec<String> = traced
            .of("write", device)
            .map(data)
            .filter(|write| matches!(text(write, "errno"), None | Some("EFAULT")))
            .map(|write| format!("{} {}", word(write, "requested_bytes"), word(write, "errno")))
            .collect();
        let theirs: Vec<String> = witness
            .writes()
            .iter()
            .map(|write| format!("{} {}", write.bytes, if write.refused { "EFAULT" } else { "-" }))
            .collect();
        counts.writes += same("writes", device, &ours, &theirs)?;
    }
    Ok(counts)
}

/// Compares the states that QEMU reported over QMP with our `set_state` events of the same QEMU. QEMU sets RUNNING_P2P
/// and RUNNING before a QMP client can be connected; apart from those two all must be there, in order.
pub(crate) fn with_qmp(traced: &Traced, log: &QmpLog, pids: &BTreeMap<String, u64>) -> Result<usize> {
    let mut compared = 0;
    for (vm, pid) in pids {
        let theirs: Vec<String> = log.vm_states(vm).iter().map(ToString::to_string).collect();
        let mut ours: Vec<String> = traced
            .events
            .iter()
            .filter(|event| {
                text(event, "kind") == Some("set_state")
                    && event.get("pid").and_then(Value::as_u64) == Some(*pid)
            })
            .map(data)
            .filter(|state| text(state, "result") == Some("ok"))
            .map(|state| word(state, "target"))
            .collect();
        let early = ours.len().saturating_sub(theirs.len());
        let before: Vec<String> = ours.drain(..early).collect();
        ensure!(
            before.is_empty() || before == ["RUNNING_P2P", "RUNNING"],
            "{vm} (pid {pid}): QMP knows nothing of {}",
            before.join(", ")
        );
        compared += same("states", vm, &ours, &theirs)?;
    }
    ensure!(compared > 0, "QEMU reported no device state at all");
    Ok(compared)
}

/// Compares the last state of each device with the kernel's answer afterwards.
pub(crate) fn with_final_states(traced: &Traced, document: &str) -> Result<usize> {
    let document: Value = serde_json::from_str(document).context("final-states.json is not JSON")?;
    let devices =
        document.get("devices").and_then(Value::as_array).context("final-states.json lists no devices")?;
    let mut compared = 0;
    for device in devices {
        let name = text(device, "uuid").context("a device without uuid")?;
        let Some(theirs) = text(device, "kernel_state") else { continue };
        let ours = traced
            .of("arc", name)
            .map(data)
            .filter(|arc| text(arc, "result") == Some("ok"))
            .last()
            .and_then(|arc| text(arc, "to"))
            .with_context(|| format!("the trace has no arc of {name}"))?;
        ensure!(ours == theirs, "{name} ends in {ours} in the trace, and in {theirs} by the kernel's answer");
        compared += 1;
    }
    ensure!(compared > 0, "no final state is known");
    Ok(compared)
}

/// Returns the process of each VM, from migrate.json.
pub(crate) fn vm_pids(document: &str) -> Result<BTreeMap<String, u64>> {
    let document: Value = serde_json::from_str(document).context("migrate.json is not JSON")?;
    let migrations =
        document.get("migrations").and_then(Value::as_array).context("migrate.json has no migrations")?;
    let ends =
        migrations.iter().flat_map(|migration| [migration.get("source"), migration.get("destination")]);
    let pids: BTreeMap<String, u64> = ends
        .flatten()
        .filter_map(|end| Some((text(end, "vm")?.to_owned(), end.get("pid")?.as_u64()?)))
        .collect();
    ensure!(!pids.is_empty(), "migrate.json names no VM");
    Ok(pids)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: &str = "11111111-1111-1111-1111-111111111111";

    fn line(kind: &str, data: &str) -> String {
        let head = format!(r#"{{"schema":"vfio-trace.event/1","kind":"{kind}","device":"{DEVICE}""#);
        format!("{head},\"pid\":7,\"data\":{data}}}\n")
    }

    fn trace(arcs: &[(&str, &str)]) -> Traced {
        let mut all = line("start", "{}");
        for (from, to) in arcs {
            all += &line("arc", &format!(r#"{{"from":"{from}","to":"{to}","result":"ok"}}"#));
            all += &line("set_state", &format!(r#"{{"target":"{to}","result":"ok"}}"#));
        }
        all += &line("summary", r#"{"events":2,"lost":0,"missed":0,"unmatched":0,"undecoded":0}"#);
        // These lines have only the fields that are compared.
        Traced::read(&all).unwrap()
    }

    fn mtty(text: &str) -> MttyLog {
        let lines: Vec<String> =
            text.lines().map(|line| format!("[    1.000001] mtty {DEVICE}: {line}")).collect();
        MttyLog::parse(&lines.join("\n"))
    }

    #[test]
    fn equal_lists_are_counted() {
        let log = mtty("mtty_set_state -> 6\nmtty_step_state: 2 -> 6");
        let counts = with_mtty(&trace(&[("RUNNING", "PRE_COPY")]), &log).unwrap();
        assert_eq!(counts, Counts { arcs: 1, requests: 1, ..Counts::default() });
    }

    #[test]
    fn a_missing_arc_is_found() {
        let log = mtty("mtty_set_state -> 6\nmtty_step_state: 2 -> 6\nmtty_step_state: 6 -> 7");
        let error = with_mtty(&trace(&[("RUNNING", "PRE_COPY")]), &log).unwrap_err().to_string();
        assert!(error.contains("number 2 is \"nothing more\" in the trace"), "{error}");
        with_mtty(&trace(&[("RUNNING", "STOP")]), &log).unwrap_err();
        assert!(with_mtty(&trace(&[]), &MttyLog::default()).is_err(), "a silent witness proves nothing");
    }

    #[test]
    fn final_states_must_agree() {
        let document =
            |state: &str| format!(r#"{{"devices":[{{"uuid":"{DEVICE}","kernel_state":"{state}"}}]}}"#);
        let traced = trace(&[("RUNNING", "STOP")]);
        assert_eq!(with_final_states(&traced, &document("STOP")).unwrap(), 1);
        with_final_states(&traced, &document("RUNNING")).unwrap_err();
        with_final_states(&traced, r#"{"devices":[]}"#).unwrap_err();
    }

    #[test]
    fn incomplete_traces_do_not_pass() {
        trace(&[("RUNNING", "STOP")]).is_complete().unwrap();
        assert!(trace(&[]).is_complete().is_err(), "the number of events is checked");
        // Streams without the first and the last line. What the schema refuses is in `export: schemas`.
        for part in ["", "{}", &line("arc", "{}"), &line("start", "{}"), &line("summary", "{}")] {
            let error = Traced::read(part).unwrap_err().to_string();
            assert!(error.contains("the stream goes from"), "{part}: {error}");
        }
    }
}
