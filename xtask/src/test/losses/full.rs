//! Maps that are full or ought to be empty: more data fds than are remembered, thousands of devices, devices that are gone.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{
    super::{
        Check, Found,
        compat::device,
        guest::{Guest, Lab},
        traced::{Traced, data, text},
    },
    account::{Account, Called},
    read,
};

pub(super) fn checks() -> Vec<Check> {
    vec![
        Check::new("maps: more data fds than are remembered", hoard).lasting(40),
        Check::new("maps: thousands of devices", thousands).lasting(40),
        Check::new("maps: devices that are gone", gone).lasting(40),
        Check::new("maps: calls of threads that are gone", killed).lasting(40),
    ]
}

/// Data fds that the programs remember.
const FILES: u64 = 16384;
/// Calls that the programs remember.
const CALLS: u64 = 8192;
/// Data fds that there are.
const HOARD: u64 = FILES + 150;

/// All data fds of a session that is over stay open. Those that found no room are counted, one by one.
fn hoard(lab: &Lab) -> Result<Found> {
    let script = format!(
        "cd $LAB_RESULTS; modprobe quayside; ulimit -n 20000\n\
         vfio-trace tail --buffer 64M --kind data_close --format ndjson -- lab-step --create quayside-full hoard={HOARD} \
           'knob=where' close-data set=STOP_COPY read-all set=STOP close-data set=RUNNING >tail.ndjson 2>steps.out\n"
    );
    let guest = lab.run("maps-hoard", &script)?;
    let traced = Traced::parse(&guest.file("tail.ndjson")?)?;
    let steps = guest.file("steps.out")?;
    ensure!(steps.contains(&format!("holds {HOARD},")), "the driver holds another number of files: {steps}");
    let account = Account::of(&traced)?;
    let found = account.role("set_state").no_room;
    ensure!(account.lost == 0, "{} records were lost", account.lost);
    ensure!(found == HOARD - FILES, "{found} of {} that found no room are counted", HOARD - FILES);
    let closed =
        traced.events.iter().filter(|event| text(event, "kind") == Some("data_close")).count() as u64;
    // And the one after, when there was room again.
    ensure!(closed == FILES + 1, "{closed} data fds were seen to be closed");
    Ok(Found::one(format!("{HOARD} open data fds, {found} of them not remembered, as counted")))
}

/// So many devices.
const DEVICES: usize = 1100;

/// More devices than fit into the buffer at once, and more than a process may have files.
fn thousands(lab: &Lab) -> Result<Found> {
    let script = format!(
        "cd $LAB_RESULTS; modprobe quayside\n\
         create=$(echo /sys/class/mdev_bus/*/mdev_supported_types/quayside-stopcopy/create)\n\
         for n in $(seq {DEVICES}); do printf '%08d-0000-4000-8000-000000000000' $n >$create || exit 1; done\n\
         ls /sys/bus/mdev/devices >names; ls /sys/class/vfio-dev | wc -l\n\
         vfio-trace list --json >list.json 2>list.err || exit 1\n\
         vfio-trace tail --format ndjson --duration 2s >tail.ndjson 2>tail.err || exit 1\n\
         vfio-trace record -o rec.vft --buffer 64K --stop-after 2s 2>rec.err || exit 1; chmod a+r rec.vft\n"
    );
    let guest = lab.run("maps-thousands", &script)?;
    let names: BTreeSet<String> = guest.file("names")?.lines().map(str::to_owned).collect();
    ensure!(names.len() == DEVICES, "{} devices were made", names.len());
    let list: Value = serde_json::from_str(&guest.file("list.json")?)?;
    let listed = list.get("devices").and_then(Value::as_array).context("no devices")?;
    let known = listed.iter().filter(|device| device.get("state").is_some_and(|state| !state.is_null()));
    same("list", &names, &known.filter_map(|device| text(device, "device")).collect())?;
    let said = guest.file("list.err")?;
    ensure!(!said.contains("not all that there is"), "{said}");
    let live = Traced::parse(&guest.file("tail.ndjson")?)?;
    let (code, out, err) = read(&["replay", "--format", "ndjson"], &guest.results.join("rec.vft"))?;
    ensure!(code == Some(0), "replay exited with {code:?}: {err}");
    for (how, traced) in [("tail", live), ("record", Traced::parse(&out)?)] {
        traced.is_complete().context(how)?;
        ensure!(traced.summary.get("no_room").is_none(), "{how}: {}", traced.summary);
        let seen = traced.events.iter().filter(|event| text(event, "kind") == Some("device"));
        same(how, &names, &seen.filter_map(|event| text(event, "device")).collect())?;
    }
    Ok(Found::one(format!("{DEVICES} devices in list, in tail and in a recording with a buffer of 64 KiB")))
}

