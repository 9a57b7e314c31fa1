//! Names of devices' folders: all different, and without characters that control a terminal.

use std::{collections::BTreeMap, sync::Arc};

use super::tree;
use crate::state::HostState;

/// Most bytes of a folder's name: the kernel's limit of 255, less the suffix that makes it unique.
const MOST_BYTES: usize = 230;

/// Devices by the names of their folders.
#[derive(Debug, Default)]
pub(super) struct DeviceFolders {
    /// Devices by their folders, each with its number in the order of first sight.
    devices: BTreeMap<Arc<str>, (Arc<str>, u64)>,
    /// Number up to which devices have their folders.
    followed: u64,
}

impl DeviceFolders {
    /// Adds folders for new devices, in the order in which they came, and removes those of devices that are forgotten.
    pub(super) fn follow(&mut self, host: &HostState) {
        if host.devices_first_seen() == self.followed {
            return;
        }
        self.devices.retain(|_, (device, number)| host.device_number(device) == Some(*number));
        let mut new: Vec<(u64, &Arc<str>)> = host
            .device_names()
            .filter(|(_, number)| *number >= self.followed)
            .map(|(name, number)| (number, name))
            .collect();
        new.sort_unstable();
        for (number, device) in new {
            self.add(device, number);
        }
        self.followed = host.devices_first_seen();
    }

    /// Names the folder of a new device. Some devices can have none.
    fn add(&mut self, device: &Arc<str>, number: u64) {
        let Some(cleaned) = tree::folder(device) else { return };
        let is_free = |folder: &str| !self.devices.contains_key(folder);
        let folder: Arc<str> = if *cleaned == **device && cleaned.len() <= MOST_BYTES && is_free(&cleaned) {
            Arc::clone(device)
        } else if cleaned.len() <= MOST_BYTES && is_free(&cleaned) {
            cleaned.as_ref().into()
        } else {
            let cleaned = &cleaned[..cleaned.floor_char_boundary(MOST_BYTES)];
            let mut numbered = (self.devices.len()..).map(|number| format!("{cleaned}~{number}"));
            let Some(folder) = numbered.find(|folder| is_free(folder)) else { return };
            folder.into()
        };
        self.devices.insert(folder, (Arc::clone(device), number));
    }

    /// Returns a folder's device.
    pub(super) fn device(&self, folder: &str) -> Option<&Arc<str>> {
        self.devices.get(folder).map(|(device, _)| device)
    }

    /// Lists all folders in order, each with its device.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, &Arc<str>)> {
        self.devices.iter().map(|(folder, (device, _))| (&**folder, device))
    }
}
