//! Files become recordings in their order; what is lost of them is in their account.

use std::fs;

use super::*;
use crate::{
    cli::replay::tests::{migration, record},
    units::test_folder::TestFolder,
};

fn probe(name: &str, role: Role) -> ProbeReport {
    ProbeReport {
        name: name.to_owned(),
        role,
        module: None,
        attached: true,
        reason: None,
        hits: 9,
        records: 9,
        lost: 0,
        missed: Some(0),
        unmatched: 0,
        no_room: 0,
    }
}

fn counted(probes: &[ProbeReport]) -> HostLosses {
    let mut losses = HostLosses::default();
    count(&mut losses, Some(probes));
    losses
}

#[test]
fn what_a_driver_that_is_unloaded_has_missed_is_not_forgotten() {
    let read = ProbeReport { missed: Some(3), ..probe("mtty_save_read", Role::Read) };
    let gone = ProbeReport { attached: false, ..read.clone() };
    assert_eq!(counted(&[read]).missed, Some(3));
    let losses = counted(&[gone, probe("f", Role::Write)]);
    assert_eq!((losses.missed, &losses.data[..]), (Some(3), &["mtty_save_read: 3 missed".to_owned()][..]));
    let cannot_tell = ProbeReport { attached: false, missed: None, ..probe("g", Role::Read) };
    assert_eq!(counted(&[cannot_tell, probe("f", Role::Write)]).missed, None);
}

#[test]
fn what_found_no_room_touches_states_and_bytes() {
    let losses = counted(&[ProbeReport { no_room: 2, ..probe("quay_shift", Role::SetState) }]);
    assert_eq!(losses.no_room, Some(2));
    assert!(losses.lacks_transitions() && losses.lacks_data(), "{losses:?}");
    assert_eq!(losses.data, ["quay_shift: 2 not remembered"]);
    assert_eq!(counted(&[probe("f", Role::SetState)]).no_room, Some(0));
}

#[test]
fn a_loss_of_any_function_is_told() {
    for role in Role::ALL {
        let losses = counted(&[ProbeReport { lost: 1, ..probe("f", role) }]);
        let told = [&losses.control, &losses.data, &losses.other];
        assert_eq!(told.iter().map(|texts| texts.len()).sum::<usize>(), 1, "{role:?}: {losses:?}");
    }
    assert!(counted(&[ProbeReport { lost: 1, ..probe("f", Role::Open) }]).lacks_transitions());
}

#[test]
fn devices_may_be_unknown_where_probes_came_late_or_a_name_was_not_told() {
    use crate::event::{EventAssembler, GapFunction, RecordNote, VfioEvent, fixture::*};
    let whole = || {
        let mut history = HostHistory::default();
        let losses = counted(&[probe("f", Role::Open)]);
        history.host_mut().losses = HostLosses { complete: true, ..losses };
        history
    };
    assert!(!lacks(&whole()));
    for (role, expected) in [(Role::Open, true), (Role::SetState, true), (Role::Step, false)] {
        let RecordNote::ProbeGap(gap) = gap_note(1, Some(2)) else { panic!("no gap") };
        let functions = vec![GapFunction { function: "f".to_owned(), role }];
        let mut late = whole();
        late.gaps.push(ProbeGap { functions, ..gap });
        assert_eq!(lacks(&late), expected, "{role:?}");
    }
    let mut many = whole();
    many.gaps_left_out = 1;
    assert!(lacks(&many));
    let with = |script: RecordScript| {
        let (mut assembler, mut history) = (EventAssembler::new(), whole());
        let mut events: Vec<VfioEvent> =
            script.records().iter().flat_map(|record| assembler.push(record)).collect();
        events.extend(assembler.finish());
        for event in &events {
            history.apply(event);
        }
        assert_eq!(history.devices.len(), 1);
        history
    };
    assert!(!lacks(&with(RecordScript::new(0xd1).device(BDF, "mtty", 7).get_state(RUNNING))));
    assert!(lacks(&with(RecordScript::new(0xd1).get_state(RUNNING))));
}

/// Writes the parts of a recording as files.
fn recording_parts() -> (TestFolder, Vec<PathBuf>) {
    let folder = TestFolder::new();
    let parts = record(&migration(), 10).into_iter().enumerate();
    let files = parts.map(|(at, part)| folder.put(&format!("{at}.vft"), &part)).collect();
    (folder, files)
}

#[test]
fn of_many_parts_the_first_and_the_last_are_named() {
    let parts: Vec<PathBuf> = (1..=3000).map(|part| PathBuf::from(format!("x.{part:04}.vft"))).collect();
    assert_eq!(source(&parts), "x.0001.vft … x.3000.vft (3000 parts)");
    assert_eq!(source(&parts[..2]), "x.0001.vft x.0002.vft");
}

