//! Tests with files that were made to need much work for little content, with right checksums.

use super::*;
use crate::recording::block::{BlockHeader, BlockKind, FORMAT, HEADER_LEN, LEVEL};

/// Makes a block with a wrong header, and the content after it.
fn block(kind: BlockKind, seq: u32, raw: usize, stored: &[u8], claimed: usize) -> Vec<u8> {
    let header = BlockHeader {
        format: FORMAT,
        kind,
        seq,
        records: 3,
        stored: u32::try_from(claimed).unwrap(),
        raw: u32::try_from(raw).unwrap(),
        times: (0, u64::MAX),
        payload_crc: crc32fast::hash(stored),
    };
    [&header.bytes()[..], stored].concat()
}

fn begun() -> Vec<u8> {
    let writer = PartWriter::new(Vec::new(), &header()).unwrap();
    let len = usize::try_from(writer.written()).unwrap();
    writer.finish(end(0)).unwrap().0[..len].to_vec()
}

/// Counts the bytes that are read, and those that are checked.
#[test]
fn headers_that_claim_all_that_follows_are_not_checked_again_and_again() {
    let mut stream = begun();
    let chain = block(BlockKind::Other(9), 2, 0, &[], 16 << 20);
    let before = stream.len();
    for _ in 0..20_000 {
        stream.extend(&chain);
    }
    stream.resize(stream.len() + (17 << 20), 0);
    let mut reader = RecordingReader::open(&stream[..]).unwrap();
    let (mut damages, mut unchecked) = (0u64, Vec::new());
    while let Some(entry) = reader.next().unwrap() {
        damages += u64::from(matches!(entry, ReaderEntry::Damage(_)));
        if let ReaderEntry::Damage(damage @ RecordingDamage::Unchecked { .. }) = entry {
            unchecked.push(damage);
        }
    }
    assert!(damages >= 20_000, "{damages}");
    // Most are not checked, and so not reported as damaged.
    assert!(unchecked.len() > 19_000, "{}", unchecked.len());
    assert!(unchecked[0].to_string().contains("was not looked at"), "{}", unchecked[0]);
    assert_eq!(reader.position(), stream.len() as u64);
    let len = (stream.len() - before) as u64;
    assert!(reader.vain() <= (64 << 20) + 4 * len, "{} bytes were checked in vain", reader.vain());
    assert!(reader.moved() <= 2 * stream.len() as u64, "{} bytes were moved", reader.moved());
}

#[test]
fn right_checksums_of_what_is_not_packed_count_as_well() {
    const LEN: usize = 1_314_816;
    let (many, head) = (2_000, HEADER_LEN);
    let mut body = vec![0; many * head + LEN];
    // From the back, so that each checksum is that of all bytes that follow.
    for at in (0..many).rev() {
        let seq = 2 + u32::try_from(at).unwrap();
        let behind = (at + 1) * head;
        let claims = block(BlockKind::Items, seq, LEN, &body[behind..behind + LEN], LEN);
        body[at * head..behind].copy_from_slice(&claims[..head]);
    }
    let stream = [begun(), body].concat();
    let mut reader = RecordingReader::open(&stream[..]).unwrap();
    while reader.next().unwrap().is_some() {}
    let most = (64 << 20) + 4 * stream.len() as u64 + 2 * LEN as u64;
    assert!((64 << 20..=most).contains(&reader.vain()), "{} bytes were checked in vain", reader.vain());
}

#[test]
fn what_comes_before_the_first_header_is_not_kept() {
    let bad = block(BlockKind::Merge, 0, 0, b"not zstd", 8);
    let stream = [bad.repeat(10_000), begun()].concat();
    let mut reader = RecordingReader::open(&stream[..]).unwrap();
    assert_eq!(reader.waiting_entries(), 1);
    let told = RecordingDamage::Note { offset: 0, notes: 10_000 };
    assert_eq!(reader.next().unwrap(), Some(ReaderEntry::Damage(told)));
    let bad = [&b"x"[..], &block(BlockKind::Header, 0, 0, b"not zstd", 8)].concat();
    let stream = [bad.repeat(10_000), begun()].concat();
    assert!(matches!(RecordingReader::open(&stream[..]), Err(PartOpenError::NoHeader)));
    // Bad notes between good ones.
    let note = MergeNote::new(Vec::new(), serde_json::Value::Null).block().unwrap();
    let pair = [block(BlockKind::Merge, 0, 0, b"not zstd", 8), note].concat();
    let stream = [pair.repeat(1_000), begun()].concat();
    assert_eq!(RecordingReader::open(&stream[..]).unwrap().waiting_entries(), 1);
}

#[test]
fn a_good_block_behind_a_bad_one_is_found_all_the_same() {
    let mut stream = begun();
    stream.extend(block(BlockKind::Items, 2, 100, b"not zstd", 8));
    let payload = [&3u32.to_le_bytes()[..], &8u32.to_le_bytes(), &77u64.to_le_bytes()].concat();
    let stored = zstd::bulk::compress(&payload, LEVEL).unwrap();
    stream.extend(block(BlockKind::Items, 3, payload.len(), &stored, stored.len()));
    let (items, damages) = read(&stream).unwrap();
    assert_eq!(items, [BlockItem::Tick(77)]);
    assert!(
        matches!(damages[..], [RecordingDamage::Block { records: 3, .. }, RecordingDamage::Cut { .. }]),
        "{damages:?}"
    );
}

