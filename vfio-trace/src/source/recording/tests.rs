//! Parts in any order, some of them damaged: records that are read are right, and missing ones are reported.

use std::io::Cursor;

use super::*;
use crate::{
    recording::{PartWriter, fixture::header, read_index},
    units::{advice::ErrorAdvice as _, test_folder::TestFolder},
};

/// Makes a part with a repeated record and one of its own.
fn part(recording: &str, number: u32, reason: EndReason) -> Vec<u8> {
    let header = PartHeader { recording: recording.to_owned(), part: number, ..header() };
    let mut writer = PartWriter::new(Vec::new(), &header).unwrap();
    writer.push(&BlockItem::Repeated(format!("again{number}").into())).unwrap();
    writer.flush().unwrap();
    writer.push(&BlockItem::Record(format!("{recording}{number}").into())).unwrap();
    writer.flush().unwrap();
    let end = PartEnd { mono_ns: 9, reason, records: 1, probes: Vec::new() };
    writer.finish(end).unwrap().0
}

fn rotated(number: u32) -> Vec<u8> {
    part("a", number, EndReason::Rotated)
}

/// Returns records and damages, in the order in which they come.
fn told(recording: &mut RecordingSource) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(next) = recording.next().unwrap() {
        match next {
            RecordingItem::Record(bytes) => all.push(String::from_utf8(bytes.to_vec()).unwrap()),
            RecordingItem::Damage { damage, .. } => all.push(damage.to_string()),
            RecordingItem::OtherRecording { .. } => all.push("other".to_owned()),
            RecordingItem::Tick(_) | RecordingItem::Clock(_) => {},
        }
    }
    all
}

fn stream(bytes: Vec<u8>) -> RecordingSource {
    RecordingSource::from_stream("test", Box::new(Cursor::new(bytes))).unwrap()
}

#[test]
fn a_part_behind_its_place_is_left_out_and_told() {
    let mut recording = stream([rotated(2), rotated(1), rotated(3)].concat());
    let order = RecordingDamage::PartOrder { after: 2, part: 1 }.to_string();
    assert_eq!(told(&mut recording), ["again2", "a2", &order, "a3"]);
    assert_eq!(recording.ended().unwrap().continued, Some(4));
    // The same one with another between.
    let twice = told(&mut stream([rotated(1), rotated(2), rotated(1)].concat()));
    assert_eq!(twice, ["again1", "a1", "a2", &RecordingDamage::PartOrder { after: 2, part: 1 }.to_string()]);
}

#[test]
fn what_a_part_repeats_is_read_behind_a_damaged_one() {
    let whole = rotated(1);
    let blocks = read_index(&mut Cursor::new(&whole)).unwrap();
    let mut hurt = whole.clone();
    hurt[usize::try_from(blocks[2].offset).unwrap() + 50] ^= 1;
    assert_eq!(told(&mut stream([whole.clone(), rotated(2)].concat())), ["again1", "a1", "a2"]);
    let behind = told(&mut stream([hurt, rotated(2), rotated(3)].concat()));
    assert_eq!(behind[1..], ["a1", "again2", "a2", "a3"], "{behind:?}");
    // An index is nothing that a reader needs.
    let mut unindexed = whole;
    let last = unindexed.len() - 20;
    unindexed[last] ^= 1;
    let behind = told(&mut stream([unindexed, rotated(2)].concat()));
    assert_eq!((behind.len(), behind.last().map(String::as_str)), (4, Some("a2")), "{behind:?}");
}

