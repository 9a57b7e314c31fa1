//! Attempt to take the inventory of what the kernel has in memory about devices, and its check.

use vfio_trace_common::role::Role;

use super::{Check, CheckSection, CheckStatus, DoctorFacts, MemoryFacts, attempt::ProbeAttempt};
use crate::{
    kernel::{KernelFacts, KernelFiles, VfioCore},
    source::snapshot::DeviceSnapshot,
    units::human,
};

/// Result of taking the inventory, as `list` takes it. `InventoryAttempt::make` makes it once per run of `doctor`.
#[derive(Debug)]
pub enum InventoryAttempt {
    /// Not tried; with the reason, unless another check gives it.
    NotTried(Option<String>),
    /// Failed, with the error.
    Failed(String),
    /// Taken, with its result.
    Taken(Box<DeviceSnapshot>),
}

impl InventoryAttempt {
    /// Takes the inventory, if programs could be loaded.
    pub(super) fn make(files: &KernelFiles, kernel: &KernelFacts, attempt: &ProbeAttempt) -> Self {
        match attempt {
            ProbeAttempt::NotTried(why) => Self::NotTried(Some(why.clone())),
            ProbeAttempt::NoMaps(_) => Self::NotTried(None),
            ProbeAttempt::Done(_) => match DeviceSnapshot::take(files, kernel) {
                Ok(snapshot) => Self::Taken(Box::new(snapshot)),
                Err(why) => Self::Failed(why.to_string()),
            },
        }
    }

    /// Returns the facts from memory about a device.
    pub(super) fn memory_of(&self, device: &str) -> MemoryFacts {
        match self {
            Self::Taken(snapshot) => snapshot.device(device).map(MemoryFacts::from).unwrap_or_default(),
            Self::NotTried(_) | Self::Failed(_) => MemoryFacts::default(),
        }
    }
}

/// Makes the check of the inventory, if there is any device to look for.
pub(super) fn inventory(facts: &DoctorFacts) -> Vec<Check> {
    if facts.kernel.vfio == VfioCore::NotLoaded {
        return Vec::new();
    }
    let check = |what: String| {
        Check::ok(
            CheckSection::Probes,
            Role::Inventory.check_id(),
            "iterator over open files",
            format!("inventory: {what}"),
        )
    };
    vec![match &facts.inventory {
        InventoryAttempt::NotTried(why) => {
            let why = why.as_ref().map_or_else(String::new, |why| format!(": {why}"));
            check(format!("not tried{why}")).with_status(CheckStatus::Unknown)
        },
        InventoryAttempt::Failed(why) => {
            check(why.clone()).with_status(CheckStatus::Missing).costs(Role::Inventory.loss())
        },
        InventoryAttempt::Taken(snapshot) => {
            let count = human::count(snapshot.devices.len() as u64, "device");
            let mut check = check(format!("ran, and found {count}"));
            if let Some(losses) = snapshot.losses.describe() {
                check = check.with_status(CheckStatus::Degraded).costs(losses);
            }
            if !snapshot.holders_known {
                check = check
                    .with_status(CheckStatus::Degraded)
                    .costs("who holds a device is not known: it takes the address of a function");
            }
            check
        },
    }]
}
