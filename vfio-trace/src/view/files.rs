//! The files of a device, as debugfs has them below `vfio/<dev>/migration/`: `show` prints one, `mount` shows all.

use thiserror::Error;

use super::debugfs;
use crate::model::DeviceReport;

/// One file: its name, and what makes its content from what is known of a device.
#[derive(Clone, Copy, Debug)]
pub struct DeviceFile {
    /// Path below `vfio/<dev>/migration/`: `state`; a driver's own are in a folder, `hisi_acc/attr`.
    pub path: &'static str,
    /// The content, byte for byte as the kernel prints it.
    pub text: fn(&DeviceReport) -> Result<String, Unknown>,
}

/// Why a file has no content. Nothing is guessed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Unknown {
    /// The state may be any.
    #[error("its state is not known")]
    State,
    /// The features could not be read.
    #[error("the kernel's BTF does not tell where its flags are")]
    Features,
}

/// What every device that can migrate has, whatever its driver.
const CORE: &[DeviceFile] =
    &[DeviceFile { path: "state", text: state }, DeviceFile { path: "features", text: features }];

/// The files of a device: the core's, then its driver's. None without migration, as in debugfs; all if it is not known
/// whether it can migrate.
pub fn files(device: &DeviceReport) -> impl Iterator<Item = &'static DeviceFile> {
    let lists = match device.migration {
        Some(false) => [[].as_slice(); 2],
        Some(true) | None => [CORE, of_driver(device.driver.as_deref())],
    };
    lists.into_iter().flatten()
}

/// A driver's own files. Here is where a plug-in's list is added.
const fn of_driver(_driver: Option<&str>) -> &'static [DeviceFile] {
    &[]
}

fn state(device: &DeviceReport) -> Result<String, Unknown> {
    device.state.map(debugfs::state).ok_or(Unknown::State)
}

fn features(device: &DeviceReport) -> Result<String, Unknown> {
    let (flags, dirty_tracking) =
        device.migration_flags.zip(device.dirty_tracking).ok_or(Unknown::Features)?;
    Ok(debugfs::features(flags, dirty_tracking))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{MigFlags, MigState};

    fn text(device: &DeviceReport, path: &str) -> Option<Result<String, Unknown>> {
        files(device).find(|file| file.path == path).map(|file| (file.text)(device))
    }

    #[test]
    fn a_device_that_can_migrate_has_the_files_of_the_core() {
        let device = DeviceReport {
            migration: Some(true),
            migration_flags: Some(MigFlags(3)),
            dirty_tracking: Some(true),
            state: Some(MigState::STOP_COPY),
            ..DeviceReport::default()
        };
        assert_eq!(text(&device, "state"), Some(Ok("STOP_COPY\n".to_owned())));
        assert_eq!(text(&device, "features"), Some(Ok("stop-copy\np2p\ndirty-tracking\n".to_owned())));
        assert_eq!(text(&device, "hisi_acc/attr"), None);
    }

    #[test]
    fn without_migration_there_is_none_and_what_is_not_known_is_not_made_up() {
        let none = DeviceReport { migration: Some(false), ..DeviceReport::default() };
        assert_eq!(files(&none).count(), 0);
        let unknown = DeviceReport::default();
        assert_eq!(text(&unknown, "state"), Some(Err(Unknown::State)));
        assert_eq!(text(&unknown, "features"), Some(Err(Unknown::Features)));
    }
}