/// A tracer knows exactly these devices.
fn same(how: &str, names: &BTreeSet<String>, seen: &BTreeSet<&str>) -> Result<()> {
    let lacks = names.iter().filter(|name| !seen.contains(name.as_str())).count();
    ensure!(lacks == 0, "{how} does not know {lacks} of {} devices", names.len());
    ensure!(seen.len() == names.len(), "{how} knows {} devices more", seen.len() - names.len());
    Ok(())
}

/// How many entries our programs' maps have, asked of the kernel; and a descriptor that is taken from another process.
const TOOLS: &str = r#"
import ctypes, json, os, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
def bpf(command, attr):
    return libc.syscall(321, command, ctypes.create_string_buffer(attr.ljust(128, b"\0"), 128), 128)
def maps():
    counts, number = {}, 0
    while True:
        attr = ctypes.create_string_buffer(struct.pack("II", number, 0).ljust(128, b"\0"), 128)
        if libc.syscall(321, 12, attr, 128) < 0: break
        number = struct.unpack_from("I", attr.raw, 4)[0]
        fd = bpf(14, struct.pack("I", number))
        info = ctypes.create_string_buffer(256)
        bpf(15, struct.pack("IIQ", fd, 256, ctypes.addressof(info)))
        name, size = info.raw[24:40].split(b"\0")[0].decode(), struct.unpack_from("I", info.raw, 8)[0]
        if name in ("DEVICES", "PARENTS", "FILES", "IN_FLIGHT"):
            key, entries = ctypes.create_string_buffer(max(size, 8)), 0
            at = 0
            while bpf(4, struct.pack("IIQQ", fd, 0, at, ctypes.addressof(key))) == 0:
                entries, at = entries + 1, ctypes.addressof(key)
            counts[name] = entries
        os.close(fd)
    return counts
if sys.argv[1] == "maps":
    print(json.dumps(maps()))
else:
    # outlive PID FILE: takes the data fd of that process, and reads from it until there is FILE.
    pid = int(sys.argv[2])
    data = next(int(fd) for fd in os.listdir(f"/proc/{pid}/fd") if "quay" in os.readlink(f"/proc/{pid}/fd/{fd}"))
    mine = libc.syscall(438, os.pidfd_open(pid), data, 0)
    print(f"taken {mine}", flush=True)
    while not os.path.exists(sys.argv[3]):
        try: print(len(os.read(mine, 16)), flush=True)
        except OSError as error: print(error.errno, flush=True)
        time.sleep(0.2)
"#;

/// Where a script begins that makes devices, and uses [`TOOLS`].
fn tools() -> String {
    format!(
        "cd $LAB_RESULTS; modprobe quayside; cat >tools.py <<'END'\n{TOOLS}\nEND\n\
         device() {{ printf '%08d-0000-4000-8000-000000000000' $1; }}\n\
         types=$(echo /sys/class/mdev_bus/*/mdev_supported_types)\n\
         make() {{ device $1 >$types/quayside-full/create; }}\n\
         unmake() {{ echo 1 >/sys/bus/mdev/devices/$(device $1)/remove; }}\n\
         ready() {{ g=$(readlink /sys/bus/mdev/devices/$(device $1)/iommu_group); \
                    until [ -e /dev/vfio/${{g##*/}} ]; do sleep 0.05; done; }}\n"
    )
}

