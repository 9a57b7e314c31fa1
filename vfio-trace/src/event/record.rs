//! Bytes from a record source -> one typed record. Nothing is interpreted here.

use thiserror::Error;
use vfio_trace_common::{uapi, wire};
use zerocopy::{FromBytes, IntoBytes};

use super::RecordNote;

/// One wire record: what every record has, and what its kind adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireRecord {
    /// Who, when, and on which device and file.
    pub header: wire::Header,
    /// What happened.
    pub body: RecordBody,
}

/// A record's body, by [`wire::Kind`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordBody {
    /// A device seen for the first time, or opened.
    Device(wire::Device),
    /// The core said which state comes next.
    NextState(wire::NextState),
    /// The driver's `migration_set_state` returned.
    SetState(wire::SetState),
    /// The driver's `migration_get_state` returned.
    GetState(wire::GetState),
    /// The driver's `migration_get_data_size` returned.
    DataSize(wire::DataSize),
    /// `read()` on a data fd returned.
    Read(wire::DataIo),
    /// `write()` on a data fd returned.
    Write(wire::DataIo),
    /// An ioctl on a data fd returned.
    PrecopyInfo(wire::PrecopyInfo),
    /// The last reference to a data fd is gone.
    DataRelease(wire::DataRelease),
    /// VFIO_DEVICE_FEATURE or VFIO_DEVICE_RESET returned.
    Ioctl(wire::Ioctl),
    /// A device was opened.
    Open(wire::Open),
    /// A device is being closed.
    Close(wire::Close),
    /// A process has a device open.
    Holder(wire::Holder),
    /// A device was registered with vfio.
    Register(wire::Registered),
    /// A device is about to be taken from vfio.
    Unregister,
    /// What DMA_LOGGING_START asked for.
    LogRanges(Box<wire::LogRanges>),
    /// What DMA_LOGGING_REPORT found.
    LogDirty(wire::LogDirty),
    /// The PCI core has reset the device.
    PciReset(wire::PciReset),
    /// A function that a driver plug-in asked for returned.
    Step(wire::Step),
    /// A driver's structure.
    Capture(Box<wire::Capture>),
    /// The kernel has loaded a module.
    Module(wire::Module),
    /// What user space adds.
    Note(RecordNote),
}

/// Why bytes are not a record. Callers count these and go on: records do not depend on each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// Less than a header.
    #[error("a record of {have} bytes is shorter than its header")]
    ShortHeader {
        /// Bytes there are.
        have: usize,
    },
    /// The header promises more bytes than there are.
    #[error("a record of {len} bytes ends after {have}")]
    Truncated {
        /// Bytes the header promises.
        len: usize,
        /// Bytes there are.
        have: usize,
    },
    /// A kind that this version does not know.
    #[error("unknown record kind {kind}")]
    UnknownKind {
        /// The number.
        kind: u16,
    },
    /// The body is shorter than its kind needs.
    #[error("{kind:?} record: its body has {have} bytes, needs {need}")]
    ShortBody {
        /// What it says it is.
        kind: wire::Kind,
        /// Bytes of the body.
        have: usize,
        /// Bytes the kind needs.
        need: usize,
    },
    /// A note that is not one.
    #[error("a note is not the JSON text that it should be")]
    NotANote,
    /// An ioctl that the eBPF side should not have reported.
    #[error("unexpected ioctl {cmd:#x} on a device")]
    UnknownIoctl {
        /// The ioctl's number.
        cmd: u32,
    },
}

impl WireRecord {
    /// Decodes one record. Bytes behind [`wire::Header::len`] and behind the known body are ignored: the ring buffer
    /// rounds up, and a newer eBPF side may say more.
    ///
    /// # Errors
    ///
    /// See [`DecodeError`]; no content of `bytes` panics.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let have = bytes.len();
        let Ok((header, _)) = wire::Header::read_from_prefix(bytes) else {
            return Err(DecodeError::ShortHeader { have });
        };
        let len = usize::from(header.len);
        let record = bytes.get(..len).ok_or(DecodeError::Truncated { len, have })?;
        let body = record.get(size_of::<wire::Header>()..).ok_or(DecodeError::ShortHeader { have: len })?;
        let kind = wire::Kind::from_raw(header.kind).ok_or(DecodeError::UnknownKind { kind: header.kind })?;
        Ok(Self { header, body: RecordBody::decode(kind, body)? })
    }

    /// The kind that a record says it is of, without a look at the rest; `None` for one that is not known.
    pub fn kind(bytes: &[u8]) -> Option<wire::Kind> {
        let (header, _) = wire::Header::read_from_prefix(bytes).ok()?;
        wire::Kind::from_raw(header.kind)
    }
}

