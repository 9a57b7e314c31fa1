//! The tree, from scripted records: what is where, how big, since when.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::Value;
use vfio_trace_common::role::Role;

use super::{
    HostState, TIMELINE_SCHEMA, TimelineLosses, TraceOrigin,
    tree::{self, NodeKind, TreePath},
};
use crate::{
    event::{
        ClockAnchor, GapCause, GapFunction, ProbeGap, RecordBody, RecordNote, WallClock, WireRecord,
        fixture::*,
    },
    state::TraceModel,
    units::visible::{
        clean,
        tests::{HOSTILE, harms},
    },
};

const STATE: &str = "vfio/0000:75:00.1/migration/state";
const FEATURES: &str = "vfio/0000:75:00.1/migration/features";
const TIMELINE: &str = "vfio/0000:75:00.1/timeline.json";

fn world(keep: usize) -> HostState {
    let about = TraceOrigin {
        version: "1.2".to_owned(),
        replayed_by: None,
        kernel: "6.12.0".to_owned(),
        host: Some("here".to_owned()),
        clock: ANCHOR.into(),
    };
    HostState::new(about, keep, 500)
}

fn fed(world: HostState, script: &RecordScript) -> HostState {
    let mut world = world;
    script.records().iter().for_each(|record| world.push(record));
    world
}

fn names(world: &HostState, path: &str) -> Vec<String> {
    world.list(path).unwrap_or_else(|| panic!("no folder {path}")).into_iter().map(|(name, _)| name).collect()
}

fn text(world: &mut HostState, path: &str) -> Option<String> {
    let content = world.content(path).unwrap_or_else(|| panic!("no file {path}"));
    let text = content.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap());
    let size = text.as_ref().map_or(0, String::len) as u64;
    assert_eq!(world.node(path).unwrap().size, size, "the size of {path}");
    text
}

fn timeline(world: &mut HostState) -> Value {
    serde_json::from_str(&text(world, TIMELINE).unwrap()).unwrap()
}

fn kinds(timeline: &Value) -> Vec<&str> {
    timeline["events"].as_array().unwrap().iter().map(|event| event["kind"].as_str().unwrap()).collect()
}

fn start() -> RecordScript {
    RecordScript::new(0xd1).device(BDF, "mtty", 7)
}

#[test]
fn without_annotate_no_line_begins_with_a_hash() {
    let script = || RecordScript::new(0xd1).device(BDF, "hisi_acc_vfio_pci", 5);
    let file = "vfio/0000:75:00.1/migration/hisi_acc/attr";
    let mut plain = fed(world(8), &script());
    let why = text(&mut plain, file).unwrap();
    assert!(!why.is_empty() && !why.contains('#'), "{why}");
    let mut annotated = fed(world(8).annotated(true), &script());
    let said = text(&mut annotated, file).unwrap();
    assert_eq!(said, format!("# {why}"));
}

#[test]
fn a_look_at_the_size_of_a_timeline_does_not_make_it() {
    let mut world = fed(world(8), &start());
    assert_eq!(world.node(TIMELINE).unwrap().size, 0, "it was never opened");
    let length = text(&mut world, TIMELINE).unwrap().len() as u64;
    assert_eq!(world.node(TIMELINE).unwrap().size, length);
    for record in start().records() {
        world.push(&record);
    }
    assert_eq!(world.node(TIMELINE).unwrap().size, length, "as it was when it was opened last");
}

