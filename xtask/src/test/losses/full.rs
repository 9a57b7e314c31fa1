//! Maps that are full or ought to be empty: more data fds than are remembered, thousands of devices, devices that are
//! gone.

use std::{collections::BTreeSet, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{
    super::{
        Check, Found, any_kernel,
        boot::{Boot, Part},
        compat::device,
        guest::Left,
        traced::{Traced, data, text},
    },
    account::{Account, Called},
    read,
};

/// A check, its part of the boot, about how long that takes, and what judges it.
type MapCheck = (&'static str, &'static str, u32, fn(&Left) -> Result<Found>);

const ALL: [MapCheck; 4] = [
    ("maps: more data fds than are remembered", "hoard", 40, hoard),
    ("maps: thousands of devices", "thousands", 30, thousands),
    ("maps: devices that are gone", "gone", 30, gone),
    ("maps: calls of threads that are gone", "killed", 30, killed),
];

pub(super) fn checks() -> Vec<Check> {
    let part = |name, script| Part { name, script };
    let parts = vec![
        part("hoard", |_| Ok(hoard_script())),
        part("gone", |_| Ok(gone_script())),
        part("killed", |_| Ok(killed_script())),
        // Last: it leaves its devices.
        part("thousands", |_| Ok(thousands_script())),
    ];
    let boot = Boot::new(any_kernel(), false, parts);
    let check = |(name, part, seconds, judge): MapCheck| {
        let (wanted, boot) = (Arc::clone(&boot), Arc::clone(&boot));
        Check::new(name, move |_| judge(&boot.part(part)?))
            .lasting(seconds)
            .wanting(move || wanted.want(part))
    };
    ALL.map(check).into()
}

/// Data fds that the programs remember.
const FILES: u64 = 16384;
/// Calls that the programs remember.
const CALLS: u64 = 8192;
/// Data fds that there are.
const HOARD: u64 = FILES + 150;

fn hoard_script() -> String {
    format!(
        "modprobe quayside; ulimit -n 20000\n\
         vfio-trace tail --buffer 64M --kind data_close --format ndjson -- lab-step --create quayside-full hoard={HOARD} \
           'knob=where' close-data set=STOP_COPY read-all set=STOP close-data set=RUNNING >tail.ndjson 2>steps.out\n"
    )
}

/// All data fds of a session that is over stay open. Those that found no room are counted, one by one.
fn hoard(left: &Left) -> Result<Found> {
    let traced = Traced::parse(&left.file("tail.ndjson")?)?;
    let steps = left.file("steps.out")?;
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

fn thousands_script() -> String {
    format!(
        "modprobe quayside; unmake() {{ :; }}\n\
         create=$(echo /sys/class/mdev_bus/*/mdev_supported_types/quayside-stopcopy/create)\n\
         for n in $(seq {DEVICES}); do printf '%08d-0000-4000-8000-000000000000' $n >$create || return 1; done\n\
         ls /sys/bus/mdev/devices >names; ls /sys/class/vfio-dev | wc -l\n\
         vfio-trace list --json >list.json 2>list.err || return 1\n\
         vfio-trace tail --format ndjson --duration 2s >tail.ndjson 2>tail.err || return 1\n\
         vfio-trace record -o rec.vft --buffer 64K --stop-after 2s 2>rec.err || return 1; chmod a+r rec.vft\n"
    )
}

/// More devices than fit into the buffer at once, and more than a process may have files.
fn thousands(left: &Left) -> Result<Found> {
    let names: BTreeSet<String> = left.file("names")?.lines().map(str::to_owned).collect();
    ensure!(names.len() == DEVICES, "{} devices were made", names.len());
    let list: Value = serde_json::from_str(&left.file("list.json")?)?;
    let listed = list.get("devices").and_then(Value::as_array).context("no devices")?;
    let known = listed.iter().filter(|device| device.get("state").is_some_and(|state| !state.is_null()));
    same("list", &names, &known.filter_map(|device| text(device, "device")).collect())?;
    let said = left.file("list.err")?;
    ensure!(!said.contains("not all that there is"), "{said}");
    let live = Traced::parse(&left.file("tail.ndjson")?)?;
    let (code, out, err) = read(&["replay", "--format", "ndjson"], &left.path("rec.vft"))?;
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

/// Python functions for the guest: the number of entries in our programs' maps, asked of the kernel; and a descriptor
/// taken from another process.
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

/// Returns the beginning of a script that makes devices, one by one, and uses [`TOOLS`].
fn tools() -> String {
    format!(
        "modprobe -a vfio_iommu_type1 quayside; cat >tools.py <<'END'\n{TOOLS}\nEND\n\
         make() {{ mdevs quayside-full $1 $1; }}\n\
         remove() {{ echo 1 >/sys/bus/mdev/devices/$(device $1)/remove; }}\n"
    )
}

/// Threads that are killed at once in a call, so many times: more calls than are remembered, each of them twice, as the
/// driver's function and as the ioctl.
const KILLED: usize = 1400;
const TIMES: usize = 3;
/// Calls of one function at a time that the kernel has return probes for, on two processors.
const RETURN_PROBES: u64 = 10;

fn killed_script() -> String {
    format!(
        "{}\
         counted() {{ cat /sys/bus/mdev/devices/$(device {OPEN})/quayside/where >$1; }}\n\
         make {OPEN} || return 1\n\
         vfio-trace tail --format ndjson --buffer 16M >tail.ndjson 2>tail.err & tail=$!; all=\"$all $tail\"\n\
         until [ -s tail.ndjson ]; do kill -0 $tail || return 1; sleep 0.1; done; sleep 0.5; counted killed.before\n\
         for time in $(seq {TIMES}); do\n\
            lab-step --device $(device {OPEN}) 'knob=delay_us:RUNNING_P2P STOP 60000000' crowd=STOP:{KILLED} \
              >crowd.$time 2>&1 & step=$!; all=\"$all $step\"\n\
            until [ $(ls /proc/$step/task | wc -l) -gt {KILLED} ]; do kill -0 $step || return 1; sleep 0.1; done\n\
            sleep 0.5; kill -KILL $step; wait $step\n\
         done\n\
         python3 tools.py maps >maps.full; ! grep -q '{CALLS}' maps.full || sleep 11\n\
         lab-step --json after --device $(device {OPEN}) knob=delay_us:clear get get set=STOP_COPY read-all set=STOP \
           set=RUNNING >after.out 2>&1 || return 1\n\
         counted killed.after; python3 tools.py maps >maps.after; remove {OPEN}; sleep 1; kill -INT $tail; wait $tail\n",
        tools()
    )
}

/// Threads die in calls that the kernel had no return probes for. What they leave behind fills the map, and makes room.
fn killed(left: &Left) -> Result<Found> {
    let called = Called::between(left, "killed")?;
    let traced = Traced::parse(&left.file("tail.ndjson")?)?;
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
        // Of the last crowd's calls that had a return probe: those that found no room, and on a slow machine all that
        // were in it for so long that they were given up.
        let late = calls.checked_sub(one.seen + lacks).filter(|late| *late <= 2 * RETURN_PROBES);
        let late =
            late.with_context(|| format!("{role}: {calls} calls by the driver's count, and {one:?}"))?;
        (missed, given_up, unknown) = (missed + lacks, given_up + one.unmatched, unknown + late);
    }
    ensure!(missed > CALLS, "only {missed} returns were missed");
    let maps: Value = serde_json::from_str(&left.file("maps.after")?).context("maps")?;
    let remaining = maps.get("IN_FLIGHT").and_then(Value::as_u64).context("no IN_FLIGHT")?;
    // Those are unmatched, too, and their returns were not missed.
    ensure!(
        given_up + remaining == missed + unknown,
        "of {missed} calls whose return was missed and {unknown} that were not remembered until theirs {given_up} are counted \
         as given up, {remaining} are left"
    );
    let steps = left.records("after")?;
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

fn gone_script() -> String {
    let (first, last) = (PASSING.start(), PASSING.end());
    let (refused, refused_last) = (REFUSED.start(), REFUSED.end());
    format!(
        "{}\
         make {OPEN} || return 1\n\
         vfio-trace record -o rot.vft --rotate 1s 2>rot.err & rec=$!; all=\"$all $rec\"\n\
         until [ -s rot.0001.vft ]; do kill -0 $rec || return 1; sleep 0.1; done; sleep 0.5\n\
         lab-step --json held --device $(device {OPEN}) --leave set=STOP_COPY read=64 pause=/run/go >held.out 2>&1 & step=$!\n\
         all=\"$all $step\"\n\
         until [ -e /run/go.paused ]; do kill -0 $step || return 1; sleep 0.1; done\n\
         python3 tools.py outlive $step /run/end >outlive & holder=$!; all=\"$all $holder\"\n\
         until grep -q taken outlive; do kill -0 $holder || return 1; sleep 0.1; done\n\
         remove {OPEN} & remover=$!; sleep 2.2; touch /run/go; wait $step || return 1; wait $remover || return 1\n\
         sleep 1.5; touch /run/end; wait $holder; sleep 2.5; python3 tools.py maps >maps.open || return 1\n\
         kill -INT $rec; wait $rec || return 1; chmod a+r rot.*.vft; ls rot.*.vft >parts\n\
         vfio-trace tail --format ndjson >tail.ndjson 2>tail.err & tail=$!; all=\"$all $tail\"\n\
         until [ -s tail.ndjson ]; do kill -0 $tail || return 1; sleep 0.1; done; sleep 0.5\n\
         for n in $(seq {first} {last}); do\n\
            make $n && lab-step --json passing.$n --device $(device $n) set=STOP get set=RUNNING >/dev/null \
              && remove $n || return 1\n\
         done; python3 tools.py maps >maps.passing || return 1\n\
         for n in $(seq {refused} {refused_last}); do\n\
            echo 1 >/sys/module/quayside/parameters/refuse; ! make $n 2>>refused.err || return 1\n\
         done; python3 tools.py maps >maps.refused || return 1\n\
         make {refused} && python3 tools.py maps >maps.one && remove {refused} || return 1\n\
         sleep 1; kill -INT $tail; wait $tail\n",
        tools()
    )
}

/// Checks that a device that is gone does not appear in the next part of a recording, has no entry in a map, and leaves
/// its address, but not its name, to the next one.
fn gone(left: &Left) -> Result<Found> {
    let parts = open(left)?;
    let traced = Traced::parse(&left.file("tail.ndjson")?)?;
    traced.is_complete()?;
    let mut compared = 0;
    for number in PASSING {
        compared += passing(left, &traced, number).with_context(|| format!("device {number}"))?;
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
        let maps: Value = serde_json::from_str(&left.file(&format!("maps.{file}"))?).context("maps")?;
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
fn open(left: &Left) -> Result<usize> {
    let name = device(OPEN);
    let outlived = left.file("outlive")?;
    ensure!(outlived.lines().last() == Some("19"), "no ENODEV at the end: {outlived}");
    let parts = left.file("parts")?;
    let whole: Vec<_> = parts.lines().map(|part| left.path(part)).collect();
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
fn passing(left: &Left, traced: &Traced, number: usize) -> Result<usize> {
    let name = device(number);
    let steps = left.records(&format!("passing.{number}"))?;
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
