//! Every VFIO device of the host, for `list`, `show` and `exercise`: what sysfs has, and, if permitted, what the kernel
//! has in memory.

use std::collections::HashMap;

use super::{
    error::{CliError, USAGE},
    output::note,
};
use crate::{
    driver::{PluginDispatcher, WANTED},
    kernel::{KernelFacts, KernelFiles, VfioDevice},
    source::{
        live::LiveError,
        snapshot::{DeviceFacts, DeviceSnapshot, SnapshotLosses},
    },
    state::TraceModel,
};

/// All VFIO devices of the host, as one look found them. `list`, `show` and `exercise` each make one at the start.
pub(super) struct HostDevices {
    /// Devices in sysfs, each with its facts from the kernel's memory, if these could be read.
    pub(super) all: Vec<(VfioDevice, Option<DeviceFacts>)>,
    /// Model of the devices, made from the kernel's memory.
    pub(super) model: TraceModel,
    /// Drivers' plug-ins, with what they have decoded of the kernel's memory.
    pub(super) drivers: PluginDispatcher,
    /// True if the processes that hold devices could be found.
    pub(super) holders_known: bool,
    /// Losses while the kernel's memory was read.
    pub(super) losses: SnapshotLosses,
    /// Reason why the kernel's memory could not be read; `None` if it was read.
    pub(super) snapshot_error: Option<LiveError>,
    /// True if sysfs could be read: if not, it is not known which devices there are.
    pub(super) sysfs_readable: bool,
    /// Facts about the running kernel.
    pub(super) facts: KernelFacts,
}

impl HostDevices {
    /// Reads sysfs and, if permitted, the kernel's memory, once.
    pub(super) fn read(files: &KernelFiles) -> Self {
        let facts = KernelFacts::read_for(files, &WANTED);
        let (snapshot, blind) = match DeviceSnapshot::take(files, &facts) {
            Ok(snapshot) => (snapshot, None),
            Err(error) => (DeviceSnapshot::default(), Some(error)),
        };
        let (all, sysfs_readable) = (VfioDevice::all(files), VfioDevice::has_sysfs(files));
        let by_name: HashMap<&str, &DeviceFacts> =
            snapshot.devices.iter().map(|facts| (facts.name.as_str(), facts)).collect();
        let memory = |device: VfioDevice| {
            let memory = by_name.get(device.name.as_str()).map(|&facts| facts.clone());
            (device, memory)
        };
        let all = all.into_iter().map(memory).collect();
        let DeviceSnapshot { model, drivers, holders_known, losses, .. } = snapshot;
        Self { all, model, drivers, holders_known, losses, snapshot_error: blind, sysfs_readable, facts }
    }

    /// Returns an error if no device was found, and there may be some all the same.
    pub(super) fn check_sysfs(&self) -> Result<(), CliError> {
        if self.sysfs_readable || !self.all.is_empty() {
            return Ok(());
        }
        Err(CliError::failed(
            "it is not known which VFIO devices there are",
            "sysfs cannot be read",
            "mount it (mount -t sysfs sysfs /sys), or let this container or user read it",
        ))
    }

    /// Reports the losses on standard error, if there are any.
    pub(super) fn say_losses(&self) {
        if let Some(losses) = self.losses.describe() {
            note(&format!("not all that there is is shown: {losses}"));
        }
    }

    /// Returns the one device that `text` means, as [`one`] finds it.
    pub(super) fn find(&self, text: &str) -> Result<&(VfioDevice, Option<DeviceFacts>), CliError> {
        one(&self.all, text, |(device, _)| device.matches_name(text), |(device, _)| &device.name)?
            .ok_or_else(|| self.none(text))
    }

    /// Returns the device with the whole name `text`.
    pub(super) fn find_whole(&self, text: &str) -> Result<&(VfioDevice, Option<DeviceFacts>), CliError> {
        check_name(text)?;
        self.all.iter().find(|(device, _)| device.matches_name(text)).ok_or_else(|| self.none(text))
    }

    fn none(&self, text: &str) -> CliError {
        self.check_sysfs().err().unwrap_or_else(|| none(text))
    }
}

fn none(text: &str) -> CliError {
    CliError::failed(
        format!("there is no VFIO device {text}"),
        "no device that is bound to a VFIO driver has this name",
        "see `vfio-trace list`",
    )
}

/// Refuses an empty name: every name begins with it.
fn check_name(text: &str) -> Result<(), CliError> {
    if !text.is_empty() {
        return Ok(());
    }
    let todo = "give a name: see `vfio-trace list`";
    Err(CliError::with_code(USAGE, "which device?", "its name is empty", todo))
}

/// Returns the one device that `text` means: the one of this name, or the only one with a name that begins so.
pub(super) fn one<'a, T>(
    all: &'a [T],
    text: &str,
    is_called: impl Fn(&T) -> bool,
    name: impl Fn(&T) -> &str,
) -> Result<Option<&'a T>, CliError> {
    check_name(text)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::source::testing::TestRoot;

    #[test]
    fn without_sysfs_no_device_is_said_to_be_missing() {
        let said = |root: &TestRoot, name: &str| {
            let found = |all: &HostDevices, whole: bool| {
                let found = if whole { all.find_whole(name) } else { all.find(name) };
                found.map(|(device, _)| device.name.clone()).map_err(|why| (why.code, why.sentence()))
            };
            let files = root.files();
            let devices = HostDevices {
                all: VfioDevice::all(&files).into_iter().map(|device| (device, None)).collect(),
                model: TraceModel::new(),
                drivers: PluginDispatcher::new(false),
                holders_known: true,
                losses: SnapshotLosses::default(),
                snapshot_error: None,
                sysfs_readable: VfioDevice::has_sysfs(&files),
                facts: KernelFacts::read(&files),
            };
            let known = devices.check_sysfs().is_ok();
            [false, true].map(|whole| (known, found(&devices, whole)))
        };
        let no_sysfs = "it is not known which VFIO devices there are: sysfs cannot be read";
        let unknown = (false, Err((1, no_sysfs.to_owned())));
        assert_eq!(said(&TestRoot::new(), "0000:3b:00.2"), [unknown.clone(), unknown]);
        let none = TestRoot::new();
        none.write("sys/bus/pci/x", "");
        for (known, found) in said(&none, "0000:3b:00.2") {
            assert!(known && found.unwrap_err().1.starts_with("there is no VFIO device 0000:3b:00.2"));
        }
        let machine = crate::kernel::inventory::tests::machine();
        let found = (true, Ok("0000:3b:00.2".to_owned()));
        assert_eq!(said(&machine, "0000:3b:00.2"), [found.clone(), found]);
        for (_, found) in said(&machine, "") {
            assert_eq!(found.unwrap_err().0, USAGE);
        }
    }

    #[test]
    fn a_name_or_the_beginning_of_one_but_not_of_all() {
        let find = |all: &[&'static str], text: &str| {
            one(all, text, |name| *name == text, |name| name)
                .map(Option::<&&str>::copied)
                .map_err(|error| error.code)
        };
        let all = ["0000:75:00.1", "0000:75:00.10", "11111111-1111-1111-1111-111111111111"];
        assert_eq!(find(&all, "11"), Ok(Some(all[2])));
        assert_eq!(find(&all, "0000:75:00.1"), Ok(Some(all[0])), "whole before begun");
        assert_eq!(find(&all, "0000"), Err(1));
        assert_eq!(find(&all, "x"), Ok(None));
        assert_eq!(find(&all[..1], ""), Err(USAGE), "the only one begins with nothing, too");
    }
}
