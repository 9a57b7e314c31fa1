//! Reader of BTF, the kernel's own type information: vmlinux and, as split BTF on top of it, modules.
//!
//! The format is Documentation/bpf/btf.rst and include/uapi/linux/btf.h. Types are indexed once and decoded when asked
//! for, so a 5 MB vmlinux costs one pass and four bytes per type. Input is never trusted: for any bytes the answer is a
//! value or a [`BtfError`].

mod describe;
pub mod elf;
mod error;
mod lookup;
mod parse;
mod plausible;
mod proto;
mod types;

#[cfg(test)]
pub(crate) mod build;
#[cfg(test)]
mod tests;

pub use self::{
    error::{BtfError, MemberError},
    lookup::MemberLocation,
    parse::Btf,
    proto::{FunctionPrototype, TypeShape},
    types::{BtfFunction, BtfKind, BtfMember, BtfParam, BtfType, TypeId},
};
