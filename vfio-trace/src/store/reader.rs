//! Reads a recording from front to back, as it comes; goes on behind what is damaged.

use std::{
    collections::VecDeque,
    io::{self, Read},
    mem,
};

use thiserror::Error;
use vfio_trace_common::wire;

use super::{
    block::{BlockHeader, FORMAT, HEADER_LEN, Kind, MAGIC, find},
    damage::Damage,
    header::{BYTE_ORDER, Header},
    index::{TRAILER_LEN, parse_trailer},
    item::{Item, Items},
    merge::MergeNote,
};

/// How much of a file that does not begin as a recording is searched for one.
const SEARCH_LEN: u64 = 1 << 20;
/// A part begins with its header and a copy of it.
const HEADERS: u32 = 2;
/// Bytes asked for at a time.
const CHUNK: usize = 1 << 16;
/// Checksums of so many bytes may be computed in vain, and of [`VAIN_SHARE`] times what was passed. Blocks that are
/// damaged stay far below; what goes beyond is made so that each claims all that follows it, and is not checked.
const VAIN_LEN: u64 = 64 << 20;
const VAIN_SHARE: u64 = 4;

/// Why something is not read as a recording at all.
#[derive(Debug, Error)]
pub enum OpenError {
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Nothing is there.
    #[error("it is empty")]
    Empty,
    /// It is something else.
    #[error("it is not a recording of vfio-trace")]
    Foreign,
    /// It ends within its header.
    #[error("it is cut within its header, so nothing of it can be read")]
    Cut,
    /// Its header cannot be read.
    #[error("its header is damaged in both copies, so nothing tells what the rest means")]
    NoHeader,
    /// A later version made it.
    #[error("it was made by a newer vfio-trace (format {0}); this one reads format 1")]
    Newer(u8),
    /// A later version made its records.
    #[error(
        "its records were made by a newer vfio-trace (records of version {0}); this one reads them up to version {known}",
        known = wire::VERSION
    )]
    NewerRecords(u16),
    /// The header says what this version does not understand.
    #[error("its header is not understood, it may have been made by a newer vfio-trace: {0}")]
    Header(serde_json::Error),
    /// Made on a machine of the other byte order.
    #[error("its records have {0}-endian numbers, which this machine does not read")]
    ByteOrder(String),
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// An item.
    Item(Item),
    /// Another part begins: parts may follow each other in one stream.
    Part(Box<Header>),
    /// Something cannot be read.
    Damage(Damage),
}

/// Reads one stream. Memory is bounded by the longest block that is allowed, whatever the input is.
pub struct Reader<R> {
    input: R,
    /// What was read.
    buffer: Vec<u8>,
    /// What of the buffer was used.
    used: usize,
    /// Where the unused part of the buffer begins in the input.
    offset: u64,
    /// Bytes that were moved within the buffer.
    #[cfg(test)]
    moved: u64,
    /// Bytes whose checksum was computed and was wrong.
    vain: u64,
    end_of_input: bool,
    header: Header,
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
    nobodys: Option<Damage>,
    /// Nothing more can be read.
    done: bool,
    queue: VecDeque<Entry>,
    /// What is left of the block that was read last; it comes behind the queue.
    items: Items,
    /// Where that block begins.
    items_at: u64,
}

