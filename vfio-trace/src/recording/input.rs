//! What a reader of a recording has of its input: a buffer, and how far the search for good blocks has come.

use std::io::{self, Read};

use super::{
    block::{BlockHeader, HEADER_LEN, find},
    index::{TRAILER_LEN, parse_trailer},
};

/// Bytes asked for at a time.
const CHUNK: usize = 1 << 16;
/// So many bytes may be checked and unpacked in vain, and of [`VAIN_SHARE`] times what was passed. Blocks that are
/// damaged stay far below; what goes beyond is made so that each claims all that follows it, and is not checked.
const VAIN_LEN: u64 = 64 << 20;
const VAIN_SHARE: u64 = 4;

/// Why a payload is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PayloadError {
    /// It is not what was written, or not there.
    Damaged,
    /// It may be right: it was not looked at, because too much before it was wrong.
    Unchecked,
}

/// The input, as far as it was read.
pub(super) struct InputBuffer<R> {
    from: R,
    /// What was read.
    buffer: Vec<u8>,
    /// What of the buffer was used.
    used: usize,
    /// Where the unused part of the buffer begins in the input.
    offset: u64,
    /// Bytes that were moved within the buffer.
    #[cfg(test)]
    moved: u64,
    /// Bytes that were checked or unpacked, and were wrong.
    vain: u64,
    at_end: bool,
}

impl<R: Read> InputBuffer<R> {
    pub(super) const fn new(input: R) -> Self {
        Self {
            from: input,
            buffer: Vec::new(),
            used: 0,
            offset: 0,
            #[cfg(test)]
            moved: 0,
            vain: 0,
            at_end: false,
        }
    }

    /// Bytes that are done with.
    pub(super) const fn offset(&self) -> u64 {
        self.offset
    }

    /// What was read and not used yet.
    pub(super) fn ahead(&self) -> &[u8] {
        self.buffer.get(self.used..).unwrap_or_default()
    }

    /// Whether what is in the buffer behind a block's header has another one.
    pub(super) fn holds_another(&self) -> bool {
        find(self.ahead(), HEADER_LEN).is_some()
    }

    /// The payload of a block that is `whole` bytes long, if that is there, and what was written.
    pub(super) fn payload(&mut self, block: BlockHeader, whole: usize) -> Result<Vec<u8>, PayloadError> {
        self.check(block, whole)?;
        let payload = self.ahead().get(HEADER_LEN..whole).and_then(|stored| block.payload(stored));
        if payload.is_none() {
            self.vain = self.vain.saturating_add(u64::from(block.stored) + u64::from(block.raw));
        }
        payload.ok_or(PayloadError::Damaged)
    }

    /// Whether the payload of a block that is `whole` bytes long is there, and what was written.
    pub(super) fn check(&mut self, block: BlockHeader, whole: usize) -> Result<(), PayloadError> {
        let len = block.stored_len() as u64;
        let allowed = VAIN_LEN.saturating_add(self.offset.saturating_mul(VAIN_SHARE));
        if self.vain.saturating_add(len) > allowed {
            return Err(PayloadError::Unchecked);
        }
        let Some(stored) = self.ahead().get(HEADER_LEN..whole) else { return Err(PayloadError::Damaged) };
        if block.matches(stored) {
            return Ok(());
        }
        self.vain += len;
        Err(PayloadError::Damaged)
    }

    /// Makes sure that there are so many bytes, if the input has them; gives how many of them there are.
    pub(super) fn fill(&mut self, want: usize) -> io::Result<usize> {
        while self.ahead().len() < want && !self.at_end {
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
                match self.from.read(self.buffer.get_mut(have..).unwrap_or_default()) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {},
                    Err(error) => {
                        self.buffer.truncate(have);
                        return Err(error);
                    },
                    Ok(got) => break got,
                }
            };
            self.buffer.truncate(have + got);
            self.at_end = got == 0;
        }
        Ok(self.ahead().len().min(want))
    }

    pub(super) fn consume(&mut self, bytes: usize) {
        let bytes = bytes.min(self.ahead().len());
        self.used += bytes;
        self.offset += bytes as u64;
    }

    /// Goes to the next block that begins at `from` or later, or to the end; gives how many bytes were passed over.
    pub(super) fn resync(&mut self, from: usize, limit: u64) -> io::Result<u64> {
        let (start, mut from) = (self.offset, from);
        loop {
            if let Some(at) = find(self.ahead(), from) {
                self.consume(at);
                break;
            }
            // The last bytes may be the beginning of a header.
            let keep = if self.at_end { 0 } else { HEADER_LEN - 1 };
            let len = self.ahead().len();
            let useless = len.saturating_sub(keep).max(from.min(len));
            self.consume(useless);
            from = from.saturating_sub(useless);
            if self.offset - start > limit || self.at_end {
                break;
            }
            let want = self.ahead().len() + HEADER_LEN;
            self.fill(want)?;
        }
        Ok(self.offset - start)
    }

    /// Passes over a trailer, if there is one.
    pub(super) fn pass_trailer(&mut self) -> io::Result<()> {
        if self.fill(TRAILER_LEN)? >= TRAILER_LEN && parse_trailer(self.ahead()).is_some() {
            self.consume(TRAILER_LEN);
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) const fn vain(&self) -> u64 {
        self.vain
    }

    #[cfg(test)]
    pub(super) const fn moved(&self) -> u64 {
        self.moved
    }
}
