//! Writer of one part of a recording, a block at a time.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
    time::{Duration, Instant},
};

use bytes::Bytes;
use vfio_trace_common::{
    role::Role,
    wire::{self, device_known},
};
use zerocopy::{FromBytes as _, IntoBytes as _};

use super::{
    block::{BlockHeader, BlockKind, FORMAT, HEADER_LEN, LEVEL, TARGET_LEN},
    header::PartHeader,
    index::{BlockIndex, IndexEntry, trailer},
    item::{BlockItem, PartEnd, put},
};
use crate::event::{CaptureLayouts, ProbeGap, RecordBody, RecordNote, WireRecord, may_be_new_device};

/// Writer of one part. Items that were not [`flush`](Self::flush)ed are lost if the process is killed.
///
/// The recorder has one per part, over the output that [`RecordingOutput`](super::RecordingOutput) makes.
pub struct PartWriter<W> {
    out: W,
    buffer: Vec<u8>,
    /// Number of records in the buffer, and the earliest and latest of their times.
    records: u32,
    times: Option<(u64, u64)>,
    /// Time since which the buffer is not empty.
    since: Option<Instant>,
    seq: u32,
    offset: u64,
    total: u64,
    index: BlockIndex,
}

impl<W: Write> PartWriter<W> {
    /// Makes a writer, and writes the header twice: without a header the rest has no time and no host.
    ///
    /// # Errors
    ///
    /// An error while writing to `out`; also for the other functions.
    pub fn new(out: W, header: &PartHeader) -> io::Result<Self> {
        let mut writer = Self {
            out,
            buffer: Vec::with_capacity(TARGET_LEN + (TARGET_LEN >> 2)),
            records: 0,
            times: None,
            since: None,
            seq: 0,
            offset: 0,
            total: 0,
            index: BlockIndex::default(),
        };
        let json = header.json()?;
        writer.block(BlockKind::Header, &json)?;
        writer.block(BlockKind::Header, &json)?;
        writer.out.flush()?;
        Ok(writer)
    }

    /// Adds an item. Writes the block if it is full.
    pub fn push(&mut self, item: &BlockItem) -> io::Result<()> {
        put(item, &mut self.buffer)?;
        self.since.get_or_insert_with(Instant::now);
        if let BlockItem::Record(bytes) = item {
            self.records += 1;
            self.total += 1;
            if let Ok((header, _)) = wire::Header::read_from_prefix(bytes) {
                let (first, last) = self.times.unwrap_or((u64::MAX, 0));
                self.times = Some((first.min(header.end_ns), last.max(header.end_ns)));
            }
        }
        if self.buffer.len() >= TARGET_LEN { self.flush() } else { Ok(()) }
    }

    /// Writes the items that were not written yet as a block.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let buffer = std::mem::take(&mut self.buffer);
        let done = self.block(BlockKind::Items, &buffer);
        self.buffer = buffer;
        self.buffer.clear();
        (self.records, self.times, self.since) = (0, None, None);
        done?;
        self.out.flush()
    }

    /// Writes the last item, the index and the trailer. Returns the output and the number of bytes written.
    pub fn finish(mut self, end: PartEnd) -> io::Result<(W, u64)> {
        self.push(&BlockItem::End(end))?;
        self.flush()?;
        let offset = self.offset;
        let index = self.index.payload();
        self.block(BlockKind::Index, &index)?;
        let trailer = trailer(offset);
        self.out.write_all(&trailer)?;
        self.out.flush()?;
        Ok((self.out, self.offset + trailer.len() as u64))
    }

    /// Returns the time for which the oldest item has been waiting to be written.
    pub fn waiting(&self) -> Option<Duration> {
        self.since.map(|since| since.elapsed())
    }

    /// Returns the number of bytes written.
    pub const fn written(&self) -> u64 {
        self.offset
    }

    /// Returns the number of records, including those that still wait.
    pub const fn records(&self) -> u64 {
        self.total
    }

    fn block(&mut self, kind: BlockKind, payload: &[u8]) -> io::Result<()> {
        let too_long = |_| io::Error::new(io::ErrorKind::InvalidInput, "more than a block can hold");
        let stored = zstd::bulk::compress(payload, LEVEL)?;
        let header = BlockHeader {
            format: FORMAT,
            kind,
            seq: self.seq,
            records: self.records,
            stored: u32::try_from(stored.len()).map_err(too_long)?,
            raw: u32::try_from(payload.len()).map_err(too_long)?,
            times: self.times.unwrap_or((0, 0)),
            payload_crc: crc32fast::hash(&stored),
        };
        if stored.len().max(payload.len()) > kind.max_len() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "more than a block can hold"));
        }
        // One write: the reader of a pipe gets the whole block at once.
        let mut bytes = Vec::with_capacity(HEADER_LEN + stored.len());
        bytes.extend(header.bytes());
        bytes.extend(&stored);
        self.out.write_all(&bytes)?;
        if kind != BlockKind::Index {
            let (first_ns, last_ns) = header.times;
            let offset = self.offset;
            self.index.push(IndexEntry { offset, first_ns, last_ns, seq: self.seq, records: self.records });
        }
        self.seq = self.seq.wrapping_add(1);
        self.offset += bytes.len() as u64;
        Ok(())
    }
}