#[test]
fn the_layout_is_that_of_debugfs() {
    let script = start().on(0xd2).device(UUID, "quayside", 0);
    let mut world = fed(world(10), &script);
    assert_eq!(names(&world, ""), ["vfio"]);
    assert_eq!(names(&world, "vfio"), [BDF, UUID]);
    assert_eq!(names(&world, "vfio/0000:75:00.1"), ["migration", "timeline.json"]);
    assert_eq!(names(&world, "vfio/0000:75:00.1/migration"), ["features", "state"]);
    assert_eq!(names(&world, &format!("vfio/{UUID}")), ["timeline.json"], "no migration, no folder of it");
    for (path, links) in [("", 3), ("vfio", 4), ("vfio/0000:75:00.1", 3), ("vfio/0000:75:00.1/migration", 2)]
    {
        let node = world.node(path).unwrap();
        assert_eq!((node.kind, node.links, node.size), (NodeKind::Folder, links, 0), "{path}");
    }
    assert_eq!(world.node(STATE).map(|node| (node.kind, node.links)), Some((NodeKind::File, 1)));
    for path in
        ["x", "vfi", "vfio/x", "vfio/0000:75:00.1/x", "vfio/0000:75:00.1/migration/state/x", "vfio/", "/"]
    {
        assert_eq!(world.node(path), None, "{path}");
        assert!(world.content(path).is_none() && world.list(path).is_none(), "{path}");
    }
}

#[test]
fn files_follow_the_device() {
    let mut world = fed(world(100), &start());
    assert_eq!(text(&mut world, STATE), None, "nothing has told it yet");
    assert_eq!(text(&mut world, FEATURES).unwrap(), "stop-copy\np2p\npre-copy\ndirty-tracking\n");
    let arcs = start().wait(5_000_000).set(&[RUNNING, PRE_COPY], 0, -1);
    let before = world.node(STATE).unwrap().changed_ns;
    let mut world = fed(world, &arcs);
    assert_eq!(text(&mut world, STATE).unwrap(), "PRE_COPY\n");
    assert!(world.node(STATE).unwrap().changed_ns > before + 5_000_000);
}

#[test]
fn within_a_request_the_state_is_the_last_arcs() {
    // RUNNING -> RUNNING_P2P is over, RUNNING_P2P -> STOP has begun.
    let script = start().next(RUNNING, STOP, RUNNING_P2P, 0).wait(100).next(RUNNING_P2P, STOP, STOP, 0);
    assert_eq!(text(&mut fed(world(9), &script), STATE).unwrap(), "RUNNING_P2P\n");
}

#[test]
fn what_memory_says_counts_until_something_happens() {
    let failed = start().set(&[RUNNING, RUNNING_P2P], 0, -1).walk(&[RUNNING_P2P, STOP], -5, 0).wait(1_000);
    let mut world = fed(world(100), &failed);
    world.expire(failed.now + 1_000_000_000);
    assert_eq!(text(&mut world, STATE), None, "a failed arc may have left it anywhere");
    assert!(world.take_stale() && !world.take_stale());
    let seen =
        |script: RecordScript| script.device_in(BDF, "mtty", 7, Role::Inventory, Some((RUNNING_P2P, 1)));
    let later = seen(RecordScript::new(0xd1).wait(failed.now + 2_000_000_000));
    let mut world = fed(world, &later);
    assert_eq!(text(&mut world, STATE).unwrap(), "RUNNING_P2P\n");
    assert_eq!(world.node(STATE).unwrap().changed_ns, later.now, "that is news");
    let then = RecordScript::new(0xd1).wait(later.now).set(&[RUNNING_P2P, STOP], 0, -1).close(2);
    let mut world = fed(world, &then);
    assert_eq!(text(&mut world, STATE).unwrap(), "STOP\n", "somebody else still has it open");
    let last = RecordScript::new(0xd1).wait(then.now).close(1);
    let mut world = fed(world, &last);
    assert!(world.take_stale(), "the driver may do something at the last close");
    assert_eq!(text(&mut world, STATE), None, "and nobody has looked since");
    let reset = RecordScript::new(0xd1).wait(last.now).pci_reset(0, 0);
    let mut world = fed(world, &reset);
    assert_eq!(text(&mut world, STATE), None, "its driver's reset_done has not run");
    let known = world.devices().next().unwrap().1;
    assert_eq!((known.open_count, known.report.holders.len(), known.present), (Some(0), 0, true));
    let looked =
        RecordScript::new(0xd1).wait(reset.now).device_in(BDF, "mtty", 7, Role::Inventory, Some((STOP, 0)));
    assert_eq!(text(&mut fed(world, &looked), STATE).unwrap(), "STOP\n");
}

