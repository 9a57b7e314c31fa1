//! Items of a block: records, and data that the recorder adds between them.

use std::{io, ops::Range};

use bytes::{BufMut as _, Bytes};
use serde::{Deserialize, Serialize};

use super::{
    block::{MAX_JSON_LEN, u32_at},
    header::ClockSample,
};
use crate::event::ProbeReport;

/// Length of an item's kind and length, in bytes.
const HEAD_LEN: usize = 8;

const RECORD: u32 = 1;
const AGAIN: u32 = 2;
const TICK: u32 = 3;
const META: u32 = 4;

/// Item of a block.
///
/// `PartWriter` writes it, the reader returns it in the order of the recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockItem {
    /// A raw record.
    Record(Bytes),
    /// Record from before this part, needed only to read the part without the one before it.
    Repeated(Bytes),
    /// Time (CLOCK_MONOTONIC, ns) that the live source gave the pipeline here (`Pipeline::tick`).
    Tick(u64),
    /// Readings of the clocks.
    Clock(ClockSample),
    /// Counts of the probes since the recording began.
    Probes(Vec<ProbeReport>),
    /// The last item of a part.
    End(PartEnd),
}

/// End of a part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartEnd {
    /// Time at which probes were off, or the next part began (CLOCK_MONOTONIC, ns).
    pub mono_ns: u64,
    /// Reason of the end.
    pub reason: EndReason,
    /// Number of records in this part.
    pub records: u64,
    /// Counts of the probes since the recording began.
    pub probes: Vec<ProbeReport>,
}

/// Reason why a part ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// Next part.
    Rotated,
    /// End of the traced command.
    Command,
    /// Signal.
    Signal,
    /// Limit that the user set.
    Limit,
    /// Error that ended the recording.
    Failed,
    /// Reason of a later version.
    #[serde(other)]
    Other,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "meta", rename_all = "snake_case")]
enum MetaItem {
    Clock(ClockSample),
    Probes { probes: Vec<ProbeReport> },
    End(PartEnd),
}

/// Adds an item to a block's payload.
pub(super) fn put(item: &BlockItem, payload: &mut Vec<u8>) -> io::Result<()> {
    let meta = match item {
        BlockItem::Record(bytes) => return frame(payload, RECORD, bytes),
        BlockItem::Repeated(bytes) => return frame(payload, AGAIN, bytes),
        BlockItem::Tick(ns) => return frame(payload, TICK, &ns.to_le_bytes()),
        BlockItem::Clock(sample) => MetaItem::Clock(*sample),
        BlockItem::Probes(probes) => MetaItem::Probes { probes: probes.clone() },
        BlockItem::End(end) => MetaItem::End(end.clone()),
    };
    frame(payload, META, &serde_json::to_vec(&meta)?)
}

/// Appends the encoded item. Fails if no block can hold it.
fn frame(payload: &mut Vec<u8>, kind: u32, bytes: &[u8]) -> io::Result<()> {
    if bytes.len() > MAX_JSON_LEN {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "an item of more than 1 MiB"));
    }
    payload.put_u32_le(kind);
    payload.put_u32_le(bytes.len() as u32);
    payload.put_slice(bytes);
    Ok(())
}

/// Items of a payload, decoded one by one: a few bytes of a file may have a hundred thousand of them.
#[derive(Debug, Default)]
pub(super) struct BlockItems {
    payload: Bytes,
    at: usize,
}

impl BlockItems {
    /// Takes a payload; `None` if it is not a sequence of items.
    pub(super) fn of(payload: Vec<u8>) -> Option<Self> {
        let items = Self { payload: Bytes::from(payload), at: 0 };
        let mut at = 0;
        while at < items.payload.len() {
            let (kind, bytes) = items.frame(at)?;
            let fits = match kind {
                TICK => bytes.len() == size_of::<u64>(),
                _ => bytes.len() <= MAX_JSON_LEN,
            };
            if !fits {
                return None;
            }
            at = bytes.end;
        }
        Some(items)
    }

    /// Returns true if there are no more items.
    pub(super) const fn is_over(&self) -> bool {
        self.at >= self.payload.len()
    }

    /// Returns an item's kind and the range of its bytes.
    fn frame(&self, at: usize) -> Option<(u32, Range<usize>)> {
        let (kind, len) = (u32_at(&self.payload, at)?, u32_at(&self.payload, at + 4)? as usize);
        let from = at + HEAD_LEN;
        let to = from.checked_add(len).filter(|to| *to <= self.payload.len())?;
        Some((kind, from..to))
    }
}

/// Data of the recorder that this version does not know.
#[derive(Debug)]
pub(super) struct UnknownItem;

impl Iterator for BlockItems {
    type Item = Result<BlockItem, UnknownItem>;

    /// Returns the next item. Kinds that a later version has added are skipped.
    fn next(&mut self) -> Option<Self::Item> {
        while let Some((kind, place)) = self.frame(self.at) {
            self.at = place.end;
            let bytes = self.payload.slice(place);
            let item = match kind {
                RECORD => Some(Ok(BlockItem::Record(bytes))),
                AGAIN => Some(Ok(BlockItem::Repeated(bytes))),
                TICK => bytes.as_ref().try_into().ok().map(|ns| Ok(BlockItem::Tick(u64::from_le_bytes(ns)))),
                META => Some(match serde_json::from_slice(&bytes) {
                    Ok(MetaItem::Clock(sample)) => Ok(BlockItem::Clock(sample)),
                    Ok(MetaItem::Probes { probes }) => Ok(BlockItem::Probes(probes)),
                    Ok(MetaItem::End(end)) => Ok(BlockItem::End(end)),
                    Err(_) => Err(UnknownItem),
                }),
                _ => None,
            };
            if item.is_some() {
                return item;
            }
        }
        None
    }
}
