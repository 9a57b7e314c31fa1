//! Devices that are held, runs that are stopped or killed, and the state that the next run finds.

use anyhow::{Context as _, Result, ensure};

use super::{EX, Found, Report, ended, refused, text_of};
use crate::test::{compat::device, guest::Left};

/// Script that kills a run of `full` as soon as it reports that its destination is in RESUMING.
const KILL: &str = r#"
import subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE)
for line in child.stdout:
    if b"set RESUMING" in line:
        child.kill()
        break
sys.exit(0 if child.wait() == -9 else "it was over before it was killed")
"#;

pub(super) fn script() -> String {
    let [mtty, other, quay, quay2] = [1, 2, 3, 4].map(device);
    format!(
        r#"{EX}
        modprobe -a vfio_iommu_type1 mtty quayside && mdevs mtty-2 1 2 && mdevs quayside-full 3 4 || return 1
        knobs=/sys/bus/mdev/devices/{quay}/quayside
        cat >kill.py <<'END'
{KILL}
END
        ex unasked {quay}
        hold held --device {quay} set=PRE_COPY pause=/run/part/go
        await hold [ -e /run/part/go.paused ] || return 1
        ex held {quay} --yes
        grep '^state ' $knobs/where >after.held
        : >/run/part/go; wait $held
        qemu-system-x86_64 -name guest=web-1 -M pc -accel tcg -m 16 -nodefaults -display none \
            -device vfio-pci,sysfsdev=/sys/bus/mdev/devices/{mtty},enable-migration=on,x-device-dirty-page-tracking=off \
            >qemu.out 2>&1 & qemu=$!; all="$all $qemu"
        opened() {{ vfio-trace list --json | grep -q 'web-1'; }}
        await qemu opened || {{ cat qemu.out >&2; return 1; }}
        ex qemu {mtty} --yes
        ex qemu2 {other} --yes --plan full --to {mtty}
        kill $qemu; wait $qemu
        echo 'STOP STOP_COPY 4000000' >$knobs/delay_us || return 1
        vfio-trace exercise {quay} --yes --plan save,resume --json >stopped.json 2>stopped.err & run=$!
        await stop grep -qx 'state 1' $knobs/where || return 1
        kill -INT $run; wait $run; echo $? >stopped.code
        echo 'RUNNING PRE_COPY 90000000' >$knobs/delay_us || return 1
        vfio-trace exercise {quay} --yes --plan full --to {quay2} --no-trace >killed.out 2>&1 & run=$!
        await resuming grep -qx 'state 4' /sys/bus/mdev/devices/{quay2}/quayside/where || return 1
        kill -KILL $run; wait $run
        echo clear >$knobs/delay_us || return 1
        ex again {quay} --yes --plan full --to {quay2}
        # mtty takes its image at once: on a busy host the kill may come too late, for the device or for all of the run.
        for try in $(seq 20); do
            python3 kill.py vfio-trace exercise {mtty} --yes --plan full --to {other} --no-trace
            vfio-trace list --json >left.json
            grep -q '"state": "RESUMING"' left.json && break
        done
        ex recovered {mtty} --yes --plan full --to {other}
        vfio-trace list --json >end.json
        "#
    )
}

pub(super) fn check(left: &Left, _series: &str) -> Result<Found> {
    refused(left, "unasked", 2, &["was not touched", "--yes"])?;
    refused(left, "held", 3, &["is in use", "lab-step (process "])?;
    let after = left.file("after.held")?;
    // State 6 is PRE_COPY.
    ensure!(after == "state 6\n", "the device that was held is no longer as it was: {after}");
    refused(left, "qemu", 3, &["qemu-system", ", VM web-1)"])?;
    refused(left, "qemu2", 3, &[device(1).as_str(), ", VM web-1)"])?;
    let stopped = Report::parse(left, "stopped", 1)?;
    ensure!(text_of(&stopped.0, "stopped").contains("signal"), "it was not stopped: {}", stopped.0);
    // In the stage in which the signal came: a busy host may be late with it.
    let last = stopped.list("stages")?.last().context("no stage")?;
    ensure!(text_of(last, "why") == "it was stopped", "the last stage is {last}");
    Report::parse(left, "again", 0)?.says("again", "full passed")?;
    let state = |file: &str, number: usize| -> Result<String> {
        let list = left.json(file)?;
        let rows = list.get("devices").and_then(|rows| rows.as_array()).context("no devices")?;
        let row =
            rows.iter().find(|row| text_of(row, "device") == device(number)).context("no such device")?;
        Ok(format!("{} {}", text_of(row, "state"), row.get("open_count").unwrap_or_default()))
    };
    let killed = state("left.json", 2)?;
    ensure!(killed == "RESUMING 0", "after the kill, mtty's destination is {killed}");
    let recovered = Report::parse(left, "recovered", 0)?;
    recovered.says("recovered", "full passed")?;
    let found = recovered.list("recovered")?.iter().find(|found| text_of(found, "device") == device(2));
    let found = found.context("nothing was recovered")?;
    ensure!(
        text_of(found, "opened_in") == "RESUMING"
            && text_of(found, "by") == "reset"
            && text_of(found, "danger").contains("NULL"),
        "recovered: {found}"
    );
    for number in 1..=4 {
        let end = state("end.json", number)?;
        ensure!(end == "RUNNING 0", "at the end, device {number} is {end}");
    }
    ended(left, "recovered", 0)?;
    Ok(Found::one(
        "held by lab-step and by QEMU: refused, named; SIGINT: RUNNING again; kill -9 in full: mtty left in RESUMING, reset \
         by the next run",
    ))
}
