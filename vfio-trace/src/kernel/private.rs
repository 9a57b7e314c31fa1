//! Places of a device's state and data files in its driver's structures, found in the driver's BTF without knowing
//! names.
//!
//! Every driver embeds `struct vfio_device`, at some depth, in a structure of its own that has the current state in a
//! member of type `enum vfio_device_mig_state` and points to structures that hold a data fd's `struct file *`. If the
//! answer is ambiguous, none is given: a wrong place would give a wrong state.

use std::collections::BTreeMap;

use thiserror::Error;
use vfio_trace_common::layout::{DRIVER_FILES, DriverFile, DriverLayout};

use super::btf::{Btf, BtfKind, BtfType, TypeId};

/// Greatest depth to which embedded structures are followed; drivers have two or three levels.
const MAX_DEPTH: u32 = 6;
/// Greatest number of members read for one structure: a file that has more was made to keep the tracer busy.
const MAX_MEMBERS: u32 = 20_000;

/// Places of state and data files in one driver's structures. Found when the driver's BTF is read; the eBPF programs
/// get `layout` in their `DRIVERS` map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrivateLayout {
    /// Name of the structure that embeds the device.
    pub container: String,
    /// Offset of the device in it, in bytes.
    pub device: u64,
    /// Path of the member with the current state.
    pub state: String,
    /// Paths of members that point to migration files.
    pub files: Vec<String>,
    /// The same places as offsets from the device.
    pub layout: DriverLayout,
}

/// Reason why the places are not known.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PrivateLayoutError {
    /// No structure has both a device and a state.
    #[error(
        "no structure of it embeds a vfio_device together with a member of type enum vfio_device_mig_state"
    )]
    None,
    /// More than one member could be the state.
    #[error("several places could be its state: {}", .0.join(", "))]
    Ambiguous(Vec<String>),
    /// Several drivers are built into the kernel, and nothing tells their structures apart.
    #[error("it is built into the kernel with others, and nothing tells which of these is its state: {}", .0.join(", "))]
    Shared(Vec<String>),
}

/// A member of interest within a structure.
struct MemberOffset {
    name: String,
    offset: u64,
    /// Type that it points to, for pointers.
    target: Option<TypeId>,
}

/// Members of interest of one structure, those of embedded structures included.
#[derive(Default)]
struct StructContents {
    devices: Vec<u64>,
    states: Vec<MemberOffset>,
    pointers: Vec<MemberOffset>,
    budget: u32,
}

/// Finds the places in a driver's BTF, from all structures in it.
pub fn private_layout(btf: &Btf) -> Result<PrivateLayout, PrivateLayoutError> {
    only(&places(btf).iter().collect::<Vec<_>>())
}

/// Finds the places of drivers that are built into the kernel, all of whose structures are in one BTF, by
/// `migration_set_state`; `set_states` are the names of all these functions. `known`: `migration_set_state` and
/// structure of drivers that a plug-in knows. The others get one if one function and one structure are left.
pub fn private_layouts(
    btf: &Btf,
    set_states: &[&str],
    known: &[(&str, &str)],
) -> BTreeMap<String, Result<PrivateLayout, PrivateLayoutError>> {
    let found = places(btf);
    let is_known =
        |private: &&PrivateLayout| known.iter().any(|(_, container)| *container == private.container);
    let (named, left): (Vec<&PrivateLayout>, Vec<&PrivateLayout>) = found.iter().partition(is_known);
    let others = set_states.iter().filter(|name| !known.iter().any(|(known, _)| known == *name)).count();
    let place = |set_state: &&str| match known.iter().find(|(known, _)| known == set_state) {
        Some((_, container)) => {
            let own = named.iter().copied().filter(|private| private.container == *container);
            only(&own.collect::<Vec<_>>())
        },
        None if others > 1 && !left.is_empty() => Err(PrivateLayoutError::Shared(names(&left))),
        None => only(&left),
    };
    set_states.iter().map(|set_state| ((*set_state).to_owned(), place(set_state))).collect()
}

fn names(found: &[&PrivateLayout]) -> Vec<String> {
    found.iter().map(|private| format!("{}.{}", private.container, private.state)).collect()
}

