//! Tests of the plug-in with events like those of the lab.

mod compare;
mod explain;
mod props;
mod views;

use std::sync::{Arc, LazyLock};

use vfio_trace_common::role::Role;

use super::{
    ADDRESSES, HisiAccPlugin,
    data::{MAGIC_V1, MAGIC_V2, MigfImage},
};
use crate::{
    driver::fixture::*,
    event::{CaptureMoment, CaptureNote, DriverImage, EventData, MigState as S},
};

const EIO: u32 = 5;
const EBUSY: u32 = 16;
const ENODEV: u32 = 19;
const EINVAL: u32 = 22;
const ETIMEDOUT: u32 = 110;

/// Layouts as in Linux 7.3.
static FILE: LazyLock<Arc<CaptureNote>> = LazyLock::new(|| migf("saving_migf"));
static TARGET: LazyLock<Arc<CaptureNote>> = LazyLock::new(|| migf("resuming_migf"));
static DEBUG: LazyLock<Arc<CaptureNote>> = LazyLock::new(|| migf("debug_migf"));
static CORE: LazyLock<Arc<CaptureNote>> = LazyLock::new(|| {
    let members = [
        ("mig_state", 4, 1),
        ("vf_qm_state", 4, 1),
        ("match_done", 1, 1),
        ("dev_opened", 1, 1),
        ("vf_qm.qp_num", 4, 1),
    ];
    layout("device", &members, &[])
});
static PCI: LazyLock<Arc<CaptureNote>> = LazyLock::new(|| layout("pci", &[("device", 2, 1)], &[]));

fn migf(name: &str) -> Arc<CaptureNote> {
    let members = [
        ("disabled", 1, 1),
        ("vf_data.acc_magic", 8, 1),
        ("vf_data.qp_num", 4, 1),
        ("vf_data.dev_id", 4, 1),
        ("vf_data.que_iso_cfg", 4, 1),
        ("vf_data.qp_base", 4, 1),
        ("vf_data.vf_qm_state", 4, 1),
        ("vf_data.major_ver", 2, 1),
        ("vf_data.minor_ver", 2, 1),
        ("vf_data.qm_rsv_state", 4, 2),
        ("vf_data.aeq_int_mask", 4, 1),
        ("vf_data.eq_int_mask", 4, 1),
        ("vf_data.ifc_int_source", 4, 1),
        ("vf_data.ifc_int_mask", 4, 1),
        ("vf_data.ifc_int_set", 4, 1),
        ("vf_data.page_size", 4, 1),
        ("vf_data.qm_eqc_dw", 4, 7),
        ("vf_data.qm_aeqc_dw", 4, 7),
        ("vf_data.qm_rsv_regs", 4, 5),
        ("vf_data.padding", 4, 1),
        ("vf_data.eqe_dma", 8, 1),
        ("vf_data.aeqe_dma", 8, 1),
        ("vf_data.sqc_dma", 8, 1),
        ("vf_data.cqc_dma", 8, 1),
        ("total_length", 8, 1),
    ];
    layout(name, &members, &ADDRESSES)
}

/// Image of a VF with 64 queues and a guest driver, as in the lab's scenarios.
const GOOD: [(&str, u64); 10] = [
    ("vf_data.acc_magic", MAGIC_V2),
    ("vf_data.qp_num", 64),
    ("vf_data.dev_id", 0xa251),
    ("vf_data.qp_base", 64),
    ("vf_data.major_ver", 1),
    ("vf_data.qm_eqc_dw", 0x0102_0304),
    ("vf_data.eqe_dma", 0x7_0001_0000),
    ("vf_data.aeqe_dma", 0x7_0002_0000),
    ("vf_data.sqc_dma", 0x7_0003_0000),
    ("vf_data.cqc_dma", 0x7_0004_0000),
];

/// Makes an image of a good file with `length` bytes in it, except for the members in `other`.
fn file(layout: &Arc<CaptureNote>, moment: CaptureMoment, length: u64, other: &[(&str, u64)]) -> DriverImage {
    let mut values = other.to_vec();
    values.push(("total_length", length));
    values.extend(GOOD);
    image(layout, moment, &values)
}

fn saving(length: u64, other: &[(&str, u64)]) -> EventData {
    EventData::Image(file(&FILE, CaptureMoment::SetState, length, other))
}

/// Makes an image of the file being loaded, copied after a write.
fn resuming(length: u64, other: &[(&str, u64)]) -> EventData {
    EventData::Image(file(&TARGET, CaptureMoment::Write, length, other))
}

fn core(other: &[(&str, u64)]) -> EventData {
    let mut values = other.to_vec();
    values.push(("dev_opened", 1));
    values.push(("vf_qm.qp_num", 64));
    EventData::Image(image(&CORE, CaptureMoment::Arc, &values))
}

/// Makes an image of the device as the last write has left it.
fn after(other: &[(&str, u64)]) -> EventData {
    let EventData::Image(image) = core(other) else { panic!() };
    EventData::Image(DriverImage { moment: CaptureMoment::Write, ..image })
}

/// Makes an image of the device as in Linux 6.1, which checks a stream only when it loads it.
fn old_core(queues: u64) -> EventData {
    let layout = layout("device", &[("mig_state", 4, 1), ("vf_qm_state", 4, 1), ("vf_qm.qp_num", 4, 1)], &[]);
    EventData::Image(image(&layout, CaptureMoment::Write, &[("mig_state", 4), ("vf_qm.qp_num", queues)]))
}

/// Makes a step within `write()`.
fn in_write(step: EventData) -> EventData {
    moved_to(Some(Role::Write), step)
}

fn pci(id: u64) -> EventData {
    EventData::Image(image(&PCI, CaptureMoment::Seen, &[("device", id)]))
}

/// Makes a call of `hisi_qm_mb()`: address of the queue manager, command, address, queue, read.
fn mailbox(command: u64, read: u64, errno: u32) -> EventData {
    step("hisi_qm_mb", errno, &[0xffff_8880_0000_1000, command, 0x7_0003_0000, 0, read])
}

/// Makes a harness with a device that was opened and seen.
fn fed() -> PluginHarness {
    let mut fed = PluginHarness::new(&HisiAccPlugin);
    fed.feed([pci(0xa251), open(), core(&[("mig_state", 2)])]);
    fed
}

/// Makes the events that enter STOP_COPY with a complete image.
fn saved(other: &[(&str, u64)]) -> [EventData; 5] {
    [
        arc(S::RUNNING, S::STOP, 0),
        arc(S::STOP, S::STOP_COPY, 0),
        core(&[("mig_state", 3)]),
        saving(176, other),
        set_state(S::STOP_COPY, 0),
    ]
}
