//! Buffer over the input of a reader, and the search for the next good block.

use std::io::{self, Read};

use super::{
    block::{BlockHeader, HEADER_LEN, find},
    index::{TRAILER_LEN, parse_trailer},
};

/// Number of bytes to read at a time.
const CHUNK: usize = 1 << 16;
/// Limits of useless work: `VAIN_LEN` bytes plus [`VAIN_SHARE`] times the bytes passed so far may be checked or
/// decompressed and turn out wrong. Real damage stays far below. Only files in which each block claims all that follows
/// it exceed it: their blocks are not checked any more.
const VAIN_LEN: u64 = 64 << 20;
const VAIN_SHARE: u64 = 4;

/// Reason why a payload cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PayloadError {
    /// Payload that is not the one that was written, or not complete.
    Damaged,
    /// Payload that may be right: it was not checked, because too much before it was wrong.
    Unchecked,
}

/// Input of a reader, as far as it was read.
pub(super) struct InputBuffer<R> {
    from: R,
    /// Bytes that were read.
    buffer: Vec<u8>,
    /// Number of bytes of the buffer that were consumed.
    used: usize,
    /// Offset in the input of the first byte that was not consumed.
    offset: u64,
    /// Number of bytes that were moved within the buffer.
    #[cfg(test)]
    moved: u64,
    /// Number of bytes that were checked or decompressed and were wrong.
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

    /// Returns the number of bytes that were consumed.
    pub(super) const fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns the bytes that were read and not consumed yet.
    pub(super) fn ahead(&self) -> &[u8] {
        self.buffer.get(self.used..).unwrap_or_default()
    }

    /// Returns true if the buffer has another block header after the present one.
    pub(super) fn holds_another(&self) -> bool {
        find(self.ahead(), HEADER_LEN).is_some()
    }

    /// Checks and decompresses the payload of a block of `whole` bytes.
    pub(super) fn payload(&mut self, block: BlockHeader, whole: usize) -> Result<Vec<u8>, PayloadError> {
        self.check(block, whole)?;
        let payload = self.ahead().get(HEADER_LEN..whole).and_then(|stored| block.payload(stored));
        if payload.is_none() {
            self.vain = self.vain.saturating_add(u64::from(block.stored) + u64::from(block.raw));
        }
        payload.ok_or(PayloadError::Damaged)
    }

    /// Checks the payload of a block of `whole` bytes: it must be complete and the one that was written.
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

    /// Reads until `want` bytes are in the buffer, or the input ends. Returns the number of bytes, `want` at most.
    pub(super) fn fill(&mut self, want: usize) -> io::Result<usize> {
        while self.ahead().len() < want && !self.at_end {
            // The rest is moved only if at least as much was consumed, so that it is not moved again and again.
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

    /// Skips to the next block that begins at `from` or later, to the end, or until more than `limit` bytes were
    /// skipped. Returns the number of skipped bytes.
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

    /// Skips a trailer, if there is one.
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