#[test]
fn devices_come_and_go() {
    let script = start().register(0).wait(1_000_000).unregister();
    let mut world = fed(world(100), &script);
    assert_eq!(names(&world, "vfio"), [""; 0]);
    assert_eq!(world.node(STATE), None);
    let again =
        RecordScript::new(0xd1).wait(5_000_000).device_in(BDF, "mtty", 7, Role::Inventory, Some((STOP, 1)));
    let world = fed(world, &again);
    assert_eq!(names(&world, "vfio"), [""; 0], "somebody still holds it, that is all");
    let mut world = fed(world, &RecordScript::new(0xd1).wait(9_000_000).device(BDF, "mtty", 7).register(0));
    assert_eq!(names(&world, "vfio"), [BDF]);
    let now = timeline(&mut world);
    assert_eq!(
        kinds(&now),
        ["device", "register", "unregister", "device", "register"],
        "one name, one timeline"
    );

    // Sysfs knows better, and knows of devices that no record tells of.
    let exist = |world: &mut HostState, names: &[&str], now| {
        world.set_existing(&names.iter().map(ToString::to_string).collect::<BTreeSet<_>>(), now);
    };
    exist(&mut world, &[UUID, "..", "a/b"], 20_000_000);
    assert_eq!(names(&world, "vfio"), [UUID]);
    assert_eq!(world.node("vfio").unwrap().changed_ns, 20_000_000);
    let state = format!("vfio/{UUID}/migration/state");
    assert_eq!(text(&mut world, &state), None, "whether it can migrate is not known either");
    exist(&mut world, &[UUID, BDF], 30_000_000);
    assert_eq!(world.node(TIMELINE).unwrap().changed_ns, 30_000_000);
    exist(&mut world, &[UUID, BDF], 40_000_000);
    assert_eq!(world.node("vfio").unwrap().changed_ns, 30_000_000, "nothing has changed");
}

#[test]
fn a_device_that_was_away_for_a_while_is_a_new_one() {
    let mut world = fed(world(100), &start().register(0).wait(1_000_000).unregister());
    let exist = |world: &mut HostState, names: &[&str], now| {
        world.set_existing(&names.iter().map(ToString::to_string).collect::<BTreeSet<_>>(), now);
    };
    // Bound to another driver, and nobody has told of that: the module is not probed, or the record got lost.
    exist(&mut world, &[], 20_000_000);
    exist(&mut world, &[BDF], 30_000_000);
    let looked = RecordScript::new(0xd2).wait(40_000_000);
    let looked = looked.device_in(BDF, "hisi_acc_vfio_pci", 7, Role::Inventory, Some((STOP, 0)));
    let mut world = fed(world, &looked);
    assert_eq!(text(&mut world, STATE).unwrap(), "STOP\n");
    assert_eq!(names(&world, "vfio/0000:75:00.1/migration"), ["features", "hisi_acc", "state"]);
}

#[test]
fn more_devices_than_there_is_room_for_are_counted() {
    let mut world = world(10).limited(100, 50);
    for n in 1..=150u64 {
        let script =
            RecordScript::new(n).wait(n * 1_000).device(&format!("0000:75:00.{n}"), "mtty", 7).open(1);
        world = fed(world, &script);
    }
    assert_eq!((names(&world, "vfio").len(), world.devices().count()), (100, 100));
    assert_eq!(world.forgotten(), 50, "each of those that came too late, once");
    let known: BTreeSet<String> = (0..200).map(|n| format!("0000:76:00.{n}")).collect();
    world.set_existing(&known, 1_000_000);
    assert!(world.devices().count() <= 100);
}

#[test]
fn devices_that_the_model_has_no_room_for_are_counted() {
    let mut world = world(10).with_model(TraceModel::new().with_room_for(2));
    for n in 1..=5u64 {
        let script = RecordScript::new(n)
            .wait(n * 1_000)
            .device(&format!("0000:75:00.{n}"), "mtty", 7)
            .open(1)
            .open(2);
        world = fed(world, &script);
    }
    assert_eq!((world.devices().count(), world.forgotten()), (5, 3), "each once");
}

