//! The tree, from scripted records: paths, sizes and times.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::Value;
use vfio_trace_common::role::Role;

use super::{
    content::{MountTree, NodeContent, TreeNode, without_folder},
    tree::{self, NodeKind, TreePath},
};
use crate::{
    event::{RecordBody, fixture::*},
    state::{HostState, TraceOrigin},
    units::visible::{
        clean,
        tests::{HOSTILE, harms},
    },
};

const STATE: &str = "vfio/0000:75:00.1/migration/state";
const FEATURES: &str = "vfio/0000:75:00.1/migration/features";
const TIMELINE: &str = "vfio/0000:75:00.1/timeline.json";

/// A host's state, and the tree that shows it.
struct ShownHost {
    host: HostState,
    tree: MountTree,
}

impl ShownHost {
    fn annotated(self) -> Self {
        Self { tree: self.tree.annotated(true), ..self }
    }

    fn list(&mut self, path: &str) -> Option<Vec<(String, NodeKind)>> {
        self.tree.list(&self.host, path)
    }

    fn node(&mut self, path: &str) -> Option<TreeNode> {
        self.tree.node(&mut self.host, path)
    }

    fn content(&mut self, path: &str) -> Option<NodeContent> {
        self.tree.content(&mut self.host, path)
    }
}

fn unfed(keep: usize) -> ShownHost {
    let origin = TraceOrigin {
        version: "1.2".to_owned(),
        replayed_by: None,
        kernel: "6.12.0".to_owned(),
        host: Some("here".to_owned()),
        clock: ANCHOR.into(),
    };
    ShownHost { host: HostState::new(origin, keep, 500), tree: MountTree::new() }
}

fn fed(mut shown: ShownHost, script: &RecordScript) -> ShownHost {
    script.records().iter().for_each(|record| shown.host.push(Ok(record)));
    shown
}

fn names(shown: &mut ShownHost, path: &str) -> Vec<String> {
    shown.list(path).unwrap_or_else(|| panic!("no folder {path}")).into_iter().map(|(name, _)| name).collect()
}

fn text(shown: &mut ShownHost, path: &str) -> Option<String> {
    let content = shown.content(path).unwrap_or_else(|| panic!("no file {path}"));
    let text = content.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap());
    let size = text.as_ref().map_or(0, String::len) as u64;
    assert_eq!(shown.node(path).unwrap().size, size, "the size of {path}");
    text
}

fn timeline(shown: &mut ShownHost) -> Value {
    serde_json::from_str(&text(shown, TIMELINE).unwrap()).unwrap()
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
    let mut plain = fed(unfed(8), &script());
    let why = text(&mut plain, file).unwrap();
    assert!(!why.is_empty() && !why.contains('#'), "{why}");
    let mut annotated = fed(unfed(8).annotated(), &script());
    let said = text(&mut annotated, file).unwrap();
    assert_eq!(said, format!("# {why}"));
}

#[test]
fn a_look_at_the_size_of_a_timeline_does_not_make_it() {
    let mut shown = fed(unfed(8), &start());
    assert_eq!(shown.node(TIMELINE).unwrap().size, 0, "it was never opened");
    let length = text(&mut shown, TIMELINE).unwrap().len() as u64;
    assert_eq!(shown.node(TIMELINE).unwrap().size, length);
    for record in start().records() {
        shown.host.push(Ok(&record));
    }
    assert_eq!(shown.node(TIMELINE).unwrap().size, length, "as it was when it was opened last");
}

#[test]
fn the_layout_is_that_of_debugfs() {
    let script = start().on(0xd2).device(UUID, "quayside", 0);
    let mut shown = fed(unfed(10), &script);
    assert_eq!(names(&mut shown, ""), ["vfio"]);
    assert_eq!(names(&mut shown, "vfio"), [BDF, UUID]);
    assert_eq!(names(&mut shown, "vfio/0000:75:00.1"), ["migration", "timeline.json"]);
    assert_eq!(names(&mut shown, "vfio/0000:75:00.1/migration"), ["features", "state"]);
    assert_eq!(
        names(&mut shown, &format!("vfio/{UUID}")),
        ["timeline.json"],
        "no migration, no folder of it"
    );
    for (path, links) in [("", 3), ("vfio", 4), ("vfio/0000:75:00.1", 3), ("vfio/0000:75:00.1/migration", 2)]
    {
        let node = shown.node(path).unwrap();
        assert_eq!((node.kind, node.links, node.size), (NodeKind::Folder, links, 0), "{path}");
    }
    assert_eq!(shown.node(STATE).map(|node| (node.kind, node.links)), Some((NodeKind::File, 1)));
    for path in
        ["x", "vfi", "vfio/x", "vfio/0000:75:00.1/x", "vfio/0000:75:00.1/migration/state/x", "vfio/", "/"]
    {
        assert_eq!(shown.node(path), None, "{path}");
        assert!(shown.content(path).is_none() && shown.list(path).is_none(), "{path}");
    }
}