/// Threads that are killed at once in a call, so many times: more calls than are remembered, each of them twice, as the
/// driver's function and as the ioctl.
const KILLED: usize = 1400;
const TIMES: usize = 3;
/// Calls of one function at a time that the kernel has return probes for, on two processors.
const RETURN_PROBES: u64 = 10;

/// Threads die in calls that the kernel had no return probes for. What they leave behind fills the map, and makes room.
fn killed(lab: &Lab) -> Result<Found> {
    let script = format!(
        "{}\
         counted() {{ cat /sys/bus/mdev/devices/$(device {OPEN})/quayside/where >$1; }}\n\
         modprobe vfio_iommu_type1; make {OPEN} && ready {OPEN} || exit 1\n\
         vfio-trace tail --format ndjson --buffer 16M >tail.ndjson 2>tail.err & tail=$!\n\
         until [ -s tail.ndjson ]; do kill -0 $tail || exit 1; sleep 0.1; done; sleep 0.5; counted killed.before\n\
         for time in $(seq {TIMES}); do\n\
            lab-step --device $(device {OPEN}) 'knob=delay_us:RUNNING_P2P STOP 60000000' crowd=STOP:{KILLED} \
              >crowd.$time 2>&1 & step=$!\n\
            until [ $(ls /proc/$step/task | wc -l) -gt {KILLED} ]; do kill -0 $step || exit 1; sleep 0.1; done\n\
            sleep 0.5; kill -KILL $step; wait $step\n\
         done\n\
         python3 tools.py maps >maps.full; ! grep -q '{CALLS}' maps.full || sleep 11\n\
         lab-step --json after --device $(device {OPEN}) knob=delay_us:clear get get set=STOP_COPY read-all set=STOP \
           set=RUNNING >after.out 2>&1 || exit 1\n\
         counted killed.after; python3 tools.py maps >maps.after; unmake {OPEN}; sleep 1; kill -INT $tail; wait $tail\n",
        tools()
    );
    let guest = lab.run("maps-killed", &script)?;
    let called = Called::between(&guest.left(""), "killed")?;
    let traced = Traced::parse(&guest.file("tail.ndjson")?)?;
    let account = Account::of(&traced)?;
    ensure!(account.lost == 0, "{} records were lost", account.lost);
    let (mut missed, mut given_up, mut unknown) = (0, 0, 0);
    for (role, calls) in called.by_role() {
        let one = account.role(role);
        let lacks = one.missed.context("this kernel does not count what it missed")?;
        if lacks == 0 {
            ensure!(
                one.seen + one.unmatched == calls,
                "{role}: {calls} calls by the driver's count, and {one:?}"
            );
            continue;
        }
        // Of the last crowd's calls that had a return probe: those that found no room, and on a slow machine all that were in
        // it for so long that they were given up.
        let late = calls.checked_sub(one.seen + lacks).filter(|late| *late <= 2 * RETURN_PROBES);
        let late =
            late.with_context(|| format!("{role}: {calls} calls by the driver's count, and {one:?}"))?;
        (missed, given_up, unknown) = (missed + lacks, given_up + one.unmatched, unknown + late);
    }
    ensure!(missed > CALLS, "only {missed} returns were missed");
    let maps: Value = serde_json::from_str(&guest.file("maps.after")?).context("maps")?;
    let left = maps.get("IN_FLIGHT").and_then(Value::as_u64).context("no IN_FLIGHT")?;
    // Those are unmatched, too, and their returns were not missed.
    ensure!(
        given_up + left == missed + unknown,
        "of {missed} calls whose return was missed and {unknown} that were not remembered until theirs {given_up} are counted \
         as given up, {left} are left"
    );
    let steps = guest.left("").records("after")?;
    let pid = steps.first().and_then(|step| step.get("pid")).context("no steps")?;
    let later = traced.events.iter().filter(|event| event.get("pid") == Some(pid));
    let kinds: Vec<&str> = later.filter_map(|event| text(event, "kind")).collect();
    for (kind, calls) in [("get_state", 2), ("set_state", 3)] {
        let seen = kinds.iter().filter(|one| **one == kind).count();
        ensure!(seen >= calls, "{seen} of {calls} later calls of {kind} were seen");
    }
    Ok(Found::one(format!(
        "{missed} returns missed, {unknown} came too late; {given_up} of these calls given up, all {} events of the next process \
         seen",
        kinds.len()
    )))
}