impl RecordBody {
    fn decode(kind: wire::Kind, body: &[u8]) -> Result<Self, DecodeError> {
        use wire::Kind;
        Ok(match kind {
            Kind::Device => Self::Device(take(kind, body)?),
            Kind::NextState => Self::NextState(take(kind, body)?),
            Kind::SetState => Self::SetState(take(kind, body)?),
            Kind::GetState => Self::GetState(take(kind, body)?),
            Kind::DataSize => Self::DataSize(take(kind, body)?),
            Kind::Read => Self::Read(take(kind, body)?),
            Kind::Write => Self::Write(take(kind, body)?),
            Kind::PrecopyInfo => Self::PrecopyInfo(take_grown(kind, body, wire::PRECOPY_INFO_BEFORE)?),
            Kind::DataRelease => Self::DataRelease(take(kind, body)?),
            Kind::Ioctl => match take_grown::<wire::Ioctl>(kind, body, wire::IOCTL_BEFORE)? {
                ioctl if matches!(ioctl.cmd, uapi::VFIO_DEVICE_FEATURE | uapi::VFIO_DEVICE_RESET) => {
                    Self::Ioctl(ioctl)
                },
                ioctl => return Err(DecodeError::UnknownIoctl { cmd: ioctl.cmd }),
            },
            Kind::Open => Self::Open(take(kind, body)?),
            Kind::Close => Self::Close(take(kind, body)?),
            Kind::Holder => Self::Holder(take(kind, body)?),
            Kind::Register => Self::Register(take(kind, body)?),
            Kind::Unregister => Self::Unregister,
            Kind::LogRanges => Self::LogRanges(Box::new(take(kind, body)?)),
            Kind::LogDirty => Self::LogDirty(take(kind, body)?),
            Kind::PciReset => Self::PciReset(take(kind, body)?),
            Kind::Step => Self::Step(take(kind, body)?),
            Kind::Capture => Self::Capture(Box::new(take(kind, body)?)),
            Kind::Module => Self::Module(take(kind, body)?),
            Kind::Note => Self::Note(serde_json::from_slice(body).map_err(|_why| DecodeError::NotANote)?),
        })
    }
}

fn take<T: FromBytes>(kind: wire::Kind, body: &[u8]) -> Result<T, DecodeError> {
    match T::read_from_prefix(body) {
        Ok((value, _)) => Ok(value),
        Err(_) => Err(DecodeError::ShortBody { kind, have: body.len(), need: size_of::<T>() }),
    }
}

/// A body that was once no longer than `before`: what it has gained since is zero in older recordings.
fn take_grown<T: FromBytes + IntoBytes>(
    kind: wire::Kind,
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

/// Text of a NUL padded field. Bytes that are not UTF-8 (a `comm` is cut at 15 bytes) become U+FFFD.
pub(crate) fn text(field: &[u8]) -> String {
    let end = field.iter().position(|&byte| byte == 0).unwrap_or(field.len());
    String::from_utf8_lossy(field.get(..end).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::fixture;

    fn close() -> Vec<u8> {
        fixture::bytes(&fixture::RecordScript::new(7).close(1).records()[0])
    }

    #[test]
    fn longer_records_are_accepted_and_shorter_ones_named() {
        let good = close();
        let record = WireRecord::decode(&good).unwrap();
        assert!(matches!(record.body, RecordBody::Close(wire::Close { open_count: 1, .. })));

        let mut longer = good.clone();
        longer.extend([0xff; 16]);
        assert_eq!(WireRecord::decode(&longer), Ok(record.clone()), "bytes behind len");
        longer[0] += 16;
        assert_eq!(WireRecord::decode(&longer).unwrap().body, record.body, "a body that has grown");

        let cut = |n: usize| WireRecord::decode(&good[..n]);
        assert_eq!(cut(63), Err(DecodeError::ShortHeader { have: 63 }));
        assert_eq!(cut(71), Err(DecodeError::Truncated { len: 72, have: 71 }));
        let mut short = good.clone();
        short[0] = 68;
        let error = DecodeError::ShortBody { kind: wire::Kind::Close, have: 4, need: 8 };
        assert_eq!(WireRecord::decode(&short), Err(error));
        short[0] = 10;
        assert_eq!(WireRecord::decode(&short), Err(DecodeError::ShortHeader { have: 10 }));
        let mut unknown = good;
        unknown[2] = 99;
        assert_eq!(WireRecord::decode(&unknown), Err(DecodeError::UnknownKind { kind: 99 }));
    }

    #[test]
    fn bodies_from_before_they_grew_are_still_read() {
        let cut = |record: &WireRecord, before: usize| {
            let mut bytes = fixture::bytes(record);
            bytes.truncate(size_of::<wire::Header>() + before);
            let len = u16::try_from(bytes.len()).unwrap();
            bytes[..2].copy_from_slice(&len.to_ne_bytes());
            WireRecord::decode(&bytes)
        };
        let script = fixture::RecordScript::new(7).set_ioctl(1, 2, 0, -1).precopy_info(9, 5, 6);
        let [ioctl, info] = &script.records()[..] else { panic!() };
        assert_eq!(cut(ioctl, wire::IOCTL_BEFORE).unwrap().body, ioctl.body);
        assert_eq!(cut(info, wire::PRECOPY_INFO_BEFORE).unwrap().body, info.body);
        let error = DecodeError::ShortBody { kind: wire::Kind::Ioctl, have: 79, need: 80 };
        assert_eq!(cut(ioctl, wire::IOCTL_BEFORE - 1), Err(error));
    }

    #[test]
    fn text_ends_at_the_first_nul() {
        assert_eq!(text(b"qemu\0junk"), "qemu");
        assert_eq!(text(b"full"), "full");
        assert_eq!(text(b"caf\xc3\0"), "caf\u{fffd}");
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(record) = WireRecord::decode(&bytes) {
                prop_assert!(usize::from(record.header.len) <= bytes.len());
                prop_assert_eq!(WireRecord::kind(&bytes).map(|kind| kind as u16), Some(record.header.kind));
            }
        }

        #[test]
        fn what_was_written_is_read_back(record in fixture::any_record()) {
            prop_assert_eq!(WireRecord::decode(&fixture::bytes(&record)), Ok(record));
        }
    }
}
