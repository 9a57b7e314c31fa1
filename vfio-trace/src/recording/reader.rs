//! Reads a recording from front to back, as it comes; goes on behind what is damaged.

use std::{
    collections::VecDeque,
    io::{self, Read},
    mem,
};

use super::{
    block::{BlockHeader, BlockKind, FORMAT, HEADER_LEN, MAGIC},
    damage::RecordingDamage,
    header::PartHeader,
    index::{TRAILER_LEN, parse_trailer},
    input::{InputBuffer, PayloadError},
    item::{BlockItem, BlockItems},
    merge::MergeNote,
    open_error::PartOpenError,
};

/// How much of a file that does not begin as a recording is searched for one.
const SEARCH_LEN: u64 = 1 << 20;
/// A part begins with its header and a copy of it.
const HEADERS: u32 = 2;
/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReaderEntry {
    /// An item.
    Item(BlockItem),
    /// Another part begins: parts may follow each other in one stream.
    Part(Box<PartHeader>),
    /// Something cannot be read.
    Damage(RecordingDamage),
}

/// Reads one stream. Memory is bounded by the longest block that is allowed, whatever the input is.
pub struct RecordingReader<R> {
    input: InputBuffer<R>,
    header: PartHeader,
    /// What was said before the first header.
    merge: Option<MergeNote>,
    /// Number of the next block.
    seq: u32,
    /// The part's end was seen.
    ended: bool,
    /// Its index was seen, or is known to be damaged: nothing of it can follow.
    indexed: bool,
    /// It comes once more.
    repeated: bool,
    /// Blocks that were left out since, because no header says whose they are.
    ownerless_blocks: Option<RecordingDamage>,
    /// Nothing more can be read.
    done: bool,
    queue: VecDeque<ReaderEntry>,
    /// What is left of the block that was read last; it comes behind the queue.
    items: BlockItems,
    /// Where that block begins.
    items_at: u64,
}

