//! What `list` and `show` share: every device of the host, with what sysfs says and, if permitted, what the kernel has
//! in memory.

use super::error::CliError;
use crate::{
    driver::WANTED,
    kernel::{KernelFacts, KernelFiles, VfioDevice},
    source::{
        live::LiveError,
        snapshot::{DeviceFacts, Snapshot},
    },
};

/// All devices.
pub(super) struct Devices {
    /// From sysfs, each with what the kernel's memory says of it.
    pub(super) all: Vec<(VfioDevice, Option<DeviceFacts>)>,
    /// Whether holders could be told.
    pub(super) holders_known: bool,
    /// Why the kernel's memory could not be read.
    pub(super) blind: Option<LiveError>,
    /// The kernel.
    pub(super) facts: KernelFacts,
}

impl Devices {
    /// Looks at the host once.
    pub(super) fn read(files: &KernelFiles) -> Self {
        let facts = KernelFacts::read_for(files, &WANTED);
        let (snapshot, blind) = match Snapshot::take(files, &facts) {
            Ok(snapshot) => (snapshot, None),
            Err(error) => (Snapshot::default(), Some(error)),
        };
        let all = VfioDevice::all(files);
        let all = all.into_iter().map(|device| {
            let memory = snapshot.device(&device.name).cloned();
            (device, memory)
        });
        Self { all: all.collect(), holders_known: snapshot.holders_known, blind, facts }
    }

    /// The one device that `text` means.
    pub(super) fn find(&self, text: &str) -> Result<&(VfioDevice, Option<DeviceFacts>), CliError> {
        if let Some(found) = self.all.iter().find(|(device, _)| device.is_called(text)) {
            return Ok(found);
        }
        let mut begin = self.all.iter().filter(|(device, _)| device.name.starts_with(text));
        match (begin.next(), begin.next()) {
            (Some(found), None) => Ok(found),
            (Some(_), Some(_)) => Err(CliError::failed(
                "which device?",
                format!("several names begin with {text}"),
                "give more of the name",
            )),
            (None, _) => Err(CliError::failed(
                format!("there is no VFIO device {text}"),
                "no device that is bound to a VFIO driver has this name",
                "see `vfio-trace list`",
            )),
        }
    }
}
