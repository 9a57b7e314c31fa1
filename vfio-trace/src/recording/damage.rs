//! What of a recording could not be read.

use std::fmt;

use vfio_trace_common::wire;

use super::header::SCHEMA;

/// A part of a recording that is not there, or not as it was written. What is around it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordingDamage {
    /// A block is damaged.
    Block {
        /// Where it begins, in bytes from the start of the file or stream.
        offset: u64,
        /// Records in it.
        records: u32,
    },
    /// A block was not looked at: too much before it was wrong.
    Unchecked {
        /// Where it begins.
        offset: u64,
        /// Records in it.
        records: u32,
    },
    /// Bytes that are no block, or blocks that are not there.
    Gap {
        /// Where.
        offset: u64,
        /// Bytes passed over.
        bytes: u64,
        /// Blocks that should have been there.
        blocks: u32,
    },
    /// It ends before its end.
    Cut {
        /// Where.
        offset: u64,
        /// Records of the block that is cut, as far as is known.
        records: u32,
    },
    /// The end mark is not there or not understood, though what is behind it is.
    NoEnd {
        /// Where the part is over.
        offset: u64,
    },
    /// An item of the recorder's own is not understood.
    Item {
        /// Where its block begins.
        offset: u64,
    },
    /// Blocks behind the end of a part, without a header that tells whose they are.
    NoHeader {
        /// Where the first of them is.
        offset: u64,
        /// How many.
        blocks: u32,
        /// Records in them.
        records: u64,
    },
    /// What was said when recordings were merged. All records are there.
    Note {
        /// Where.
        offset: u64,
        /// How many such notes in a row.
        notes: u32,
    },
    /// The same of one that was not looked at: too much before it was wrong.
    UncheckedNote {
        /// Where.
        offset: u64,
    },
    /// A part that was there before.
    RepeatedPart {
        /// Where it begins.
        offset: u64,
        /// Its number.
        part: u32,
    },
    /// A part comes behind one that it should be before.
    PartOrder {
        /// The last that was read.
        after: u32,
        /// The one that comes now.
        part: u32,
    },
    /// The recorder itself has given up.
    Failed,
    /// One file of several cannot be read.
    Unread {
        /// Why.
        why: String,
    },
    /// The index is damaged. All records are there.
    Index {
        /// Where.
        offset: u64,
    },
    /// The index was not looked at: too much before it was wrong. All records are there.
    UncheckedIndex {
        /// Where.
        offset: u64,
    },
    /// Made by a later version; from here on nothing can be read.
    Newer {
        /// Where.
        offset: u64,
        /// Version of the framing.
        format: u8,
    },
    /// The part that begins here has records that cannot be read: of a later version, or of another byte order.
    NewerRecords {
        /// Where.
        offset: u64,
        /// Version of the records.
        version: u16,
    },
    /// The part that begins here has a header of another version.
    OtherHeader {
        /// Where.
        offset: u64,
    },
    /// Parts of the recording are not among those that were given.
    MissingParts {
        /// The last that was read.
        after: u32,
        /// The next that is there.
        next: u32,
    },
}

impl RecordingDamage {
    /// Records that are known to be lost.
    pub const fn records(&self) -> u64 {
        match self {
            Self::Block { records, .. } | Self::Unchecked { records, .. } | Self::Cut { records, .. } => {
                *records as u64
            },
            Self::NoHeader { records, .. } => *records,
            Self::Gap { .. }
            | Self::NoEnd { .. }
            | Self::Item { .. }
            | Self::Index { .. }
            | Self::UncheckedIndex { .. }
            | Self::Note { .. }
            | Self::UncheckedNote { .. }
            | Self::RepeatedPart { .. }
            | Self::PartOrder { .. }
            | Self::Newer { .. }
            | Self::NewerRecords { .. }
            | Self::OtherHeader { .. }
            | Self::Failed
            | Self::Unread { .. }
            | Self::MissingParts { .. } => 0,
        }
    }

    /// Whether records may be lacking, so that what the next part repeats is needed.
    pub const fn loses_records(&self) -> bool {
        !matches!(
            self,
            Self::Index { .. }
                | Self::UncheckedIndex { .. }
                | Self::Note { .. }
                | Self::UncheckedNote { .. }
                | Self::RepeatedPart { .. }
                | Self::PartOrder { .. }
        )
    }
}

