//! Index of a complete part: the places of its blocks, for readers that can seek and need one time only.

use std::io::{self, Read, Seek, SeekFrom};

use thiserror::Error;

use super::block::{BlockHeader, BlockKind, HEADER_LEN, MAX_LEN, u32_at, u64_at};

/// Last bytes of a complete part.
const TRAILER_MAGIC: [u8; 4] = *b"VFTE";
/// Length of the trailer in bytes: offset of the index, its CRC-32, the magic.
pub(super) const TRAILER_LEN: usize = 16;
/// Length of an entry in bytes: offset, times, sequence number, records.
const ENTRY_LEN: usize = 32;

/// Entry of the index: one block, or several in a row, because a part of many days has more blocks than fit into the
/// index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// Offset of the first block, in bytes from the start of the part.
    pub offset: u64,
    /// Earliest end of the records (CLOCK_MONOTONIC, ns).
    pub first_ns: u64,
    /// Latest end of the records (CLOCK_MONOTONIC, ns).
    pub last_ns: u64,
    /// Number of the first block.
    pub seq: u32,
    /// Number of records.
    pub records: u32,
}

/// Reason why there is no index. The recording can be read from the front nevertheless.
#[derive(Debug, Error)]
pub enum IndexError {
    /// Error while reading.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Part without an end: cut, or still being written.
    #[error("the recording has no end mark")]
    NoTrailer,
    /// Index that is not the one that was written.
    #[error("the index is damaged")]
    Damaged,
}

/// Index of a part that is being written. When it is full, each entry is made to stand for twice as many blocks in a
/// row.
#[derive(Debug)]
pub(super) struct BlockIndex {
    entries: Vec<IndexEntry>,
    /// Maximum number of entries, an even number: as many as fit into a block.
    room: usize,
    /// Number of blocks per entry, and number of blocks of the last entry so far.
    blocks: u32,
    last: u32,
}

impl Default for BlockIndex {
    fn default() -> Self {
        Self::of(MAX_LEN / ENTRY_LEN)
    }
}

impl BlockIndex {
    const fn of(room: usize) -> Self {
        Self { entries: Vec::new(), room, blocks: 1, last: 1 }
    }

    /// Adds the next block.
    pub(super) fn push(&mut self, entry: IndexEntry) {
        if self.last < self.blocks
            && let Some(last) = self.entries.last_mut()
        {
            last.join(&entry);
            self.last += 1;
            return;
        }
        if self.entries.len() >= self.room {
            let halves = self.entries.chunks(2).filter_map(|pair| {
                let mut one = *pair.first()?;
                pair.iter().skip(1).for_each(|other| one.join(other));
                Some(one)
            });
            self.entries = halves.collect();
            self.blocks = self.blocks.saturating_mul(2);
        }
        self.entries.push(entry);
        self.last = 1;
    }

    /// Returns the index as it is in the file, before compression.
    pub(super) fn payload(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.entries.len() * ENTRY_LEN);
        for entry in &self.entries {
            for number in [entry.offset, entry.first_ns, entry.last_ns] {
                bytes.extend(number.to_le_bytes());
            }
            bytes.extend(entry.seq.to_le_bytes());
            bytes.extend(entry.records.to_le_bytes());
        }
        bytes
    }
}

impl IndexEntry {
    /// Extends the entry by the next one.
    fn join(&mut self, next: &Self) {
        if self.records == 0 {
            (self.first_ns, self.last_ns) = (next.first_ns, next.last_ns);
        } else if next.records > 0 {
            self.first_ns = self.first_ns.min(next.first_ns);
            self.last_ns = self.last_ns.max(next.last_ns);
        }
        self.records = self.records.saturating_add(next.records);
    }
}

/// Returns the last bytes of a part whose index is at `offset`.
pub(super) fn trailer(offset: u64) -> [u8; TRAILER_LEN] {
    let mut bytes = [0; TRAILER_LEN];
    let (place, rest) = bytes.split_at_mut(8);
    place.copy_from_slice(&offset.to_le_bytes());
    let (crc, magic) = rest.split_at_mut(4);
    crc.copy_from_slice(&crc32fast::hash(place).to_le_bytes());
    magic.copy_from_slice(&TRAILER_MAGIC);
    bytes
}

/// Returns the offset of the index; `None` if this is not a trailer.
pub(super) fn parse_trailer(bytes: &[u8]) -> Option<u64> {
    let offset = u64_at(bytes, 0)?;
    (bytes.get(..TRAILER_LEN)? == trailer(offset)).then_some(offset)
}

/// Reads the index of one part.
///
/// # Errors
///
/// See [`IndexError`].
pub fn read_index(part: &mut (impl Read + Seek)) -> Result<Vec<IndexEntry>, IndexError> {
    let len = part.seek(SeekFrom::End(0))?;
    let Some(end) = len.checked_sub(TRAILER_LEN as u64) else { return Err(IndexError::NoTrailer) };
    part.seek(SeekFrom::Start(end))?;
    let mut trailer = [0; TRAILER_LEN];
    part.read_exact(&mut trailer)?;
    let offset = parse_trailer(&trailer).filter(|offset| *offset < end).ok_or(IndexError::NoTrailer)?;
    part.seek(SeekFrom::Start(offset))?;
    let mut head = [0; HEADER_LEN];
    part.read_exact(&mut head)?;
    let header = BlockHeader::parse(&head).filter(|header| header.kind == BlockKind::Index);
    let header = header.ok_or(IndexError::Damaged)?;
    let mut stored = vec![0; header.stored_len()];
    part.read_exact(&mut stored)?;
    if !header.matches(&stored) {
        return Err(IndexError::Damaged);
    }
    entries(&header.payload(&stored).ok_or(IndexError::Damaged)?).ok_or(IndexError::Damaged)
}

fn entries(payload: &[u8]) -> Option<Vec<IndexEntry>> {
    let entry = |bytes: &[u8]| {
        Some(IndexEntry {
            offset: u64_at(bytes, 0)?,
            first_ns: u64_at(bytes, 8)?,
            last_ns: u64_at(bytes, 16)?,
            seq: u32_at(bytes, 24)?,
            records: u32_at(bytes, 28)?,
        })
    };
    payload.chunks(ENTRY_LEN).map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_that_is_full_stands_for_all_blocks_all_the_same() {
        for blocks in [7, 8, 9, 100, 1000] {
            let mut index = BlockIndex::of(8);
            for seq in 0..blocks {
                // The first blocks have no records, like headers.
                let (ns, records) = if seq < 2 { (0, 0) } else { (100 + u64::from(seq), 3) };
                index.push(IndexEntry {
                    offset: u64::from(seq) * 10,
                    first_ns: ns,
                    last_ns: ns,
                    seq,
                    records,
                });
            }
            let found = entries(&index.payload()).unwrap();
            assert!(
                found.len() <= 8 && (blocks > 8 || found.len() == blocks as usize),
                "{blocks}: {found:?}"
            );
            assert_eq!(found.iter().map(|entry| entry.records).sum::<u32>(), (blocks - 2) * 3);
            assert_eq!(found.last().unwrap().last_ns, 100 + u64::from(blocks - 1));
            for (at, entry) in found.iter().enumerate() {
                assert_eq!(entry.offset, u64::from(entry.seq) * 10);
                let next = found.get(at + 1).map_or(blocks, |next| next.seq);
                let records = (entry.seq.max(2)..next).count() as u32 * 3;
                assert_eq!(entry.records, records, "{blocks}: {entry:?}");
            }
        }
    }
}
