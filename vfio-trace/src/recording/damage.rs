//! Damage: content of a recording that could not be read.

use std::fmt;

use vfio_trace_common::wire;

use super::header::SCHEMA;

/// Content of a recording that is missing, or not as it was written. The content around it is read.
///
/// The reader makes it, or the recorded source for several files; its text is shown to the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordingDamage {
    /// Damaged block.
    Block {
        /// Offset of the block, in bytes from the start of the file or stream.
        offset: u64,
        /// Number of records in it.
        records: u32,
    },
    /// Block that was not checked, because too much before it was wrong.
    Unchecked {
        /// Offset of the block.
        offset: u64,
        /// Number of records in it.
        records: u32,
    },
    /// Bytes that are not a block, or missing blocks.
    Gap {
        /// Offset of the gap.
        offset: u64,
        /// Number of bytes skipped.
        bytes: u64,
        /// Number of missing blocks.
        blocks: u32,
    },
    /// Part that ends before its end mark.
    Cut {
        /// Offset of its end.
        offset: u64,
        /// Number of records in the cut block, as far as it is known.
        records: u32,
    },
    /// End mark that is missing or not understood, although the following blocks are there.
    NoEnd {
        /// Offset of the end of the part.
        offset: u64,
    },
    /// Item of the recorder's own that is not understood.
    Item {
        /// Offset of its block.
        offset: u64,
    },
    /// Blocks after the end of a part, without a header that shows their recording.
    NoHeader {
        /// Offset of the first block.
        offset: u64,
        /// Number of blocks.
        blocks: u32,
        /// Number of records in them.
        records: u64,
    },
    /// Note of a merge. All records are there.
    Note {
        /// Offset of the note.
        offset: u64,
        /// Number of such notes in a row.
        notes: u32,
    },
    /// Note of a merge that was not checked, because too much before it was wrong. All records are there.
    UncheckedNote {
        /// Offset of the note.
        offset: u64,
    },
    /// Part that came before.
    RepeatedPart {
        /// Offset of the part.
        offset: u64,
        /// Number of the part.
        part: u32,
    },
    /// Part that comes after one that it should be before.
    PartOrder {
        /// Number of the last part that was read.
        after: u32,
        /// Number of the part that comes now.
        part: u32,
    },
    /// End that the recorder has marked as its own failure.
    Failed,
    /// One file of several that cannot be read.
    Unread {
        /// Reason.
        why: String,
    },
    /// Damaged index. All records are there.
    Index {
        /// Offset of the index.
        offset: u64,
    },
    /// Index that was not checked, because too much before it was wrong. All records are there.
    UncheckedIndex {
        /// Offset of the index.
        offset: u64,
    },
    /// Block of a later version; from here on nothing can be read.
    Newer {
        /// Offset of the block.
        offset: u64,
        /// Version of the framing.
        format: u8,
    },
    /// Part with records that cannot be read: of a later version, or of another byte order.
    NewerRecords {
        /// Offset of the part.
        offset: u64,
        /// Version of the records.
        version: u16,
    },
    /// Part with a header of another version.
    OtherHeader {
        /// Offset of the part.
        offset: u64,
    },
    /// Parts of the recording that were not given.
    MissingParts {
        /// Number of the last part that was read.
        after: u32,
        /// Number of the next part that was given.
        next: u32,
    },
}

impl RecordingDamage {
    /// Returns the number of records that are known to be lost.
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

    /// Returns true if records may be missing, so that the records that the next part repeats are needed.
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
