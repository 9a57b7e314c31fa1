//! `--from`: compares the output of `show`, `list` and `mount` for a recording with their output while it was made.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{
    Check, Found,
    guest::{Guest, Lab},
    record::essence,
    traced::text,
};
use crate::{
    lab::{self, guest::Extras},
    setup::kernel::Driver,
    workspace,
};

pub(super) fn checks() -> Vec<Check> {
    vec![Check::new("record: views of a recording", |_| views("6.12")).lasting(90)]
}

/// Script with two tracers of the same boot side by side: a live tree, a recording, and one in parts.
const SCRIPT: &str = r#"
cd $LAB_RESULTS || exit 1
die() { echo "$*" >&2; cat *.err step >&2; exit 1; }
modprobe fuse && mkdir -p /run/live /run/past || die no fuse
until_mounted() { until grep -q 'mounted on' $1; do kill -0 $2 || die no mount; sleep 0.1; done; }
vfio-trace mount /run/live 2>mount.err & mount=$!
until_mounted mount.err $mount
date +%s >began
vfio-trace record -o rec.vft 2>rec.err & rec=$!
vfio-trace record -o rot.vft --rotate 2s 2>rot.err & rot=$!
until [ -s rec.vft ] && [ -s rot.0001.vft ]; do kill -0 $rec && kill -0 $rot || die no recorder; sleep 0.1; done
sleep 0.5
set -- $LAB_ZIP
lab-hisi precopy >step 2>&1; lab-hisi sqc-read >>step 2>&1

# A moment in between, at which two devices are held in a state.
lab-step --json held --device $1 --device $2 --knobs /sys/kernel/debug/hisi_sim/{} knob=guest:7 2:knob=guest:7 \
    set=PRE_COPY 2:set=RESUMING sleep=90000 >>step 2>&1 & step=$!
until [ "$(cat held 2>/dev/null | wc -l)" -ge 4 ]; do kill -0 $step 2>/dev/null || die lab-step ended; sleep 0.1; done
sleep 0.7; cp -r /run/live/vfio live.mid || die no tree; vfio-trace list --json >list.mid.json; date -u +%FT%T.%NZ >mid; sleep 0.7
kill -KILL $step; wait $step

# Devices that are closed by then, and one that has gone.
echo $LAB_HPRE >/sys/bus/pci/devices/$LAB_HPRE/driver/unbind || die unbind
sleep 1
kill -INT $rec $rot; wait $rec || die recorder: $?; wait $rot || die rotating recorder: $?
date +%s >ended
cp -r /run/live/vfio live || die no tree; vfio-trace list --json >list.json
kill -INT $mount; wait $mount || die live mount: $?
chmod a+r *.vft