#[test]
fn timelines_have_a_limit_together() {
    let script = |n: u64| RecordScript::new(n).wait(n * 1_000).device(&format!("0000:75:00.{n}"), "mtty", 7);
    let mut world = world(10).limited(100, 50);
    for n in 1..=30 {
        world = fed(world, &script(n).open(1).open(2));
    }
    let document = |world: &mut HostState, n: u64| -> Value {
        let path = format!("vfio/0000:75:00.{n}/timeline.json");
        serde_json::from_str(&text(world, &path).unwrap()).unwrap()
    };
    let sums = |world: &mut HostState| {
        let documents: Vec<Value> = (1..=30).map(|n| document(world, n)).collect();
        let kept: usize = documents.iter().map(|document| document["events"].as_array().unwrap().len()).sum();
        let dropped: u64 = documents.iter().map(|document| document["dropped"].as_u64().unwrap()).sum();
        (kept, dropped)
    };
    assert_eq!(sums(&mut world), (50, 40));
    let [first, last] = [document(&mut world, 1), document(&mut world, 30)];
    assert_eq!((kinds(&first).len(), &first["dropped"]), (0, &3.into()), "the oldest of all went first");
    assert_eq!((kinds(&last), &last["dropped"]), (vec!["device", "open", "open"], &0.into()));
    // Those of a device's own limit count as well.
    for _ in 0..20 {
        world = fed(world, &RecordScript::new(30).wait(40_000).open(3));
    }
    let (kept, dropped) = sums(&mut world);
    assert_eq!((kept, kept as u64 + dropped), (50, 90 + 20));
    assert_eq!(kinds(&document(&mut world, 30)).len(), 10);
}

#[test]
fn timelines_keep_the_last_events_and_say_so() {
    let mut some = fed(world(1000), &source());
    let path = format!("vfio/{UUID}/timeline.json");
    let all: Value = serde_json::from_str(&text(&mut some, &path).unwrap()).unwrap();
    let events = all["events"].as_array().unwrap();
    assert_eq!(all["schema"], TIMELINE_SCHEMA);
    assert_eq!(
        (&all["device"], &all["driver"], &all["kernel"], &all["host"]),
        (&UUID.into(), &"mtty".into(), &"6.12.0".into(), &"here".into())
    );
    assert_eq!((&all["dropped"], &all["undecoded"]), (&0.into(), &0.into()));
    for count in ["lost", "missed", "unmatched", "no_room"] {
        assert!(all[count].is_null(), "nobody has counted {count}: {}", all[count]);
    }
    assert_eq!((&all["since"], &all["since_mono_ns"]), (&ANCHOR.rfc3339(500).into(), &500.into()));
    let schema: Value = serde_json::from_str(include_str!("../../../docs/schema/timeline-1.json")).unwrap();
    let names = schema["properties"].as_object().unwrap().keys();
    assert!(all.as_object().unwrap().keys().eq(names), "the schema names every field");
    assert!(kinds(&all).iter().filter(|kind| **kind == "arc").count() == 4);

    let mut few = fed(world(3), &source());
    few.set_losses(TimelineLosses {
        lost: Some(7),
        missed: None,
        unmatched: Some(2),
        no_room: Some(3),
        undecoded: 1,
    });
    let last: Value = serde_json::from_str(&text(&mut few, &path).unwrap()).unwrap();
    assert_eq!(last["events"].as_array().unwrap()[..], events[events.len() - 3..]);
    assert_eq!(last["dropped"], events.len() - 3);
    let count = |name: &str| last[name].as_u64();
    assert_eq!(["lost", "unmatched", "no_room", "undecoded"].map(count), [7, 2, 3, 1].map(Some));
    assert!(last["missed"].is_null(), "not known is not 0");
    assert_eq!(text(&mut few, &path).unwrap().lines().count(), 3 + 2, "one line per event");
}

