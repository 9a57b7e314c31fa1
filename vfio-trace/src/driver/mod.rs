//! Driver plug-ins: the captured parts of a driver, their interpretation, and the driver's own files. One folder per
//! driver.
//!
//! Everything generic comes from the vfio core and works for unknown drivers. A plug-in adds steps, copies of the
//! driver's structures, explanations and files. It is data and pure functions: it sees events only.

mod dispatcher;
#[cfg(test)]
pub(crate) mod fixture;
mod hisi_acc;
mod mlx5;
mod quirks;

use std::fmt::Debug;

use thiserror::Error;

pub use self::{
    dispatcher::PluginDispatcher,
    quirks::{CommandChannel, DriverQuirks, ImageIdentity, driver_quirks},
};
use crate::{
    event::{DriverFinding, VfioEvent},
    kernel::WantedDriver,
};

/// Plug-ins. A new driver needs a folder, and a line here and in [`WANTED`].
static PLUGINS: [&dyn DriverPlugin; 2] = [&hisi_acc::HisiAccPlugin, &mlx5::Mlx5Plugin];

/// Requirements of all plug-ins on the kernel, in the order of `PLUGINS`.
pub static WANTED: [&WantedDriver; 2] = [&hisi_acc::WANTED, &mlx5::WANTED];

/// Interface of a plug-in: a driver of which vfio-trace knows more than the vfio core shows.
///
/// Plug-ins are constants, found by the driver's name with [`plugin()`]. Their state is in the [`PluginDevices`] that
/// they make.
pub trait DriverPlugin: Sync {
    /// Returns the driver's requirements on the kernel; `wanted().module` is the name of the driver.
    fn wanted(&self) -> &'static WantedDriver;

    /// Returns the driver's files, as paths below a device's `migration` folder.
    fn files(&self) -> &'static [&'static str];

    /// Makes the state of the plug-in's devices, which begins empty.
    fn devices(&self) -> Box<dyn PluginDevices>;

    /// Returns the peculiarities that `exercise` has to know of; `None` if the driver has none.
    fn quirks(&self) -> Option<&'static DriverQuirks> {
        None
    }
}

/// State of all devices of one plug-in, each by its number within the run (`DeviceRef::nr`).
///
/// [`PluginDispatcher`] makes one per driver at the first event of one of its devices, and gives it every event of
/// them.
pub trait PluginDevices: Debug + Send {
    /// Forgets a device, because there are too many or because it is long gone.
    fn forget(&mut self, nr: u32);

    /// Applies the next event of a device, and returns the findings that follow from it. May set the name of a step and
    /// add details to the event.
    fn apply(&mut self, nr: u32, event: &mut VfioEvent) -> Vec<DriverFinding>;

    /// Returns the text of one of a device's files.
    ///
    /// # Errors
    ///
    /// [`ViewError`]: there is no such file, or nothing that it could show has been seen.
    fn view(&self, nr: u32, file: &str, style: ViewStyle, annotate: bool) -> Result<String, ViewError>;
}

/// Format of a file whose text has changed over time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ViewStyle {
    /// Format that belongs to the file's name.
    #[default]
    ByName,
    /// Format of version 9 of the debugfs series, March 2023.
    V9,
    /// Format that was merged: Linux 6.13 and later.
    Mainline,
}

/// Reason why a file has no text.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ViewError {
    /// Name of a file that does not exist.
    #[error("there is no file {0}")]
    NoFile(String),
    /// Description of the data that would be needed and has not been seen.
    #[error("{0}")]
    Unknown(&'static str),
}

/// Returns the plug-in of a driver; `None` if it has none.
pub fn plugin(driver: &str) -> Option<&'static dyn DriverPlugin> {
    PLUGINS.into_iter().find(|plugin| plugin.wanted().module == driver)
}

/// Returns the files that the plug-in of a driver has; none if there is no plug-in.
pub fn files(driver: &str) -> &'static [&'static str] {
    plugin(driver).map_or(&[], DriverPlugin::files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_is_what_plugins_want() {
        let modules = |wanted: &'static WantedDriver| wanted.module;
        assert_eq!(PLUGINS.map(|plugin| modules(plugin.wanted())), WANTED.map(modules));
    }
}
