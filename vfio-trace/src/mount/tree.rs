//! Paths of the tree. All of them follow from the list of a device's files.

use std::{borrow::Cow, collections::BTreeMap};

use crate::units::visible::clean;

/// Folder of all devices, as in debugfs.
pub(super) const VFIO: &str = "vfio";
/// Folder within a device's, with the files that debugfs has.
pub(super) const MIGRATION: &str = "migration";
/// The file that debugfs does not have.
pub(super) const TIMELINE: &str = "timeline.json";

/// Kind of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NodeKind {
    Folder,
    File,
}

/// A parsed path; the root is the empty path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TreePath<'a> {
    Root,
    Vfio,
    /// A device's folder, or the path of something in it.
    Device(&'a str, &'a str),
}

impl<'a> TreePath<'a> {
    /// Parses a path; `None` if it cannot be in the tree for any device.
    pub(super) fn of(path: &'a str) -> Option<Self> {
        let rest = match path.strip_prefix(VFIO) {
            Some("") => return Some(Self::Vfio),
            Some(rest) => rest.strip_prefix('/')?,
            None => return path.is_empty().then_some(Self::Root),
        };
        let (device, inner) = rest.split_once('/').unwrap_or((rest, ""));
        Some(Self::Device(device, inner))
    }
}

/// Returns a path's parent folder.
pub(super) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// Returns the path of a name in a folder.
pub(super) fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// Returns the name of a device's folder: the device's, with terminal controls escaped. `None`: no folder can have that
/// name; the kernel has no such devices.
pub(super) fn folder(device: &str) -> Option<Cow<'_, str>> {
    let is_name = !device.is_empty() && device != "." && device != ".." && !device.contains('/');
    is_name.then(|| clean(device))
}

/// Returns the names in the folder `inner` of a tree of files; `None` if there is no such folder. The top folder is
/// always there.
pub(super) fn children<'a>(files: &'a [String], inner: &str) -> Option<BTreeMap<&'a str, NodeKind>> {
    let below = |file: &'a String| {
        if inner.is_empty() { Some(file.as_str()) } else { file.strip_prefix(inner)?.strip_prefix('/') }
    };
    let names: BTreeMap<_, _> = files
        .iter()
        .filter_map(below)
        .map(|rest| rest.split_once('/').map_or((rest, NodeKind::File), |(name, _)| (name, NodeKind::Folder)))
        .collect();
    (inner.is_empty() || !names.is_empty()).then_some(names)
}