#[test]
fn no_block_claims_more_than_its_kind_may_have() {
    for (kind, len) in
        [(BlockKind::Header, 1 << 20), (BlockKind::Merge, 1 << 20), (BlockKind::Items, 1_314_816)]
    {
        for more in [0, 1] {
            let bytes = block(kind, 0, len + more, &[], 0);
            assert_eq!(BlockHeader::parse(&bytes[..HEADER_LEN]).is_some(), more == 0, "{kind:?}");
        }
    }
    let long = BlockItem::Record(vec![0; (1 << 20) + 1].into());
    let mut writer = PartWriter::new(Vec::new(), &header()).unwrap();
    writer.push(&long).unwrap_err();
    let mut wordy = header();
    wordy.start.command = vec!["x".repeat(1 << 20)];
    assert!(PartWriter::new(Vec::new(), &wordy).is_err());
}

#[test]
fn items_are_taken_one_by_one() {
    // 160 000 empty records in a few dozen bytes.
    let payload = [1u32.to_le_bytes(), 0u32.to_le_bytes()].concat().repeat(160_000);
    let stored = zstd::bulk::compress(&payload, LEVEL).unwrap();
    assert!(stored.len() < 1000, "{}", stored.len());
    let mut stream = begun();
    stream.extend(block(BlockKind::Items, 2, payload.len(), &stored, stored.len()));
    let mut reader = RecordingReader::open(&stream[..]).unwrap();
    let mut items = 0;
    while let Some(entry) = reader.next().unwrap() {
        items += u32::from(matches!(entry, ReaderEntry::Item(BlockItem::Record(_))));
        assert!(reader.waiting_entries() <= 2, "items are held in memory");
    }
    assert_eq!(items, 160_000);
}

#[test]
fn a_later_header_that_lacks_what_ours_has_is_not_damaged() {
    let json = br#"{"schema":"vfio-trace.recording/2","where":"elsewhere"}"#;
    let packed = zstd::bulk::compress(json, LEVEL).unwrap();
    let later = block(BlockKind::Header, 0, json.len(), &packed, packed.len());
    let error = RecordingReader::open(&later[..]).err().unwrap();
    assert!(matches!(error, PartOpenError::OtherHeader), "{error}");
    // After a part without an end mark, that is reported, too.
    let first = begun();
    let offset = first.len() as u64;
    let (_, damages) = read(&[first, later].concat()).unwrap();
    assert_eq!(
        damages,
        [RecordingDamage::Cut { offset, records: 0 }, RecordingDamage::OtherHeader { offset }]
    );
}

#[test]
fn an_index_or_a_note_that_was_not_looked_at_is_not_said_to_be_damaged() {
    let mut stream = begun();
    for _ in 0..8 {
        stream.extend(block(BlockKind::Other(9), 2, 0, &[], 16 << 20));
    }
    stream.extend(block(BlockKind::Index, 2, 0, &[], 1 << 20));
    stream.extend(block(BlockKind::Merge, 0, 0, &[], 1 << 20));
    stream.resize(stream.len() + (17 << 20), 0);
    let (_, damages) = read(&stream).unwrap();
    let said: Vec<String> = damages.iter().map(ToString::to_string).collect();
    for what in ["the index at byte", "the note of the merge at byte"] {
        let of: Vec<_> = said.iter().filter(|text| text.contains(what)).collect();
        assert!(matches!(of[..], [text] if text.contains("was not looked at")), "{said:?}");
    }
    let unchecked = |damage: &&RecordingDamage| {
        matches!(damage, RecordingDamage::UncheckedIndex { .. } | RecordingDamage::UncheckedNote { .. })
    };
    assert_eq!(damages.iter().filter(unchecked).filter(|damage| !damage.loses_records()).count(), 2);
}

/// Small blocks whose payload says that it is large, and is not what a checksum that is right says.
#[test]
fn a_header_or_a_note_before_the_first_part_that_was_not_looked_at_is_not_said_to_be_damaged() {
    let wrong = |kind, seq| block(kind, seq, 1 << 20, b"not zstd", 8);
    let notes = wrong(BlockKind::Merge, 0).repeat(200);
    let open = |stream: &[u8]| {
        let mut reader = RecordingReader::open(stream).unwrap();
        assert!(reader.waiting_entries() < 5, "{}", reader.waiting_entries());
        std::iter::from_fn(|| reader.next().unwrap())
            .filter_map(|entry| match entry {
                ReaderEntry::Damage(damage) => Some(damage.to_string()),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    // Longer than what may still be looked at; behind it there is enough for the header's copy.
    let long = block(BlockKind::Header, 0, 1 << 20, &vec![0; 1 << 19], 1 << 19);
    let first = begun();
    let said = open(&[&notes[..], &long, &first[first.len() / 2..]].concat());
    assert!(said[0].contains("notes of merges from byte 0 on cannot be read"), "{said:?}");
    let unchecked: Vec<_> = said.iter().filter(|text| text.contains("was not looked at")).collect();
    let [note, header] = &unchecked[..] else { panic!("{said:?}") };
    assert!(note.contains("the note of the merge"), "{said:?}");
    assert!(header.contains(&format!("byte {}", notes.len())), "{said:?}");
}
