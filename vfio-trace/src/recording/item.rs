//! What is in a block: records, and what the recorder adds between them.

use std::{io, ops::Range};

use bytes::{BufMut as _, Bytes};
use serde::{Deserialize, Serialize};

use super::{
    block::{MAX_JSON_LEN, u32_at},
    header::ClockSample,
};
use crate::event::ProbeReport;

/// Kind and length.
const HEAD_LEN: usize = 8;

const RECORD: u32 = 1;
const AGAIN: u32 = 2;
const TICK: u32 = 3;
const META: u32 = 4;

/// One item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockItem {
    /// A raw record.
    Record(Bytes),
    /// A record that only who reads this part without the one before it needs: what was known when it began.
    Repeated(Bytes),
    /// The time (CLOCK_MONOTONIC, ns) that the live source told the assembler here (`Assembler::expire`).
    Tick(u64),
    /// The clocks.
    Clock(ClockSample),
    /// What the probes have counted since the recording began.
    Probes(Vec<ProbeReport>),
    /// The last item of a part.
    End(PartEnd),
}

/// How a part ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartEnd {
    /// CLOCK_MONOTONIC in ns when probes were off, or when the next part began.
    pub mono_ns: u64,
    /// Why.
    pub reason: EndReason,
    /// Records in this part.
    pub records: u64,
    /// What the probes have counted since the recording began.
    pub probes: Vec<ProbeReport>,
}

/// Why a part ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// Another part follows.
    Rotated,
    /// The traced command has ended.
    Command,
    /// A signal asked for it.
    Signal,
    /// As much was recorded as was asked for.
    Limit,
    /// Recording could not go on.
    Failed,
    /// Another one, of a later version.
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

/// Fails for what no block can hold.
fn frame(payload: &mut Vec<u8>, kind: u32, bytes: &[u8]) -> io::Result<()> {
    if bytes.len() > MAX_JSON_LEN {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "an item of more than 1 MiB"));
    }
    payload.put_u32_le(kind);
    payload.put_u32_le(bytes.len() as u32);
    payload.put_slice(bytes);
    Ok(())
}

/// The items of a payload, one by one: there may be a hundred thousand of them in a few bytes of a file.
#[derive(Debug, Default)]
pub(super) struct BlockItems {
    payload: Bytes,
    at: usize,
}

impl BlockItems {
    /// Takes a payload; `None` if it is no row of items.
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

    /// Whether there is no more.
    pub(super) const fn is_over(&self) -> bool {
        self.at >= self.payload.len()
    }

    /// Kind, and place of the bytes.
    fn frame(&self, at: usize) -> Option<(u32, Range<usize>)> {
        let (kind, len) = (u32_at(&self.payload, at)?, u32_at(&self.payload, at + 4)? as usize);
        let from = at + HEAD_LEN;
        let to = from.checked_add(len).filter(|to| *to <= self.payload.len())?;
        Some((kind, from..to))
    }
}

/// What the recorder says, in words that are not known.
#[derive(Debug)]
pub(super) struct UnknownItem;

impl Iterator for BlockItems {
    type Item = Result<BlockItem, UnknownItem>;

    /// A kind of items that a later version has added is left out.
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
