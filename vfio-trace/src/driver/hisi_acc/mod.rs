//! Plug-in for HiSilicon accelerators (ZIP, SEC, HPRE): drivers/vfio/pci/hisilicon/hisi_acc_vfio_pci.c, read in 6.1,
//! 6.12 and 7.3.

mod data;
mod device;
mod explain;
mod quirks;
mod steps;
mod views;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use vfio_trace_common::capture::moment;

use self::{data::MigfImage, device::HisiDevice, explain::StreamEnds};
use super::{DriverPlugin, DriverQuirks, PluginDevices, ViewError, ViewStyle};
use crate::{
    event::{DriverFinding, EventData, MigState, VfioEvent},
    kernel::{WantedCapture, WantedDriver, WantedMembers},
};

/// Plug-in of hisi_acc_vfio_pci.
#[derive(Clone, Copy, Debug)]
pub(super) struct HisiAccPlugin;

impl DriverPlugin for HisiAccPlugin {
    fn wanted(&self) -> &'static WantedDriver {
        &WANTED
    }

    fn files(&self) -> &'static [&'static str] {
        &views::FILES
    }

    fn devices(&self) -> Box<dyn PluginDevices> {
        Box::new(HisiDevices::default())
    }

    fn quirks(&self) -> Option<&'static DriverQuirks> {
        Some(&quirks::QUIRKS)
    }
}

/// State of all devices of the driver; source and destination of a migration may both be among them.
#[derive(Debug, Default)]
struct HisiDevices {
    devices: BTreeMap<u32, HisiDevice>,
    /// Destinations by source. Key: number of the device that saved. Value: number of its file, and device and file
    /// that its image was found to have been loaded into.
    given: BTreeMap<u32, (u32, (u32, u32))>,
}

impl PluginDevices for HisiDevices {
    fn forget(&mut self, nr: u32) {
        self.devices.remove(&nr);
        // Where its own image went matters no more. What it was given stays given: it belongs to no other device.
        self.given.remove(&nr);
    }

    fn apply(&mut self, nr: u32, event: &mut VfioEvent) -> Vec<DriverFinding> {
        let compares = match &event.data {
            EventData::Arc(arc) => arc.from == MigState::RESUMING && arc.to == Some(MigState::STOP),
            _ => false,
        };
        // The comparison comes before the device forgets the image that arrived.
        let compared = if compares { self.compare(nr, true) } else { None };
        let mut findings = self.devices.entry(nr).or_default().apply(event);
        findings.extend(compared);
        let device = self.devices.get_mut(&nr);
        if device.is_some_and(|device| std::mem::take(&mut device.check_stream)) {
            findings.extend(self.compare(nr, false));
        }
        findings
    }

    fn view(&self, nr: u32, file: &str, style: ViewStyle, annotate: bool) -> Result<String, ViewError> {
        let unknown = ViewError::Unknown("nothing of the driver was seen");
        self.devices.get(&nr).ok_or(unknown)?.view(file, style, annotate)
    }
}