/// Maximum number of addresses of removed devices.
const MAX_GONE: usize = 65536;
/// Maximum number of times without probes: more than a host has drivers.
const MAX_GAPS: usize = 1024;

/// Records that the next part has to begin with, because others depend on them.
///
/// The recorder feeds it all records, and writes [`PartPreamble::records`] as `BlockItem::Repeated` when a part begins.
#[derive(Debug, Default)]
pub struct PartPreamble {
    /// Notes about the functions of steps, by slot.
    functions: BTreeMap<u16, Bytes>,
    /// Notes about the layouts of images.
    layouts: CaptureLayouts<Bytes>,
    /// Times without probes that are not over, each with its record.
    gaps: Vec<(ProbeGap, Bytes)>,
    /// Records of devices, by the device's address.
    devices: BTreeMap<u64, Bytes>,
    /// Addresses of devices that were removed from vfio, until others are seen there.
    gone: BTreeSet<u64>,
}

impl PartPreamble {
    /// Keeps a record if later ones depend on it. Returns false for a record of an inventory (`repeated`) that is
    /// needed only to read a part without the one before it: its facts are known, or are in the parts before.
    pub fn keep(&mut self, record: &WireRecord, bytes: &Bytes, repeated: bool) -> bool {
        let device = record.header.device;
        match &record.body {
            RecordBody::Note(RecordNote::Function(note)) => {
                self.functions.insert(note.probe, bytes.clone());
            },
            RecordBody::Note(RecordNote::Capture(note)) => {
                self.layouts.insert(note, bytes.clone());
            },
            RecordBody::Note(RecordNote::ProbeGap(gap)) => {
                if gap.until_mono_ns.is_some() {
                    self.gap_is_over(gap, record.header.end_ns);
                } else if self.gaps.len() < MAX_GAPS && self.gaps.iter().all(|(open, _)| open != gap) {
                    self.gaps.push((gap.clone(), bytes.clone()));
                }
            },
            // Read at the address of a device that was removed.
            RecordBody::Device(body) if self.gone.contains(&device) && !may_be_new_device(body) => {},
            RecordBody::Device(body) => {
                self.gone.remove(&device);
                let again =
                    repeated && body.seen_by == Role::Inventory as u32 && self.devices.contains_key(&device);
                if let Some(bytes) = identity(record, body) {
                    self.devices.insert(device, bytes);
                }
                return !again;
            },
            RecordBody::Holder(_) => return !repeated,
            // A device whose registration failed is freed like one that was removed.
            RecordBody::Register(register) if register.ret >= 0 => {},
            RecordBody::Register(_) | RecordBody::Unregister => {
                self.devices.remove(&device);
                // A host does not have as many addresses of devices; the limit is there because everything has one.
                if self.gone.len() < MAX_GONE {
                    self.gone.insert(device);
                }
            },
            _ => {},
        }
        true
    }

    /// Removes functions that are probed now from a gap; others of the same gap may stay.
    fn gap_is_over(&mut self, gap: &ProbeGap, now_ns: u64) {
        self.gaps.retain_mut(|(open, bytes)| {
            let before = open.functions.len();
            if open.module == gap.module {
                open.functions.retain(|function| !gap.functions.contains(function));
            }
            if open.functions.len() < before
                && let Some(record) = RecordNote::ProbeGap(open.clone()).record(now_ns)
            {
                *bytes = record.into();
            }
            !open.functions.is_empty()
        });
    }