/// Devices by number: one that is taken away while it is open, those that come and go, those that VFIO refuses.
const OPEN: usize = 1;
const PASSING: std::ops::RangeInclusive<usize> = 11..=20;
const REFUSED: std::ops::RangeInclusive<usize> = 31..=33;

/// What is gone is no ghost in the next part of a recording, has no entry in a map, and lends its address, not its name.
fn gone(lab: &Lab) -> Result<Found> {
    let (first, last) = (PASSING.start(), PASSING.end());
    let (refused, refused_last) = (REFUSED.start(), REFUSED.end());
    let script = format!(
        "{}\
         modprobe vfio_iommu_type1; make {OPEN} && ready {OPEN} || exit 1\n\
         vfio-trace record -o rot.vft --rotate 1s 2>rot.err & rec=$!\n\
         until [ -s rot.0001.vft ]; do kill -0 $rec || exit 1; sleep 0.1; done; sleep 0.5\n\
         lab-step --json held --device $(device {OPEN}) --leave set=STOP_COPY read=64 pause=/run/go >held.out 2>&1 & step=$!\n\
         until [ -e /run/go.paused ]; do kill -0 $step || exit 1; sleep 0.1; done\n\
         python3 tools.py outlive $step /run/end >outlive & holder=$!\n\
         until grep -q taken outlive; do kill -0 $holder || exit 1; sleep 0.1; done\n\
         unmake {OPEN} & remover=$!; sleep 2.2; touch /run/go; wait $step || exit 1; wait $remover || exit 1\n\
         sleep 1.5; touch /run/end; wait $holder; sleep 2.5; python3 tools.py maps >maps.open || exit 1\n\
         kill -INT $rec; wait $rec || exit 1; chmod a+r rot.*.vft; ls rot.*.vft >parts\n\
         vfio-trace tail --format ndjson >tail.ndjson 2>tail.err & tail=$!\n\
         until [ -s tail.ndjson ]; do kill -0 $tail || exit 1; sleep 0.1; done; sleep 0.5\n\
         for n in $(seq {first} {last}); do\n\
            make $n && ready $n && lab-step --json passing.$n --device $(device $n) set=STOP get set=RUNNING >/dev/null \
              && unmake $n || exit 1\n\
         done; python3 tools.py maps >maps.passing || exit 1\n\
         for n in $(seq {refused} {refused_last}); do\n\
            echo 1 >/sys/module/quayside/parameters/refuse; ! make $n 2>>refused.err || exit 1\n\
         done; python3 tools.py maps >maps.refused || exit 1\n\
         make {refused} && ready {refused} && python3 tools.py maps >maps.one && unmake {refused} || exit 1\n\
         sleep 1; kill -INT $tail; wait $tail\n",
        tools()
    );
    let guest = lab.run("maps-gone", &script)?;
    let parts = open(&guest)?;
    let traced = Traced::parse(&guest.file("tail.ndjson")?)?;
    traced.is_complete()?;
    let mut compared = 0;
    for number in PASSING {
        compared += passing(&guest, &traced, number).with_context(|| format!("device {number}"))?;
    }
    for number in REFUSED {
        let name = device(number);
        let results: Vec<&str> = traced
            .of("register", &name)
            .filter_map(|event| text(data(event), "errno").or(Some("ok")))
            .collect();
        let again: &[&str] = if number == *REFUSED.start() { &["EINVAL", "ok"] } else { &["EINVAL"] };
        ensure!(results == again, "{name} was registered with {results:?}");
    }
    for (file, devices) in [("open", 0), ("passing", 0), ("refused", 0), ("one", 1)] {
        let maps: Value = serde_json::from_str(&guest.file(&format!("maps.{file}"))?).context("maps")?;
        let count = |name: &str| maps.get(name).and_then(Value::as_u64);
        let counts = ["DEVICES", "PARENTS", "FILES", "IN_FLIGHT"].map(count);
        ensure!(counts == [Some(devices), Some(devices), Some(0), Some(0)], "{file}: the maps have {maps}");
    }
    Ok(Found::one(format!(
        "the last of {parts} parts has no ghost; {compared} events of {} devices under their own names; {} refused; \
         maps are empty after each",
        PASSING.count(),
        REFUSED.count()
    )))
}

