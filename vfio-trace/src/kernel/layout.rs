//! Lookup of the eBPF programs' layout table in BTF.

use thiserror::Error;
use vfio_trace_common::{
    layout::{Field, Layout},
    wire::COMM_LEN,
};

use super::{
    btf::{Btf, BtfError, BtfKind, MemberError, MemberLocation, TypeId},
    collection::BtfCollection,
};

/// A member that the layout table lacks.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{path}: {why}")]
pub struct MissingField {
    /// The member.
    pub field: Field,
    /// Name of the member in C, for instance `vfio_device.mig_ops`.
    pub path: String,
    /// The reason.
    pub why: MissingReason,
}

/// Reason why a member's offset is not known.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MissingReason {
    /// No BTF that was searched defines the struct.
    #[error("no struct {name} in the BTF of {searched}")]
    NoStruct {
        /// Name of the struct.
        name: String,
        /// Names of the BTF that was searched.
        searched: String,
    },
    /// The struct has no such member, or one that cannot be read.
    #[error(transparent)]
    Member(#[from] MemberError),
    /// The member has another type than the eBPF programs expect.
    #[error("it is {found} here, not {wanted}: this kernel is newer than vfio-trace, which will not guess")]
    OtherType {
        /// Type of the member in C, and its size.
        found: String,
        /// The expected type.
        wanted: &'static str,
    },
    /// The name stands for several structs that differ in this member.
    #[error("the BTF of {source_name} has {count} structs of this name, and they differ in it")]
    Ambiguous {
        /// Name of the BTF.
        source_name: String,
        /// Number of these structs.
        count: usize,
    },
    /// Only vfio's own BTF tells the type that `struct file.private_data` of a device points to.
    #[error(
        "without vfio's own BTF it is unknown whether it points to a vfio_device or (6.6 and later) a \
             vfio_device_file"
    )]
    CoreUnknown,
}

/// Type that the eBPF programs expect of a member.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ExpectedType {
    Pointer,
    Integer(u32),
    /// A structure of this name, embedded.
    Struct(&'static str),
    /// `char [n]` of at least this size.
    Text(u64),
}

const fn expected(field: Field) -> ExpectedType {
    match field {
        // unsigned int since 5.18 (migration_flags) and 5.1 (open_count).
        Field::DeviceMigrationFlags | Field::DeviceOpenCount => ExpectedType::Integer(4),
        // loff_t
        Field::FilePos => ExpectedType::Integer(8),
        // pid_t
        Field::TaskTgid | Field::TaskPid => ExpectedType::Integer(4),
        Field::TaskComm => ExpectedType::Text(COMM_LEN as u64),
        Field::DeviceDevice | Field::PciDevDev => ExpectedType::Struct("device"),
        Field::DevKobj => ExpectedType::Struct("kobject"),
        _ => ExpectedType::Pointer,
    }
}

impl ExpectedType {
    const fn text(self) -> &'static str {
        match self {
            Self::Pointer => "a pointer",
            Self::Integer(4) => "an integer of 4 bytes",
            Self::Integer(_) => "an integer of 8 bytes",
            Self::Struct(_) => "the structure that it was",
            Self::Text(_) => "16 characters",
        }
    }
}

/// Looks up all fields: in the BTF of `modules` in this order (vfio first, then drivers, whose BTF repeats the vfio
/// structs that they use), then in the kernel's. The first BTF that defines a struct decides.
///
/// `core_known`: vfio's own BTF is among these (its module's, or the kernel's if vfio is built in). If not, the absence
/// of `struct vfio_device_file` says nothing, and the offset of `file.private_data` stays unknown.
pub fn resolve_layout(
    btf: &BtfCollection,
    modules: &[&str],
    core_known: bool,
) -> (Layout, Vec<MissingField>) {
    let mut sources: Vec<&Btf> =
        modules.iter().filter_map(|name| btf.module(name)).map(AsRef::as_ref).collect();
    sources.push(btf.vmlinux());
    let mut names: Vec<&str> = Field::ALL.iter().map(|&(_, name, _)| name).collect();
    names.dedup();
    let found: Vec<_> = sources.iter().map(|source| (*source, source.find_own_structs(&names))).collect();

    let mut layout = Layout::EMPTY;
    let mut missing = Vec::new();
    for (field, name, path) in Field::ALL {
        let column = names.iter().position(|other| *other == name);
        let defined = found.iter().find_map(|(source, ids)| {
            let ids = ids.get(column?).filter(|ids| !ids.is_empty())?;
            Some((*source, ids.as_slice()))
        });
        let place = match defined {
            None => Err(MissingReason::NoStruct { name: name.to_owned(), searched: list(&sources) }),
            Some((source, ids)) => find(source, ids, path, expected(field)),
        };
        let place = match (field, place) {
            (Field::FilePrivateData, Ok(_))
                if !core_known && layout.get(Field::DeviceFileDevice).is_none() =>
            {
                Err(MissingReason::CoreUnknown)
            },
            (_, place) => place,
        };
        match place {
            Ok(place) => layout.set(field, place.offset),
            Err(why) => missing.push(MissingField { field, path: format!("{name}.{}", path.join(".")), why }),
        }
    }
    (layout, missing)
}

fn list(sources: &[&Btf]) -> String {
    sources.iter().map(|source| source.name()).collect::<Vec<_>>().join(", ")
}

fn find(
    source: &Btf,
    ids: &[TypeId],
    path: &[&str],
    wanted: ExpectedType,
) -> Result<MemberLocation, MissingReason> {
    let mut places = ids.iter().map(|&id| check(source, source.member(id, path)?, wanted));
    // A driver's private struct may have the same name by chance; one without the member is not the wanted struct.
    let mut best = places.next().unwrap_or_else(|| Err(MissingReason::Member(no_type(source).into())));
    for place in places {
        match (&best, place) {
            (Ok(first), Ok(other)) if first.offset != other.offset => {
                return Err(MissingReason::Ambiguous {
                    source_name: source.name().to_owned(),
                    count: ids.len(),
                });
            },
            (Err(_), Ok(other)) => best = Ok(other),
            _ => {},
        }
    }
    best
}

fn no_type(source: &Btf) -> BtfError {
    BtfError::NoSuchType { name: source.name().to_owned(), id: 0 }
}

fn check(source: &Btf, place: MemberLocation, wanted: ExpectedType) -> Result<MemberLocation, MissingReason> {
    let (found, _) = source.resolve(place.type_id).map_err(MemberError::from)?;
    let fits = match wanted {
        ExpectedType::Pointer => found.kind() == BtfKind::Ptr,
        ExpectedType::Integer(size) => found.kind() == BtfKind::Int && found.size() == size,
        ExpectedType::Struct(name) => found.kind() == BtfKind::Struct && found.is_named(name),
        ExpectedType::Text(size) => {
            found.kind() == BtfKind::Array
                && source.size_of(place.type_id).map_err(MemberError::from)? >= Some(size)
        },
    };
    if fits {
        return Ok(place);
    }
    let size = source.size_of(place.type_id).map_err(MemberError::from)?;
    let size = size.map_or_else(String::new, |size| format!(" ({size} bytes)"));
    let found = format!("{}{size}", source.describe(place.type_id));
    Err(MissingReason::OtherType { found, wanted: wanted.text() })
}
