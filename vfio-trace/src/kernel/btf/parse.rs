//! Parser of a BTF file: header, sections and the index of types.

use std::{fmt, sync::Arc};

use zerocopy::{FromBytes, Immutable, KnownLayout};

use super::{
    error::BtfError,
    types::{RawType, TypeId, info_kind, info_vlen},
};

const MAGIC: u16 = 0xeb9f;
const VERSION: u8 = 1;
/// Length of `struct btf_header` up to `str_len`, in bytes: all that kernels before the layout section have.
const HEADER_LEN: usize = 24;

/// `struct btf_header` (include/uapi/linux/btf.h), the part that every kernel has.
#[derive(FromBytes, KnownLayout, Immutable)]
#[repr(C)]
struct BtfHeader {
    magic: u16,
    version: u8,
    flags: u8,
    hdr_len: u32,
    type_off: u32,
    type_len: u32,
    str_off: u32,
    str_len: u32,
}

/// One BTF file: the kernel's (vmlinux) or, with a base, a module's. [`BtfCollection`](super::super::BtfCollection)
/// reads and keeps them; all lookups of structs, members and functions use them. Never changes once parsed.
///
/// A module's type ids and string offsets continue those of its base; lookups by id and by string see both.
pub struct Btf {
    pub(super) name: String,
    data: Vec<u8>,
    pub(super) base: Option<Arc<Self>>,
    /// Id of the first type in this file.
    pub(super) first_id: u32,
    /// String offset of the first byte of this file's strings.
    pub(super) first_string: u32,
    strings: (usize, usize),
    /// Offset of each type in `data`.
    pub(super) offsets: Vec<u32>,
}

impl fmt::Debug for Btf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Btf")
            .field("name", &self.name)
            .field("types", &self.offsets.len())
            .finish_non_exhaustive()
    }
}

impl Btf {
    /// Indexes raw BTF in host byte order. `name` is for messages; `base` is vmlinux's BTF when `data` is a module's.
    ///
    /// # Errors
    ///
    /// [`BtfError`] if the bytes are not BTF, are from another architecture, are newer than this reader, or lead out
    /// of themselves.
    pub fn parse(name: impl Into<String>, data: Vec<u8>, base: Option<Arc<Self>>) -> Result<Self, BtfError> {
        let name = name.into();
        let damaged = |what: &str| BtfError::Damaged { name: name.clone(), what: what.to_owned() };
        let Ok((header, _)) = BtfHeader::read_from_prefix(&data) else {
            return Err(damaged("it is shorter than a BTF header"));
        };
        if header.magic == MAGIC.swap_bytes() {
            return Err(BtfError::OtherEndian { name });
        }
        if header.magic != MAGIC {
            return Err(BtfError::NotBtf { name, found: header.magic });
        }
        if header.version != VERSION {
            return Err(BtfError::Version { name, version: header.version });
        }
        let header_len = header.hdr_len as usize;
        if header_len < HEADER_LEN || header_len > data.len() {
            return Err(damaged("the header's length is impossible"));
        }
        let section = |offset: u32, len: u32| {
            let start = header_len.checked_add(offset as usize)?;
            let end = start.checked_add(len as usize)?;
            (end <= data.len() && u32::try_from(end).is_ok()).then_some((start, end))
        };
        let types =
            section(header.type_off, header.type_len).ok_or_else(|| damaged("types lie beyond its end"))?;
        let strings =
            section(header.str_off, header.str_len).ok_or_else(|| damaged("strings lie beyond its end"))?;
        let text = data.get(strings.0..strings.1).unwrap_or_default();
        // A split file's strings need not start with the empty one: that is offset 0, the base's.
        if text.last().is_some_and(|&byte| byte != 0) || (base.is_none() && text.first() != Some(&0)) {
            return Err(damaged("its string section is not made of C strings"));
        }
        let (first_id, first_string) = match &base {
            None => (1, 0),
            Some(base) if base.base.is_none() => (base.end_id(), base.end_string()),
            Some(_) => return Err(damaged("its base is split BTF itself")),
        };
        let (Some(end_string), Some(_)) =
            (first_string.checked_add(header.str_len), first_id.checked_add(header.type_len))
        else {
            return Err(damaged("ids or string offsets overflow"));
        };
        let kinds = kind_layout(&data, header_len);
        let offsets = index(&name, &data, types, first_id, end_string, &kinds)?;
        Ok(Self { name, data, base, first_id, first_string, strings, offsets })
    }

    /// Returns the name given to [`Btf::parse`].
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the number of types in this file, without its base's.
    pub fn type_count(&self) -> usize {
        self.offsets.len()
    }

    /// Returns true if this is a module's BTF, on top of the kernel's.
    pub const fn is_split(&self) -> bool {
        self.base.is_some()
    }

    /// Returns true if a type is this file's own, not its base's.
    pub const fn is_own(&self, id: TypeId) -> bool {
        id.0 >= self.first_id
    }

