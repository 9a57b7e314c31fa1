//! Where the blocks of a complete part are: for readers that can seek and want one time only.

use std::io::{self, Read, Seek, SeekFrom};

use thiserror::Error;

use super::block::{BlockHeader, HEADER_LEN, Kind, u32_at, u64_at};

/// What a part ends with.
const TRAILER_MAGIC: [u8; 4] = *b"VFTE";
/// Offset of the index, its CRC-32, the magic.
pub(super) const TRAILER_LEN: usize = 16;
/// Offset, times, sequence number, records.
const ENTRY_LEN: usize = 32;

/// One block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// Where it begins, in bytes from the start of the part.
    pub offset: u64,
    /// Earliest end of its records (CLOCK_MONOTONIC, ns).
    pub first_ns: u64,
    /// Latest end of its records.
    pub last_ns: u64,
    /// Its number.
    pub seq: u32,
    /// Records in it.
    pub records: u32,
}

/// Why there is no index. The recording can be read from the front all the same.
#[derive(Debug, Error)]
pub enum IndexError {
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It was cut, or is still being written.
    #[error("the recording has no end mark")]
    NoTrailer,
    /// It is not what was written.
    #[error("the index is damaged")]
    Damaged,
}

/// As it is in the file, before compression.
pub(super) fn payload(entries: &[IndexEntry]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(entries.len() * ENTRY_LEN);
    for entry in entries {
        for number in [entry.offset, entry.first_ns, entry.last_ns] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(entry.seq.to_le_bytes());
        bytes.extend(entry.records.to_le_bytes());
    }
    bytes
}

/// The last bytes of a part whose index is at `offset`.
pub(super) fn trailer(offset: u64) -> [u8; TRAILER_LEN] {
    let mut bytes = [0; TRAILER_LEN];
    let (place, rest) = bytes.split_at_mut(8);
    place.copy_from_slice(&offset.to_le_bytes());
    let (crc, magic) = rest.split_at_mut(4);
    crc.copy_from_slice(&crc32fast::hash(place).to_le_bytes());
    magic.copy_from_slice(&TRAILER_MAGIC);
    bytes
}

/// Where the index is, if this is a trailer.
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
    let header = BlockHeader::parse(&head).filter(|header| header.kind == Kind::Index);
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
