//! Lookups in BTF: types by name, and byte offsets of members by path.

use super::{
    error::{BtfError, MemberError},
    parse::Btf,
    types::{BtfKind, BtfMember, BtfType, TypeId, info_kind},
};

/// Greatest number of typedefs and qualifiers in front of a type (the kernel's own MAX_RESOLVE_DEPTH is 32).
const MAX_QUALIFIERS: u32 = 32;
/// Greatest number of members that one lookup reads: a file that needs more was made to keep the tracer busy.
const MAX_MEMBERS: u32 = 100_000;

/// Offset and type of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberLocation {
    /// Bytes from the start of the outermost struct.
    pub offset: u32,
    /// The member's type, as declared.
    pub type_id: TypeId,
}

impl Btf {
    /// Finds structs by name, in one pass over this file and, for those that it does not have, one over its base.
    ///
    /// Forward declarations do not count. One name can have several definitions: drivers may reuse a name, and pahole
    /// keeps those apart that differ.
    pub fn find_structs(&self, names: &[&str]) -> Vec<Vec<TypeId>> {
        let mut found = self.find_own_structs(names);
        if let Some(base) = &self.base
            && found.iter().any(Vec::is_empty)
        {
            let in_base = base.find_own_structs(names);
            for (here, below) in found.iter_mut().zip(in_base).filter(|(here, _)| here.is_empty()) {
                *here = below;
            }
        }
        found
    }

    /// Finds structs by name in this file only; see [`Btf::find_structs`].
    pub fn find_own_structs(&self, names: &[&str]) -> Vec<Vec<TypeId>> {
        const STRUCT: u8 = 4;
        let mut found = vec![Vec::new(); names.len()];
        for (index, id) in self.own_ids().enumerate() {
            let Some((raw, _)) = self.raw(index) else { break };
            if info_kind(raw.info) != STRUCT || raw.name_off == 0 {
                continue;
            }
            for (name, ids) in names.iter().zip(&mut found) {
                if self.string_is(raw.name_off, name.as_bytes()) {
                    ids.push(id);
                }
            }
        }
        found
    }

    /// Returns the first definition of a struct, in this file or else in its base.
    pub fn find_struct(&self, name: &str) -> Option<TypeId> {
        self.find_structs(&[name]).into_iter().flatten().next()
    }

    /// Returns the type behind typedefs, qualifiers and type tags, and true if one of them was `const`.
    ///
    /// # Errors
    ///
    /// [`BtfError`] for dangling ids and for chains without an end.
    pub fn resolve(&self, mut id: TypeId) -> Result<(BtfType<'_>, bool), BtfError> {
        let mut constant = false;
        for _ in 0..MAX_QUALIFIERS {
            let found = self.get(id)?;
            match found.kind() {
                BtfKind::Const => constant = true,
                BtfKind::Typedef | BtfKind::Volatile | BtfKind::Restrict | BtfKind::TypeTag => {},
                _ => return Ok((found, constant)),
            }
            id = found.target();
        }
        Err(BtfError::Damaged { name: self.name.clone(), what: format!("type {} refers to itself", id.0) })
    }

    /// Returns the size of a type on this machine, in bytes; `None` for types without a size (void, functions).
    ///
    /// # Errors
    ///
    /// [`BtfError`] as for [`Btf::resolve`].
    pub fn size_of(&self, id: TypeId) -> Result<Option<u64>, BtfError> {
        let mut id = id;
        let mut count = 1_u64;
        for _ in 0..MAX_QUALIFIERS {
            let (found, _) = self.resolve(id)?;
            return Ok(match found.kind() {
                // The tracer runs on the kernel it reads, so pointers are as wide there as here.
                BtfKind::Ptr => count.checked_mul(size_of::<usize>() as u64),
                BtfKind::Array => {
                    count = count.saturating_mul(found.elements().into());
                    id = found.target();
                    continue;
                },
                BtfKind::Int
                | BtfKind::Struct
                | BtfKind::Union
                | BtfKind::Enum
                | BtfKind::Enum64
                | BtfKind::Float => count.checked_mul(found.size().into()),
                _ => None,
            });
        }
        Err(BtfError::Damaged { name: self.name.clone(), what: format!("array {} contains itself", id.0) })
    }

    /// Finds a member: `path` names members from the outside in, anonymous structs and unions are looked through.
    ///
    /// # Errors
    ///
    /// [`MemberError`] if there is none, if it is a bit field, or if BTF is damaged.
    pub fn member(&self, container: TypeId, path: &[&str]) -> Result<MemberLocation, MemberError> {
        let mut place = MemberLocation { offset: 0, type_id: container };
        let mut inside = String::new();
        let mut budget = MAX_MEMBERS;
        for &name in path {
            let (found, _) = self.resolve(place.type_id)?;
            if !matches!(found.kind(), BtfKind::Struct | BtfKind::Union) {
                return Err(MemberError::NotAStruct { member: inside, next: name.to_owned() });
            }
            if inside.is_empty() {
                inside = self.describe(place.type_id);
            }
            let Some((member, bits)) = self.search(&found, name.as_bytes(), 0, &mut budget)? else {
                return Err(MemberError::Absent { container: inside, member: name.to_owned() });
            };
            let (kind, _) = self.resolve(member.type_id)?;
            if member.bitfield_size != 0 || bits % 8 != 0 || kind.is_partial_int() {
                return Err(MemberError::Bitfield { container: inside, member: name.to_owned() });
            }
            let Some(offset) = place.offset.checked_add(bits / 8) else {
                return Err(self.overflow().into());
            };
            place = MemberLocation { offset, type_id: member.type_id };
            inside = format!("{inside}.{name}");
        }
        Ok(place)
    }

    /// Finds a member by name, with its offset in bits from the start of the struct that was asked for.
    fn search<'a>(
        &'a self,
        container: &BtfType<'a>,
        name: &[u8],
        depth: u32,
        budget: &mut u32,
    ) -> Result<Option<(BtfMember<'a>, u32)>, BtfError> {
        for member in container.members() {
            *budget = budget.checked_sub(1).ok_or_else(|| self.overflow())?;
            if member.name == name {
                return Ok(Some((member, member.bit_offset)));
            }
            if !member.name.is_empty() || depth >= MAX_QUALIFIERS {
                continue;
            }
            let (nested, _) = self.resolve(member.type_id)?;
            if let Some((found, bits)) = self.search(&nested, name, depth + 1, budget)? {
                let bits = bits.checked_add(member.bit_offset).ok_or_else(|| self.overflow())?;
                return Ok(Some((found, bits)));
            }
        }
        Ok(None)
    }

    fn overflow(&self) -> BtfError {
        BtfError::Damaged { name: self.name.clone(), what: "a struct is larger than any kernel's".to_owned() }
    }
}