/// Lists all structures that could be a driver's, with each state in them.
fn places(btf: &Btf) -> Vec<PrivateLayout> {
    let mut found: Vec<PrivateLayout> = Vec::new();
    for id in btf.own_ids() {
        let Ok(container) = btf.get(id) else { continue };
        if container.kind() != BtfKind::Struct || container.is_named("vfio_device") {
            continue;
        }
        let mut inside = StructContents::default();
        walk(btf, &container, 0, "", 0, &mut inside);
        let [device] = inside.devices[..] else { continue };
        found.extend(
            inside.states.iter().map(|state| describe(btf, container.name(), device, state, &inside)),
        );
    }
    found
}

/// Returns the place that all of these agree on.
fn only(found: &[&PrivateLayout]) -> Result<PrivateLayout, PrivateLayoutError> {
    // The same structure may be there twice, or be embedded in another: only a different place is a contradiction.
    let same = |a: &PrivateLayout, b: &PrivateLayout| a.layout.state == b.layout.state;
    let mut different: Vec<&PrivateLayout> = Vec::new();
    for &private in found {
        if !different.iter().any(|other| same(other, private)) {
            different.push(private);
        }
    }
    match different[..] {
        [] => Err(PrivateLayoutError::None),
        [only] => Ok(only.clone()),
        _ => Err(PrivateLayoutError::Ambiguous(names(&different))),
    }
}

/// Collects the members of interest of a structure, going into structures that it embeds.
fn walk(
    btf: &Btf,
    container: &BtfType<'_>,
    base: u64,
    prefix: &str,
    depth: u32,
    inside: &mut StructContents,
) {
    for member in container.members() {
        inside.budget += 1;
        if inside.budget > MAX_MEMBERS || member.bitfield_size != 0 || member.bit_offset % 8 != 0 {
            continue;
        }
        let Ok((kind, _)) = btf.resolve(member.type_id) else { continue };
        let offset = base + u64::from(member.bit_offset / 8);
        let name = || format!("{prefix}{}", String::from_utf8_lossy(member.name));
        match kind.kind() {
            BtfKind::Struct if kind.is_named("vfio_device") => inside.devices.push(offset),
            BtfKind::Struct if depth < MAX_DEPTH => {
                let prefix = if member.name.is_empty() { prefix.to_owned() } else { format!("{}.", name()) };
                walk(btf, &kind, offset, &prefix, depth + 1, inside);
            },
            BtfKind::Enum if kind.is_named("vfio_device_mig_state") => {
                inside.states.push(MemberOffset { name: name(), offset, target: None });
            },
            BtfKind::Ptr if depth == 0 => {
                inside.pointers.push(MemberOffset { name: name(), offset, target: Some(kind.target()) });
            },
            _ => {},
        }
    }
}

fn describe(
    btf: &Btf,
    container: &str,
    device: u64,
    state: &MemberOffset,
    inside: &StructContents,
) -> PrivateLayout {
    let from_device = |offset: u64| offset.cast_signed().wrapping_sub(device.cast_signed());
    let mut layout =
        DriverLayout { state: from_device(state.offset), state_known: 1, ..DriverLayout::default() };
    let mut files = Vec::new();
    for pointer in &inside.pointers {
        let Some(file) = pointer.target.and_then(|target| file_in(btf, target)) else { continue };
        if files.len() < DRIVER_FILES {
            layout.files[files.len()] = DriverFile { pointer: from_device(pointer.offset), file };
            files.push(pointer.name.clone());
        }
    }
    layout.files_known = files.len() as u32;
    PrivateLayout { container: container.to_owned(), device, state: state.name.clone(), files, layout }
}

/// Returns the offset of the only `struct file *` in a structure of the driver's own; other structures have files for
/// other reasons.
fn file_in(btf: &Btf, target: TypeId) -> Option<u64> {
    if !btf.is_own(target) {
        return None;
    }
    let (structure, _) = btf.resolve(target).ok()?;
    if structure.kind() != BtfKind::Struct {
        return None;
    }
    let mut files = structure.members().filter(|member| {
        btf.resolve(member.type_id)
            .ok()
            .filter(|(kind, _)| kind.kind() == BtfKind::Ptr)
            .and_then(|(kind, _)| btf.resolve(kind.target()).ok())
            .is_some_and(|(file, _)| file.kind() == BtfKind::Struct && file.is_named("file"))
    });
    let file = files.next()?;
    files.next().is_none().then_some(u64::from(file.bit_offset / 8))
}