    /// Returns the ids of this file's own types.
    pub fn own_ids(&self) -> impl Iterator<Item = TypeId> + use<> {
        (self.first_id..self.end_id()).map(TypeId)
    }

    /// Returns the id after the last type's.
    fn end_id(&self) -> u32 {
        self.first_id + self.offsets.len() as u32
    }

    /// Returns the offset after the last string.
    pub(super) fn end_string(&self) -> u32 {
        self.first_string + (self.strings.1 - self.strings.0) as u32
    }

    /// Returns the fixed part of this file's type number `index`, and all bytes behind it.
    pub(super) fn raw(&self, index: usize) -> Option<(RawType, &[u8])> {
        let offset = *self.offsets.get(index)? as usize;
        RawType::read_from_prefix(self.data.get(offset..)?).ok()
    }

    /// Returns the bytes from a string's start to the end of its section; nothing if there is no such offset.
    fn string_tail(&self, offset: u32) -> &[u8] {
        match &self.base {
            Some(base) if offset < self.first_string => base.string_tail(offset),
            _ => {
                let text = self.data.get(self.strings.0..self.strings.1).unwrap_or_default();
                text.get(offset.saturating_sub(self.first_string) as usize..).unwrap_or_default()
            },
        }
    }

    /// Returns the string at an offset, without its NUL; empty if there is none.
    pub(super) fn string(&self, offset: u32) -> &[u8] {
        let tail = self.string_tail(offset);
        let len = memchr::memchr(0, tail).unwrap_or(tail.len());
        tail.get(..len).unwrap_or_default()
    }

    /// Returns true if the string at an offset is `text`: cheaper than looking for its end.
    pub(super) fn string_is(&self, offset: u32, text: &[u8]) -> bool {
        self.string_tail(offset).strip_prefix(text).is_some_and(|rest| rest.first() == Some(&0))
    }
}

/// Reads the layout section (`btf_header.layout_off`, `struct btf_layout`; 24-byte headers have none), which tells the
/// length of each kind: bytes after `struct btf_type`, and bytes per element. With it unknown kinds can be skipped.
fn kind_layout(data: &[u8], header_len: usize) -> Vec<(usize, usize)> {
    let word = |at: usize| {
        (at + 4 <= header_len)
            .then(|| data.get(at..at + 4).and_then(|bytes| u32::read_from_bytes(bytes).ok()))
            .flatten()
    };
    let (Some(offset), Some(len)) = (word(HEADER_LEN), word(HEADER_LEN + 4)) else { return Vec::new() };
    let start = header_len.saturating_add(offset as usize);
    let section = data.get(start..start.saturating_add(len as usize)).unwrap_or_default();
    let kinds = section.chunks_exact(4).take(0x80);
    kinds
        .map(|kind| kind.first().zip(kind.get(1)).map_or((0, 0), |(&one, &each)| (one.into(), each.into())))
        .collect()
}

/// Returns the number of bytes that follow `struct btf_type`, by kind (include/uapi/linux/btf.h); `None` for an unknown
/// kind.
fn extra_len(info: u32, kinds: &[(usize, usize)]) -> Option<usize> {
    let vlen = info_vlen(info) as usize;
    Some(match info_kind(info) {
        2 | 7..=12 | 16 | 18 => 0,
        1 | 14 | 17 => 4,
        3 => 12,
        4 | 5 | 15 | 19 => 12 * vlen,
        6 | 13 => 8 * vlen,
        0 => return None,
        other => {
            let &(one, each) = kinds.get(usize::from(other))?;
            one + each * vlen
        },
    })
}

/// Finds the offset of each type. Names are checked here, because a module's BTF on top of the wrong vmlinux shows
/// there.
fn index(
    name: &str,
    data: &[u8],
    (start, end): (usize, usize),
    first_id: u32,
    end_string: u32,
    kinds: &[(usize, usize)],
) -> Result<Vec<u32>, BtfError> {
    let damaged = |what: String| BtfError::Damaged { name: name.to_owned(), what };
    let types = data.get(..end).unwrap_or_default();
    // A kernel's types take 24 bytes on average; growing once more is cheaper than a pass to count them.
    let mut offsets = Vec::with_capacity((end - start) / 24 + 1);
    let mut at = start;
    while at < end {
        let id = first_id + offsets.len() as u32;
        let Some(raw) = types.get(at..).and_then(|rest| RawType::read_from_prefix(rest).ok()) else {
            return Err(damaged(format!("type {id} is cut off")));
        };
        let (raw, _) = raw;
        let Some(extra) = extra_len(raw.info, kinds) else {
            return Err(BtfError::UnknownKind { name: name.to_owned(), id, kind: info_kind(raw.info) });
        };
        if raw.name_off >= end_string && raw.name_off != 0 {
            return Err(damaged(format!(
                "the name of type {id} lies beyond its strings (was it made for another vmlinux?)"
            )));
        }
        offsets.push(at as u32);
        at += size_of::<RawType>() + extra;
    }
    if at != end {
        return Err(damaged("its last type is cut off".to_owned()));
    }
    offsets.shrink_to_fit();
    Ok(offsets)
}