/// More devices at a time than are kept: a limit, no damage; and each device counts once.
#[test]
fn what_is_forgotten_is_left_out_and_not_damaged() {
    use crate::{
        event::fixture::*,
        recording::{BlockItem, EndReason, PartEnd, PartWriter, fixture::header},
    };
    const DEVICES: u64 = 20_000;
    let mut writer = PartWriter::new(Vec::new(), &header()).unwrap();
    for nr in 1..=DEVICES {
        let script = RecordScript::new(nr * 64)
            .wait(nr)
            .device(&format!("device-{nr}"), "mtty", 7)
            .driver_get_state(RUNNING);
        for record in script.records() {
            writer.push(&BlockItem::Record(bytes(&record).into())).unwrap();
        }
    }
    let end = PartEnd { mono_ns: 9_000_000_000, reason: EndReason::Signal, records: 0, probes: Vec::new() };
    let folder = TestFolder::new();
    let file = folder.put("many.vft", &writer.finish(end).unwrap().0);
    let read = read(&[file]).unwrap();
    let host = &read.all[0].host;
    assert!(!read.damaged && host.losses.damage.is_empty(), "{:?}", host.losses);
    let forgotten = read.all[0].left_out.forgotten;
    assert!((1..=DEVICES).contains(&forgotten), "{forgotten}");
    let document = crate::report::document(&read.all, &crate::report::DocumentOptions::default());
    let told: Vec<_> = document.warnings.iter().map(|warning| warning.code).collect();
    assert_eq!(told.iter().filter(|code| **code == "left-out").count(), 1, "{told:?}");
    assert!(!told.contains(&"recording-damaged"), "{told:?}");
}

#[test]
fn parts_are_put_in_their_order() {
    let (folder, files) = recording_parts();
    let other = folder.path("other.vft");
    fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/src/cli/testdata/two-hosts-dst.vft"), &other).unwrap();
    let given = [files[2].clone(), other.clone(), files[0].clone(), files[1].clone()];
    let found = recordings(&given).unwrap().recordings;
    assert_eq!(found, [files[..3].to_vec(), vec![other]]);
}

/// Every host of every file counts: otherwise its migrations would be told twice.
#[test]
fn no_recording_is_taken_for_two() {
    let data = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli").join(name);
    let all = [
        data("testdata/two-hosts-src.vft"),
        data("testdata/two-hosts-dst.vft"),
        data("replay/testdata/mtty-6.12-format-1.vft"),
    ];
    let folder = TestFolder::new();
    let bytes = all.each_ref().map(|path| fs::read(path).unwrap());
    let merged = |name: &str, which: &[usize]| {
        let parts: Vec<&[u8]> = which.iter().map(|at| &bytes[*at][..]).collect();
        folder.put(name, &parts.concat())
    };
    let [src_dst, dst_mtty, mtty_dst] =
        [merged("sd.vft", &[0, 1]), merged("dm.vft", &[1, 2]), merged("md.vft", &[2, 1])];
    let refused = |files: &[&PathBuf]| {
        let files: Vec<PathBuf> = files.iter().map(|file| (*file).clone()).collect();
        read(&files).err().map(|why| why.sentence())
    };
    for (files, names) in [
        ([&src_dst, &all[1]], ["sd.vft", "two-hosts-dst.vft"]),
        ([&all[1], &src_dst], ["two-hosts-dst.vft", "sd.vft"]),
        ([&src_dst, &mtty_dst], ["sd.vft", "md.vft"]),
        ([&src_dst, &dst_mtty], ["sd.vft", "dm.vft"]),
    ] {
        let why = refused(&files).unwrap_or_else(|| panic!("{names:?} are read"));
        assert!(names.iter().all(|name| why.contains(name)), "{names:?}: {why}");
    }
    let twice = merged("twice.vft", &[0, 1, 0]);
    assert!(refused(&[&twice]).is_some_and(|why| why.contains("twice.vft twice")));
    for files in [&[&src_dst][..], &[&src_dst, &all[2]], &[&all[0], &all[1], &all[2]], &[&all[0], &dst_mtty]]
    {
        assert_eq!(refused(files), None, "{files:?}");
    }
}

#[test]
fn a_recording_that_goes_on_is_not_complete() {
    let (_folder, files) = recording_parts();
    let complete = |files: &[PathBuf]| read(files).unwrap().all[0].host.losses.complete;
    assert!(complete(&files) && complete(&files[1..]), "its end is there");
    assert!(!complete(&files[..1]) && !complete(&files[..2]));
}

#[test]
fn a_file_that_cannot_be_read_is_told_of_each_host() {
    let (folder, files) = recording_parts();
    let empty = folder.put("empty.vft", b"");
    let read = read(&[&files[..], std::slice::from_ref(&empty)].concat()).unwrap();
    let damage = &read.all[0].host.losses.damage;
    assert!(read.damaged && matches!(&damage[..], [one] if one.contains("empty.vft")), "{damage:?}");
    assert!(super::read(&[empty.clone(), empty]).is_err());
}