fn count(n: impl Into<u64>, what: &str) -> String {
    let n = n.into();
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

impl fmt::Display for RecordingDamage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Block { offset, records } => {
                write!(f, "the block at byte {offset} is damaged: {} lost", count(*records, "record"))
            },
            Self::Unchecked { offset, records } => write!(
                f,
                "the block at byte {offset} was not looked at, because too much before it was wrong: {} lost",
                count(*records, "record")
            ),
            Self::Gap { offset, bytes: 0, blocks } => {
                write!(f, "at byte {offset}, {} missing", count(*blocks, "block"))
            },
            Self::Gap { offset, bytes, blocks } => {
                write!(f, "from byte {offset} on, {} damaged", count(*bytes, "byte"))?;
                if *blocks > 0 { write!(f, ": {} lost", count(*blocks, "block")) } else { Ok(()) }
            },
            Self::Cut { offset, records: 0 } => write!(
                f,
                "it ends at byte {offset} without an end mark: it is still being recorded, vfio-trace was killed, the \
                 disk was full, or the file was cut; how much is missing is not known"
            ),
            Self::Cut { offset, records } => write!(
                f,
                "it is cut in the block at byte {offset}: at least {} lost; how much came behind is not known, and the \
                 end mark is missing",
                count(*records, "record")
            ),
            Self::NoEnd { offset } => write!(
                f,
                "the part that is over at byte {offset} has no end mark that can be read, though what comes behind it \
                 is there: how it ended, and what was counted until then, is not known"
            ),
            Self::Item { offset } => write!(
                f,
                "in the block at byte {offset}, what the recorder says is not understood: it may be of a newer \
                 vfio-trace"
            ),
            Self::NoHeader { offset, blocks, records } => write!(
                f,
                "from byte {offset} on, {} with {} left out: no header tells which recording they are of",
                count(*blocks, "block"),
                count(*records, "record")
            ),
            Self::Note { offset, notes: 0 | 1 } => write!(
                f,
                "the note of the merge at byte {offset} cannot be read; no record is lost, but not known is which \
                 devices were said to belong together"
            ),
            Self::Note { offset, notes } => write!(
                f,
                "{notes} notes of merges from byte {offset} on cannot be read; no record is lost, but not known is which \
                 devices were said to belong together"
            ),
            Self::UncheckedNote { offset } => write!(
                f,
                "the note of the merge at byte {offset} was not looked at, because too much before it was wrong; no record \
                 is lost, but not known is which devices were said to belong together"
            ),
            Self::RepeatedPart { offset, part } => {
                write!(f, "at byte {offset}, part {part} comes once more, and is left out")
            },
            Self::PartOrder { after, part } => {
                write!(
                    f,
                    "part {part} comes behind part {after}, and is left out: give the parts in their order"
                )
            },
            Self::Failed => {
                write!(
                    f,
                    "recording could not go on: vfio-trace gave up here, and what came then is not recorded"
                )
            },
            Self::Unread { why } => write!(f, "it cannot be read, and is left out: {why}"),
            Self::Index { offset } => {
                write!(f, "the index at byte {offset} is missing or damaged; no record is lost")
            },
            Self::UncheckedIndex { offset } => write!(
                f,
                "the index at byte {offset} was not looked at, because too much before it was wrong; no record is lost"
            ),
            Self::Newer { offset, format } => write!(
                f,
                "from byte {offset} on it was made by a newer vfio-trace (format {format}); this one reads format 1"
            ),
            Self::NewerRecords { offset, version } => write!(
                f,
                "from byte {offset} on its records are of another vfio-trace (version {version}) or of a machine of \
                 another byte order, and are left out; this one reads them up to version {}",
                wire::VERSION
            ),
            Self::OtherHeader { offset } => write!(
                f,
                "from byte {offset} on its header is not one that this vfio-trace reads ({SCHEMA}), so the rest is left \
                 out: a newer one may have made it"
            ),
            Self::MissingParts { after, next } => {
                if next.saturating_sub(*after) > 2 {
                    write!(f, "parts {} to {} are not given", after + 1, next - 1)
                } else {
                    write!(f, "part {} is not given", after.saturating_add(1))
                }
            },
        }
    }
}
