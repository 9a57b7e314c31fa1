//! What the kernel has in memory about devices, from the inventory that `list` takes; and whether it can be taken.

use vfio_trace_common::role::Role;

use super::{attempt::ProbeAttempt, devices::MemoryFacts};
use crate::{
    kernel::{KernelFacts, KernelFiles, VfioDevice},
    output::{Check, CheckSection, CheckStatus},
    source::snapshot::{DeviceFacts, DeviceSnapshot},
    units::human,
};

impl From<&DeviceFacts> for MemoryFacts {
    fn from(facts: &DeviceFacts) -> Self {
        Self {
            migration: facts.migration,
            dirty_tracking: facts.dirty_tracking,
            flags: facts.flags,
            holders: facts.holders.iter().map(|holder| holder.pid).collect(),
        }
    }
}

/// All devices with what memory says of them, and how the inventory went.
pub(super) fn look(
    files: &KernelFiles,
    facts: &KernelFacts,
    attempt: &ProbeAttempt,
) -> (Vec<(VfioDevice, MemoryFacts)>, Check) {
    let finding = |what: String| {
        Check::ok(
            CheckSection::Probes,
            Role::Inventory.check_id(),
            "iterator over open files",
            format!("inventory: {what}"),
        )
    };
    let (snapshot, finding) = match attempt {
        ProbeAttempt::NotTried(why) => (
            DeviceSnapshot::default(),
            finding(format!("not tried: {why}")).with_status(CheckStatus::Unknown),
        ),
        ProbeAttempt::NoMaps(_) => {
            (DeviceSnapshot::default(), finding("not tried".to_owned()).with_status(CheckStatus::Unknown))
        },
        ProbeAttempt::Done(_) => match DeviceSnapshot::take(files, facts) {
            Ok(snapshot) => {
                let finding = finding(format!(
                    "ran, and found {}",
                    human::count(snapshot.devices.len() as u64, "device")
                ));
                let finding = match snapshot.losses.describe() {
                    None => finding,
                    Some(losses) => finding.with_status(CheckStatus::Degraded).costs(losses),
                };
                let finding = if snapshot.holders_known {
                    finding
                } else {
                    finding
                        .with_status(CheckStatus::Degraded)
                        .costs("who holds a device is not known: it takes the address of a function")
                };
                (snapshot, finding)
            },
            Err(why) => (
                DeviceSnapshot::default(),
                finding(why.to_string()).with_status(CheckStatus::Missing).costs(Role::Inventory.loss()),
            ),
        },
    };
    let memory =
        |device: &VfioDevice| snapshot.device(&device.name).map(MemoryFacts::from).unwrap_or_default();
    let devices = VfioDevice::all(files).into_iter().map(|device| {
        let memory = memory(&device);
        (device, memory)
    });
    (devices.collect(), finding)
}
