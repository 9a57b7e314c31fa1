//! Reader of recordings: from front to back, as the data comes. It goes on after damaged data.

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

/// Number of bytes in which a recording is searched for if the file does not begin with one.
const SEARCH_LEN: u64 = 1 << 20;
/// Number of headers at the beginning of a part: the header and a copy of it.
const HEADERS: u32 = 2;
/// Next content of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReaderEntry {
    /// An item.
    Item(BlockItem),
    /// Beginning of another part: parts may follow each other in one stream.
    Part(Box<PartHeader>),
    /// Content that cannot be read.
    Damage(RecordingDamage),
}

/// Reader of one stream. Its memory is limited by the longest block that is allowed, whatever the input is.
///
/// The recorded source makes one per file, and takes the entries from it.
pub struct RecordingReader<R> {
    input: InputBuffer<R>,
    header: PartHeader,
    /// Note of the merge before the first header.
    merge: Option<MergeNote>,
    /// Number of the next block.
    seq: u32,
    /// True if the part's end mark was seen.
    ended: bool,
    /// True if the part's index was seen, or is known to be damaged: nothing of the part can follow.
    indexed: bool,
    /// True if the part is a repetition.
    repeated: bool,
    /// Blocks left out since the end of the part, because no header shows their recording.
    ownerless_blocks: Option<RecordingDamage>,
    /// True if nothing more can be read.
    done: bool,
    queue: VecDeque<ReaderEntry>,
    /// Rest of the block that was read last; its items come after the queue.
    items: BlockItems,
    /// Offset of that block.
    items_at: u64,
}

impl<R: Read> RecordingReader<R> {
    /// Makes a reader, and reads the first header.
    ///
    /// # Errors
    ///
    /// See [`PartOpenError`].
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

    /// Reads up to the first header that can be read.
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
            let payload = self.input.payload(block, whole);
            self.input.consume(whole);
            if block.kind == BlockKind::Merge {
                match payload {
                    Err(PayloadError::Unchecked) => self.unchecked_note(offset),
                    payload => self.note(payload.ok().as_deref(), offset),
                }
                continue;
            }
            self.seq = block.seq.wrapping_add(1);
            match payload {
                Ok(json) => {
                    self.header = PartHeader::read(&json)?;
                    return match self.header.refusal() {
                        Some(why) => Err(why),
                        None => Ok(()),
                    };
                },
                Err(PayloadError::Damaged) => self.damage(RecordingDamage::Block { offset, records: 0 }),
                Err(PayloadError::Unchecked) => {
                    self.damage(RecordingDamage::Unchecked { offset, records: 0 });
                },
            }
            headers += 1;
            if block.seq > 0 || headers >= HEADERS {
                return Err(PartOpenError::NoHeader);
            }
        }
    }

    /// Returns the header of the current part.
    pub const fn header(&self) -> &PartHeader {
        &self.header
    }

    /// Returns the note of the merge, if the recording was merged with others.
    pub const fn merge(&self) -> Option<&MergeNote> {
        self.merge.as_ref()
    }

    /// Returns the number of bytes of the input that were consumed.
    pub const fn position(&self) -> u64 {
        self.input.offset()
    }

    /// Returns true if the next entry has to be read from the input.
    pub fn is_waiting(&self) -> bool {
        self.queue.is_empty() && self.items.is_over()
    }

    /// Returns the next entry; `None` at the end. Reads no more of the input than necessary.
    ///
    /// # Errors
    ///
    /// An error while reading the input. Earlier entries stay valid.
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

    /// Reads the next block, or finds the end.
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
        // The content of an index or of an unknown block is not needed here.
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

    /// Handles a block with a good header and a payload that is damaged or unchecked.
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
                // The header is another part's: the following blocks do not belong to the current one, whatever their
                // numbers are.
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
        // If bytes were changed, the next block is where it should be. If bytes are missing, it is earlier.
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

    /// Handles a header within the stream: a copy of the current one, or another part's.
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
            // Its content would be misread.
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

    /// Handles the note of a merge. The first note is of the last merge, and includes those of earlier ones.
    fn note(&mut self, json: Option<&[u8]>, offset: u64) {
        match json.and_then(MergeNote::of) {
            Some(note) => self.merge = self.merge.take().or(Some(note)),
            // Without the note the recordings are still there.
            None => match self.queue.back_mut() {
                Some(ReaderEntry::Damage(RecordingDamage::Note { notes, .. })) => {
                    *notes = notes.saturating_add(1);
                },
                _ => self.damage(RecordingDamage::Note { offset, notes: 1 }),
            },
        }
    }

    /// Tells of a note before the first header that was not looked at; of the first only: there may be any number of them.
    fn unchecked_note(&mut self, offset: u64) {
        let told =
            |entry: &ReaderEntry| matches!(entry, ReaderEntry::Damage(RecordingDamage::UncheckedNote { .. }));
        if !self.queue.iter().any(told) {
            self.damage(RecordingDamage::UncheckedNote { offset });
        }
    }

    /// Counts a block after the end of the part without a header before it: it may be of another host.
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

    /// Handles a good block that is not the next one.
    fn other_number(&mut self, block: BlockHeader, whole: usize) {
        let offset = self.input.offset();
        if block.seq > self.seq {
            self.damage(RecordingDamage::Gap { offset, bytes: 0, blocks: block.seq - self.seq });
            self.seq = block.seq;
        } else {
            // A block with this number came before: its content must not come twice.
            self.damage(RecordingDamage::Gap { offset, bytes: whole as u64, blocks: 0 });
            self.input.consume(whole);
        }
    }

    /// Reads the trailer after the index.
    fn trailer(&mut self, index: u64) -> io::Result<()> {
        self.indexed = true;
        if self.input.fill(TRAILER_LEN)? >= TRAILER_LEN && parse_trailer(self.input.ahead()).is_some() {
            self.input.consume(TRAILER_LEN);
            return Ok(());
        }
        self.damage(RecordingDamage::Index { offset: index });
        // Only the trailer is missing, unless another part follows.
        self.input.resync(0, u64::MAX)?;
        Ok(())
    }

    /// Skips bytes that are not a block; `from` is at least 1.
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

    /// Ends the part at the current offset, and reports a missing end mark or index.
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
