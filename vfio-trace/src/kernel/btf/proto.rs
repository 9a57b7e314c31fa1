//! Comparison of functions with the expected types, independent of the typedefs and annotations in the source.

use super::{
    parse::Btf,
    types::{BtfKind, TypeId},
};

/// A type, as far as it matters for recognising a function.
///
/// `ssize_t`, `long` and `__kernel_ssize_t` are the same: typedefs, `volatile`, `restrict` and type tags (`__user`) are
/// ignored. `const` behind a pointer is not ignored: it tells a write from a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TypeShape {
    /// `void`
    Void,
    /// `char`, signed or not: that depends on architecture and compiler flags.
    Char,
    /// `bool`
    Bool,
    /// An integer of this many bytes.
    Signed(u32),
    /// An unsigned integer of this many bytes.
    Unsigned(u32),
    /// A struct, declared or defined, of this name.
    Struct(&'static str),
    /// An enum of this name.
    Enum(&'static str),
    /// Pointer to something that is not const.
    Ptr(&'static Self),
    /// Pointer to something const.
    ConstPtr(&'static Self),
}

/// The type of a function: return value and parameters. The tables of core functions and of driver functions declare
/// them.
#[derive(Clone, Copy, Debug)]
pub struct FunctionPrototype {
    /// The type in C, for messages.
    pub text: &'static str,
    /// Type of the return value.
    pub returns: TypeShape,
    /// Types of the parameters.
    pub params: &'static [TypeShape],
}

impl Btf {
    /// Returns true if a `FUNC_PROTO` is of this type; false if BTF is damaged.
    pub fn is_function(&self, proto: TypeId, wanted: &FunctionPrototype) -> bool {
        self.get(proto).is_ok_and(|found| {
            found.kind() == BtfKind::FuncProto
                && found.len() == wanted.params.len()
                && found
                    .params()
                    .zip(wanted.params)
                    .all(|(param, shape)| self.has_shape(param.type_id, *shape, false))
                && self.has_shape(found.target(), wanted.returns, false)
        })
    }

    /// Returns true if a `FUNC_PROTO` has a parameter of this type at this position.
    pub fn param_is(&self, proto: TypeId, index: usize, wanted: TypeShape) -> bool {
        self.get(proto).is_ok_and(|found| {
            found.kind() == BtfKind::FuncProto
                && found.params().nth(index).is_some_and(|param| self.has_shape(param.type_id, wanted, false))
        })
    }

    /// Returns true if a type has this shape. `check_const`: behind a pointer `const` counts; on a parameter itself it
    /// changes nothing for the caller.
    fn has_shape(&self, id: TypeId, shape: TypeShape, check_const: bool) -> bool {
        let Ok((found, constant)) = self.resolve(id) else { return false };
        if check_const && constant {
            return false;
        }
        match (shape, found.kind()) {
            (TypeShape::Void, BtfKind::Void) => true,
            (TypeShape::Char, BtfKind::Int) => found.size() == 1 && found.is_named("char"),
            (TypeShape::Bool, BtfKind::Int) => {
                found.size() == 1 && (found.is_named("_Bool") || found.is_named("bool"))
            },
            (TypeShape::Signed(size), BtfKind::Int) => found.size() == size && found.is_signed(),
            (TypeShape::Unsigned(size), BtfKind::Int) => found.size() == size && !found.is_signed(),
            (TypeShape::Struct(name), BtfKind::Struct) => found.is_named(name),
            (TypeShape::Struct(name), BtfKind::Fwd) => !found.flag() && found.is_named(name),
            (TypeShape::Enum(name), BtfKind::Enum | BtfKind::Enum64) => found.is_named(name),
            (TypeShape::Ptr(to), BtfKind::Ptr) => self.has_shape(found.target(), *to, true),
            (TypeShape::ConstPtr(to), BtfKind::Ptr) => {
                self.resolve(found.target()).is_ok_and(|(_, constant)| constant)
                    && self.has_shape(found.target(), *to, false)
            },
            _ => false,
        }
    }
}
