//! Plug-in for NVIDIA ConnectX: drivers/vfio/pci/mlx5, read in 6.1, 6.12 and 7.3. Never run on hardware: see
//! docs/drivers.md.

mod device;
mod explain;
mod quirks;
mod steps;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use vfio_trace_common::capture::moment;

use self::device::Mlx5Device;
use super::{DriverPlugin, DriverQuirks, PluginDevices, ViewError, ViewStyle};
use crate::{
    event::{DriverFinding, VfioEvent},
    kernel::{WantedCapture, WantedDriver, WantedMembers},
};

/// Plug-in of mlx5_vfio_pci.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mlx5Plugin;

impl DriverPlugin for Mlx5Plugin {
    fn wanted(&self) -> &'static WantedDriver {
        &WANTED
    }

    fn files(&self) -> &'static [&'static str] {
        &[]
    }

    fn devices(&self) -> Box<dyn PluginDevices> {
        Box::new(Mlx5Devices::default())
    }

    fn quirks(&self) -> Option<&'static DriverQuirks> {
        Some(&quirks::QUIRKS)
    }
}

#[derive(Debug, Default)]
struct Mlx5Devices(BTreeMap<u32, Mlx5Device>);

impl PluginDevices for Mlx5Devices {
    fn forget(&mut self, nr: u32) {
        self.0.remove(&nr);
    }

    fn apply(&mut self, nr: u32, event: &mut VfioEvent) -> Vec<DriverFinding> {
        self.0.entry(nr).or_default().apply(event)
    }

    fn view(&self, _nr: u32, file: &str, _style: ViewStyle, _annotate: bool) -> Result<String, ViewError> {
        Err(ViewError::NoFile(file.to_owned()))
    }
}

/// Moments at which structures are captured: when states change, and when the driver reports the progress of PRE_COPY.
/// Not at reads and writes, of which a migration has hundreds; their effects show at the next of these moments.
const FILE: u32 = moment::ARC
    | moment::SET_STATE
    | moment::CLOSE
    | moment::RESET
    | moment::SEEN
    | moment::DATA_IOCTL
    | moment::STEP_ENTER;

const fn migration_file(
    name: &'static str,
    path: &'static [&'static str],
    members: &'static [&'static str],
    values: &'static [(&'static str, &'static str)],
) -> WantedCapture {
    WantedCapture {
        name,
        path,
        structure: "mlx5_vf_migration_file",
        members: WantedMembers::Some(members),
        file: Some("filp"),
        when: FILE,
        values,
        secret: &[],
    }
}

/// Parts of the driver that are captured: its structures, the moments to copy them, and its steps.
pub(super) static WANTED: WantedDriver = WantedDriver {
    module: "mlx5_vfio_pci",
    set_state: "mlx5vf_pci_set_device_state",
    libraries: &[],
    device: "mlx5vf_pci_core_device",
    captures: &[
        WantedCapture {
            name: "device",
            path: &[],
            structure: "mlx5vf_pci_core_device",
            members: WantedMembers::Some(&[
                "mig_state",
                "vf_id",
                "vhca_id",
                "mdev_detach",
                "log_active",
                "deferred_reset",
                "tracker.is_err",
                "tracker.object_changed",
                "tracker.status",
            ]),
            file: None,
            when: FILE,
            values: &[],
            secret: &[],
        },
        // Before PRE_COPY came in 6.2, the file had total_length and a bit for errors.
        migration_file(
            "saving_migf",
            &["saving_migf"],
            &[
                "state",
                "max_pos",
                "pre_copy_initial_bytes",
                "pre_copy_initial_bytes_start",
                "stop_copy_prep_size",
                "num_ready_chunks",
                "async_data.status",
                "total_length",
            ],
            &[],
        ),
        migration_file(
            "resuming_migf",
            &["resuming_migf"],
            &[
                "state",
                "load_state",
                "max_pos",
                "record_size",
                "record_tag",
                "stop_copy_prep_size",
                "total_length",
            ],
            // The numbers of these values have changed in 6.9.
            &[("load_state", explain::READ_HEADER), ("load_state", explain::NO_HEADER)],
        ),
    ],
    steps: &steps::STEPS,
};