#[test]
fn files_follow_the_device() {
    let mut shown = fed(unfed(100), &start());
    assert_eq!(text(&mut shown, STATE), None, "nothing has told it yet");
    assert_eq!(text(&mut shown, FEATURES).unwrap(), "stop-copy\np2p\npre-copy\ndirty-tracking\n");
    let arcs = start().wait(5_000_000).set(&[RUNNING, PRE_COPY], 0, -1);
    let before = shown.node(STATE).unwrap().changed_ns;
    let mut shown = fed(shown, &arcs);
    assert_eq!(text(&mut shown, STATE).unwrap(), "PRE_COPY\n");
    assert!(shown.node(STATE).unwrap().changed_ns > before + 5_000_000);
}

#[test]
fn within_a_request_the_state_is_the_last_arcs() {
    // RUNNING -> RUNNING_P2P is over, RUNNING_P2P -> STOP has begun.
    let script = start().next(RUNNING, STOP, RUNNING_P2P, 0).wait(100).next(RUNNING_P2P, STOP, STOP, 0);
    assert_eq!(text(&mut fed(unfed(9), &script), STATE).unwrap(), "RUNNING_P2P\n");
}

#[test]
fn devices_come_and_go() {
    let script = start().register(0).wait(1_000_000).unregister();
    let mut shown = fed(unfed(100), &script);
    assert_eq!(names(&mut shown, "vfio"), [""; 0]);
    assert_eq!(shown.node(STATE), None);
    let again =
        RecordScript::new(0xd1).wait(5_000_000).device_in(BDF, "mtty", 7, Role::Inventory, Some((STOP, 1)));
    let mut shown = fed(shown, &again);
    assert_eq!(names(&mut shown, "vfio"), [""; 0], "somebody still holds it, that is all");
    let mut shown = fed(shown, &RecordScript::new(0xd1).wait(9_000_000).device(BDF, "mtty", 7).register(0));
    assert_eq!(names(&mut shown, "vfio"), [BDF]);
    let now = timeline(&mut shown);
    assert_eq!(
        kinds(&now),
        ["device", "register", "unregister", "device", "register"],
        "one name, one timeline"
    );

    // Sysfs knows better, and has devices of which there are no records.
    let exist = |shown: &mut ShownHost, names: &[&str], now| {
        shown.host.set_existing(&names.iter().map(ToString::to_string).collect::<BTreeSet<_>>(), now);
    };
    exist(&mut shown, &[UUID, "..", "a/b"], 20_000_000);
    assert_eq!(names(&mut shown, "vfio"), [UUID]);
    assert_eq!(shown.node("vfio").unwrap().changed_ns, 20_000_000);
    let state = format!("vfio/{UUID}/migration/state");
    assert_eq!(text(&mut shown, &state), None, "whether it can migrate is not known either");
    exist(&mut shown, &[UUID, BDF], 30_000_000);
    assert_eq!(shown.node(TIMELINE).unwrap().changed_ns, 30_000_000);
    exist(&mut shown, &[UUID, BDF], 40_000_000);
    assert_eq!(shown.node("vfio").unwrap().changed_ns, 30_000_000, "nothing has changed");
}

