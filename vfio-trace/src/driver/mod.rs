//! Driver plug-ins: what to look at in a driver, what it means, and the driver's own views. One folder per driver.
//!
//! Everything generic comes from the vfio core and works for a driver that nobody here knows. A plug-in adds steps,
//! copies of the driver's structures, explanations and files. It is data and pure functions: it sees events only.

mod dispatcher;
#[cfg(test)]
mod fixture;
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

/// All plug-ins. A new driver is a folder and a line here.
static PLUGINS: [&dyn DriverPlugin; 2] = [&hisi_acc::HisiAccPlugin, &mlx5::Mlx5Plugin];

/// What all of them want of the kernel.
pub static WANTED: [&WantedDriver; 2] = [&hisi_acc::WANTED, &mlx5::WANTED];

/// A driver that is known more closely.
pub trait DriverPlugin: Sync {
    /// What it wants of the kernel; `wanted().module` is the name of the driver.
    fn wanted(&self) -> &'static WantedDriver;

    /// Its files, as paths below a device's `migration` folder.
    fn files(&self) -> &'static [&'static str];

    /// What it knows of its devices: nothing yet.
    fn devices(&self) -> Box<dyn PluginDevices>;

    /// What one must know who exercises its devices.
    fn quirks(&self) -> Option<&'static DriverQuirks> {
        None
    }
}

/// What a plug-in knows of its devices, each by its number within the run (`DeviceRef::nr`).
pub trait PluginDevices: Debug + Send {
    /// Forgets a device: there are too many.
    fn forget(&mut self, nr: u32);

    /// Takes in the next event of a device; may name a step and add details. Gives what it makes of it.
    fn apply(&mut self, nr: u32, event: &mut VfioEvent) -> Vec<DriverFinding>;

    /// One of a device's files.
    ///
    /// # Errors
    ///
    /// [`NoView`]: nothing is known that could be shown.
    fn view(&self, nr: u32, file: &str, style: ViewStyle, annotate: bool) -> Result<String, ViewError>;
}

/// Which text, where a file's text has changed over time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ViewStyle {
    /// The one that belongs to the file's name.
    #[default]
    ByName,
    /// Version 9 of the debugfs series, March 2023.
    V9,
    /// As merged: Linux 6.13 and later.
    Mainline,
}

/// A view has nothing to show.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ViewError {
    /// There is no such file.
    #[error("there is no file {0}")]
    NoFile(String),
    /// Nothing was seen that it could be made from.
    #[error("{0}")]
    Unknown(&'static str),
}

/// The plug-in of a driver.
pub fn plugin(driver: &str) -> Option<&'static dyn DriverPlugin> {
    PLUGINS.into_iter().find(|plugin| plugin.wanted().module == driver)
}

/// Files of a driver that is known more closely; none for any other.
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
