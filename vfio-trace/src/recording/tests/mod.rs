//! Tests of writing and reading: damage is reported, and does not affect the rest.

use std::{
    fs,
    io::{Cursor, Write as _},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use proptest::prelude::*;

use super::{fixture::header, *};
use crate::{
    event::fixture::{any_record, bytes},
    units::test_folder::TestFolder,
};

fn end(records: u64) -> PartEnd {
    PartEnd { mono_ns: 9, reason: EndReason::Signal, records, probes: Vec::new() }
}

/// Writes items, with a new block after each for which `cut` is true.
fn write(items: &[BlockItem], cuts: &[bool]) -> Vec<u8> {
    let mut writer = PartWriter::new(Vec::new(), &header()).unwrap();
    for (item, cut) in items.iter().zip(cuts.iter().cycle()) {
        writer.push(item).unwrap();
        if *cut {
            writer.flush().unwrap();
        }
    }
    writer.finish(end(items.len() as u64)).unwrap().0
}

/// Reads everything that can be read, with damage apart; `None` if the stream cannot be opened.
fn read(stream: &[u8]) -> Option<(Vec<BlockItem>, Vec<RecordingDamage>)> {
    let mut reader = RecordingReader::open(stream).ok()?;
    let (mut items, mut damages) = (Vec::new(), Vec::new());
    while let Some(entry) = reader.next().unwrap() {
        match entry {
            ReaderEntry::Item(item) => items.push(item),
            ReaderEntry::Damage(damage) => damages.push(damage),
            ReaderEntry::Part(_) => panic!("one part"),
        }
    }
    assert_eq!(reader.position(), stream.len() as u64, "all of the input was used");
    Some((items, damages))
}

fn any_items() -> impl Strategy<Value = Vec<BlockItem>> {
    let item = prop_oneof![
        6 => any_record().prop_map(|record| BlockItem::Record(bytes(&record).into())),
        1 => any_record().prop_map(|record| BlockItem::Repeated(bytes(&record).into())),
        1 => proptest::collection::vec(any::<u8>(), 0..200).prop_map(|bytes| BlockItem::Record(bytes.into())),
        1 => any::<u64>().prop_map(BlockItem::Tick),
        1 => any::<u64>().prop_map(|mono_ns| BlockItem::Clock(ClockSample { mono_ns, ..ClockSample::default() })),
    ];
    proptest::collection::vec(item, 0..30)
}

/// Returns true if `some` is `all` with some left out.
fn is_within(some: &[BlockItem], all: &[BlockItem]) -> bool {
    let mut all = all.iter();
    some.iter().all(|one| all.any(|other| other == one))
}

proptest! {
    #[test]
    fn what_was_written_is_read(items in any_items(), cuts in proptest::collection::vec(any::<bool>(), 1..9)) {
        let stream = write(&items, &cuts);
        let (mut got, damages) = read(&stream).unwrap();
        prop_assert_eq!(damages, vec![]);
        prop_assert_eq!(got.pop(), Some(BlockItem::End(end(items.len() as u64))));
        prop_assert_eq!(got, items);
    }

    #[test]
    fn any_prefix_gives_a_prefix(
        items in any_items(),
        cuts in proptest::collection::vec(any::<bool>(), 1..9),
        at in any::<proptest::sample::Index>(),
    ) {
        let stream = write(&items, &cuts);
        let len = at.index(stream.len());
        let Some((got, damages)) = read(&stream[..len]) else {
            // Nothing is known about a recording that ends in its header.
            prop_assert!(len < 2000, "a prefix of {} bytes does not open", len);
            return Ok(());
        };
        prop_assert!(!damages.is_empty(), "it is cut, and does not say so");
        let all = [items, vec![BlockItem::End(end(u64::MAX))]].concat();
        let same = got.iter().zip(&all).filter(|(one, other)| one == other || matches!(one, BlockItem::End(_)));
        prop_assert_eq!(same.count(), got.len());
    }

    #[test]
    fn a_changed_byte_is_told(
        items in any_items(),
        cuts in proptest::collection::vec(any::<bool>(), 1..9),
        at in any::<proptest::sample::Index>(),
        change in 1..=255u8,
    ) {
        let mut stream = write(&items, &cuts);
        let at = at.index(stream.len());
        stream[at] ^= change;
        // The header has a copy: one changed byte never keeps a recording from being opened.
        let (got, damages) = read(&stream).unwrap();
        prop_assert!(!damages.is_empty(), "byte {} of {} was changed, and nobody noticed", at, stream.len());
        let all = [items.clone(), vec![BlockItem::End(end(items.len() as u64))]].concat();
        prop_assert!(is_within(&got, &all), "a record that was not there");
    }

    #[test]
    fn bytes_lost_or_added_are_told(
        items in any_items(),
        cuts in proptest::collection::vec(any::<bool>(), 1..9),
        at in any::<proptest::sample::Index>(),
        len in 1..300usize,
        added in any::<Option<u8>>(),
    ) {
        let mut stream = write(&items, &cuts);
        let at = at.index(stream.len());
        let to = (at + len).min(stream.len());
        match added {
            Some(byte) => drop(stream.splice(at..at, std::iter::repeat_n(byte, len))),
            None => drop(stream.drain(at..to)),
        }
        let Some((got, damages)) = read(&stream) else { return Ok(()) };
        prop_assert!(!damages.is_empty());
        let all = [items.clone(), vec![BlockItem::End(end(items.len() as u64))]].concat();
        prop_assert!(is_within(&got, &all), "a record that was not there");
    }

    #[test]
    fn anything_is_read_or_refused(mut stream in proptest::collection::vec(any::<u8>(), 0..3000), ours: bool) {
        if ours {
            stream.splice(0..0, write(&[], &[true]));
        }
        if let Some((items, _)) = read(&stream) {
            prop_assert!(items.iter().all(|item| matches!(item, BlockItem::End(_))));
        }
    }
}

fn record(text: &str) -> BlockItem {
    BlockItem::Record(Bytes::copy_from_slice(text.as_bytes()))
}

#[test]
fn a_damaged_block_takes_only_itself() {
    let items = ["one", "two", "three", "four"].map(record);
    let whole = write(&items, &[true]);
    let index = read_index(&mut Cursor::new(&whole)).unwrap();
    let at = usize::try_from(index[3].offset).unwrap();
    assert_eq!(index[3].records, 1);
    // In the payload, then in the header.
    for (at, records) in [(at + 50, Some(1)), (at + 16, None)] {
        let mut stream = whole.clone();
        stream[at] ^= 1;
        let (got, damages) = read(&stream).unwrap();
        let left = [&items[..1], &items[2..], &[BlockItem::End(end(4))]].concat();
        assert_eq!(got, left);
        match (&damages[..], records) {
            ([RecordingDamage::Block { records, .. }], Some(expected)) => assert_eq!(*records, expected),
            ([RecordingDamage::Gap { blocks: 1, .. }], None) => {},
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_killed_recorder_loses_what_was_not_written() {
    let mut writer = PartWriter::new(Vec::new(), &header()).unwrap();
    writer.push(&record("written")).unwrap();
    writer.flush().unwrap();
    let written = usize::try_from(writer.written()).unwrap();
    writer.push(&record("not yet")).unwrap();
    let stream = &writer.finish(end(2)).unwrap().0[..written];
    let (items, damages) = read(stream).unwrap();
    assert_eq!(items, [record("written")]);
    assert_eq!(damages, [RecordingDamage::Cut { offset: written as u64, records: 0 }]);
}

#[test]
fn the_index_is_where_the_blocks_are() {
    let items: Vec<BlockItem> = crate::event::fixture::source()
        .records()
        .iter()
        .map(|record| BlockItem::Record(bytes(record).into()))
        .collect();
    let stream = write(&items, &[false, false, true]);
    let index = read_index(&mut Cursor::new(&stream)).unwrap();
    assert_eq!(index.iter().map(|entry| entry.records as usize).sum::<usize>(), items.len());
    for (number, entry) in index.iter().enumerate() {
        assert_eq!(entry.seq as usize, number);
        assert!(stream[usize::try_from(entry.offset).unwrap()..].starts_with(b"VFTR"));
        assert!(entry.first_ns <= entry.last_ns);
    }
    let cut = &stream[..stream.len() - 1];
    assert!(matches!(read_index(&mut Cursor::new(cut)), Err(IndexError::NoTrailer)));
}

#[test]
fn what_is_no_recording_is_told_apart() {
    let whole = write(&[], &[true]);
    let open = |stream: &[u8]| RecordingReader::open(stream).err().map(|error| error.to_string());
    assert!(matches!(RecordingReader::open(&b""[..]), Err(PartOpenError::Empty)));
    assert!(matches!(RecordingReader::open(&b"PK\x03\x04"[..]), Err(PartOpenError::NotRecording)));
    assert!(matches!(RecordingReader::open(&[0; 5000][..]), Err(PartOpenError::NotRecording)));
    assert!(matches!(RecordingReader::open(&whole[..3]), Err(PartOpenError::TruncatedHeader)));
    assert!(matches!(RecordingReader::open(&whole[..60]), Err(PartOpenError::TruncatedHeader)));
    assert_eq!(open(&whole), None);
    let mut other = header();
    other.byte_order = "middle".to_owned();
    let stream = PartWriter::new(Vec::new(), &other).unwrap().finish(end(0)).unwrap().0;
    assert!(matches!(RecordingReader::open(&stream[..]), Err(PartOpenError::ByteOrder(_))));
}

#[test]
fn records_of_a_later_version_are_refused() {
    let made = |wire_version, part| {
        let header = PartHeader { wire_version, part, ..header() };
        let mut writer = PartWriter::new(Vec::new(), &header).unwrap();
        writer.push(&record("one")).unwrap();
        writer.finish(end(1)).unwrap().0
    };
    let now = vfio_trace_common::wire::VERSION;
    let stream = made(now + 1, 1);
    let error = RecordingReader::open(&stream[..]).err().unwrap();
    assert!(matches!(error, PartOpenError::NewerRecords(version) if version == now + 1));
    assert!(error.to_string().contains("newer vfio-trace"), "{error}");
    // In a following part, none of its bytes is misread.
    let parts = [made(now, 1), made(now + 1, 2)].concat();
    let mut reader = RecordingReader::open(&parts[..]).unwrap();
    let (mut items, mut damages) = (0, Vec::new());
    while let Some(entry) = reader.next().unwrap() {
        match entry {
            ReaderEntry::Item(BlockItem::Record(_)) => items += 1,
            ReaderEntry::Damage(damage) => damages.push(damage.to_string()),
            _ => {},
        }
    }
    assert_eq!((items, damages.len()), (1, 1), "{damages:?}");
    assert!(damages[0].contains(&format!("version {}", now + 1)), "{damages:?}");
}

#[test]
fn a_header_of_another_version_is_refused() {
    let made = |schema: &str, part| {
        let header = PartHeader { schema: schema.to_owned(), part, ..header() };
        let mut writer = PartWriter::new(Vec::new(), &header).unwrap();
        writer.push(&record("one")).unwrap();
        writer.finish(end(1)).unwrap().0
    };
    let later = "vfio-trace.recording/2";
    let error = RecordingReader::open(&made(later, 1)[..]).err().unwrap();
    assert!(matches!(error, PartOpenError::OtherHeader) && error.to_string().contains(SCHEMA), "{error}");
    let parts = [made(SCHEMA, 1), made(later, 2)].concat();
    let mut reader = RecordingReader::open(&parts[..]).unwrap();
    let (mut items, mut damages) = (0, Vec::new());
    while let Some(entry) = reader.next().unwrap() {
        match entry {
            ReaderEntry::Item(BlockItem::Record(_)) => items += 1,
            ReaderEntry::Damage(damage) => damages.push(damage),
            _ => {},
        }
    }
    let begins = made(SCHEMA, 1).len() as u64;
    assert!(damages.iter().all(RecordingDamage::loses_records));
    assert_eq!((items, damages), (1, vec![RecordingDamage::OtherHeader { offset: begins }]));
}

#[test]
fn nothing_is_overwritten_unasked() {
    let folder = TestFolder::new();
    let path = folder.path("a.vft");
    fs::write(&path, "mine").unwrap();
    assert!(matches!(RecordingOutput::create(&path, false, None, false), Err(OutputError::Exists(_))));
    // Requested, and then undone.
    let mut output = RecordingOutput::create(&path, false, None, true).unwrap();
    assert_eq!(folder.names(), ["a.vft"], "looking makes nothing");
    assert!(output.open().unwrap());
    drop(output);
    assert_eq!((fs::read_to_string(&path).unwrap().as_str(), folder.names().len()), ("mine", 1));
    let mut output = RecordingOutput::create(&path, false, None, true).unwrap();
    assert!(output.open().unwrap());
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    output.first().unwrap().write_all(b"new").unwrap();
    assert!(output.keep_first_part().is_empty());
    drop(output);
    assert_eq!((fs::read_to_string(&path).unwrap().as_str(), folder.names().len()), ("new", 1));
    // An output that was begun and undone leaves nothing that would be in the way of the next try.
    let typo = folder.path("typo.vft");
    let mut output = RecordingOutput::create(&typo, false, None, false).unwrap();
    assert!(output.open().unwrap());
    output.first().unwrap().write_all(b"header").unwrap();
    drop(output);
    assert_eq!(folder.names(), ["a.vft"]);
    // An empty file may come from mktemp.
    let empty = folder.path("empty.vft");
    fs::write(&empty, "").unwrap();
    drop(RecordingOutput::create(&empty, false, None, false).unwrap());
    assert_eq!(folder.names(), ["a.vft", "empty.vft"]);
    assert!(matches!(RecordingOutput::create(folder.root(), false, None, true), Err(OutputError::Io { .. })));
    let nowhere = folder.path("no/such/folder.vft");
    assert!(matches!(RecordingOutput::create(&nowhere, false, None, false), Err(OutputError::Io { .. })));
    let mut null = RecordingOutput::create(Path::new("/dev/null"), false, None, false).unwrap();
    assert!(null.open().unwrap());
    null.first().unwrap().write_all(b"new").unwrap();
    drop(null);
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
}

/// Makes a part like `record --rotate`, or like `record`.
fn part(recording: &str, number: u32, rotated: bool) -> Vec<u8> {
    let mut header = PartHeader { recording: recording.to_owned(), part: number, ..header() };
    if rotated {
        header.start.command.extend(["--rotate".to_owned(), "1M".to_owned()]);
    }
    let mut bytes = Vec::new();
    PartWriter::new(&mut bytes, &header).unwrap();
    bytes
}

#[test]
fn parts_come_and_go() {
    let folder = TestFolder::new();
    let path = folder.path("t.vft");
    let mut output = RecordingOutput::create(&path, true, Some(2), false).unwrap();
    assert!(output.open().unwrap());
    output.first().unwrap().write_all(&part("one", 1, true)).unwrap();
    assert!(output.keep_first_part().is_empty());
    output.try_next().unwrap();
    for number in 2..=4 {
        output.next(number).unwrap().write_all(&part("one", number, true)).unwrap();
    }
    assert_eq!(folder.names(), ["t.0003.vft", "t.0004.vft"]);
    assert!(matches!(RecordingOutput::create(&path, true, None, false), Err(OutputError::Exists(_))));
    fs::write(folder.path("t.notes.vft"), "mine").unwrap();
    let mut output = RecordingOutput::create(&path, true, None, true).unwrap();
    assert!(output.open().unwrap());
    drop(output.first().unwrap());
    assert_eq!(folder.names().len(), 4, "older parts stay until there is something in this one");
    assert!(output.keep_first_part().is_empty());
    assert_eq!(folder.names(), ["t.0001.vft", "t.notes.vft"]);
    // Another process replaces a part by another file.
    let mut output = RecordingOutput::create(&path, true, Some(1), true).unwrap();
    assert!(output.open().unwrap());
    drop(output.first().unwrap());
    assert!(output.keep_first_part().is_empty());
    fs::remove_file(folder.path("t.0001.vft")).unwrap();
    fs::write(folder.path("t.0001.vft"), "mine").unwrap();
    drop(output.next(2).unwrap());
    output.prune();
    assert_eq!(folder.names(), ["t.0001.vft", "t.0002.vft", "t.notes.vft"]);
}

#[test]
fn a_name_does_not_make_a_part() {
    let folder = TestFolder::new();
    let path = folder.path("night.vft");
    let put = |name: &str, bytes: &[u8]| fs::write(folder.path(name), bytes).unwrap();
    put("night.0001.vft", &part("one", 1, true));
    put("night.0002.vft", &part("one", 2, true));
    // Named by a date; by a date and by chance with that number, but not made in parts; numbered in another way.
    put("night.20261122.vft", &part("two", 1, false));
    put("night.20261123.vft", &part("one", 20_261_123, false));
    put("night.00003.vft", &part("one", 3, true));
    let mut output = RecordingOutput::create(&path, true, None, true).unwrap();
    assert!(output.open().unwrap());
    drop(output.first().unwrap());
    assert!(output.keep_first_part().is_empty());
    assert_eq!(
        folder.names(),
        ["night.00003.vft", "night.0001.vft", "night.20261122.vft", "night.20261123.vft"]
    );
    // A later part would get its name, but it is not an old part: that is reported before anything is recorded, with
    // `force` or without.
    for other in [part("three", 2, true), part("one", 2, false), part("one", 7, true), b"mine".to_vec()] {
        put("night.0001.vft", &part("one", 1, true));
        put("night.0002.vft", &other);
        for force in [false, true] {
            assert!(matches!(
                RecordingOutput::create(&path, true, None, force),
                Err(OutputError::NoPart { .. })
            ));
        }
        assert_eq!(fs::read(folder.path("night.0002.vft")).unwrap(), other);
    }
}

mod files;
mod hostile;
mod streams;
