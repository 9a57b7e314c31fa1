//! Steps of the driver: its functions, those of hisi_qm that it calls, and the mailbox commands.

use std::borrow::Cow;

use vfio_trace_common::capture::moment;

use crate::{
    event::DriverCall,
    kernel::{StepDevice, WantedStep, btf::TypeShape},
};

const DRIVER: &str = "hisi_acc_vfio_pci";
const QM: &str = "hisi_qm";

const DEVICE: TypeShape = TypeShape::Ptr(&TypeShape::Struct("hisi_acc_vf_core_device"));
const HISI_QM: TypeShape = TypeShape::Ptr(&TypeShape::Struct("hisi_qm"));
const PCI_DEV: TypeShape = TypeShape::Ptr(&TypeShape::Struct("pci_dev"));

const fn of_device(name: &'static str) -> WantedStep {
    WantedStep { name, module: DRIVER, params: &[(0, DEVICE)], device: StepDevice::Device(0), captures: 0 }
}

const fn of_qm(
    name: &'static str,
    module: &'static str,
    params: &'static [(usize, TypeShape)],
) -> WantedStep {
    WantedStep { name, module, params, device: StepDevice::MemberOrThread(0, "vf_qm"), captures: 0 }
}

const fn of_pci(name: &'static str, captures: u32) -> WantedStep {
    WantedStep { name, module: DRIVER, params: &[(0, PCI_DEV)], device: StepDevice::PciDev(0), captures }
}

/// Functions that are traced as steps, as far as the kernel has them. Most of the driver's own are inlined in normal
/// builds; those of hisi_qm are exported.
pub(super) static STEPS: [WantedStep; 21] = [
    of_qm("hisi_qm_mb", QM, &[(0, HISI_QM), (1, TypeShape::Unsigned(1)), (4, TypeShape::Bool)]),
    of_qm("hisi_qm_mb_read", QM, &[(0, HISI_QM), (2, TypeShape::Unsigned(1))]),
    of_qm("hisi_qm_wait_mb_ready", QM, &[(0, HISI_QM)]),
    of_device("hisi_acc_vf_stop_device"),
    of_device("hisi_acc_check_int_state"),
    of_device("hisi_acc_open_saving_migf"),
    of_device("hisi_acc_vf_stop_copy"),
    of_device("vf_qm_get_match_data"),
    of_device("vf_qm_check_match"),
    of_device("vf_qm_state_save"),
    of_device("hisi_acc_vf_load_state"),
    of_device("vf_qm_load_data"),
    of_device("hisi_acc_vf_start_device"),
    WantedStep { captures: moment::STEP_ENTER, ..of_device("hisi_acc_vf_disable_fds") },
    of_device("hisi_acc_vf_reset"),
    of_qm("qm_wait_dev_not_ready", DRIVER, &[(0, HISI_QM)]),
    of_qm("vf_qm_func_stop", DRIVER, &[(0, HISI_QM)]),
    of_qm("vf_qm_cache_wb", DRIVER, &[(0, HISI_QM)]),
    of_qm("vf_qm_read_data", DRIVER, &[(0, HISI_QM)]),
    of_pci("hisi_acc_vf_pci_reset_prepare", moment::STEP_ENTER),
    of_pci("hisi_acc_vf_pci_aer_reset_done", moment::STEP_ENTER | moment::STEP_EXIT),
];

/// Mailbox command (`QM_MB_CMD_*`, include/linux/hisi_acc_qm.h) as the driver uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MailboxCommand {
    /// `QM_MB_CMD_PAUSE_QM`: stops the queues.
    Stop,
    /// `QM_MB_CMD_SQC_BT`, read.
    ReadSqc,
    /// `QM_MB_CMD_SQC_BT`, written.
    WriteSqc,
    /// `QM_MB_CMD_CQC_BT`, read.
    ReadCqc,
    /// `QM_MB_CMD_CQC_BT`, written.
    WriteCqc,
    /// `QM_MB_CMD_SQC_VFT_V2`, read: asks for the queues of the VF.
    ReadVft,
    /// Any other command, by its number.
    Other(u8),
}