#[test]
fn one_file_that_cannot_be_read_does_not_refuse_the_others() {
    let files = TestFolder::new();
    let one = files.put("1", &rotated(1));
    let cut = files.put("2", &rotated(2)[..70]);
    let empty = files.put("3", b"");
    let mut recording = RecordingSource::open(&[empty.clone(), one, cut]).unwrap();
    let all = told(&mut recording);
    assert_eq!((all.len(), &all[2..]), (4, &["again1".to_owned(), "a1".to_owned()][..]), "{all:?}");
    assert!(all[0].contains("it is cut") && all[1].contains("it is empty"), "{all:?}");
    assert!(matches!(
        RecordingSource::open(&[empty.clone(), empty.clone()]),
        Err(RecordingError::Open { .. })
    ));
    assert!(matches!(RecordingSource::open(&[empty]), Err(RecordingError::Open { .. })));
}

#[test]
fn a_file_of_several_hosts_is_not_mixed_with_parts_of_one() {
    let files = TestFolder::new();
    let both = files.put("both", &[rotated(1), part("b", 1, EndReason::Signal)].concat());
    let two = files.put("2", &part("a", 2, EndReason::Signal));
    let mut recording = RecordingSource::open(&[both, two.clone()]).unwrap();
    let error = loop {
        match recording.next() {
            Ok(next) => assert!(next.is_some(), "the end was reached"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, RecordingError::Mixed { .. }), "{error}");
    // A file may become another one while those before it are read.
    let one = files.put("1", &rotated(1));
    let mut recording = RecordingSource::open(&[one, two.clone()]).unwrap();
    fs::write(two, part("b", 2, EndReason::Signal)).unwrap();
    let error = std::iter::from_fn(|| Some(recording.next())).find_map(Result::err).unwrap();
    assert!(matches!(error, RecordingError::Different { .. }), "{error}");
}

#[test]
fn what_can_be_read_once_is_refused_among_several() {
    let files = TestFolder::new();
    let one = files.put("1", &rotated(1));
    let null = PathBuf::from("/dev/null");
    assert!(matches!(RecordingSource::open(&[one.clone(), null]), Err(RecordingError::Pipe { .. })));
    refuse_pipes(&[one.clone(), one]).unwrap();
    refuse_pipes(&[PathBuf::from("/dev/null")]).unwrap();
}

#[test]
fn a_recorder_that_gave_up_did_not_end_in_order() {
    let mut recording = stream(part("a", 1, EndReason::Failed));
    assert_eq!(told(&mut recording), ["again1", "a1", &RecordingDamage::Failed.to_string()]);
    assert!(recording.ended().is_some());
}

#[test]
fn another_copy_is_advised_where_it_helps() {
    let folder = TestFolder::new();
    let place = |name: &str| folder.path(name);
    fs::write(place("both.vft"), rotated(1)).unwrap();
    std::os::unix::fs::symlink("loop.vft", place("loop.vft")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(place("socket")).unwrap();
    let advice = |paths: &[PathBuf]| RecordingSource::open(paths).err().unwrap().advice().into_owned();
    for (name, expected) in [
        ("both.vft/x", "check the name"),
        ("loop.vft", "check the name"),
        (&*"x".repeat(300), "check the name"),
        ("none.vft", "check the name; `vfio-trace record -o FILE` makes one"),
        ("", "give a file that `vfio-trace record` made"),
        ("socket", "give a file that `vfio-trace record` made"),
    ] {
        assert_eq!(advice(&[place(name)]), expected, "{name}");
    }
    assert_eq!(advice(&[place(""), place("")]), "give a file that `vfio-trace record` made");
    let again = "copy the file again from where it was made";
    fs::write(place("cut.vft"), &rotated(1)[..30]).unwrap();
    assert_eq!(advice(&[place("cut.vft")]), again);
    let name = || "a.vft".to_owned();
    for (errno, expected) in [(5, again), (116, again), (24, "raise the limit of open files (ulimit -n)")] {
        let source = || io::Error::from_raw_os_error(errno);
        for error in [
            RecordingError::File { name: name(), source: source() },
            RecordingError::Open { name: name(), source: source().into() },
            RecordingError::Read { name: name(), source: source() },
        ] {
            assert_eq!(error.advice(), expected, "{error}");
        }
    }
}
