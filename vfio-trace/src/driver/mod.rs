//! Driver plug-ins: what to look at in a driver, what it means, and the driver's own views. One folder per driver.
//!
//! Everything generic comes from the vfio core and works for a driver that nobody here knows. A plug-in adds steps,
//! copies of the driver's structures, explanations and files. It is data and pure functions: it sees events only.

#[cfg(test)]
mod fixture;
mod hisi_acc;
mod interpreter;
mod manners;
mod mlx5;

use std::fmt::Debug;

use thiserror::Error;

pub use self::{
    interpreter::Interpreter,
    manners::{Channel, Identity, Manners, manners},
};
use crate::{
    event::{Event, Finding},
    kernel::DriverWanted,
};

/// All plug-ins. A new driver is a folder and a line here.
static PLUGINS: [&dyn Plugin; 2] = [&hisi_acc::HisiAcc, &mlx5::Mlx5];

/// What all of them want of the kernel.
pub static WANTED: [&DriverWanted; 2] = [&hisi_acc::WANTED, &mlx5::WANTED];

/// A driver that is known more closely.
pub trait Plugin: Sync {
    /// What it wants of the kernel; `wanted().module` is the name of the driver.
    fn wanted(&self) -> &'static DriverWanted;

    /// Its files, as paths below a device's `migration` folder.
    fn files(&self) -> &'static [&'static str];

    /// What it knows of its devices: nothing yet.
    fn devices(&self) -> Box<dyn Devices>;

    /// What one must know who exercises its devices.
    fn manners(&self) -> Option<&'static Manners> {
        None
    }
}

/// What a plug-in knows of its devices, each by its number within the run (`DeviceRef::nr`).
pub trait Devices: Debug + Send {
    /// Forgets a device: there are too many.
    fn forget(&mut self, nr: u32);

    /// Takes in the next event of a device; may name a step and add details. Gives what it makes of it.
    fn apply(&mut self, nr: u32, event: &mut Event) -> Vec<Finding>;

    /// One of a device's files.
    ///
    /// # Errors
    ///
    /// [`NoView`]: nothing is known that could be shown.
    fn view(&self, nr: u32, file: &str, style: Style, annotate: bool) -> Result<String, NoView>;
}

/// Which text, where a file's text has changed over time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
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
pub enum NoView {
    /// There is no such file.
    #[error("there is no file {0}")]
    NoFile(String),
    /// Nothing was seen that it could be made from.
    #[error("{0}")]
    Unknown(&'static str),
}

/// The plug-in of a driver.
pub fn plugin(driver: &str) -> Option<&'static dyn Plugin> {
    PLUGINS.into_iter().find(|plugin| plugin.wanted().module == driver)
}

/// Files of a driver that is known more closely; none for any other.
pub fn files(driver: &str) -> &'static [&'static str] {
    plugin(driver).map_or(&[], Plugin::files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_is_what_plugins_want() {
        let modules = |wanted: &'static DriverWanted| wanted.module;
        assert_eq!(PLUGINS.map(|plugin| modules(plugin.wanted())), WANTED.map(modules));
    }
}