impl MailboxCommand {
    const fn of(command: u8, read: bool) -> Self {
        match (command, read) {
            (0xe, _) => Self::Stop,
            (4, true) => Self::ReadSqc,
            (4, false) => Self::WriteSqc,
            (5, true) => Self::ReadCqc,
            (5, false) => Self::WriteCqc,
            (6, true) => Self::ReadVft,
            (other, _) => Self::Other(other),
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop queues",
            Self::ReadSqc => "save SQC address",
            Self::WriteSqc => "load SQC address",
            Self::ReadCqc => "save CQC address",
            Self::WriteCqc => "load CQC address",
            Self::ReadVft => "match: read queues of the VF",
            Self::Other(_) => "mailbox command",
        }
    }

    pub(super) const fn command(self) -> &'static str {
        match self {
            Self::Stop => "mailbox 0xe PAUSE_QM",
            Self::ReadSqc => "mailbox 0x4 SQC_BT read",
            Self::WriteSqc => "mailbox 0x4 SQC_BT write",
            Self::ReadCqc => "mailbox 0x5 CQC_BT read",
            Self::WriteCqc => "mailbox 0x5 CQC_BT write",
            Self::ReadVft => "mailbox 0x6 SQC_VFT_V2 read",
            Self::Other(_) => "mailbox",
        }
    }
}

/// Returns the mailbox command that a step is; `None` if it is none.
pub(super) fn mailbox(step: &DriverCall) -> Option<MailboxCommand> {
    let arg = |index: usize| step.args.get(index).copied();
    match step.function.as_deref()? {
        // int hisi_qm_mb(struct hisi_qm *, u8 cmd, dma_addr_t, u16 queue, bool op): op is set for a read
        "hisi_qm_mb" => Some(MailboxCommand::of(arg(1)? as u8, arg(4)? as u8 != 0)),
        // int hisi_qm_mb_read(struct hisi_qm *, u64 *msg, u8 cmd, u16 queue)
        "hisi_qm_mb_read" => Some(MailboxCommand::of(arg(2)? as u8, true)),
        _ => None,
    }
}

/// Returns the name of a step; `None` if the function's own name is good enough.
pub(super) fn name(step: &DriverCall) -> Option<Cow<'static, str>> {
    if let Some(mailbox) = mailbox(step) {
        return Some(Cow::Borrowed(mailbox.name()));
    }
    Some(Cow::Borrowed(match step.function.as_deref()? {
        "hisi_qm_wait_mb_ready" => "wait for the mailbox",
        "hisi_acc_vf_stop_device" => "stop",
        "hisi_acc_check_int_state" => "check interrupts",
        "hisi_acc_open_saving_migf" => "open save file",
        "hisi_acc_vf_stop_copy" | "vf_qm_state_save" => "save",
        "vf_qm_get_match_data" => "collect match data",
        "vf_qm_check_match" => "match",
        "hisi_acc_vf_load_state" | "vf_qm_load_data" => "load",
        "hisi_acc_vf_start_device" => "start",
        "hisi_acc_vf_disable_fds" => "end data files",
        "hisi_acc_vf_reset" => "reset state",
        "qm_wait_dev_not_ready" => "is a guest driver loaded",
        "vf_qm_func_stop" => "stop queues",
        "vf_qm_cache_wb" => "write cache back",
        "vf_qm_read_data" => "read registers",
        "hisi_acc_vf_pci_reset_prepare" => "prepare reset",
        "hisi_acc_vf_pci_aer_reset_done" => "reset done",
        _ => return None,
    }))
}

/// Returns a description of a step's arguments.
pub(super) fn detail(step: &DriverCall) -> Option<String> {
    match mailbox(step)? {
        MailboxCommand::Other(command) => Some(format!("mailbox {command:#x}")),
        known => Some(known.command().to_owned()),
    }
}
