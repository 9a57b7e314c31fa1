//! Note of a merge: the first block of a merged file, before the recordings, which are unchanged.

use std::io;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::block::{BlockHeader, BlockKind, FORMAT, LEVEL};

/// Value of [`MergeNote::schema`]. The number changes when a field is removed or changes its meaning.
pub const MERGE_SCHEMA: &str = "vfio-trace.merge/1";

/// Data that `merge` adds to the recordings that it puts into one file.
///
/// `merge` writes it; the reader returns it with [`RecordingReader::merge`](super::RecordingReader::merge).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MergeNote {
    /// Value of [`MERGE_SCHEMA`].
    pub schema: String,
    /// Version of the vfio-trace that merged.
    pub version: String,
    /// Devices that the user said belong together: name of the source, name of the destination.
    pub pairs: Vec<(String, String)>,
    /// Relation of the clocks when the file was made, for people: `merge` of the document. Readers compute it anew from
    /// the recordings.
    pub clocks: Value,
}

impl MergeNote {
    /// Makes a note of this version.
    pub fn new(pairs: Vec<(String, String)>, clocks: Value) -> Self {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Self { schema: MERGE_SCHEMA.to_owned(), version, pairs, clocks }
    }

    /// Reads a note from the payload of its block; `None` if it is not understood, or of a later version.
    pub(super) fn of(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok().filter(|note: &Self| note.schema == MERGE_SCHEMA)
    }

    /// Returns the block.
    ///
    /// # Errors
    ///
    /// The error of zstd, which does not happen in practice.
    pub fn block(&self) -> io::Result<Vec<u8>> {
        let json = serde_json::to_vec(self)?;
        let stored = zstd::bulk::compress(&json, LEVEL)?;
        let len = |bytes: &[u8]| {
            u32::try_from(bytes.len()).map_err(|why| io::Error::new(io::ErrorKind::InvalidInput, why))
        };
        let header = BlockHeader {
            format: FORMAT,
            kind: BlockKind::Merge,
            seq: 0,
            records: 0,
            stored: len(&stored)?,
            raw: len(&json)?,
            times: (0, 0),
            payload_crc: crc32fast::hash(&stored),
        };
        let mut block = header.bytes().to_vec();
        block.extend(stored);
        Ok(block)
    }
}
