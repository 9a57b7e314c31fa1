//! A block: a header of 48 bytes with its own checksum, then the payload. All numbers are little-endian.

/// First bytes of every block.
pub(super) const MAGIC: [u8; 4] = *b"VFTR";
/// Version of the framing: of everything in this file, and of the encoding of items.
pub(super) const FORMAT: u8 = 1;
/// Length of a block's header in bytes.
pub(super) const HEADER_LEN: usize = 48;
/// Length in bytes at which a block is closed: small enough to lose, large enough to compress well.
pub(super) const TARGET_LEN: usize = 256 << 10;
/// Maximum length of an index in bytes, compressed or not.
pub(super) const MAX_LEN: usize = 16 << 20;
/// Maximum length of JSON in bytes: the header of a part, the note of a merged file, an item.
pub(super) const MAX_JSON_LEN: usize = 1 << 20;
/// Maximum length of items in bytes: a block is closed after the item that makes it full. A reader has to hold as much
/// in memory.
pub(super) const MAX_ITEMS_LEN: usize = TARGET_LEN + MAX_JSON_LEN + 4096;
/// Compression level of zstd: above it a migration's records get hardly smaller, only slower.
pub(super) const LEVEL: i32 = 3;

/// Content of the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BlockKind {
    /// Header of the part, as JSON.
    Header,
    /// Items.
    Items,
    /// Places of the other blocks.
    Index,
    /// Note of a merge, before the recordings that were merged into one file.
    Merge,
    /// Content that a later version of this format has added: to be skipped.
    Other(u8),
}

impl BlockKind {
    /// Returns the maximum length of the payload in bytes, compressed or not.
    pub(super) const fn max_len(self) -> usize {
        match self {
            Self::Header | Self::Merge => MAX_JSON_LEN,
            Self::Items => MAX_ITEMS_LEN,
            Self::Index | Self::Other(_) => MAX_LEN,
        }
    }

    const fn raw(self) -> u8 {
        match self {
            Self::Header => 1,
            Self::Items => 2,
            Self::Index => 3,
            Self::Merge => 4,
            Self::Other(raw) => raw,
        }
    }

    const fn from_raw(raw: u8) -> Self {
        match raw {
            1 => Self::Header,
            2 => Self::Items,
            3 => Self::Index,
            4 => Self::Merge,
            raw => Self::Other(raw),
        }
    }
}

/// Header of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlockHeader {
    /// Version of the framing.
    pub(super) format: u8,
    /// Content of the payload.
    pub(super) kind: BlockKind,
    /// Number of the block in its part, from 0.
    pub(super) seq: u32,
    /// Number of records in the block.
    pub(super) records: u32,
    /// Length of the payload in the file in bytes: one zstd frame.
    pub(super) stored: u32,
    /// Length of the decompressed payload in bytes.
    pub(super) raw: u32,
    /// Earliest and latest end of its records (CLOCK_MONOTONIC, ns), 0 if it has none.
    pub(super) times: (u64, u64),
    /// CRC-32 of the payload in the file.
    pub(super) payload_crc: u32,
}

impl BlockHeader {
    /// Returns the header as it is in the file.
    pub(super) fn bytes(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        let mut at = 0;
        let mut put = |field: &[u8]| {
            for byte in field {
                if let Some(place) = bytes.get_mut(at) {
                    *place = *byte;
                }
                at += 1;
            }
        };
        put(&MAGIC);
        put(&[self.format, self.kind.raw(), 0, 0]);
        for number in [self.seq, self.records, self.stored, self.raw] {
            put(&number.to_le_bytes());
        }
        put(&self.times.0.to_le_bytes());
        put(&self.times.1.to_le_bytes());
        put(&self.payload_crc.to_le_bytes());
        let (body, crc) = bytes.split_at_mut(HEADER_LEN - 4);
        crc.copy_from_slice(&crc32fast::hash(body).to_le_bytes());
        bytes
    }

    /// Reads a header; `None` if it is damaged or not a header.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..HEADER_LEN)?;
        let (body, crc) = bytes.split_at(HEADER_LEN - 4);
        if !body.starts_with(&MAGIC) || crc32fast::hash(body).to_le_bytes() != crc {
            return None;
        }
        let header = Self {
            format: *body.get(4)?,
            kind: BlockKind::from_raw(*body.get(5)?),
            seq: u32_at(body, 8)?,
            records: u32_at(body, 12)?,
            stored: u32_at(body, 16)?,
            raw: u32_at(body, 20)?,
            times: (u64_at(body, 24)?, u64_at(body, 32)?),
            payload_crc: u32_at(body, 40)?,
        };
        let max_len = header.kind.max_len();
        (header.stored_len() <= max_len && header.raw as usize <= max_len).then_some(header)
    }

    /// Returns [`Self::stored`] as a length.
    pub(super) const fn stored_len(&self) -> usize {
        self.stored as usize
    }

    /// Returns true if `stored` is the payload that was written.
    pub(super) fn matches(&self, stored: &[u8]) -> bool {
        crc32fast::hash(stored) == self.payload_crc
    }

    /// Decompresses a payload that [matches](Self::matches). It is one call, into memory of the length that the header
    /// names: zstd allocates no window of its own for it, whatever its frame asks for.
    pub(super) fn payload(&self, stored: &[u8]) -> Option<Vec<u8>> {
        let raw = zstd::bulk::decompress(stored, self.raw as usize).ok()?;
        (raw.len() == self.raw as usize).then_some(raw)
    }
}

/// Reads the number at an offset.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..at.checked_add(4)?)?;
    field.try_into().ok().map(u32::from_le_bytes)
}

/// Reads the number at an offset.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(8)?)?;
    field.try_into().ok().map(u64::from_le_bytes)
}

/// Returns the offset of the first block header at `from` or later.
pub(super) fn find(bytes: &[u8], from: usize) -> Option<usize> {
    let searched = bytes.get(from..)?;
    let mut places = memchr::memmem::find_iter(searched, &MAGIC).map(|at| from + at);
    places.find(|at| bytes.get(*at..).is_some_and(|rest| BlockHeader::parse(rest).is_some()))
}