    /// Returns the records, in an order in which they can be read.
    pub fn records(&self) -> impl Iterator<Item = &Bytes> {
        let notes = self.functions.values().chain(self.layouts.iter());
        notes.chain(self.gaps.iter().map(|(_, bytes)| bytes)).chain(self.devices.values())
    }
}

/// Returns the record of a device without the facts that may have changed: its state and the number of its users.
fn identity(record: &WireRecord, body: &wire::Device) -> Option<Bytes> {
    let known = body.known & !(device_known::STATE | device_known::OPEN_COUNT);
    let body = wire::Device { known, state: 0, open_count: 0, ..*body };
    let bytes = [record.header.as_bytes(), body.as_bytes()].concat();
    (bytes.len() == usize::from(record.header.len)).then(|| Bytes::from(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{
        CaptureNote, GapCause, GapFunction,
        fixture::{RecordScript, UUID, bytes},
    };

    fn known(script: &RecordScript) -> usize {
        let mut known = PartPreamble::default();
        for record in script.records() {
            known.keep(&record, &Bytes::from(bytes(&record)), false);
        }
        known.records().count()
    }

    #[test]
    fn a_device_that_is_gone_is_not_in_the_next_part() {
        let there =
            RecordScript::new(0xd1).device_in(UUID, "mtty", 7, Role::Register, None).register(0).open(1);
        assert_eq!(known(&there), 1);
        // Removed while it is open; the last close reads its memory once more.
        let gone = there.unregister().device_in(UUID, "mtty", 7, Role::Close, None).close(1);
        assert_eq!(known(&gone), 0);
        // Another device at the same address.
        let another = gone.device_in("other", "mtty", 7, Role::Register, None).register(0);
        assert_eq!(known(&another), 1);
        assert_eq!(known(&another.device_in("other", "mtty", 7, Role::Close, None)), 1);
        // A device that could not be registered was never there.
        let failed = RecordScript::new(0xd1).device_in(UUID, "mtty", 7, Role::Register, None).register(-12);
        assert_eq!(known(&failed), 0);
    }

    #[test]
    fn the_next_part_tells_of_the_last_loads_of_a_module() {
        let layout = |driver| {
            let (module, name, structure) = ("hisi_acc_vfio_pci".to_owned(), String::new(), String::new());
            RecordNote::Capture(CaptureNote { driver, id: 0, module, name, structure, fields: Vec::new() })
        };
        // Each at a lower address than the one before.
        let script = [0x3000, 0x2000, 0x1000]
            .map(layout)
            .into_iter()
            .fold(RecordScript::new(0xd1), RecordScript::note);
        let mut known = PartPreamble::default();
        for record in script.records() {
            known.keep(&record, &Bytes::from(bytes(&record)), false);
        }
        let told: Vec<u64> = known
            .records()
            .filter_map(|bytes| match WireRecord::decode(bytes).unwrap().body {
                RecordBody::Note(RecordNote::Capture(note)) => Some(note.driver),
                _ => None,
            })
            .collect();
        assert_eq!(told, [0x2000, 0x1000], "what is loaded now is told last");
    }

    #[test]
    fn what_is_not_probed_is_in_the_next_part_too() {
        let gap = |names: &[&str], from_mono_ns, until_mono_ns| {
            let function = |name: &&str| GapFunction { function: (*name).to_owned(), role: Role::Read };
            RecordNote::ProbeGap(ProbeGap {
                module: Some("mtty".to_owned()),
                functions: names.iter().map(function).collect(),
                from_mono_ns,
                from_exact: true,
                until_mono_ns,
                why: GapCause::Refused,
            })
        };
        let open = RecordScript::new(0xd1).note(gap(&["a", "b"], 5, None)).note(gap(&["a", "b"], 5, None));
        let open = open.note(gap(&["c"], 7, Some(8)));
        assert_eq!(known(&open), 1);
        // Some functions are reported with another beginning: the others are still not probed.
        let less = open.note(gap(&["a"], 6, Some(9)));
        assert_eq!(known(&less), 1);
        assert_eq!(known(&less.note(gap(&["b"], 5, Some(9)))), 0, "it is over");
    }
}
