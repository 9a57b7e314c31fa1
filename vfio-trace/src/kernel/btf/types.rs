//! Types of BTF, each decoded when it is asked for.

use zerocopy::{FromBytes, Immutable, KnownLayout};

use super::{error::BtfError, parse::Btf};

/// Number of a type; 0 is `void`. Ids of a module's own types follow those of vmlinux.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TypeId(pub u32);

/// Kind of a type: `BTF_KIND_*` of include/uapi/linux/btf.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the kernel's")]
pub enum BtfKind {
    Void,
    Int,
    Ptr,
    Array,
    Struct,
    Union,
    Enum,
    Fwd,
    Typedef,
    Volatile,
    Const,
    Restrict,
    Func,
    FuncProto,
    Var,
    Datasec,
    Float,
    DeclTag,
    TypeTag,
    Enum64,
    /// A kind that this reader does not know, but whose size the file's layout section tells.
    Other(u8),
}

impl BtfKind {
    const fn of(number: u8) -> Self {
        match number {
            0 => Self::Void,
            1 => Self::Int,
            2 => Self::Ptr,
            3 => Self::Array,
            4 => Self::Struct,
            5 => Self::Union,
            6 => Self::Enum,
            7 => Self::Fwd,
            8 => Self::Typedef,
            9 => Self::Volatile,
            10 => Self::Const,
            11 => Self::Restrict,
            12 => Self::Func,
            13 => Self::FuncProto,
            14 => Self::Var,
            15 => Self::Datasec,
            16 => Self::Float,
            17 => Self::DeclTag,
            18 => Self::TypeTag,
            19 => Self::Enum64,
            other => Self::Other(other),
        }
    }
}

/// `struct btf_type` (include/uapi/linux/btf.h).
#[derive(Clone, Copy, FromBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(super) struct RawType {
    pub(super) name_off: u32,
    pub(super) info: u32,
    pub(super) size_or_type: u32,
}

/// Returns the kind in `btf_type.info`: bits 24-30; before the layout section existed, bits 29 and 30 were unused and
/// zero.
pub(super) const fn info_kind(info: u32) -> u8 {
    (info >> 24 & 0x7f) as u8
}

/// Returns the `vlen` in `btf_type.info`: bits 0-23; before the layout section existed, bits 16-23 were unused and
/// zero.
pub(super) const fn info_vlen(info: u32) -> u32 {
    info & 0x00ff_ffff
}

/// A decoded type, with the file that defines it.
#[derive(Clone, Copy)]
pub struct BtfType<'a> {
    owner: &'a Btf,
    raw: RawType,
    extra: &'a [u8],
}

/// A member of a struct or union.
#[derive(Clone, Copy, Debug)]
pub struct BtfMember<'a> {
    /// Name, empty if anonymous.
    pub name: &'a [u8],
    /// Type of the member.
    pub type_id: TypeId,
    /// Distance from the start of the struct, in bits.
    pub bit_offset: u32,
    /// Width in bits of a bit field, 0 otherwise.
    pub bitfield_size: u32,
}

/// A parameter of a function.
#[derive(Clone, Copy, Debug)]
pub struct BtfParam {
    /// Type of the parameter; void as the last one means `...`.
    pub type_id: TypeId,
}

/// A function that BTF lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BtfFunction<'a> {
    /// Name in the source; the symbol may have a suffix.
    pub name: &'a str,
    /// Id of its `FUNC_PROTO`.
    pub proto: TypeId,
}

impl Btf {
    /// Decodes a type of this file or of its base.
    ///
    /// # Errors
    ///
    /// [`BtfError::NoSuchType`] for an id beyond the last.
    pub fn get(&self, id: TypeId) -> Result<BtfType<'_>, BtfError> {
        if id.0 == 0 {
            return Ok(BtfType {
                owner: self,
                raw: RawType { name_off: 0, info: 0, size_or_type: 0 },
                extra: &[],
            });
        }
        let Some(index) = id.0.checked_sub(self.first_id) else {
            return match &self.base {
                Some(base) => base.get(id),
                None => Err(BtfError::NoSuchType { name: self.name.clone(), id: id.0 }),
            };
        };
        match self.raw(index as usize) {
            Some((raw, extra)) => Ok(BtfType { owner: self, raw, extra }),
            None => Err(BtfError::NoSuchType { name: self.name.clone(), id: id.0 }),
        }
    }

    /// Returns this file's own functions, without its base's.
    pub fn functions(&self) -> impl Iterator<Item = BtfFunction<'_>> {
        (0..self.type_count()).filter_map(|index| {
            let (raw, _) = self.raw(index)?;
            if BtfKind::of(info_kind(raw.info)) != BtfKind::Func {
                return None;
            }
            let name = str::from_utf8(self.string(raw.name_off)).ok()?;
            Some(BtfFunction { name, proto: TypeId(raw.size_or_type) })
        })
    }
}

