//! Where the tool meets its surroundings: a container's PID namespace.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{
    Check, Found,
    guest::{Guest, Lab},
};

pub(super) fn checks() -> Vec<Check> {
    vec![Check::new("list: PID namespaces", pid_namespaces)]
}

/// lab-step holds a device; within the namespace another process has its number, and the name of a virtual machine.
const HELD: &str = r#"
cd $LAB_RESULTS || exit 1
die() { echo "$*" >&2; cat step inside.err >&2; exit 1; }
modprobe -a vfio_iommu_type1 mtty || exit 1
lab-step --json held --create mtty-2 set=PRE_COPY sleep=90000 >step 2>&1 & step=$!
until [ "$(cat held 2>/dev/null | wc -l)" -ge 2 ]; do kill -0 $step 2>/dev/null || die lab-step ended; sleep 0.1; done
echo $step >pid
"#;

fn pid_namespaces(lab: &Lab) -> Result<Found> {
    let script = format!(
        "{HELD}{}",
        r#"
        cat >inside.sh <<'END'
number=$(cat pid)
echo $((number - 1)) >/proc/sys/kernel/ns_last_pid || exit 1
python3 -c 'import time; time.sleep(60)' -name guest=wrong & other=$!
[ $other = $number ] || { echo "the other process has number $other, not $number" >&2; exit 1; }
grep -q wrong /proc/$number/cmdline || exit 1
vfio-trace list --json >inside.json && vfio-trace list >inside.txt 2>inside.note
code=$?; kill $other; exit $code
END
        vfio-trace list --json >host.json || die on the host
        unshare --pid --fork --mount-proc sh inside.sh 2>inside.err || die inside
        unshare --pid --fork vfio-trace list --json >hostproc.json || die with the proc of the host
        kill $step; wait $step; true
        "#
    );
    let guest = lab.run("edge-pid", &script)?;
    let pid: u64 = guest.file("pid")?.trim().parse().context("pid")?;
    let holders = holders(&guest, "host.json")?;
    let [holder] = holders.as_slice() else { anyhow::bail!("on the host: {holders:?}") };
    let field = |name: &str| holder.get(name).cloned().unwrap_or_default();
    ensure!(field("pid") == pid && field("comm") == "lab-step", "on the host: {holder}");
    ensure!(!field("local_pid").is_null() && field("vm").is_null(), "on the host: {holder}");
    // The kernel's iterator has only processes of the namespace that it runs in.
    for file in ["inside.json", "hostproc.json"] {
        let list: Value = serde_json::from_str(&guest.file(file)?).with_context(|| file.to_owned())?;
        let told = list.pointer("/devices/0/holders").with_context(|| format!("{file}: {list}"))?;
        // Somebody has it open, so that "nobody" would be wrong.
        ensure!(told.is_null(), "{file}: {told}");
    }
    let (text, note) = (guest.file("inside.txt")?, guest.file("inside.note")?);
    ensure!(!text.contains("wrong") && !text.contains("lab-step"), "{text}");
    ensure!(note.contains("not in a process that the kernel tells of here"), "{note}");
    Ok(Found::one(format!("lab-step {pid} named on the host; in a container nobody is, and that is said")))
}

/// The holders of the first device in a list.
fn holders(guest: &Guest, file: &str) -> Result<Vec<Value>> {
    let list: Value = serde_json::from_str(&guest.file(file)?).with_context(|| file.to_owned())?;
    let holders = list.pointer("/devices/0/holders").and_then(Value::as_array);
    holders.cloned().with_context(|| format!("{file} does not tell holders: {list}"))
}
