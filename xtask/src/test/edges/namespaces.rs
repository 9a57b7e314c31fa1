//! A container's PID namespace: processes have other numbers in it.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::test::{Found, compat::device, guest::Left};

/// Returns the script: lab-step holds a device; within the namespace another process has its number, and the name of a
/// virtual machine.
pub(super) fn script() -> String {
    let own = device(1);
    format!(
        r#"
        modprobe -a vfio_iommu_type1 mtty && mdevs mtty-2 1 1 || return 1
        ex() {{ vfio-trace exercise {own} --yes --plan save,resume --json </dev/null; }}
        ex >exercise.json || return 1
        unshare --pid --fork --mount-proc vfio-trace exercise {own} --yes --plan save,resume --json >exercise.inside.json \
            </dev/null || return 1
        unmake
        unshare --pid --fork --mount-proc vfio-trace tail --pid 1 --duration 100ms >/dev/null 2>pid.note || return 1
        vfio-trace tail --pid 1 --duration 100ms >/dev/null 2>pid.host || return 1
        hold held --create mtty-2 set=PRE_COPY sleep=600000
        step=$held
        await held lines held 2 || return 1
        echo $step >pid
        cat >inside.sh <<'END'
number=$(cat pid)
echo $((number - 1)) >/proc/sys/kernel/ns_last_pid || exit 1
python3 -c 'import time; time.sleep(600)' -name guest=wrong & other=$!
[ $other = $number ] || {{ echo "the other process has number $other, not $number" >&2; exit 1; }}
# Until then it is still a copy of this shell.
tries=0
until grep -q wrong /proc/$number/cmdline; do
    tries=$((tries + 1)); [ $tries -le 600 ] || {{ echo "the other process never became another program" >&2; exit 1; }}
    sleep 0.1
done
vfio-trace list --json >inside.json && vfio-trace list >inside.txt 2>inside.note
code=$?; kill $other; exit $code
END
        vfio-trace list --json >host.json && vfio-trace list >host.txt 2>host.note || return 1
        unshare --pid --fork --mount-proc sh inside.sh || return 1
        unshare --pid --fork vfio-trace list --json >hostproc.json
        "#
    )
}

pub(super) fn check(left: &Left) -> Result<Found> {
    let pid: u64 = left.file("pid")?.trim().parse().context("pid")?;
    let holders = holders(left, "host.json")?;
    let [holder] = holders.as_slice() else { anyhow::bail!("on the host: {holders:?}") };
    let field = |name: &str| holder.get(name).cloned().unwrap_or_default();
    ensure!(field("pid") == pid && field("comm") == "lab-step", "on the host: {holder}");
    ensure!(!field("local_pid").is_null() && field("vm").is_null(), "on the host: {holder}");
    // The kernel's iterator returns only processes of the namespace in which it runs.
    for file in ["inside.json", "hostproc.json"] {
        let list = left.json(file)?;
        let told = list.pointer("/devices/0/holders").with_context(|| format!("{file}: {list}"))?;
        // The device is open, so an empty list of holders would be wrong.
        ensure!(told.is_null(), "{file}: {told}");
    }
    let (text, note) = (left.file("inside.txt")?, left.file("inside.note")?);
    ensure!(!text.contains("wrong") && !text.contains("lab-step"), "{text}");
    ensure!(note.contains("not in a process that the kernel tells of here"), "{note}");
    // On the host the list has all processes: there is nothing to explain.
    let (text, note) = (left.file("host.txt")?, left.file("host.note")?);
    ensure!(text.contains("lab-step") && note.is_empty(), "on the host: {text}{note}");
    let (inside, host) = (left.file("pid.note")?, left.file("pid.host")?);
    ensure!(inside.contains("--pid takes the numbers of the host's PID namespace"), "{inside}");
    ensure!(!host.contains("PID namespace"), "{host}");
    let arcs = exercised(left, "exercise.inside.json")?;
    let outside = exercised(left, "exercise.json")?;
    ensure!(
        arcs == outside,
        "an exercise took the arcs\n{outside:?} on the host, and in a container\n{arcs:?}"
    );
    Ok(Found::one(format!(
        "lab-step {pid} named on the host; in a container nobody is, and that is said; {} arcs of an exercise in both",
        arcs.len()
    )))
}

/// Returns the holders of the first device in a list.
fn holders(left: &Left, file: &str) -> Result<Vec<Value>> {
    let list = left.json(file)?;
    let holders = list.pointer("/devices/0/holders").and_then(Value::as_array);
    holders.cloned().with_context(|| format!("{file} does not tell holders: {list}"))
}

/// Returns the arcs of an exercise that the tracer saw: from, to, errno.
fn exercised(left: &Left, file: &str) -> Result<Vec<String>> {
    let report = left.json(file)?;
    let tracing = report.get("tracing").cloned().unwrap_or_default();
    let count = |name: &str| tracing.get(name).and_then(Value::as_u64);
    ensure!(
        count("unseen") == Some(0) && count("requests").is_some_and(|requests| requests > 0),
        "{file}: {tracing}"
    );
    let items = |value: &Value, name: &str| -> Vec<Value> {
        value.get(name).and_then(Value::as_array).cloned().unwrap_or_default()
    };
    let steps = items(&report, "stages").into_iter().flat_map(|stage| items(&stage, "steps"));
    let arcs = steps.flat_map(|step| items(&step, "arcs")).map(|arc| {
        let field = |name: &str| arc.get(name).cloned().unwrap_or_default();
        format!("{} {} {}", field("from"), field("to"), field("errno"))
    });
    let arcs: Vec<String> = arcs.collect();
    ensure!(!arcs.is_empty(), "{file} has no arc");
    Ok(arcs)
}