#[test]
fn a_timeline_tells_when_its_driver_was_not_probed() {
    let gap = |module: &str, from| {
        let gap = ProbeGap {
            module: Some(module.to_owned()),
            functions: vec![GapFunction { function: "set".to_owned(), role: Role::SetState }],
            from_mono_ns: from,
            from_exact: true,
            until_mono_ns: Some(from + 5),
            why: GapCause::ModuleLoaded,
        };
        WireRecord::decode(&RecordNote::ProbeGap(gap).record(from + 5).unwrap()).unwrap()
    };
    let mut world = world(10);
    world.push(&gap("mtty", 600));
    world = fed(world, &start());
    let gaps = |world: &mut HostState| -> Vec<u64> {
        let document = timeline(world);
        let gaps = document["probe_gaps"].as_array().unwrap();
        gaps.iter().map(|gap| gap["from_mono_ns"].as_u64().unwrap()).collect()
    };
    assert_eq!(gaps(&mut world), [600], "told before the device came");
    world.push(&gap("other", 700));
    world.push(&gap("vfio", 800));
    assert_eq!(gaps(&mut world), [600, 700, 800], "whose functions those of other are is not known");
    world = fed(world, &RecordScript::new(0xd2).device(UUID, "other", 7));
    assert_eq!(gaps(&mut world), [600, 800], "and now it is; the document is made anew");
    (0..300).for_each(|n| world.push(&gap("mtty", 1000 + n)));
    assert_eq!((gaps(&mut world).len(), &timeline(&mut world)["probe_gaps_dropped"]), (256, &47.into()));
}

#[test]
fn new_names_without_end_do_not_fill_the_memory() {
    let mut world = world(10);
    for n in 1..=300u64 {
        let name = format!("0000:75:00.{n}");
        let script = RecordScript::new(n).wait(n * 1_000).device(&name, "mtty", 7).unregister();
        world = fed(world, &script);
    }
    assert_eq!(names(&world, "vfio"), [""; 0]);
    assert!(format!("{world:?}").matches("Timeline {").count() <= 64);
}

#[test]
fn folders_have_names_that_hurt_no_terminal_and_no_other() {
    let named = |names: &[&str]| {
        let mut world = world(10);
        for (name, address) in names.iter().zip(0xd1..) {
            world = fed(world, &RecordScript::new(address).device(name, "mtty", 7));
        }
        world
    };
    let raw = ["a\nb", "a\u{1b}]0;x\u{7}", "\u{202e}gnp", "a\\nb", "a/b", ".", "..", "plain"];
    let mut world = named(&raw);
    let folders = names(&world, "vfio");
    assert_eq!(folders, ["\\u{202e}gnp", "a\\nb", "a\\nb~3", "a\\x1b]0;x\\x07", "plain"]);
    assert_eq!(world.without_folder(), (3, 0));
    let all: Vec<&str> = world.devices().map(|(name, _)| name).collect();
    assert!(raw.iter().all(|name| all.contains(name)), "{all:?}");
    for folder in folders {
        let path = format!("vfio/{folder}/timeline.json");
        let document: Value = serde_json::from_str(&text(&mut world, &path).unwrap()).unwrap();
        let name = document["device"].as_str().unwrap();
        assert!(folder.starts_with(&*clean(name)), "{folder} is of {name:?}");
        assert_eq!(document["events"][0]["device"], name);
    }
    // The other way round, the one that has the name already keeps it.
    assert_eq!(names(&named(&["a\\nb", "a\nb"]), "vfio"), ["a\\nb", "a\\nb~1"]);
    assert!(named(&["a\nb"]).node("vfio/a\nb").is_none());
}