/// The last part of the recording, alone: the device is gone, and somebody still reads from its data fd.
fn open(guest: &Guest) -> Result<usize> {
    let name = device(OPEN);
    let outlived = guest.file("outlive")?;
    ensure!(outlived.lines().last() == Some("19"), "no ENODEV at the end: {outlived}");
    let parts = guest.file("parts")?;
    let whole: Vec<_> = parts.lines().map(|part| guest.results.join(part)).collect();
    let last = whole.last().context("no parts")?;
    ensure!(whole.len() >= 5, "only {} parts", whole.len());
    let mut ghosts = Vec::new();
    let (mut seen, mut gone, mut closed) = (false, false, false);
    for part in &whole {
        let (code, out, err) = read(&["replay", "--format", "ndjson"], part)?;
        ensure!(code == Some(0), "{} alone: {err}", part.display());
        let traced = Traced::parse(&out)?;
        let has = |kind: &str| traced.of(kind, &name).next().is_some();
        seen |= has("device");
        if gone && has("device") {
            ghosts.push(part.display().to_string());
        }
        // From here on nobody can find it, but it is used until it is closed.
        gone |= has("unregister");
        closed |= gone && traced.events.iter().any(|event| text(event, "kind") == Some("close"));
    }
    ensure!(seen && gone && closed, "its life was not seen: {seen} {gone} {closed}");
    ensure!(ghosts.is_empty(), "the device is gone, and back in {ghosts:?}");
    let (_, listed, _) = read(&["list", "--json", "--from"], last)?;
    ensure!(!listed.contains(&name), "{} still has it: {listed}", last.display());
    Ok(whole.len())
}

/// All that one device did, under its own name.
fn passing(guest: &Guest, traced: &Traced, number: usize) -> Result<usize> {
    let name = device(number);
    let steps = guest.left("").records(&format!("passing.{number}"))?;
    let pid = steps.first().and_then(|step| step.get("pid")).context("no steps")?;
    let mine: Vec<&Value> = traced
        .events
        .iter()
        .filter(|event| event.get("pid") == Some(pid) && text(event, "kind") != Some("probe_gap"))
        .collect();
    let others = mine.iter().filter(|event| text(event, "device") != Some(&name)).count();
    ensure!(others == 0, "{others} of {} events are another device's", mine.len());
    for kind in ["register", "unregister", "device"] {
        ensure!(traced.of(kind, &name).next().is_some(), "no {kind}");
    }
    let requests = mine.iter().filter(|event| text(event, "kind") == Some("set_state")).count();
    ensure!(requests == 2, "{requests} of 2 requests were seen");
    Ok(mine.len())
}
