//! Records as user space has them: notes are read as [`RecordNote`].

use vfio_trace_common::{record::DecodedRecord, wire::DecodedBody};

use super::RecordNote;

/// One wire record: the header that every record has, and the body of its kind. The eBPF programs (or, for notes, user
/// space) make it; sources decode it; the assembler turns it into events.
pub type WireRecord = DecodedRecord<RecordNote>;

/// A record's body, by [`vfio_trace_common::wire::Kind`].
pub type RecordBody = DecodedBody<RecordNote>;

/// Converts a NUL padded field to text. Bytes that are not UTF-8 (a `comm` is cut at 15 bytes) become U+FFFD.
pub(crate) fn text(field: &[u8]) -> String {
    let end = memchr::memchr(0, field).unwrap_or(field.len());
    String::from_utf8_lossy(field.get(..end).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vfio_trace_common::{record::DecodeError, wire};

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