impl HisiDevices {
    /// Compares the image that arrived at a device with the images that other devices have saved. If the process that
    /// wrote it had read from any of them, only those count; otherwise an equal image of any device counts. `whole`: no
    /// more of it will arrive.
    fn compare(&mut self, nr: u32, whole: bool) -> Option<DriverFinding> {
        let here = self.devices.get(&nr)?;
        let (to, file) = (here.resuming.as_ref()?, (nr, here.files));
        let mut found: Option<(u32, u32, DriverFinding)> = None;
        let read_by_writer = |device: &HisiDevice| here.writer.is_some() && device.reader == here.writer;
        let others = || self.devices.iter().filter(|(other, _)| **other != nr);
        // An image that the process has not read is not the one it wrote, even if they are equal: VFs that are set up
        // alike differ in few bytes.
        let has_read = others().any(|(_, device)| read_by_writer(device));
        let mut others: Vec<(bool, &u32, &HisiDevice, &MigfImage)> = others()
            .filter(|(_, device)| !has_read || read_by_writer(device))
            .filter_map(|(other, device)| {
                let free =
                    self.given.get(other).is_none_or(|(saved, to)| *saved != device.files || *to == file);
                let (sent, of_reader) = device.sent()?;
                Some((free && of_reader && read_by_writer(device), other, device, sent))
            })
            .collect();
        others.sort_by_key(|(related, _, _, from)| (!related, std::cmp::Reverse(from.at_ns)));
        // A process that has read from several devices may have written the image of any of them.
        let sources = others.iter().filter(|(related, ..)| *related).count();
        for (related, other, device, from) in others {
            let name = device.name.as_deref().unwrap_or("another device");
            let Some(finding) = explain::compare(StreamEnds { name, from, to, related, whole }) else {
                continue;
            };
            let equal = finding.code == "hisi_acc/images-equal";
            if equal || (found.is_none() && sources == 1) {
                found = Some((*other, device.files, finding));
            }
            if equal {
                break;
            }
        }
        let (other, saved, finding) = found?;
        self.given.insert(other, (saved, file));
        Some(finding)
    }
}

/// Members of `struct acc_vf_data` with addresses of the guest's memory (as its IOMMU maps it).
const ADDRESSES: [&str; 4] = ["vf_data.eqe_dma", "vf_data.aeqe_dma", "vf_data.sqc_dma", "vf_data.cqc_dma"];

/// Moments at which files are captured: before anything that may end the file, and after anything that changes it.
const FILE: u32 = moment::ARC
    | moment::SET_STATE
    | moment::CLOSE
    | moment::RESET
    | moment::SEEN
    | moment::STEP_ENTER
    | moment::STEP_EXIT;

const fn migration_file(name: &'static str, path: &'static [&'static str], when: u32) -> WantedCapture {
    WantedCapture {
        name,
        path,
        structure: "hisi_acc_vf_migration_file",
        members: WantedMembers::All(&["acc_vf_data"]),
        file: Some("filp"),
        when,
        values: &[],
        secret: &ADDRESSES,
    }
}

/// Parts of the driver that are captured: its structures, the moments to copy them, and its steps.
pub(super) static WANTED: WantedDriver = WantedDriver {
    module: "hisi_acc_vfio_pci",
    set_state: "hisi_acc_vfio_pci_set_device_state",
    libraries: &["hisi_qm"],
    device: "hisi_acc_vf_core_device",
    captures: &[
        WantedCapture {
            name: "device",
            path: &[],
            structure: "hisi_acc_vf_core_device",
            // dev_opened exists since 6.13, drv_mode since 6.19, set_reset_flag since 7.0.
            members: WantedMembers::Some(&[
                "mig_state",
                "vf_qm_state",
                "match_done",
                "set_reset_flag",
                "dev_opened",
                "drv_mode",
                "vf_id",
                "vf_qm.qp_num",
                "vf_qm.qp_base",
            ]),
            file: None,
            when: FILE | moment::WRITE,
            values: &[],
            secret: &[],
        },
        migration_file("saving_migf", &["saving_migf"], FILE | moment::READ | moment::DATA_IOCTL),
        migration_file("resuming_migf", &["resuming_migf"], FILE | moment::WRITE),
        // Exists only with the driver's own debugfs (6.13 and later, CONFIG_VFIO_DEBUGFS). It has no struct file.
        WantedCapture { file: None, ..migration_file("debug_migf", &["debug_migf"], FILE) },
        WantedCapture {
            name: "pci",
            path: &["vf_dev"],
            structure: "pci_dev",
            members: WantedMembers::Some(&["vendor", "device", "revision"]),
            file: None,
            when: moment::SEEN,
            values: &[],
            secret: &[],
        },
    ],
    steps: &steps::STEPS,
};
