//! What the kernel has in memory about devices, from the inventory that `list` takes; and whether it can be taken.

use vfio_trace_common::role::Role;

use super::{attempt::Attempt, devices::Memory, losses, probes::id_of};
use crate::{
    kernel::{KernelFacts, KernelFiles, VfioDevice},
    output::{Finding, Section, Status},
    source::snapshot::{DeviceFacts, Snapshot},
    units::human,
};

impl From<&DeviceFacts> for Memory {
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
    attempt: &Attempt,
) -> (Vec<(VfioDevice, Memory)>, Finding) {
    let finding = |what: String| {
        Finding::ok(
            Section::Probes,
            id_of(Role::Inventory),
            "iterator over open files",
            format!("inventory: {what}"),
        )
    };
    let (snapshot, finding) = match attempt {
        Attempt::NotTried(why) => {
            (Snapshot::default(), finding(format!("not tried: {why}")).but(Status::Unknown))
        },
        Attempt::NoMaps(_) => (Snapshot::default(), finding("not tried".to_owned()).but(Status::Unknown)),
        Attempt::Done(_) => match Snapshot::take(files, facts) {
            Ok(snapshot) => {
                let finding = finding(format!(
                    "ran, and found {}",
                    human::count(snapshot.devices.len() as u64, "device")
                ));
                let finding = match snapshot.losses.describe() {
                    None => finding,
                    Some(losses) => finding.but(Status::Degraded).costs(losses),
                };
                let finding = if snapshot.holders_known {
                    finding
                } else {
                    finding
                        .but(Status::Degraded)
                        .costs("who holds a device is not known: it takes the address of a function")
                };
                (snapshot, finding)
            },
            Err(why) => (
                Snapshot::default(),
                finding(why.to_string()).but(Status::Missing).costs(losses::of_role(Role::Inventory)),
            ),
        },
    };
    let memory = |device: &VfioDevice| snapshot.device(&device.name).map(Memory::from).unwrap_or_default();
    let devices = VfioDevice::all(files).into_iter().map(|device| {
        let memory = memory(&device);
        (device, memory)
    });
    (devices.collect(), finding)
}