impl<R: Read> Reader<R> {
    /// Reads the header.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub fn open(input: R) -> Result<Self, OpenError> {
        let mut reader = Self {
            input,
            buffer: Vec::new(),
            used: 0,
            offset: 0,
            #[cfg(test)]
            moved: 0,
            vain: 0,
            end_of_input: false,
            header: Header::nothing(),
            merge: None,
            seq: 0,
            ended: false,
            indexed: false,
            repeated: false,
            nobodys: None,
            done: false,
            queue: VecDeque::new(),
            items: Items::default(),
            items_at: 0,
        };
        loop {
            let have = reader.fill(HEADER_LEN)?;
            if have == 0 && reader.offset == 0 {
                return Err(OpenError::Empty);
            }
            let begins = &reader.ahead()[..have.min(MAGIC.len())];
            if reader.offset == 0 && have < HEADER_LEN {
                return Err(if MAGIC.starts_with(begins) { OpenError::Cut } else { OpenError::Foreign });
            }
            let Some(block) = BlockHeader::parse(reader.ahead()) else {
                let ours = begins == MAGIC;
                let offset = reader.offset;
                let bytes = reader.resync(1, SEARCH_LEN)?;
                let none = if ours { OpenError::NoHeader } else { OpenError::Foreign };
                let found = BlockHeader::parse(reader.ahead()).ok_or(none)?;
                if found.kind != Kind::Header {
                    return Err(OpenError::NoHeader);
                }
                reader.queue.push_back(Entry::Damage(Damage::Gap { offset, bytes, blocks: found.seq }));
                continue;
            };
            if block.format != FORMAT {
                return Err(OpenError::Newer(block.format));
            }
            if !matches!(block.kind, Kind::Header | Kind::Merge) {
                return Err(OpenError::NoHeader);
            }
            let whole = HEADER_LEN + block.stored_len();
            if reader.fill(whole)? < whole {
                return Err(OpenError::Cut);
            }
            let sound = reader.is_sound(block, whole);
            let payload = reader.ahead().get(HEADER_LEN..whole).filter(|_| sound);
            let payload = payload.and_then(|stored| block.payload(stored));
            let offset = reader.offset;
            reader.consume(whole);
            if block.kind == Kind::Merge {
                reader.note(payload.as_deref(), offset);
                continue;
            }
            reader.seq = block.seq.wrapping_add(1);
            if let Some(json) = payload {
                reader.header = serde_json::from_slice(&json).map_err(OpenError::Header)?;
                if reader.header.byte_order != BYTE_ORDER {
                    return Err(OpenError::ByteOrder(reader.header.byte_order));
                }
                if reader.header.wire_version > wire::VERSION {
                    return Err(OpenError::NewerRecords(reader.header.wire_version));
                }
                return Ok(reader);
            }
            reader.queue.push_back(Entry::Damage(Damage::Block { offset, records: 0 }));
            if block.seq > 0 {
                return Err(OpenError::NoHeader);
            }
        }
    }

    /// The header of the part that is being read.
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// What was said when it was merged with others.
    pub const fn merge(&self) -> Option<&MergeNote> {
        self.merge.as_ref()
    }

    /// Bytes of the input that are done with.
    pub const fn position(&self) -> u64 {
        self.offset
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
    pub fn next(&mut self) -> io::Result<Option<Entry>> {
        loop {
            if let Some(entry) = self.queue.pop_front() {
                return Ok(Some(entry));
            }
            match self.items.next() {
                Some(Ok(item)) => {
                    self.ended |= matches!(item, Item::End(_));
                    return Ok(Some(Entry::Item(item)));
                },
                Some(Err(_)) => return Ok(Some(Entry::Damage(Damage::Item { offset: self.items_at }))),
                None => {},
            }
            if self.done {
                return Ok(self.nobodys.take().map(Entry::Damage));
            }
            self.block()?;
        }
    }

    /// Reads the next block, or finds out that there is none.
    fn block(&mut self) -> io::Result<()> {
        let have = self.fill(HEADER_LEN)?;
        if have == 0 {
            self.part_is_over(0);
            self.done = true;
            return Ok(());
        }
        let Some(block) = BlockHeader::parse(self.ahead()) else {
            if have < HEADER_LEN && !self.indexed {
                // The beginning of a block that was being written.
                self.part_is_over(0);
                self.consume(have);
                self.done = true;
                return Ok(());
            }
            return self.pass_over(1);
        };
        if block.format != FORMAT {
            self.damage(Damage::Newer { offset: self.offset, format: block.format });
            self.done = true;
            return Ok(());
        }
        let whole = HEADER_LEN + block.stored_len();
        let have = self.fill(whole)?;
        if have < whole && !self.holds_another() {
            match block.kind {
                Kind::Header | Kind::Merge if self.indexed => {
                    self.damage(Damage::Block { offset: self.offset, records: 0 });
                },
                _ if self.indexed => self.nobodys_block(block),
                _ => {},
            }
            self.part_is_over(block.records.max(u32::from(block.kind == Kind::Items)));
            self.consume(have);
            self.done = true;
            return Ok(());
        }
        if !self.is_sound(block, whole) {
            return self.damaged(block, whole);
        }
        // What is in an index, or in what is not known, nobody asks here.
        let payload = match (block.kind, self.ahead().get(HEADER_LEN..whole)) {
            (Kind::Index | Kind::Other(_), _) => Some(Vec::new()),
            (Kind::Header | Kind::Merge | Kind::Items, stored) => {
                stored.and_then(|stored| block.payload(stored))
            },
        };
        let Some(payload) = payload else { return self.damaged(block, whole) };
        if block.kind == Kind::Header {
            self.new_header(&payload, block, whole);
            return Ok(());
        }
        if block.kind == Kind::Merge {
            self.part_is_over(0);
            self.note(Some(&payload), self.offset);
            self.consume(whole);
            return Ok(());
        }
        if self.indexed {
            self.nobodys_block(block);
            self.consume(whole);
            if block.kind == Kind::Index {
                self.pass_trailer()?;
            }
            return Ok(());
        }
        if block.seq != self.seq {
            self.other_number(block, whole);
            return Ok(());
        }
        let offset = self.offset;
        self.consume(whole);
        self.seq = block.seq.wrapping_add(1);
        match block.kind {
            Kind::Items => match Items::of(payload) {
                Some(items) => (self.items, self.items_at) = (items, offset),
                None => self.damage(Damage::Block { offset, records: block.records }),
            },
            Kind::Index => self.trailer(offset)?,
            Kind::Header | Kind::Merge | Kind::Other(_) => {},
        }
        Ok(())
    }

    /// A block whose header is right and whose payload is not.
    fn damaged(&mut self, block: BlockHeader, whole: usize) -> io::Result<()> {
        let offset = self.offset;
        match block.kind {
            Kind::Index if !self.indexed => {
                self.indexed = true;
                self.damage(Damage::Index { offset });
            },
            Kind::Items | Kind::Index | Kind::Other(_) if self.indexed => self.nobodys_block(block),
            Kind::Merge => {
                self.part_is_over(0);
                self.damage(Damage::Note { offset });
            },
            kind => {
                // Another part's: what follows is not the present one's, whatever its numbers are.
                if kind == Kind::Header && block.seq != self.seq {
                    self.part_is_over(0);
                }
                self.damage(Damage::Block { offset, records: block.records });
            },
        }
        if block.seq >= self.seq && !self.indexed {
            self.seq = block.seq.wrapping_add(1);
        }
        // Either bytes were changed, and the next block is where it should be, or some are missing, and it is earlier.
        let have = self.fill(whole + HEADER_LEN)?;
        let next = self.ahead().get(whole..).unwrap_or_default();
        if have == whole || BlockHeader::parse(next).is_some() || parse_trailer(next).is_some() {
            self.consume(whole);
            if block.kind == Kind::Index {
                self.pass_trailer()?;
            }
        } else {
            self.resync(HEADER_LEN, u64::MAX)?;
        }
        Ok(())
    }

    /// A header within the stream: a copy of the present one, or another part's.
    fn new_header(&mut self, json: &[u8], block: BlockHeader, whole: usize) {
        let offset = self.offset;
        self.consume(whole);
        let Ok(header) = serde_json::from_slice::<Header>(json) else {
            self.part_is_over(0);
            self.damage(Damage::Block { offset, records: 0 });
            return;
        };
        if header.wire_version > wire::VERSION || header.byte_order != BYTE_ORDER {
            // What is in it would be taken for something else.
            self.damage(Damage::NewerRecords { offset, version: header.wire_version });
            self.done = true;
            return;
        }
        let same = header.part == self.header.part && header.recording == self.header.recording;
        if same && !self.indexed && self.seq <= HEADERS {
            if block.seq == self.seq {
                self.seq = block.seq.wrapping_add(1);
            } else {
                self.damage(Damage::Gap { offset, bytes: whole as u64, blocks: 0 });
            }
            return;
        }
        self.part_is_over(0);
        self.queue.extend(self.nobodys.take().map(Entry::Damage));
        if !same {
            self.header = header.clone();
            (self.ended, self.indexed, self.repeated) = (false, false, false);
            self.queue.push_back(Entry::Part(Box::new(header)));
            self.seq = block.seq.wrapping_add(1);
        } else if !mem::replace(&mut self.repeated, true) {
            // Its records must not come twice.
            self.damage(Damage::Again { offset, part: header.part });
        }
    }

    /// What was said when recordings were merged. The first note is of who merged last, and has what the others say.
    fn note(&mut self, json: Option<&[u8]>, offset: u64) {
        match json.and_then(|json| serde_json::from_slice(json).ok()) {
            Some(note) => self.merge = self.merge.take().or(Some(note)),
            // Without it the recordings are still there.
            None => self.damage(Damage::Note { offset }),
        }
    }

    /// A block behind the end of the part, and no header before it: it may be of another host.
    fn nobodys_block(&mut self, block: BlockHeader) {
        if self.repeated || matches!(block.kind, Kind::Header | Kind::Merge | Kind::Other(_)) {
            return;
        }
        let found = Damage::NoHeader { offset: self.offset, blocks: 0, records: 0 };
        if let Damage::NoHeader { blocks, records, .. } = self.nobodys.get_or_insert(found) {
            *blocks = blocks.saturating_add(1);
            *records = records.saturating_add(block.records.into());
        }
    }

    /// Passes over a trailer, if there is one.
    fn pass_trailer(&mut self) -> io::Result<()> {
        if self.fill(TRAILER_LEN)? >= TRAILER_LEN && parse_trailer(self.ahead()).is_some() {
            self.consume(TRAILER_LEN);
        }
        Ok(())
    }

    /// A good block that is not the next one.
    fn other_number(&mut self, block: BlockHeader, whole: usize) {
        let offset = self.offset;
        if block.seq > self.seq {
            self.damage(Damage::Gap { offset, bytes: 0, blocks: block.seq - self.seq });
            self.seq = block.seq;
        } else {
            // It was there before: what is in it must not come twice.
            self.damage(Damage::Gap { offset, bytes: whole as u64, blocks: 0 });
            self.consume(whole);
        }
    }

    /// What comes behind the index.
    fn trailer(&mut self, index: u64) -> io::Result<()> {
        self.indexed = true;
        if self.fill(TRAILER_LEN)? >= TRAILER_LEN && parse_trailer(self.ahead()).is_some() {
            self.consume(TRAILER_LEN);
            return Ok(());
        }
        self.damage(Damage::Index { offset: index });
        // Nothing but the trailer is missing, unless another part follows.
        self.resync(0, u64::MAX)?;
        Ok(())
    }

    /// Goes on behind bytes that are no block; `from` is at least 1.
    fn pass_over(&mut self, from: usize) -> io::Result<()> {
        let offset = self.offset;
        let bytes = self.resync(from, u64::MAX)?;
        let mut blocks = 0;
        if let Some(next) = BlockHeader::parse(self.ahead())
            && next.kind != Kind::Header
            && next.seq > self.seq
            && !self.indexed
        {
            blocks = next.seq - self.seq;
            self.seq = next.seq;
        }
        self.damage(Damage::Gap { offset, bytes, blocks });
        Ok(())
    }

    /// Whether what is in the buffer behind a block's header has another one.
    fn holds_another(&self) -> bool {
        find(self.ahead(), HEADER_LEN).is_some()
    }

    fn damage(&mut self, damage: Damage) {
        self.queue.push_back(Entry::Damage(damage));
    }

    /// The part's last byte is here; it should have had an end mark, and an index.
    fn part_is_over(&mut self, records: u32) {
        let offset = self.offset;
        let indexed = mem::replace(&mut self.indexed, true);
        if !mem::replace(&mut self.ended, true) {
            self.damage(if indexed { Damage::NoEnd { offset } } else { Damage::Cut { offset, records } });
        } else if !indexed {
            self.damage(Damage::Index { offset });
        }
    }

    /// What was read and not used yet.
    fn ahead(&self) -> &[u8] {
        self.buffer.get(self.used..).unwrap_or_default()
    }

    /// Whether the payload of a block that is `whole` bytes long is there, and what was written.
    fn is_sound(&mut self, block: BlockHeader, whole: usize) -> bool {
        let len = block.stored_len() as u64;
        let allowed = VAIN_LEN.saturating_add(self.offset.saturating_mul(VAIN_SHARE));
        if self.vain.saturating_add(len) > allowed {
            return false;
        }
        let Some(stored) = self.ahead().get(HEADER_LEN..whole) else { return false };
        let sound = block.matches(stored);
        self.vain += if sound { 0 } else { len };
        sound
    }

    /// Makes sure that there are so many bytes, if the input has them; gives how many of them there are.
    fn fill(&mut self, want: usize) -> io::Result<usize> {
        while self.ahead().len() < want && !self.end_of_input {
            // Moved once for as much as was used: what stays is not moved again and again.
            if self.used >= self.buffer.len() - self.used {
                #[cfg(test)]
                {
                    self.moved += (self.buffer.len() - self.used) as u64;
                }
                self.buffer.drain(..self.used);
                self.used = 0;
            }
            let (have, missing) = (self.buffer.len(), want - self.ahead().len());
            self.buffer.resize(have + missing.clamp(CHUNK, CHUNK * 16), 0);
            let got = loop {
                match self.input.read(self.buffer.get_mut(have..).unwrap_or_default()) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {},
                    Err(error) => {
                        self.buffer.truncate(have);
                        return Err(error);
                    },
                    Ok(got) => break got,
                }
            };
            self.buffer.truncate(have + got);
            self.end_of_input = got == 0;
        }
        Ok(self.ahead().len().min(want))
    }

    fn consume(&mut self, bytes: usize) {
        let bytes = bytes.min(self.ahead().len());
        self.used += bytes;
        self.offset += bytes as u64;
    }

    /// Goes to the next block that begins at `from` or later, or to the end; gives how many bytes were passed over.
    fn resync(&mut self, from: usize, limit: u64) -> io::Result<u64> {
        let (start, mut from) = (self.offset, from);
        loop {
            if let Some(at) = find(self.ahead(), from) {
                self.consume(at);
                break;
            }
            // The last bytes may be the beginning of a header.
            let keep = if self.end_of_input { 0 } else { HEADER_LEN - 1 };
            let len = self.ahead().len();
            let useless = len.saturating_sub(keep).max(from.min(len));
            self.consume(useless);
            from = from.saturating_sub(useless);
            if self.offset - start > limit || self.end_of_input {
                break;
            }
            let want = self.ahead().len() + HEADER_LEN;
            self.fill(want)?;
        }
        Ok(self.offset - start)
    }

    #[cfg(test)]
    pub(super) const fn vain(&self) -> u64 {
        self.vain
    }

    #[cfg(test)]
    pub(super) const fn moved(&self) -> u64 {
        self.moved
    }

    #[cfg(test)]
    pub(super) fn waiting_entries(&self) -> usize {
        self.queue.len()
    }
}
