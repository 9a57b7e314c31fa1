//! Tests of several parts and recordings in one stream: nothing comes twice, no record is assigned to another host.

use super::*;

/// Makes a part with one record per block.
fn part(recording: &str, number: u32, texts: &[&str]) -> Vec<u8> {
    let header = PartHeader { recording: recording.to_owned(), part: number, ..header() };
    let mut writer = PartWriter::new(Vec::new(), &header).unwrap();
    for text in texts {
        writer.push(&record(text)).unwrap();
        writer.flush().unwrap();
    }
    writer.finish(end(texts.len() as u64)).unwrap().0
}

/// Returns the offset of the block with this number.
fn at(part: &[u8], number: usize) -> usize {
    usize::try_from(read_index(&mut Cursor::new(part)).unwrap()[number].offset).unwrap()
}

/// Damages both copies of the header: their payloads, or all of them.
fn headless(mut part: Vec<u8>, payload_only: bool) -> Vec<u8> {
    for number in [0, 1] {
        let place = at(&part, number) + if payload_only { 60 } else { 9 };
        part[place] ^= 1;
        // The index can still be read.
    }
    part
}

/// Reads the texts of the records with the recording and part that they are assigned to, and the reported damage.
fn told(stream: &[u8]) -> (Vec<String>, Vec<RecordingDamage>) {
    let mut reader = RecordingReader::open(stream).unwrap();
    let (mut texts, mut damages) = (Vec::new(), Vec::new());
    while let Some(entry) = reader.next().unwrap() {
        match entry {
            ReaderEntry::Item(BlockItem::Record(bytes)) => {
                let PartHeader { recording, part, .. } = reader.header();
                texts.push(format!("{recording}{part} {}", String::from_utf8_lossy(&bytes)));
            },
            ReaderEntry::Damage(damage) => damages.push(damage),
            ReaderEntry::Item(_) | ReaderEntry::Part(_) => {},
        }
    }
    assert_eq!(reader.position(), stream.len() as u64);
    (texts, damages)
}

#[test]
fn records_without_a_header_are_nobodys() {
    let (a, b, c) = (part("a", 1, &["one"]), part("b", 1, &["two", "three"]), part("c", 1, &["four"]));
    for payload_only in [false, true] {
        let stream = [a.clone(), headless(b.clone(), payload_only), c.clone()].concat();
        let (texts, damages) = told(&stream);
        assert_eq!(texts, ["a1 one", "c1 four"], "{payload_only}");
        let lost: u64 = damages.iter().map(RecordingDamage::records).sum();
        assert_eq!(lost, 2, "{damages:?}");
        let nobodys =
            |damage: &&RecordingDamage| matches!(damage, RecordingDamage::NoHeader { records: 2, .. });
        assert_eq!(damages.iter().filter(nobodys).count(), 1, "{damages:?}");
        // The same at the end of the stream.
        let (texts, damages) = told(&[a.clone(), headless(b.clone(), payload_only)].concat());
        assert_eq!(texts, ["a1 one"], "{damages:?}");
        assert!(matches!(damages.last(), Some(RecordingDamage::NoHeader { records: 2, .. })), "{damages:?}");
    }
    // One copy is enough.
    let mut one = b.clone();
    one[60] ^= 1;
    assert_eq!(told(&[a.clone(), one].concat()).0, ["a1 one", "b1 two", "b1 three"]);
    // After a part that was cut, only the damaged header shows that it is over.
    let cut = a[..at(&a, 2)].to_vec();
    let (texts, damages) = told(&[cut, headless(b, true)].concat());
    assert_eq!(texts, [""; 0], "{damages:?}");
    assert!(matches!(damages.first(), Some(RecordingDamage::Cut { .. })), "{damages:?}");
}

#[test]
fn a_part_that_comes_twice_is_shown_once() {
    let (one, two) = (part("a", 1, &["one", "two"]), part("a", 2, &["three"]));
    let (texts, damages) = told(&[one.clone(), one.clone(), two.clone()].concat());
    assert_eq!(texts, ["a1 one", "a1 two", "a2 three"]);
    assert_eq!(damages, [RecordingDamage::RepeatedPart { offset: one.len() as u64, part: 1 }]);
    // The first part was cut.
    let cut = one[..at(&one, 3)].to_vec();
    let (texts, damages) = told(&[cut, one, two].concat());
    assert_eq!(texts, ["a1 one", "a2 three"]);
    assert!(
        matches!(damages[..], [RecordingDamage::Cut { .. }, RecordingDamage::RepeatedPart { part: 1, .. }]),
        "{damages:?}"
    );
}

#[test]
fn the_end_mark_may_be_all_that_is_lost() {
    let mut one = part("a", 1, &["one"]);
    let place = at(&one, 3) + HEAD + 2;
    one[place] ^= 1;
    let (texts, damages) = told(&one);
    assert_eq!(texts, ["a1 one"]);
    assert!(
        matches!(damages[..], [RecordingDamage::Block { .. }, RecordingDamage::NoEnd { .. }]),
        "{damages:?}"
    );
}

/// Length of a block's header in bytes.
const HEAD: usize = 48;

#[test]
fn no_sentence_claims_to_know_what_was_cut_off() {
    for records in [0, 3] {
        let text = RecordingDamage::Cut { offset: 9, records }.to_string();
        assert!(text.contains("not known") && !text.contains("up to a second"), "{text}");
    }
}

#[test]
fn what_the_recorder_says_and_is_not_understood_is_told() {
    let meta = br#"{"meta":"end","mono_ns":9,"reason":"signal","records":0,"probes":"of a later version"}"#;
    let payload = [&4u32.to_le_bytes()[..], &(meta.len() as u32).to_le_bytes(), meta].concat();
    let mut items = item::BlockItems::of(payload).unwrap();
    assert!(items.next().is_some_and(|item| item.is_err()));
    assert!(items.next().is_none());
}

#[test]
fn the_first_note_of_a_merge_counts_and_a_bad_one_is_told() {
    let note = |name: &str| {
        let pairs = vec![(name.to_owned(), "x".to_owned())];
        MergeNote::new(pairs, serde_json::Value::Null).block().unwrap()
    };
    let both = [note("outer"), note("inner"), part("a", 1, &["one"])].concat();
    assert_eq!(RecordingReader::open(&both[..]).unwrap().merge().unwrap().pairs[0].0, "outer");
    assert_eq!(told(&both), (vec!["a1 one".to_owned()], vec![]));
    let mut bad = both;
    bad[HEAD + 1] ^= 1;
    assert_eq!(RecordingReader::open(&bad[..]).unwrap().merge().unwrap().pairs[0].0, "inner");
    // A note of a later version is one that is not understood.
    let mut later = MergeNote::new(Vec::new(), serde_json::Value::Null);
    later.schema = "vfio-trace.merge/2".to_owned();
    let both = [later.block().unwrap(), note("inner"), part("a", 1, &["one"])].concat();
    assert_eq!(RecordingReader::open(&both[..]).unwrap().merge().unwrap().pairs[0].0, "inner");
    assert_eq!(told(&both).1, [RecordingDamage::Note { offset: 0, notes: 1 }]);
    assert_eq!(told(&bad).1, [RecordingDamage::Note { offset: 0, notes: 1 }]);
}
