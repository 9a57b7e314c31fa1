//! Errors of the BTF reader, in words that a user can act on.

use thiserror::Error;

/// BTF that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BtfError {
    /// The file does not start with BTF's magic number.
    #[error(
        "BTF of {name} starts with {found:#06x}, not 0xeb9f: this is not raw BTF; give the file that \
             /sys/kernel/btf shows, or the .BTF section of an ELF file"
    )]
    NotBtf {
        /// Name of the BTF: `vmlinux` or a module.
        name: String,
        /// The first two bytes in host order.
        found: u16,
    },
    /// The magic number is byte-swapped.
    #[error(
        "BTF of {name} has the other byte order: it is from a kernel of another architecture; use the BTF of \
             the kernel that runs here"
    )]
    OtherEndian {
        /// Name of the BTF: `vmlinux` or a module.
        name: String,
    },
    /// The header announces a version that this reader does not know.
    #[error("BTF of {name} has version {version}, only version 1 is known: a newer vfio-trace is needed")]
    Version {
        /// Name of the BTF: `vmlinux` or a module.
        name: String,
        /// The version found.
        version: u8,
    },
    /// Lengths or references that lead out of the file.
    #[error("BTF of {name} is damaged: {what}; if it was copied, copy it again")]
    Damaged {
        /// Name of the BTF: `vmlinux` or a module.
        name: String,
        /// Description of the damage.
        what: String,
    },
    /// A type of a kind whose size is not known, so that nothing behind it can be found.
    #[error(
        "BTF of {name} has a type (id {id}) of kind {kind}, which is newer than this reader and which the file \
             does not describe: a newer vfio-trace is needed"
    )]
    UnknownKind {
        /// Name of the BTF: `vmlinux` or a module.
        name: String,
        /// The type's id.
        id: u32,
        /// The kind's number.
        kind: u8,
    },
    /// A module's BTF on top of a vmlinux that it was not made for.
    #[error(
        "BTF of {name} was made for another vmlinux: what should be the type of {function}() is none of a function; \
             use files of the kernel that runs here"
    )]
    OtherBase {
        /// Name of the BTF: `vmlinux` or a module.
        name: String,
        /// Name of the function that shows it.
        function: String,
    },
    /// A type id that is not defined.
    #[error("BTF of {name} has no type {id}: the file is damaged, or was made for another vmlinux")]
    NoSuchType {
        /// Name of the BTF: `vmlinux` or a module.
        name: String,
        /// The id asked for.
        id: u32,
    },
}

/// Reason why a struct member cannot be read through BTF.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MemberError {
    /// The struct has no such member, not even in nested anonymous structs.
    #[error("{container} has no member {member} in this kernel")]
    Absent {
        /// The struct or union that was searched.
        container: String,
        /// The member's name.
        member: String,
    },
    /// Bit fields have no address.
    #[error("{container}.{member} is a bit field, it has no byte offset")]
    Bitfield {
        /// The struct or union.
        container: String,
        /// The member's name.
        member: String,
    },
    /// The path goes on, but the member is not a struct or union.
    #[error("{member} is not a struct, so {next} cannot be looked up in it")]
    NotAStruct {
        /// The member that ends the path.
        member: String,
        /// The member that was to be found in it.
        next: String,
    },
    /// BTF itself is broken.
    #[error(transparent)]
    Btf(#[from] BtfError),
}
