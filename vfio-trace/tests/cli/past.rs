//! `--from`: a moment by any clock, and what is not known at it; `--count`: an account of what is shown.

use std::{ffi::OsString, path::Path};

use serde_json::Value;
use vfio_trace::recording::{BlockItem, ClockSample};

use crate::{
    made,
    tool::{CliTestFolder, RunResult, run, testdata},
};

fn on(file: &Path, words: &[&str]) -> RunResult {
    let words = words.iter().map(OsString::from);
    run(&words.chain(["--from".into(), file.into()]).collect::<Vec<_>>())
}

fn end_ns(item: &BlockItem) -> Option<u64> {
    let BlockItem::Record(bytes) = item else { return None };
    Some(vfio_trace::event::WireRecord::decode(bytes).unwrap().header.end_ns)
}

/// A real recording whose wall clock was set by so many seconds before its last records.
fn set(folder: &CliTestFolder, seconds: i64) -> std::path::PathBuf {
    let header = made::header("steps/1/2", Some("h"));
    let clock = header.start.clock;
    let mut items = made::real("ok.vft");
    items.retain(|item| !matches!(item, BlockItem::Clock(_)));
    let last = items.iter().rposition(|item| end_ns(item).is_some()).unwrap();
    let at = (0..last).rev().find(|at| end_ns(&items[*at]) < end_ns(&items[last])).unwrap();
    let mono_ns = end_ns(&items[at]).unwrap() + 1;
    let real_ns = (clock.real_ns + mono_ns - clock.mono_ns).checked_add_signed(seconds * 1_000_000_000);
    let found =
        ClockSample { mono_ns, boot_ns: mono_ns, real_ns: real_ns.unwrap(), ..ClockSample::default() };
    items.insert(at + 1, BlockItem::Clock(found));
    let header = vfio_trace::recording::PartHeader {
        began_ns: 13_639_585_596,
        part_began_ns: 13_639_585_596,
        ..header
    };
    folder.file("set.vft", &made::recording(&header, &items))
}

#[test]
fn each_time_that_replay_shows_is_a_moment() {
    let folder = CliTestFolder::new();
    for seconds in [0, -3600, 3600, -100_000] {
        let file = set(&folder, seconds);
        let events = run(&["replay".as_ref(), "--format".as_ref(), "ndjson".as_ref(), file.as_os_str()]);
        assert_eq!(events.code, 0, "{}", events.err);
        let last: Value = serde_json::from_str(events.text().lines().last().unwrap()).unwrap();
        let last = if last["kind"] == "summary" {
            serde_json::from_str(events.text().lines().rev().nth(1).unwrap()).unwrap()
        } else {
            last
        };
        let (time, mono_ns) = (last["time"].as_str().unwrap(), &last["mono_ns"]);
        let local = time.trim_end_matches('Z');
        let (_, day) = local.split_once('T').unwrap();
        for at in [time, local, day] {
            let RunResult { code, err, out } = on(&file, &["list", "--json", "--at", at]);
            assert_eq!(code, 0, "{seconds} {at}: {err}");
            let list: Value = serde_json::from_slice(&out).unwrap();
            assert_eq!(list["recording"]["at_mono_ns"], *mono_ns, "{seconds} {at}");
        }
    }
    let file = set(&folder, -3600);
    let before = on(&file, &["list", "--at", "2020-01-01T00:00:00Z"]);
    assert!(before.code == 2 && before.err.contains("it begins at"), "{}", before.err);
}

#[test]
fn before_all_was_looked_at_devices_are_not_known() {
    let folder = CliTestFolder::new();
    // Devices that were there when it began: the inventory has found them later.
    let file = testdata("hisi-cache-wb.vft");
    let complete = |ran: &RunResult| {
        let list: Value = serde_json::from_slice(&ran.out).unwrap();
        (list["devices"].as_array().unwrap().len(), list["recording"]["complete"].as_bool().unwrap())
    };
    let early = on(&file, &["list", "--at", "0s"]);
    assert_eq!(early.code, 0);
    assert!(!early.err.contains("knows of no device"), "{}", early.err);
    assert!(early.err.contains("not known before all had been looked at, 0.581 s after"), "{}", early.err);
    let show = on(&file, &["show", "1000:75:00.1", "--at", "0s"]);
    assert!(show.err.contains("not known before"), "{}", show.err);
    assert_eq!(complete(&on(&file, &["list", "--json", "--at", "0s"])), (0, false));
    let later = on(&file, &["list", "--at", "0.581s"]);
    assert!(!later.err.contains("not known"), "{}", later.err);
    assert_eq!(complete(&on(&file, &["list", "--json", "--at", "0.581s"])), (5, true));

    // A part that is damaged tells nothing of them either.
    let bytes = std::fs::read(&file).unwrap();
    let cut = folder.file("cut.vft", &bytes[..bytes.len() / 2]);
    let cut = on(&cut, &["list"]);
    assert!(
        !cut.err.contains("knows of no device") && cut.err.contains("devices may be missing"),
        "{}",
        cut.err
    );

    // And where nobody was there, that is known.
    let header = made::header("nobody/1/2", Some("h"));
    let empty = folder.file("none.vft", &made::recording(&header, &[BlockItem::Tick(2_000_000)]));
    let none = on(&empty, &["list", "--at", "0s"]);
    assert!(none.code == 0 && none.err.contains("knows of no device"), "{}", none.err);
}

#[test]
fn an_account_ends_with_what_is_shown() {
    let file = testdata("mtty-6.12-format-1.vft");
    let replay = |words: &[&str]| {
        let words = [&["replay"][..], words].concat();
        run(&words.iter().map(OsString::from).chain([file.clone().into()]).collect::<Vec<_>>()).err
    };
    let of_probes = "the probes' figures are those of the whole recording";
    let all = replay(&[]);
    assert!(all.contains("56 events, ") && all.contains(", in 10.4 s") && !all.contains(of_probes), "{all}");
    assert!(!all.contains("uncertain"), "a device that is gone has no more time: {all}");
    // The source is in STOP_COPY by then, for some milliseconds.
    let some = replay(&["--count", "30"]);
    assert!(some.contains("30 events, ") && some.contains(", in 7."), "{some}");
    let source = some.lines().find(|line| line.starts_with("11111111-") && !line.contains("mtty")).unwrap();
    assert!(
        source.contains(" ms") && source.matches(" s ").count() == 1,
        "only RUNNING takes seconds: {source}"
    );
    assert!(some.contains(of_probes), "{some}");
    let quiet = replay(&["--count", "30", "--quiet"]);
    assert_eq!(quiet, "");
}
