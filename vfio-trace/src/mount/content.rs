//! The tree's content by path, from the host's state: folders of devices, their files, their sizes and times.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    folders::DeviceFolders,
    tree::{self, MIGRATION, NodeKind, TIMELINE, TreePath, VFIO},
};
use crate::{
    driver::{ViewStyle, driver_quirks},
    state::{self, ContentError, DeviceFile, DeviceReport, HostState, ViewContext},
};

/// Text of a `debug` file before the first write to it.
const UNUSED: &str =
    "nothing was run; write 0 (save), 1 (resume) or 2 (I/O test), if mounted with --allow-exercise\n";

/// A file's content; `None` if there is no data for it.
pub(super) type NodeContent = Option<Arc<[u8]>>;

/// A file or folder of the tree, with its attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TreeNode {
    pub(super) kind: NodeKind,
    /// Size of a file's content in bytes.
    pub(super) size: u64,
    /// Number of links: `.` and the `..` of subfolders count.
    pub(super) links: u32,
    /// Time of the last change, CLOCK_MONOTONIC.
    pub(super) changed_ns: u64,
}

/// Devices of a host, shown as files.
///
/// Made by `mount` for [`super::serve`], which asks it, together with the [`HostState`], for each path that a process
/// looks at. It keeps only the names of devices' folders, which stay as long as a device is known, and the texts of
/// `debug` files.
#[derive(Debug, Default)]
pub struct MountTree {
    folders: DeviceFolders,
    annotate: bool,
    /// Text of each device's `debug` file; `None`: there are no such files.
    debug: Option<BTreeMap<Arc<str>, Arc<[u8]>>>,
}

impl MountTree {
    /// Makes a tree with the files that every device has.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes drivers' files begin with the source of their data, on lines that begin with `#`.
    #[must_use]
    pub const fn annotated(mut self, annotate: bool) -> Self {
        self.annotate = annotate;
        self
    }

    /// Gives a `debug` file to devices of drivers that had one in debugfs.
    #[must_use]
    pub fn with_debug(mut self) -> Self {
        self.debug = Some(BTreeMap::new());
        self
    }

    /// Sets the text of a device's `debug` file.
    pub(super) fn say_in_debug(&mut self, device: &str, text: &str) {
        if let Some(debug) = &mut self.debug {
            debug.insert(device.into(), text.as_bytes().into());
        }
    }

    /// Returns the device whose `debug` file this is.
    pub(super) fn device_of_debug(&mut self, host: &HostState, path: &str) -> Option<String> {
        let Some(TreePath::Device(folder, inner)) = TreePath::of(path) else { return None };
        let name = self.existing(host, folder)?;
        (self.debug_file(&host.report(&name))? == inner).then(|| name.to_string())
    }

    fn debug_file(&self, report: &DeviceReport) -> Option<String> {
        self.debug.as_ref()?;
        let file = driver_quirks(report.driver.as_deref()?)?.debug?;
        Some(format!("{MIGRATION}/{file}"))
    }

    /// Returns the name of a folder's device.
    fn existing(&mut self, host: &HostState, folder: &str) -> Option<Arc<str>> {
        self.folders.follow(host);
        self.folders.device(folder).filter(|name| host.is_present(name)).cloned()
    }

    /// Lists a folder in order; `None` if there is no such folder.
    pub(super) fn list(&mut self, host: &HostState, path: &str) -> Option<Vec<(String, NodeKind)>> {
        match TreePath::of(path)? {
            TreePath::Root => Some(vec![(VFIO.to_owned(), NodeKind::Folder)]),
            TreePath::Vfio => {
                self.folders.follow(host);
                let present = self.folders.all().filter(|(_, device)| host.is_present(device));
                Some(present.map(|(folder, _)| (folder.to_owned(), NodeKind::Folder)).collect())
            },
            TreePath::Device(folder, inner) => {
                let report = host.report(&self.existing(host, folder)?);
                let files: Vec<String> = paths(&report).into_iter().chain(self.debug_file(&report)).collect();
                let names = tree::children(&files, inner)?;
                Some(names.into_iter().map(|(name, kind)| (name.to_owned(), kind)).collect())
            },
        }
    }

    /// Reads a file's content; `None` if there is no such file.
    pub(super) fn content(&mut self, host: &mut HostState, path: &str) -> Option<NodeContent> {
        let Some(TreePath::Device(folder, inner)) = TreePath::of(path) else { return None };
        let name = self.existing(host, folder)?;
        if inner == TIMELINE {
            return Some(host.timeline(&name)?.ok());
        }
        let report = host.report(&name);
        if self.debug_file(&report).as_deref() == Some(inner) {
            let said = self.debug.as_ref().and_then(|debug| debug.get(&name)).cloned();
            return Some(Some(said.unwrap_or_else(|| UNUSED.as_bytes().into())));
        }
        let file = file(&report, inner)?;
        let look = ViewContext {
            device: &report,
            drivers: host.drivers(),
            style: ViewStyle::ByName,
            annotate: self.annotate,
        };
        let text = match file.text(&look) {
            Ok(text) => Some(text),
            // Reading it is no error: other files of the same folder have data.
            Err(ContentError::Driver(why)) if self.annotate => Some(format!("# {why}\n")),
            Err(ContentError::Driver(why)) => Some(format!("{why}\n")),
            Err(_) => None,
        };
        Some(text.map(|text| text.into_bytes().into()))
    }

    /// Returns the node at a path; `None` if there is none.
    pub(super) fn node(&mut self, host: &mut HostState, path: &str) -> Option<TreeNode> {
        let changed_ns = match TreePath::of(path)? {
            TreePath::Root | TreePath::Vfio => host.changed_ns(),
            TreePath::Device(folder, _) => host.device_changed_ns(&self.existing(host, folder)?)?,
        };
        if let Some(names) = self.list(host, path) {
            let folders = names.iter().filter(|(_, kind)| *kind == NodeKind::Folder).count();
            let links = u32::try_from(folders).unwrap_or(u32::MAX).saturating_add(2);
            return Some(TreeNode { kind: NodeKind::Folder, size: 0, links, changed_ns });
        }
        let size = match TreePath::of(path)? {
            TreePath::Device(folder, TIMELINE) => host.timeline_bytes(&self.existing(host, folder)?)?,
            _ => self.content(host, path)?.map_or(0, |content| content.len() as u64),
        };
        Some(TreeNode { kind: NodeKind::File, size, links: 1, changed_ns })
    }
}

/// Counts the present devices that can have no folder.
pub fn without_folder(host: &HostState) -> usize {
    let present = host.device_names().filter(|(name, _)| host.is_present(name));
    present.filter(|(name, _)| tree::folder(name).is_none()).count()
}

/// Lists the paths of all files of a device, below its folder.
fn paths(report: &DeviceReport) -> Vec<String> {
    let views = state::files(report).map(|file| format!("{MIGRATION}/{}", file.path));
    views.chain([TIMELINE.to_owned()]).collect()
}

fn file(report: &DeviceReport, inner: &str) -> Option<DeviceFile> {
    let path = inner.strip_prefix(MIGRATION)?.strip_prefix('/')?;
    state::files(report).find(|file| file.path == path)
}
