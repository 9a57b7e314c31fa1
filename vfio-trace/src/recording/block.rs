//! One block: a header of 48 bytes with a checksum of its own, then the payload. All numbers are little-endian.

/// What every block begins with.
pub(super) const MAGIC: [u8; 4] = *b"VFTR";
/// Version of the framing: of everything in this file, and of what items are made of.
pub(super) const FORMAT: u8 = 1;
/// Bytes of a block's header.
pub(super) const HEADER_LEN: usize = 48;
/// A block is closed once it has so many bytes: small enough to lose, large enough to compress well.
pub(super) const TARGET_LEN: usize = 256 << 10;
/// No index is longer than this, compressed or not.
pub(super) const MAX_LEN: usize = 16 << 20;
/// The same for JSON: the header of a part, the note of a merged file, an item.
pub(super) const MAX_JSON_LEN: usize = 1 << 20;
/// The same for items: a block is closed behind the one that makes it full. It is what a reader has to hold in memory.
pub(super) const MAX_ITEMS_LEN: usize = TARGET_LEN + MAX_JSON_LEN + 4096;
/// zstd's level: beyond it a migration's records get hardly smaller, only slower.
pub(super) const LEVEL: i32 = 3;

/// What the payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BlockKind {
    /// The part's header as JSON.
    Header,
    /// Items.
    Items,
    /// Where the other blocks are.
    Index,
    /// Before recordings that were merged into one file.
    Merge,
    /// Something that a later version of this format has added: to be passed over.
    Other(u8),
}

impl BlockKind {
    /// The longest payload, compressed or not.
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

/// A block's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlockHeader {
    /// Version of the framing.
    pub(super) format: u8,
    /// What the payload is.
    pub(super) kind: BlockKind,
    /// Number in its part, from 0.
    pub(super) seq: u32,
    /// Records in it.
    pub(super) records: u32,
    /// Bytes of the payload as it is in the file: one zstd frame.
    pub(super) stored: u32,
    /// Bytes of the payload when it is decompressed.
    pub(super) raw: u32,
    /// Earliest and latest end of its records (CLOCK_MONOTONIC), 0 if it has none.
    pub(super) times: (u64, u64),
    /// CRC-32 of the payload as it is in the file.
    pub(super) payload_crc: u32,
}

impl BlockHeader {
    /// As it is in the file.
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

    /// Reads one; `None` if this is none, or a damaged one.
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

    /// [`Self::stored`] as a length.
    pub(super) const fn stored_len(&self) -> usize {
        self.stored as usize
    }

    /// Whether `stored` is what was written.
    pub(super) fn matches(&self, stored: &[u8]) -> bool {
        crc32fast::hash(stored) == self.payload_crc
    }

    /// The payload of what [matches](Self::matches). One call, into memory of the length that the header names: zstd
    /// keeps no window of its own for it, whatever its frame asks for.
    pub(super) fn payload(&self, stored: &[u8]) -> Option<Vec<u8>> {
        let raw = zstd::bulk::decompress(stored, self.raw as usize).ok()?;
        (raw.len() == self.raw as usize).then_some(raw)
    }
}

/// The number at this place.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..at.checked_add(4)?)?;
    field.try_into().ok().map(u32::from_le_bytes)
}

/// The number at this place.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(8)?)?;
    field.try_into().ok().map(u64::from_le_bytes)
}

/// The first place at `from` or later where a block's header is.
pub(super) fn find(bytes: &[u8], from: usize) -> Option<usize> {
    let searched = bytes.get(from..)?;
    let begins = |(at, window): (usize, &[u8])| (window == MAGIC).then_some(from + at);
    let mut places = searched.windows(MAGIC.len()).enumerate().filter_map(begins);
    places.find(|at| bytes.get(*at..).is_some_and(|rest| BlockHeader::parse(rest).is_some()))
}
