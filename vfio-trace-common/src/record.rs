//! Decoding of a record source's bytes into typed records, without interpreting them. For user space only.

use alloc::{borrow::Cow, boxed::Box};

use thiserror::Error;
use zerocopy::{FromBytes, IntoBytes};

use crate::wire::{DecodedBody, Header, Kind};

/// A decoded record: its header, and the body of its kind. [`DecodedRecord::decode`] makes it from the bytes of the
/// ring buffer or of a recording. `N`: the type that a note's text is decoded into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodedRecord<N> {
    /// Header: thread, times, device and file.
    pub header: Header,
    /// Body: the part that only this kind of record has.
    pub body: DecodedBody<N>,
}

/// Body of a record that can be read from bytes. There are no defaults: each body says how much of it older recordings
/// have.
pub trait RecordPayload: Sized {
    /// Reads it from the beginning of a body; bytes after it were added by newer eBPF programs.
    ///
    /// # Errors
    ///
    /// See [`DecodeError`].
    fn decode(kind: Kind, body: &[u8]) -> Result<Self, DecodeError>;

    /// Returns the bytes that it is read from.
    fn encode(&self) -> Cow<'_, [u8]>;
}

impl<T: RecordPayload> RecordPayload for Box<T> {
    fn decode(kind: Kind, body: &[u8]) -> Result<Self, DecodeError> {
        T::decode(kind, body).map(Self::new)
    }

    fn encode(&self) -> Cow<'_, [u8]> {
        T::encode(self)
    }
}

/// Reason why bytes are not a record. Callers count these and go on: records do not depend on each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// There are fewer bytes than a header has.
    #[error("a record of {have} bytes is shorter than its header")]
    ShortHeader {
        /// Number of bytes that there are.
        have: usize,
    },
    /// The header promises more bytes than there are.
    #[error("a record of {len} bytes ends after {have}")]
    Truncated {
        /// Number of bytes that the header promises.
        len: usize,
        /// Number of bytes that there are.
        have: usize,
    },
    /// A kind that this version does not know.
    #[error("unknown record kind {kind}")]
    UnknownKind {
        /// Number of the kind.
        kind: u16,
    },
    /// The body is shorter than its kind needs.
    #[error("{kind:?} record: its body has {have} bytes, needs {need}")]
    ShortBody {
        /// Kind in the header.
        kind: Kind,
        /// Number of bytes of the body.
        have: usize,
        /// Number of bytes that the kind needs.
        need: usize,
    },
    /// A note whose text is not the JSON of a note.
    #[error("a note is not the JSON text that it should be")]
    NotANote,
    /// An ioctl that the eBPF programs should not have reported.
    #[error("unexpected ioctl {cmd:#x} on a device")]
    UnknownIoctl {
        /// The ioctl's number.
        cmd: u32,
    },
}

impl<N: RecordPayload> DecodedRecord<N> {
    /// Decodes one record. Bytes behind [`Header::len`] and behind the known body are ignored: the ring buffer rounds
    /// up, and newer eBPF programs may say more.
    ///
    /// # Errors
    ///
    /// See [`DecodeError`]; no content of `bytes` panics.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let have = bytes.len();
        let Ok((header, _)) = Header::read_from_prefix(bytes) else {
            return Err(DecodeError::ShortHeader { have });
        };
        let len = usize::from(header.len);
        let record = bytes.get(..len).ok_or(DecodeError::Truncated { len, have })?;
        let body = record.get(size_of::<Header>()..).ok_or(DecodeError::ShortHeader { have: len })?;
        let kind = Kind::from_raw(header.kind).ok_or(DecodeError::UnknownKind { kind: header.kind })?;
        Ok(Self { header, body: DecodedBody::decode(kind, body)? })
    }

    /// Returns the kind in a record's header without decoding the rest; `None` for an unknown kind.
    pub fn kind(bytes: &[u8]) -> Option<Kind> {
        let (header, _) = Header::read_from_prefix(bytes).ok()?;
        Kind::from_raw(header.kind)
    }
}

/// Reads a body whose length has never changed.
pub(crate) fn take<T: FromBytes>(kind: Kind, body: &[u8]) -> Result<T, DecodeError> {
    match T::read_from_prefix(body) {
        Ok((value, _)) => Ok(value),
        Err(_) => Err(DecodeError::ShortBody { kind, have: body.len(), need: size_of::<T>() }),
    }
}

/// Reads a body that was once only `before` bytes long: members added since are zero in older recordings.
pub(crate) fn take_grown<T: FromBytes + IntoBytes>(
    kind: Kind,
    body: &[u8],
    before: usize,
) -> Result<T, DecodeError> {
    if body.len() < before {
        return Err(DecodeError::ShortBody { kind, have: body.len(), need: before });
    }
    let mut value = T::new_zeroed();
    for (to, from) in value.as_mut_bytes().iter_mut().zip(body) {
        *to = *from;
    }
    Ok(value)
}
