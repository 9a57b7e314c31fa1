//! What `list` and `show` share: every device of the host, with what sysfs says and, if permitted, what the kernel has
//! in memory.

use super::error::CliError;
use crate::{
    driver::{Interpreter, WANTED},
    kernel::{KernelFacts, KernelFiles, VfioDevice},
    model::Model,
    source::{
        live::LiveError,
        snapshot::{DeviceFacts, Snapshot},
    },
};

/// All devices.
pub(super) struct Devices {
    /// From sysfs, each with what the kernel's memory says of it.
    pub(super) all: Vec<(VfioDevice, Option<DeviceFacts>)>,
    /// What the kernel's memory adds up to.
    pub(super) model: Model,
    /// What drivers' plug-ins make of it.
    pub(super) drivers: Interpreter,
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
        let memory = |device: VfioDevice| {
            let memory = snapshot.device(&device.name).cloned();
            (device, memory)
        };
        let all = all.into_iter().map(memory).collect();
        let Snapshot { model, drivers, holders_known, .. } = snapshot;
        Self { all, model, drivers, holders_known, blind, facts }
    }

    /// The one device that `text` means.
    pub(super) fn find(&self, text: &str) -> Result<&(VfioDevice, Option<DeviceFacts>), CliError> {
        one(&self.all, text, |(device, _)| device.is_called(text), |(device, _)| &device.name)?.ok_or_else(
            || {
                CliError::failed(
                    format!("there is no VFIO device {text}"),
                    "no device that is bound to a VFIO driver has this name",
                    "see `vfio-trace list`",
                )
            },
        )
    }
}

/// The one device that `text` means: that is called so, or the only one whose name begins with it.
pub(super) fn one<'a, T>(
    all: &'a [T],
    text: &str,
    is_called: impl Fn(&T) -> bool,
    name: impl Fn(&T) -> &str,
) -> Result<Option<&'a T>, CliError> {
    if let Some(found) = all.iter().find(|device| is_called(device)) {
        return Ok(Some(found));
    }
    let mut begin = all.iter().filter(|device| name(device).starts_with(text));
    match (begin.next(), begin.next()) {
        (Some(_), Some(_)) => Err(CliError::failed(
            "which device?",
            format!("several names begin with {text}"),
            "give more of the name",
        )),
        (found, _) => Ok(found),
    }
}
