//! What a merged file begins with: a block of its own, then the recordings as they were.

use std::io;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::block::{BlockHeader, BlockKind, FORMAT, LEVEL};

/// Value of [`MergeNote::schema`]. The number changes when a field goes away or changes its meaning.
pub const MERGE_SCHEMA: &str = "vfio-trace.merge/1";

/// What `merge` adds to the recordings that it puts into one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MergeNote {
    /// [`MERGE_SCHEMA`].
    pub schema: String,
    /// Version of the vfio-trace that merged.
    pub version: String,
    /// Devices that the user said belong together: the source's name, the destination's.
    pub pairs: Vec<(String, String)>,
    /// How the clocks were brought together when it was made, for people: `merge` of the document. Readers find it out
    /// anew from the recordings.
    pub clocks: Value,
}

impl MergeNote {
    /// A note of this version.
    pub fn new(pairs: Vec<(String, String)>, clocks: Value) -> Self {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Self { schema: MERGE_SCHEMA.to_owned(), version, pairs, clocks }
    }

    /// One from the payload of its block; `None` if it is not understood, or one of a later version.
    pub(super) fn of(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok().filter(|note: &Self| note.schema == MERGE_SCHEMA)
    }

    /// The block.
    ///
    /// # Errors
    ///
    /// What zstd gives, which is: none in practice.
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