vfio-trace mount --from rec.vft /run/past 2>past.err & past=$!
until_mounted past.err $past
cp -r /run/past/vfio past || die no tree; find /run/past -type f -printf '%P %s %T@\n' >past.files
grep CapEff /proc/$past/status >caps
kill -TERM $past; wait $past || die past mount: $?
ls /run/past/* 2>/dev/null && die still mounted
vfio-trace mount --from rec.vft --at $(cat mid) /run/past 2>past.mid.err & past=$!
until_mounted past.mid.err $past
cp -r /run/past/vfio past.mid || die no tree; kill -KILL $past; wait $past
diff -r -x timeline.json -x debug live past >diff; diff -r -x timeline.json -x debug live.mid past.mid >diff.mid
vfio-trace list --from rec.vft --json >list.past.json
setpriv --reuid 1000 --regid 1000 --clear-groups vfio-trace list --from rec.vft >list.user 2>list.said || die as a user: $?
cat rot.*.vft | vfio-trace list --from - --json >list.rot.json || die in parts: $?
ls rot.*.vft | wc -l >parts
"#;

/// Runs `vfio-trace` on this host with a recording. Returns exit code, standard output, standard error.
fn here(arguments: &[&str], recording: &Path) -> Result<(Option<i32>, String, String)> {
    let output = Command::new(workspace::bin_dir()?.join("vfio-trace"))
        .args(arguments)
        .arg("--from")
        .arg(recording)
        .output()
        .context("cannot start vfio-trace")?;
    let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Ok((output.status.code(), out, err))
}

fn views(series: &str) -> Result<Found> {
    let extras = Extras { debugfs: false, driver: Some(Driver::Hisi) };
    let guest = Lab::with(lab::ready(series, false)?, extras)?.run("record-views", SCRIPT)?;
    for diff in ["diff", "diff.mid"] {
        let diff = guest.file(diff)?;
        ensure!(diff.is_empty(), "the tree of the recording is another than the live one:\n{diff}");
    }
    let recording = guest.results.join("rec.vft");
    let mid = guest.file("mid")?;
    let at_end = files(&guest, &recording, "live", &[])?;
    let at_mid = files(&guest, &recording, "live.mid", &["--at", mid.trim()])?;
    held(&guest)?;
    let events = timelines(&guest)?;
    times(&guest)?;
    let rows = lists(&guest, &recording, mid.trim())?;
    refusals(&guest, &recording)?;
    // Reading a recording needs no tracing: no capability is left.
    let caps = guest.file("caps")?;
    ensure!(caps.trim().ends_with("\t0000000000000000"), "while it serves it has {caps}");
    Ok(Found::one(format!(
        "trees equal; `show` on this host: {at_end} files at the end, {at_mid} in the middle; {rows} rows of lists, \
         {events} events of timelines"
    )))
}

/// Checks that `show --from` on this host prints every file of a live tree.
fn files(guest: &Guest, recording: &Path, tree: &str, at: &[&str]) -> Result<usize> {
    let mut count = 0;
    for device in names(&guest.results.join(tree))? {
        let migration = guest.results.join(tree).join(&device).join("migration");
        for path in below(&migration)? {
            let file = path.strip_prefix(&migration)?.display().to_string();
            if path.ends_with("hisi_acc/debug") {
                // This file has no view: a live tree lets one write to it.
                continue;
            }
            let expected = fs::read_to_string(&path)?;
            let (code, out, err) = here(&[&["show", &device, &file], at].concat(), recording)?;
            if code == Some(4) {
                // A file of the tree may have the reason why it has no data; `show` prints that as an error.
                let why = expected.trim();
                ensure!(!why.is_empty() && err.contains(why), "{device} {file} says {why}: {err}");
            } else {
                ensure!(
                    code == Some(0) && out == expected,
                    "{device} {file} was\n{expected}and is\n{out}{err}"
                );
            }
            count += 1;
        }
    }
    ensure!(count >= 24, "only {count} files were compared");
    Ok(count)
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).with_context(|| format!("no folder {}", folder.display()))?;
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}

/// Returns all files below a folder.
fn below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for name in names(folder)? {
        let path = folder.join(name);
        if path.is_dir() { files.extend(below(&path)?) } else { files.push(path) }
    }
    Ok(files)
}

/// Checks the states at the compared moments, so that the comparison is not one of nothing.
fn held(guest: &Guest) -> Result<()> {
    for (device, expected) in [("1000:75:00.1", "PRE_COPY\n"), ("1000:75:00.2", "RESUMING\n")] {
        let state = guest.file(&format!("past.mid/{device}/migration/state"))?;
        ensure!(state == expected, "{device} is {state:?}, and was held in {expected:?}");
    }
    ensure!(guest.file("past/1000:75:00.1/migration/hisi_acc/migf_data")?.contains("Mig Data:"), "no data");
    let gone = "1000:75:02.1";
    ensure!(
        names(&guest.results.join("past.mid"))?.iter().any(|name| name == gone),
        "{gone} was never there"
    );
    ensure!(names(&guest.results.join("past"))?.iter().all(|name| name != gone), "{gone} is still there");
    Ok(())
}

/// Compares the timelines of two tracers, except for the events that each tracer makes by looking itself.
fn timelines(guest: &Guest) -> Result<usize> {
    let mut count = 0;
    for device in names(&guest.results.join("past"))? {
        let document = |tree: &str| guest.left(tree).json(&format!("{device}/timeline.json"));
        let (live, past) = (document("live")?, document("past")?);
        ensure!(live.get("replayed_by").is_some_and(Value::is_null), "live: {:?}", live.get("replayed_by"));
        ensure!(text(&past, "replayed_by").is_some(), "the timeline does not say what it is from");
        for field in ["dropped", "lost", "undecoded"] {
            ensure!(past.get(field).and_then(Value::as_u64) == Some(0), "{field}: {:?}", past.get(field));
        }
        for field in ["schema", "version", "kernel", "host", "device", "driver"] {
            ensure!(live.get(field) == past.get(field), "{device}: {field} differs");
        }
        let events = |document: &Value| -> Vec<String> {
            let all = document.get("events").and_then(Value::as_array).into_iter().flatten();
            // Each tracer makes images by itself, too, and its events of the first look are its own.
            let own = |event: &&Value| matches!(text(event, "kind"), Some("device" | "held" | "image"));
            all.filter(|event| !own(event)).map(essence).collect()
        };
        let (live, past) = (events(&live), events(&past));
        for (number, (one, other)) in live.iter().zip(&past).enumerate() {
            ensure!(one == other, "{device}: event {number} is {one} live and {other} in the recording");
        }
        ensure!(live.len() == past.len(), "{device}: {} events live, {} recorded", live.len(), past.len());
        count += live.len();
    }
    ensure!(count > 40, "only {count} events were compared");
    Ok(count)
}

/// Checks that times and sizes of files are the recording's.
fn times(guest: &Guest) -> Result<()> {
    let number = |name: &str| -> Result<f64> { guest.file(name)?.trim().parse().context(name.to_owned()) };
    let (began, ended) = (number("began")?, number("ended")?);
    for line in guest.file("past.files")?.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let [path, size, time] = fields[..] else { anyhow::bail!("not a line of find: {line}") };
        let time: f64 = time.parse().context("a time")?;
        ensure!(
            (began - 1.0..=ended + 1.0).contains(&time),
            "{path} is of {time}, not of {began} to {ended}"
        );
        let kept = guest.results.join(path.replacen("vfio", "past", 1)).metadata()?.len();
        ensure!(size == kept.to_string(), "{path} has {kept} bytes and says {size}");
    }
    Ok(())
}

/// Returns the fields of a device's row that both can know.
fn row(row: &Value) -> Value {
    let mut row = row.clone();
    if let Some(fields) = row.as_object_mut() {
        for name in ["vfio", "group", "cdev"] {
            fields.remove(name);
        }
    }
    for holder in row.get_mut("holders").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(fields) = holder.as_object_mut() {
            fields.remove("vm");
            fields.remove("process_started");
            fields.remove("local_pid");
        }
    }
    row
}

fn rows(list: &Value) -> Vec<Value> {
    let mut rows: Vec<Value> =
        list.get("devices").and_then(Value::as_array).into_iter().flatten().map(row).collect();
    rows.sort_by_key(|row| text(row, "device").unwrap_or_default().to_owned());
    rows
}

fn lists(guest: &Guest, recording: &Path, mid: &str) -> Result<usize> {
    let json = |name: &str| guest.left("").json(name);
    let past = json("list.past.json")?;
    let (live, recorded) = (rows(&json("list.json")?), rows(&past));
    ensure!(live == recorded, "live the list is\n{live:#?}\nand of the recording\n{recorded:#?}");
    let parts: usize = guest.file("parts")?.trim().parse().context("parts")?;
    ensure!(parts >= 3, "only {parts} parts");
    let rotated = rows(&json("list.rot.json")?);
    ensure!(rotated == recorded, "of parts the list is\n{rotated:#?}\nand of the whole\n{recorded:#?}");
    let about = past.get("recording").context("it does not say what it is from")?;
    ensure!(about.get("complete") == Some(&Value::Bool(true)), "{about}");

    let (code, here_now, err) = here(&["list", "--json"], recording)?;
    ensure!(code == Some(0), "list exited with {code:?}: {err}");
    ensure!(here_now == guest.file("list.past.json")?, "this host lists it otherwise than the guest did");
    let (code, middle, err) = here(&["list", "--json", "--at", mid], recording)?;
    ensure!(code == Some(0), "list --at exited with {code:?}: {err}");
    let middle = rows(&serde_json::from_str(&middle)?);
    let live_middle = rows(&json("list.mid.json")?);
    ensure!(middle == live_middle, "in the middle the list was\n{live_middle:#?}\nand is\n{middle:#?}");
    let open = middle.iter().filter(|row| row.get("open_count").and_then(Value::as_u64) == Some(1)).count();
    ensure!(open == 2, "{open} devices are open in the middle");
    let said = guest.file("list.said")?;
    ensure!(said.contains("recorded on ") && said.contains("1000:75:02.1 had gone at "), "{said}");
    ensure!(guest.file("list.user")?.lines().count() == recorded.len() + 1, "a user sees another list");
    Ok(live.len() + live_middle.len())
}

/// Checks damaged recordings and impossible requests.
fn refusals(guest: &Guest, recording: &Path) -> Result<()> {
    let whole = fs::read(recording)?;
    let cut = guest.results.join("cut.vft");
    fs::write(&cut, whole.get(..whole.len() - 100).context("it is too short")?)?;
    let (code, out, err) = here(&["list"], &cut)?;
    ensure!(
        code == Some(5) && out.contains("1000:75:00.1") && err.contains("cut.vft: "),
        "{code:?} {out}{err}"
    );
    let (code, _, err) = here(&["show", "vfio0"], recording)?;
    ensure!(code == Some(1) && err.contains("give one of 1000:75:00.1"), "{code:?} {err}");
    let (code, _, err) = here(&["show", "1000:75:02.1"], recording)?;
    ensure!(code == Some(1) && err.contains("taken from vfio at"), "{code:?} {err}");
    let (code, _, err) = here(&["list", "--at", "1h"], recording)?;
    ensure!(code == Some(2) && err.contains("it ends"), "{code:?} {err}");
    let (code, _, err) = here(&["list"], Path::new("/etc/passwd"))?;
    ensure!(code == Some(5) && err.contains("not a recording"), "{code:?} {err}");
    Ok(())
}