#[test]
fn a_device_that_was_away_for_a_while_is_a_new_one() {
    let mut shown = fed(unfed(100), &start().register(0).wait(1_000_000).unregister());
    let exist = |shown: &mut ShownHost, names: &[&str], now| {
        shown.host.set_existing(&names.iter().map(ToString::to_string).collect::<BTreeSet<_>>(), now);
    };
    // Bound to another driver without a record of it: the module is not probed, or the record got lost.
    exist(&mut shown, &[], 20_000_000);
    exist(&mut shown, &[BDF], 30_000_000);
    let looked = RecordScript::new(0xd2).wait(40_000_000);
    let looked = looked.device_in(BDF, "hisi_acc_vfio_pci", 7, Role::Inventory, Some((STOP, 0)));
    let mut shown = fed(shown, &looked);
    assert_eq!(text(&mut shown, STATE).unwrap(), "STOP\n");
    assert_eq!(names(&mut shown, "vfio/0000:75:00.1/migration"), ["features", "hisi_acc", "state"]);
}

#[test]
fn folders_have_names_that_hurt_no_terminal_and_no_other() {
    let named = |names: &[&str]| {
        let mut shown = unfed(10);
        for (name, address) in names.iter().zip(0xd1..) {
            shown = fed(shown, &RecordScript::new(address).device(name, "mtty", 7));
        }
        shown
    };
    let raw = ["a\nb", "a\u{1b}]0;x\u{7}", "\u{202e}gnp", "a\\nb", "a/b", ".", "..", "plain"];
    let mut shown = named(&raw);
    let folders = names(&mut shown, "vfio");
    assert_eq!(folders, ["\\u{202e}gnp", "a\\nb", "a\\nb~3", "a\\x1b]0;x\\x07", "plain"]);
    assert_eq!((without_folder(&shown.host), shown.host.unnamed_devices()), (3, 0));
    let all: Vec<&str> = shown.host.devices().map(|(name, _)| name).collect();
    assert!(raw.iter().all(|name| all.contains(name)), "{all:?}");
    for folder in folders {
        let path = format!("vfio/{folder}/timeline.json");
        let document: Value = serde_json::from_str(&text(&mut shown, &path).unwrap()).unwrap();
        let name = document["device"].as_str().unwrap();
        assert!(folder.starts_with(&*clean(name)), "{folder} is of {name:?}");
        assert_eq!(document["events"][0]["device"], name);
    }
    // The other way round, the one that has the name already keeps it.
    assert_eq!(names(&mut named(&["a\\nb", "a\nb"]), "vfio"), ["a\\nb", "a\\nb~1"]);
    assert!(named(&["a\nb"]).node("vfio/a\nb").is_none());
}

#[test]
fn a_device_that_was_forgotten_has_a_folder_again() {
    let first = "0000:75:00.1";
    let mut shown = fed(unfed(10), &RecordScript::new(1).device(first, "mtty", 7));
    assert_eq!(names(&mut shown, "vfio"), [first]);
    shown = fed(shown, &RecordScript::new(1).wait(1_000).unregister());
    for n in 2..=80u64 {
        let name = format!("0000:75:00.{n}");
        shown = fed(shown, &RecordScript::new(n).wait(n * 1_000).device(&name, "mtty", 7).unregister());
    }
    assert!(shown.host.devices().all(|(name, _)| name != first), "others went since");
    assert_eq!(names(&mut shown, "vfio"), [""; 0]);
    shown = fed(shown, &RecordScript::new(100).wait(1_000_000).device(first, "mtty", 7));
    assert_eq!(names(&mut shown, "vfio"), [first]);
    assert_eq!(kinds(&timeline(&mut shown)), ["device"], "the timeline begins anew");
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
    /// Checks for any recording that each name can be one of a folder, and each file can be shown on a terminal.
    #[test]
    fn any_records_make_a_tree(
        records in proptest::collection::vec(any_record(), 0..60),
        names in proptest::collection::vec(any_name(), 1..4),
    ) {
        let mut shown = unfed(8).annotated();
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
            shown.host.push(Ok(&record));
        }
        shown.host.tick(u64::MAX);
        let mut folders = vec![String::new()];
        while let Some(folder) = folders.pop() {
            for (name, kind) in shown.list(&folder).unwrap() {
                prop_assert!(!name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0']), "{:?}", name);
                prop_assert!(name.len() <= 255 && !name.chars().any(harms), "{:?}", name);
                let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
                if kind == NodeKind::Folder {
                    folders.push(path);
                } else if let Some(text) = text(&mut shown, &path) {
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