impl<R: Read> RecordingReader<R> {
    /// Reads the header.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub fn open(input: R) -> Result<Self, PartOpenError> {
        let mut reader = Self {
            input: InputBuffer::new(input),
            header: PartHeader::nothing(),
            merge: None,
            seq: 0,
            ended: false,
            indexed: false,
            repeated: false,
            ownerless_blocks: None,
            done: false,
            queue: VecDeque::new(),
            items: BlockItems::default(),
            items_at: 0,
        };
        reader.first_header()?;
        Ok(reader)
    }

    /// Goes up to the first header that can be read.
    fn first_header(&mut self) -> Result<(), PartOpenError> {
        let mut headers = 0;
        loop {
            let have = self.input.fill(HEADER_LEN)?;
            let offset = self.input.offset();
            if have == 0 && offset == 0 {
                return Err(PartOpenError::Empty);
            }
            let begins = &self.input.ahead()[..have.min(MAGIC.len())];
            if offset == 0 && have < HEADER_LEN {
                return Err(if MAGIC.starts_with(begins) {
                    PartOpenError::TruncatedHeader
                } else {
                    PartOpenError::NotRecording
                });
            }
            let Some(block) = BlockHeader::parse(self.input.ahead()) else {
                let ours = begins == MAGIC;
                let bytes = self.input.resync(1, SEARCH_LEN)?;
                let none = if ours { PartOpenError::NoHeader } else { PartOpenError::NotRecording };
                let found = BlockHeader::parse(self.input.ahead()).ok_or(none)?;
                if found.kind != BlockKind::Header {
                    return Err(PartOpenError::NoHeader);
                }
                self.damage(RecordingDamage::Gap { offset, bytes, blocks: found.seq });
                continue;
            };
            if block.format != FORMAT {
                return Err(PartOpenError::Newer(block.format));
            }
            if !matches!(block.kind, BlockKind::Header | BlockKind::Merge) {
                return Err(PartOpenError::NoHeader);
            }
            let whole = HEADER_LEN + block.stored_len();
            if self.input.fill(whole)? < whole {
                return Err(PartOpenError::TruncatedHeader);
            }
            let payload = self.input.payload(block, whole).ok();
            self.input.consume(whole);
            if block.kind == BlockKind::Merge {
                self.note(payload.as_deref(), offset);
                continue;
            }
            self.seq = block.seq.wrapping_add(1);
            if let Some(json) = payload {
                self.header = PartHeader::read(&json)?;
                return match self.header.refusal() {
                    Some(why) => Err(why),
                    None => Ok(()),
                };
            }
            self.damage(RecordingDamage::Block { offset, records: 0 });
            headers += 1;
            if block.seq > 0 || headers >= HEADERS {
                return Err(PartOpenError::NoHeader);
            }
        }
    }

    /// The header of the part that is being read.
    pub const fn header(&self) -> &PartHeader {
        &self.header
    }

    /// What was said when it was merged with others.
    pub const fn merge(&self) -> Option<&MergeNote> {
        self.merge.as_ref()
    }

    /// Bytes of the input that are done with.
    pub const fn position(&self) -> u64 {
        self.input.offset()
    }

    /// Whether what comes next has yet to be read from the input.
    pub fn is_waiting(&self) -> bool {
        self.queue.is_empty() && self.items.is_over()
    }

    /// What comes next; `None` at the end. Waits for as little of the input as it takes.
    ///
    /// # Errors
    ///
    /// What reading the input gives. What was read before remains right.
    #[expect(clippy::should_implement_trait, reason = "it can fail")]
    pub fn next(&mut self) -> io::Result<Option<ReaderEntry>> {
        loop {
            if let Some(entry) = self.queue.pop_front() {
                return Ok(Some(entry));
            }
            match self.items.next() {
                Some(Ok(item)) => {
                    self.ended |= matches!(item, BlockItem::End(_));
                    return Ok(Some(ReaderEntry::Item(item)));
                },
                Some(Err(_)) => {
                    return Ok(Some(ReaderEntry::Damage(RecordingDamage::Item { offset: self.items_at })));
                },
                None => {},
            }
            if self.done {
                return Ok(self.ownerless_blocks.take().map(ReaderEntry::Damage));
            }
            self.block()?;
        }
    }

    /// Reads the next block, or finds out that there is none.
    fn block(&mut self) -> io::Result<()> {
        let have = self.input.fill(HEADER_LEN)?;
        if have == 0 {
            self.part_is_over(0);
            self.done = true;
            return Ok(());
        }
        let Some(block) = BlockHeader::parse(self.input.ahead()) else {
            if have < HEADER_LEN && !self.indexed {
                // The beginning of a block that was being written.
                self.part_is_over(0);
                self.input.consume(have);
                self.done = true;
                return Ok(());
            }
            return self.pass_over(1);
        };
        if block.format != FORMAT {
            self.damage(RecordingDamage::Newer { offset: self.input.offset(), format: block.format });
            self.done = true;
            return Ok(());
        }
        let whole = HEADER_LEN + block.stored_len();
        let have = self.input.fill(whole)?;
        if have < whole && !self.input.holds_another() {
            match block.kind {
                BlockKind::Header | BlockKind::Merge if self.indexed => {
                    self.damage(RecordingDamage::Block { offset: self.input.offset(), records: 0 });
                },
                _ if self.indexed => self.nobodys_block(block),
                _ => {},
            }
            self.part_is_over(block.records.max(u32::from(block.kind == BlockKind::Items)));
            self.input.consume(have);
            self.done = true;
            return Ok(());
        }
        // What is in an index, or in what is not known, nobody asks here.
        let payload = match block.kind {
            BlockKind::Index | BlockKind::Other(_) => self.input.check(block, whole).map(|()| Vec::new()),
            BlockKind::Header | BlockKind::Merge | BlockKind::Items => self.input.payload(block, whole),
        };
        let payload = match payload {
            Ok(payload) => payload,
            Err(why) => return self.damaged(block, whole, why),
        };
        if block.kind == BlockKind::Header {
            self.new_header(&payload, block, whole);
            self.input.consume(whole);
            return Ok(());
        }
        if block.kind == BlockKind::Merge {
            self.part_is_over(0);
            self.note(Some(&payload), self.input.offset());
            self.input.consume(whole);
            return Ok(());
        }
        if self.indexed {
            self.nobodys_block(block);
            self.input.consume(whole);
            if block.kind == BlockKind::Index {
                self.input.pass_trailer()?;
            }
            return Ok(());
        }
        if block.seq != self.seq {
            self.other_number(block, whole);
            return Ok(());
        }
        let offset = self.input.offset();
        self.input.consume(whole);
        self.seq = block.seq.wrapping_add(1);
        match block.kind {
            BlockKind::Items => match BlockItems::of(payload) {
                Some(items) => (self.items, self.items_at) = (items, offset),
                None => self.damage(RecordingDamage::Block { offset, records: block.records }),
            },
            BlockKind::Index => self.trailer(offset)?,
            BlockKind::Header | BlockKind::Merge | BlockKind::Other(_) => {},
        }
        Ok(())
    }

    /// A block whose header is right and whose payload is not, as far as is known.
    fn damaged(&mut self, block: BlockHeader, whole: usize, why: PayloadError) -> io::Result<()> {
        let offset = self.input.offset();
        match block.kind {
            BlockKind::Index if !self.indexed => {
                self.indexed = true;
                self.damage(match why {
                    PayloadError::Damaged => RecordingDamage::Index { offset },
                    PayloadError::Unchecked => RecordingDamage::UncheckedIndex { offset },
                });
            },
            BlockKind::Items | BlockKind::Index | BlockKind::Other(_) if self.indexed => {
                self.nobodys_block(block);
            },
            BlockKind::Merge => {
                self.part_is_over(0);
                self.damage(match why {
                    PayloadError::Damaged => RecordingDamage::Note { offset, notes: 1 },
                    PayloadError::Unchecked => RecordingDamage::UncheckedNote { offset },
                });
            },
            kind => {
                // Another part's: what follows is not the present one's, whatever its numbers are.
                if kind == BlockKind::Header && block.seq != self.seq {
                    self.part_is_over(0);
                }
                let records = block.records;
                self.damage(match why {
                    PayloadError::Damaged => RecordingDamage::Block { offset, records },
                    PayloadError::Unchecked => RecordingDamage::Unchecked { offset, records },
                });
            },
        }
        if block.seq >= self.seq && !self.indexed {
            self.seq = block.seq.wrapping_add(1);
        }
        // Either bytes were changed, and the next block is where it should be, or some are missing, and it is earlier.
        let have = self.input.fill(whole + HEADER_LEN)?;
        let next = self.input.ahead().get(whole..).unwrap_or_default();
        if have == whole || BlockHeader::parse(next).is_some() || parse_trailer(next).is_some() {
            self.input.consume(whole);
            if block.kind == BlockKind::Index {
                self.input.pass_trailer()?;
            }
        } else {
            self.input.resync(HEADER_LEN, u64::MAX)?;
        }
        Ok(())
    }

    /// A header within the stream: a copy of the present one, or another part's.
    fn new_header(&mut self, json: &[u8], block: BlockHeader, whole: usize) {
        let offset = self.input.offset();
        let header = match PartHeader::read(json) {
            Ok(header) => header,
            Err(why) => {
                self.part_is_over(0);
                self.done = matches!(why, PartOpenError::OtherHeader);
                self.damage(if self.done {
                    RecordingDamage::OtherHeader { offset }
                } else {
                    RecordingDamage::Block { offset, records: 0 }
                });
                return;
            },
        };
        if header.refusal().is_some() {
            // What is in it would be taken for something else.
            self.part_is_over(0);
            self.damage(RecordingDamage::NewerRecords { offset, version: header.wire_version });
            self.done = true;
            return;
        }
        let same = header.part == self.header.part && header.recording == self.header.recording;
        if same && !self.indexed && self.seq <= HEADERS {
            if block.seq == self.seq {
                self.seq = block.seq.wrapping_add(1);
            } else {
                self.damage(RecordingDamage::Gap { offset, bytes: whole as u64, blocks: 0 });
            }
            return;
        }
        self.part_is_over(0);
        self.queue.extend(self.ownerless_blocks.take().map(ReaderEntry::Damage));
        if !same {
            self.header = header.clone();
            (self.ended, self.indexed, self.repeated) = (false, false, false);
            self.queue.push_back(ReaderEntry::Part(Box::new(header)));
            self.seq = block.seq.wrapping_add(1);
        } else if !mem::replace(&mut self.repeated, true) {
            // Its records must not come twice.
            self.damage(RecordingDamage::RepeatedPart { offset, part: header.part });
        }
    }

    /// What was said when recordings were merged. The first note is of who merged last, and has what the others say.
    fn note(&mut self, json: Option<&[u8]>, offset: u64) {
        match json.and_then(MergeNote::of) {
            Some(note) => self.merge = self.merge.take().or(Some(note)),
            // Without it the recordings are still there.
            None => match self.queue.back_mut() {
                Some(ReaderEntry::Damage(RecordingDamage::Note { notes, .. })) => {
                    *notes = notes.saturating_add(1);
                },
                _ => self.damage(RecordingDamage::Note { offset, notes: 1 }),
            },
        }
    }

    /// A block behind the end of the part, and no header before it: it may be of another host.
    fn nobodys_block(&mut self, block: BlockHeader) {
        if self.repeated || matches!(block.kind, BlockKind::Header | BlockKind::Merge | BlockKind::Other(_)) {
            return;
        }
        let found = RecordingDamage::NoHeader { offset: self.input.offset(), blocks: 0, records: 0 };
        if let RecordingDamage::NoHeader { blocks, records, .. } = self.ownerless_blocks.get_or_insert(found)
        {
            *blocks = blocks.saturating_add(1);
            *records = records.saturating_add(block.records.into());
        }
    }

    /// A good block that is not the next one.
    fn other_number(&mut self, block: BlockHeader, whole: usize) {
        let offset = self.input.offset();
        if block.seq > self.seq {
            self.damage(RecordingDamage::Gap { offset, bytes: 0, blocks: block.seq - self.seq });
            self.seq = block.seq;
        } else {
            // It was there before: what is in it must not come twice.
            self.damage(RecordingDamage::Gap { offset, bytes: whole as u64, blocks: 0 });
            self.input.consume(whole);
        }
    }

    /// What comes behind the index.
    fn trailer(&mut self, index: u64) -> io::Result<()> {
        self.indexed = true;
        if self.input.fill(TRAILER_LEN)? >= TRAILER_LEN && parse_trailer(self.input.ahead()).is_some() {
            self.input.consume(TRAILER_LEN);
            return Ok(());
        }
        self.damage(RecordingDamage::Index { offset: index });
        // Nothing but the trailer is missing, unless another part follows.
        self.input.resync(0, u64::MAX)?;
        Ok(())
    }

    /// Goes on behind bytes that are no block; `from` is at least 1.
    fn pass_over(&mut self, from: usize) -> io::Result<()> {
        let offset = self.input.offset();
        let bytes = self.input.resync(from, u64::MAX)?;
        let mut blocks = 0;
        if let Some(next) = BlockHeader::parse(self.input.ahead())
            && next.kind != BlockKind::Header
            && next.seq > self.seq
            && !self.indexed
        {
            blocks = next.seq - self.seq;
            self.seq = next.seq;
        }
        self.damage(RecordingDamage::Gap { offset, bytes, blocks });
        Ok(())
    }

    fn damage(&mut self, damage: RecordingDamage) {
        self.queue.push_back(ReaderEntry::Damage(damage));
    }

    /// The part's last byte is here; it should have had an end mark, and an index.
    fn part_is_over(&mut self, records: u32) {
        let offset = self.input.offset();
        let indexed = mem::replace(&mut self.indexed, true);
        if !mem::replace(&mut self.ended, true) {
            self.damage(if indexed {
                RecordingDamage::NoEnd { offset }
            } else {
                RecordingDamage::Cut { offset, records }
            });
        } else if !indexed {
            self.damage(RecordingDamage::Index { offset });
        }
    }

    #[cfg(test)]
    pub(super) const fn vain(&self) -> u64 {
        self.input.vain()
    }

    #[cfg(test)]
    pub(super) const fn moved(&self) -> u64 {
        self.input.moved()
    }

    #[cfg(test)]
    pub(super) fn waiting_entries(&self) -> usize {
        self.queue.len()
    }
}