impl<'a> BtfType<'a> {
    /// Returns its kind.
    pub const fn kind(&self) -> BtfKind {
        BtfKind::of(info_kind(self.raw.info))
    }

    /// Returns its `vlen`: the number of members, parameters or values.
    pub const fn len(&self) -> usize {
        info_vlen(self.raw.info) as usize
    }

    /// Returns true if it has no members, parameters or values.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns its `kind_flag`: true for a forward declaration of a union, and for a struct whose members may be bit
    /// fields.
    pub const fn flag(&self) -> bool {
        self.raw.info >> 31 != 0
    }

    /// Returns its size in bytes, for kinds that have one.
    pub const fn size(&self) -> u32 {
        self.raw.size_or_type
    }

    /// Returns the type that this one refers to, for kinds that do.
    pub fn target(&self) -> TypeId {
        // An array keeps its element type where others keep their members.
        if self.kind() == BtfKind::Array { TypeId(self.word(0)) } else { TypeId(self.raw.size_or_type) }
    }

    /// Returns the number of elements of an array.
    pub fn elements(&self) -> u32 {
        self.word(2)
    }

    /// Returns its name, empty if anonymous; C identifiers are ASCII, any other name counts as none.
    pub fn name(&self) -> &'a str {
        str::from_utf8(self.owner.string(self.raw.name_off)).unwrap_or_default()
    }

    /// Returns true if this is its name.
    pub fn is_named(&self, name: &str) -> bool {
        self.owner.string_is(self.raw.name_off, name.as_bytes())
    }

    /// Returns true for a signed integer.
    pub fn is_signed(&self) -> bool {
        self.kind() == BtfKind::Int && self.word(0) >> 24 & 1 != 0
    }

    /// Returns true for an integer that is narrower than its size, or does not start at its first bit (an old bit
    /// field).
    pub fn is_partial_int(&self) -> bool {
        let encoding = self.word(0);
        self.kind() == BtfKind::Int
            && (encoding >> 16 & 0xff != 0 || u64::from(encoding & 0xff) != u64::from(self.size()) * 8)
    }

    /// Returns the members of a struct or union; nothing for other kinds.
    pub fn members(&self) -> impl Iterator<Item = BtfMember<'a>> + use<'a> {
        let Self { owner, extra, .. } = *self;
        let flag = self.flag();
        let len = if matches!(self.kind(), BtfKind::Struct | BtfKind::Union) { self.len() } else { 0 };
        extra.as_chunks::<12>().0.iter().take(len).map(move |bytes| {
            let (name, type_id, offset) = (word(bytes, 0), word(bytes, 1), word(bytes, 2));
            let (bit_offset, bitfield_size) =
                if flag { (offset & 0x00ff_ffff, offset >> 24) } else { (offset, 0) };
            BtfMember { name: owner.string(name), type_id: TypeId(type_id), bit_offset, bitfield_size }
        })
    }

    /// Returns the names and values of an enum, negative values as their bits; nothing for other kinds.
    pub fn values(&self) -> impl Iterator<Item = (&'a [u8], u64)> + use<'a> {
        let Self { owner, extra, .. } = *self;
        let (len, words) = match self.kind() {
            BtfKind::Enum => (self.len(), 2),
            BtfKind::Enum64 => (self.len(), 3),
            _ => (0, 2),
        };
        extra.chunks_exact(4 * words).take(len).map(move |bytes| {
            let high = if words == 3 { word(bytes, 2) } else { 0 };
            (owner.string(word(bytes, 0)), u64::from(word(bytes, 1)) | u64::from(high) << 32)
        })
    }

    /// Returns the parameters of a `FUNC_PROTO`; nothing for other kinds.
    pub fn params(&self) -> impl Iterator<Item = BtfParam> + use<'a> {
        let len = if self.kind() == BtfKind::FuncProto { self.len() } else { 0 };
        self.extra
            .as_chunks::<8>()
            .0
            .iter()
            .take(len)
            .map(|bytes| BtfParam { type_id: TypeId(word(bytes, 1)) })
    }

    fn word(&self, index: usize) -> u32 {
        word(self.extra, index)
    }
}

fn word(bytes: &[u8], index: usize) -> u32 {
    bytes.as_chunks::<4>().0.get(index).map_or(0, |chunk| u32::from_ne_bytes(*chunk))
}
