//! Compares the driver's files in a mounted tree and from `show` with the driver's own debugfs and with the stream
//! itself.

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, Result, ensure};

use super::{
    Check, Found, full,
    guest::{Guest, Lab},
};
use crate::{
    lab::{self, guest::Extras},
    setup::kernel::Driver,
};

pub(super) fn checks() -> Vec<Check> {
    vec![
        Check::new("hisi: views as debugfs on 7.3", |_| as_debugfs("7.3")).lasting(85),
        Check::new("hisi: views of the stream on 6.12", |_| of_stream("6.12")).alone(),
    ]
}

const UP: &str = "
cd $LAB_RESULTS
modprobe fuse && mkdir -p /run/m || exit 1
vfio-trace mount /run/m 2>mount.err & mount=$!
for i in $(seq 300); do [ -d /run/m/vfio ] && break; sleep 0.1; done
set -- $LAB_ZIP
";

const DOWN: &str = "\nkill -INT $mount; wait $mount\n";

fn run(series: &str, debugfs: bool, name: &str, script: &str) -> Result<Guest> {
    let extras = Extras { debugfs, driver: Some(Driver::Hisi) };
    let lab = Lab::with(lab::ready(series, false)?, extras)?;
    lab.run(name, &format!("{UP}{script}{DOWN}"))
}

/// Compares the kernel's files with ours, after every scenario (every fourth unless all are wanted), for source and
/// destination. If the kernel's file is an error, the driver wrote its reason and the kernel threw that away; ours
/// keeps it.
fn as_debugfs(series: &str) -> Result<Found> {
    let every = if full() { 1 } else { 4 };
    let script = "
        for scenario in $(lab-hisi --list | awk 'NR % EVERY == 0 { print $1 }'); do
            # Whether it went as it should is another check's business: what is left behind counts here.
            lab-hisi $scenario >steps 2>&1
            for device in $1 $2; do
                for file in state features hisi_acc/migf_data; do
                    cat /sys/kernel/debug/vfio/$device/migration/$file >kernel 2>/dev/null || echo 'device not migrated!' >kernel
                    cat /run/m/vfio/$device/migration/$file >ours
                    if cmp -s kernel ours; then result=equal; else result=different; mkdir -p $scenario; cp kernel ours $scenario; fi
                    grep -q '^migrate data length' kernel && result=$result-data
                    echo $scenario $device $file $result
                done
            done
        done >table
        for device in $LAB_ZIP; do
            for file in state features hisi_acc/migf_data; do
                cat /sys/kernel/debug/vfio/$device/migration/$file >kernel 2>/dev/null || echo 'device not migrated!' >kernel
                vfio-trace show $device $file >ours; cmp kernel ours && echo equal $device $file
            done
        done >shown"
        .replace("EVERY", &every.to_string());
    let guest = run(series, true, "hisi-views", &script)?;
    let table = guest.file("table")?;
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for line in table.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, _, file, result] = fields[..] else { anyhow::bail!("not a line of the table: {line}") };
        ensure!(result.starts_with("equal"), "{line}; see {}", guest.results.display());
        let counted =
            if file == "hisi_acc/migf_data" && result == "equal-data" { "migf_data" } else { "other" };
        *counts.entry(counted).or_default() += 1;
    }
    let data = counts.get("migf_data").copied().unwrap_or(0);
    ensure!(data > 30 / every, "only {data} of the driver's files had data to compare");
    let shown = guest.file("shown")?.lines().count();
    ensure!(shown == 9, "`show` differs from the kernel's files: {shown} of 9 are equal");
    Ok(Found::one(format!(
        "{} files equal, {data} of them migf_data with data; show: {shown}",
        table.lines().count()
    )))
}

/// Compares our files with the bytes that crossed the data fd: this kernel's driver shows nothing itself.
fn of_stream(series: &str) -> Result<Found> {
    let script = "
        lab-hisi stop-copy >steps && cp /run/hisi stream
        for device in $1 $2; do
            for file in attr data dev_data migf_data cmd_state image; do
                cat /run/m/vfio/$device/migration/hisi_acc/$file >$device.$file
            done
        done
        vfio-trace show $1 hisi_acc/data >alone
        cat /run/m/vfio/$3/migration/hisi_acc/data >never
        grep -r '^Mig Data:00000000' /run/m >grepped
        lab-step --device $1 --knobs /sys/kernel/debug/hisi_sim/{} knob=guest:7 set=STOP_COPY >held 2>&1; echo $? >code
        vfio-trace show $1 hisi_acc/attr >attr; vfio-trace show $1 hisi_acc/attr --style mainline >attr.mainline";
    let guest = run(series, false, "hisi-stream", script)?;
    let stream = fs::read(guest.results.join("stream")).context("no stream was kept")?;
    let shown = stream.get(..144).context("the stream is too short")?;
    let devices: Vec<String> = ["1000:75:00.1", "1000:75:00.2"].map(str::to_owned).into();
    for device in &devices {
        let file = |name: &str| guest.file(&format!("{device}.{name}"));
        for name in ["data", "migf_data"] {
            ensure!(bytes(&file(name)?) == shown, "{name} of {device} is not what crossed the data fd");
        }
        ensure!(
            !file("data")?.contains("length") && file("migf_data")?.ends_with("migrate data length: 176\n"),
            "trailer"
        );
        ensure!(file("attr")?.starts_with("acc device:\ndevice  state: 2\n"), "attr of {device}");
        ensure!(file("attr")?.ends_with("data     size: 176\n"), "attr of {device}");
        ensure!(file("image")?.contains("64 queue pairs of the VF"), "image of {device}");
        for name in ["dev_data", "cmd_state"] {
            ensure!(file(name)? == "device not opened!\n", "{name} of a closed device");
        }
    }
    ensure!(guest.file("alone")? == "device not migrated!\n", "a process that saw no migration shows one");
    ensure!(guest.file("never")? == "device not migrated!\n", "a device that was not migrated has data");
    // attr and image have no hex dump, data and migf_data of two devices do.
    ensure!(guest.file("grepped")?.lines().count() == 4, "grep -r: {}", guest.file("grepped")?);
    ensure!(guest.file("attr")?.starts_with("acc device:\n"), "show hisi_acc/attr");
    ensure!(
        guest.file("attr.mainline")?.ends_with("data size: 176\n"),
        "show hisi_acc/attr --style mainline"
    );
    Ok(Found::one(
        "data and migf_data of both sides equal the stream; attr, dev_data, cmd_state, image as they should be",
    ))
}

/// Returns the bytes of a hex dump.
fn bytes(text: &str) -> Vec<u8> {
    text.lines()
        .filter_map(|line| line.strip_prefix("Mig Data:")?.split_once(": "))
        .flat_map(|(_, row)| row.split_whitespace())
        .filter_map(|byte| u8::from_str_radix(byte, 16).ok())
        .collect()
}
