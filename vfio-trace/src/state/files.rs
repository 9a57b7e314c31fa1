//! The files of a device, as debugfs has them below `vfio/<dev>/migration/`: `show` prints one, `mount` shows all.

use thiserror::Error;

use super::debugfs;
use crate::{
    driver::{self, PluginDispatcher, ViewError, ViewStyle},
    state::DeviceReport,
};

/// One file of a device. `show` and `mount` get the list from [`files`].
#[derive(Clone, Copy, Debug)]
pub struct DeviceFile {
    /// Path below `vfio/<dev>/migration/`: `state`; a driver's own are in a folder, `hisi_acc/attr`.
    pub path: &'static str,
    content: ContentSource,
}

/// Source of a file's content.
#[derive(Clone, Copy, Debug)]
enum ContentSource {
    /// Function for a file of the core.
    Core(fn(&DeviceReport) -> Result<String, ContentError>),
    /// The driver's plug-in.
    Driver,
}

/// Input of a file's text: facts, and options of the output.
#[derive(Clone, Copy, Debug)]
pub struct ViewContext<'a> {
    /// The device.
    pub device: &'a DeviceReport,
    /// Plug-ins with their knowledge of devices.
    pub drivers: &'a PluginDispatcher,
    /// Version of the text, if it has changed over time.
    pub style: ViewStyle,
    /// True to put lines in front that name the source of the data; they begin with `#`.
    pub annotate: bool,
}

impl DeviceFile {
    /// Returns the content; the core's files byte for byte as the kernel prints them.
    ///
    /// # Errors
    ///
    /// [`ContentError`] if there is no content.
    pub fn text(&self, look: &ViewContext<'_>) -> Result<String, ContentError> {
        match self.content {
            ContentSource::Core(text) => text(look.device),
            ContentSource::Driver => {
                let name = look.device.device.as_deref().unwrap_or_default();
                Ok(look.drivers.view(name, self.path, look.style, look.annotate)?)
            },
        }
    }
}

/// Reason for which a file has no content. Nothing is guessed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ContentError {
    /// The state may be any.
    #[error("its state is not known")]
    State,
    /// The features could not be read.
    #[error("the kernel's BTF does not tell where its flags are")]
    Features,
    /// The plug-in has no text for it.
    #[error(transparent)]
    Driver(#[from] ViewError),
}

/// Files that every device that can migrate has, with any driver.
const CORE: [DeviceFile; 2] = [
    DeviceFile { path: "state", content: ContentSource::Core(state) },
    DeviceFile { path: "features", content: ContentSource::Core(features) },
];

/// Returns the files of a device: the core's, then its driver's. None without migration, as in debugfs; all if it is
/// not known that the device can migrate.
pub fn files(device: &DeviceReport) -> impl Iterator<Item = DeviceFile> {
    let migrates = device.migration != Some(false);
    let driver = device.driver.as_deref().map_or(&[] as &[_], driver::files);
    let of_driver = driver.iter().map(|&path| DeviceFile { path, content: ContentSource::Driver });
    CORE.into_iter().chain(of_driver).filter(move |_| migrates)
}

fn state(device: &DeviceReport) -> Result<String, ContentError> {
    device.state.map(debugfs::state).ok_or(ContentError::State)
}

fn features(device: &DeviceReport) -> Result<String, ContentError> {
    let (flags, dirty_tracking) =
        device.migration_flags.zip(device.dirty_tracking).ok_or(ContentError::Features)?;
    Ok(debugfs::features(flags, dirty_tracking))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{MigFlags, MigState};

    fn text(device: &DeviceReport, path: &str) -> Option<Result<String, ContentError>> {
        let drivers = PluginDispatcher::new(false);
        let look = ViewContext { device, drivers: &drivers, style: ViewStyle::ByName, annotate: false };
        files(device).find(|file| file.path == path).map(|file| file.text(&look))
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
    fn a_known_driver_has_files_of_its_own() {
        let driver = Some("hisi_acc_vfio_pci".to_owned());
        let device = DeviceReport { migration: Some(true), driver, ..DeviceReport::default() };
        let paths: Vec<&str> = files(&device).map(|file| file.path).collect();
        assert_eq!(paths[..4], ["state", "features", "hisi_acc/attr", "hisi_acc/data"]);
        assert!(matches!(
            text(&device, "hisi_acc/attr"),
            Some(Err(ContentError::Driver(ViewError::Unknown(_))))
        ));
    }

    #[test]
    fn without_migration_there_is_none_and_what_is_not_known_is_not_made_up() {
        let none = DeviceReport { migration: Some(false), ..DeviceReport::default() };
        assert_eq!(files(&none).count(), 0);
        let unknown = DeviceReport::default();
        assert_eq!(text(&unknown, "state"), Some(Err(ContentError::State)));
        assert_eq!(text(&unknown, "features"), Some(Err(ContentError::Features)));
    }
}