#[test]
fn paths_are_taken_apart() {
    assert_eq!(TreePath::of(""), Some(TreePath::Root));
    assert_eq!(TreePath::of("vfio"), Some(TreePath::Vfio));
    assert_eq!(TreePath::of("vfio/a"), Some(TreePath::Device("a", "")));
    assert_eq!(TreePath::of("vfio/a/b/c"), Some(TreePath::Device("a", "b/c")));
    assert_eq!((TreePath::of("vfiox"), TreePath::of("other")), (None, None));
    assert_eq!((tree::parent("vfio/a"), tree::parent("vfio"), tree::parent("")), ("vfio", "", ""));
    assert_eq!((tree::join("", "vfio"), tree::join("vfio", "a")), ("vfio".to_owned(), "vfio/a".to_owned()));
    let files = ["m/state", "m/acc/attr", "m/acc/data", "t"].map(str::to_owned);
    let list = |inner: &str| tree::children(&files, inner).map(|names| names.into_iter().collect::<Vec<_>>());
    assert_eq!(list("").unwrap(), [("m", NodeKind::Folder), ("t", NodeKind::File)]);
    assert_eq!(list("m").unwrap(), [("acc", NodeKind::Folder), ("state", NodeKind::File)]);
    assert_eq!(list("m/acc").unwrap(), [("attr", NodeKind::File), ("data", NodeKind::File)]);
    assert_eq!((list("t"), list("m/a"), list("m/state")), (None, None, None));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever a recording says: each name can be one of a folder, and each file can be shown on a terminal.
    #[test]
    fn any_records_make_a_tree(
        records in proptest::collection::vec(any_record(), 0..60),
        names in proptest::collection::vec(any_name(), 1..4),
    ) {
        let mut world = world(8).annotated(true);
        for (record, name) in records.iter().zip(names.iter().cycle()) {
            let mut record = record.clone();
            if let RecordBody::Device(device) = &mut record.body {
                for field in [&mut device.name[..], &mut device.driver] {
                    let len = name.len().min(field.len());
                    field[..len].copy_from_slice(&name.as_bytes()[..len]);
                }
                device.known = u32::MAX;
                device.mig_ops = 1;
            }
            world.push(&record);
        }
        world.expire(u64::MAX);
        let mut folders = vec![String::new()];
        while let Some(folder) = folders.pop() {
            for (name, kind) in world.list(&folder).unwrap() {
                prop_assert!(!name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0']), "{:?}", name);
                prop_assert!(name.len() <= 255 && !name.chars().any(harms), "{:?}", name);
                let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
                if kind == NodeKind::Folder {
                    folders.push(path);
                } else if let Some(text) = text(&mut world, &path) {
                    prop_assert!(!text.chars().any(|c| harms(c) && c != '\n'), "{} has {:?}", path, text);
                }
            }
        }
    }
}

fn any_name() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(HOSTILE.to_owned()),
        Just("../..".to_owned()),
        Just(".".to_owned()),
        Just("..".to_owned()),
        Just("vfio/../../x".to_owned()),
        Just("hisi_acc_vfio_pci".to_owned()),
        "[\\PC\\p{C}/.]{1,40}",
    ]
}

#[test]
fn a_clock_that_is_set_changes_what_was_rendered() {
    let mut world = fed(world(100), &start());
    let last = |now: &Value| now["events"].as_array().unwrap().last().unwrap().clone();
    let before = last(&timeline(&mut world));
    let mut clock = WallClock::from(ANCHOR);
    let hour = 3_600_000_000_000;
    assert!(clock.sample(ClockAnchor { mono_ns: ANCHOR.mono_ns, real_ns: ANCHOR.real_ns + hour }, 0));
    world.set_clock(&clock);
    let after = last(&timeline(&mut world));
    assert_eq!(before["mono_ns"], after["mono_ns"]);
    assert_ne!(before["time"], after["time"], "{after}");
}

#[test]
fn of_many_devices_the_last_timelines_are_kept_rendered() {
    let mut world = world(100);
    let names: BTreeSet<String> = (0..100).map(|nr| format!("0000:75:00.{nr}")).collect();
    world.set_existing(&names, 5);
    for name in &names {
        let path = format!("vfio/{name}/timeline.json");
        let length = text(&mut world, &path).unwrap().len() as u64;
        assert_eq!(world.node(&path).unwrap().size, length);
    }
    assert!(format!("{world:?}").matches("Rendered {").count() <= 16);
    for name in &names {
        assert!(
            world.node(&format!("vfio/{name}/timeline.json")).unwrap().size > 0,
            "as when it was made last"
        );
    }
}
