//! Names of devices' folders: each has another, and none of them hurts a terminal.

use std::{collections::BTreeMap, sync::Arc};

use super::tree;

/// Bytes of a folder's name, less than the kernel's 255 by what it takes to tell it from others.
const MOST_BYTES: usize = 230;

/// Devices by the names of their folders.
#[derive(Debug, Default)]
pub(super) struct DeviceFolders(BTreeMap<Arc<str>, Arc<str>>);

impl DeviceFolders {
    /// Names the folder of a new device; `None`: it can have none.
    pub(super) fn add(&mut self, device: &Arc<str>) -> Option<Arc<str>> {
        let cleaned = tree::folder(device)?;
        let is_free = |folder: &str| !self.0.contains_key(folder);
        let folder: Arc<str> = if *cleaned == **device && cleaned.len() <= MOST_BYTES && is_free(&cleaned) {
            Arc::clone(device)
        } else if cleaned.len() <= MOST_BYTES && is_free(&cleaned) {
            cleaned.as_ref().into()
        } else {
            let cleaned = &cleaned[..cleaned.floor_char_boundary(MOST_BYTES)];
            let mut numbered = (self.0.len()..).map(|number| format!("{cleaned}~{number}"));
            numbered.find(|folder| is_free(folder))?.into()
        };
        self.0.insert(Arc::clone(&folder), Arc::clone(device));
        Some(folder)
    }

    /// Lets go of one.
    pub(super) fn remove(&mut self, folder: &str) {
        self.0.remove(folder);
    }

    /// The device that a folder is of.
    pub(super) fn device(&self, folder: &str) -> Option<&Arc<str>> {
        self.0.get(folder)
    }
}
