//! Errors of writes to the data fd, and the driver's reasons to refuse the stream.

use super::{ENODEV, FindingDraft, mailbox_said, saw, session_over};
use crate::{
    driver::hisi_acc::{
        data::{DATA_LEN, MAGIC_V1, MAGIC_V2, MAJOR, MATCH_LEN, MigfImage},
        device::HisiDevice,
        steps::{self, MailboxCommand},
        views::accelerator,
    },
    event::{CallOutcome, DataIo, DriverCall, DriverFinding, DriverImage, Errno},
};

/// Explains a `write()` that failed with another errno than EFAULT; for EFAULT see [`mismatch`].
pub(in crate::driver::hisi_acc) fn write(io: &DataIo) -> Vec<DriverFinding> {
    let Some(errno) = io.outcome.errno() else { return Vec::new() };
    let says = if io.ended || errno == ENODEV {
        session_over("write")
    } else if errno == Errno::ENOMEM {
        FindingDraft {
            code: "hisi_acc/stream-too-long",
            step: "write",
            text: format!(
                "The stream is longer than the {DATA_LEN} bytes that this driver knows (the last write had {}): \
                 the driver says ENOMEM, but memory is not what is short.",
                io.requested_bytes
            ),
            check: "the kernels of both hosts: is the source's driver newer, or another driver's stream being loaded?",
        }
    } else {
        return Vec::new();
    };
    vec![says.failed(errno)]
}

/// Explains a `write()` that failed with EFAULT: the errno of everything that `vf_qm_check_match()` finds wrong, and of
/// a buffer that cannot be read. Returns also true if the driver is proven to have refused the stream. `seen`: the file
/// was copied after this write.
pub(in crate::driver::hisi_acc) fn mismatch(device: &HisiDevice, seen: bool) -> (DriverFinding, bool) {
    let steps = device.in_write.as_slice();
    let refused = refuses(steps);
    let efault = Errno::EFAULT;
    let Some(migf) = device.resuming.as_ref().filter(|_| seen) else {
        return (unknown(None).failed(efault), refused);
    };
    let core = device.core.as_ref().filter(|_| device.core_written);
    let done = core.map(|core| core.value("match_done"));
    // The driver checks nothing before it has all of the match data, nor after it has matched it. Linux 6.1 never
    // checks here.
    let looked = migf.total_length() >= MATCH_LEN && done.is_none_or(|done| done == Some(0));
    if !looked && !refused {
        return (unreadable().failed(efault), false);
    }
    if migf.total_length() < MATCH_LEN {
        return (unknown(None).failed(efault), refused);
    }
    match wrong(device, migf, steps, core.filter(|_| done == Some(Some(0)))) {
        Some((says, errno)) => (says.failed(errno), true),
        None => (unknown(Some(migf)).failed(efault), refused),
    }
}

/// Explains a RESUMING → STOP that failed with `errno`, if the reason is `vf_qm_check_match()`, which Linux 6.1 calls
/// there; `None` if it is not.
pub(super) fn mismatch_at_load(device: &HisiDevice, errno: Errno) -> Option<DriverFinding> {
    let steps = device.in_arc.as_slice();
    let refused = refuses(steps);
    let old = device.core.as_ref().is_some_and(|core| core.value("match_done").is_none());
    if !(refused || old && errno == Errno::EINVAL) || saw(steps, MailboxCommand::WriteSqc) {
        return None;
    }
    if device.overwritten() == Some(true) {
        return refused.then(|| overwritten().failed(errno));
    }
    let migf = device.resuming.as_ref().filter(|migf| migf.total_length() >= MATCH_LEN);
    if let Some((says, errno)) = migf.and_then(|migf| wrong(device, migf, steps, None)) {
        return Some(says.failed(errno));
    }
    // The driver sends this command after it has accepted format and device. Behind it nothing fails like this but the
    // rest of the match.
    if saw(steps, MailboxCommand::ReadVft) {
        return Some(queues_or_isolation().failed(errno));
    }
    refused.then(|| unknown(migf).failed(errno))
}

fn refuses(steps: &[DriverCall]) -> bool {
    let refuses = |step: &DriverCall| step.function.as_deref() == Some("vf_qm_check_match");
    steps.iter().any(|step| refuses(step) && matches!(step.outcome, CallOutcome::Failed(_)))
}

/// Returns the first error that the checks of `vf_qm_check_match()` find, in its order. `after`: the device as the
/// check has left it, only if the check is known to have failed.
fn wrong(
    device: &HisiDevice,
    migf: &MigfImage,
    steps: &[DriverCall],
    after: Option<&DriverImage>,
) -> Option<(FindingDraft, Errno)> {
    let einval = Errno::EINVAL;
    let data = |member| migf.data(member).unwrap_or(0);
    let magic = data("acc_magic");
    if magic != MAGIC_V1 && magic != MAGIC_V2 {
        let says = FindingDraft {
            code: "hisi_acc/match-magic",
            step: "match: magic",
            text: format!("The stream begins with {magic:#x}, which no hisi_acc driver writes."),
            check: "whether the source device is of another kind, and whether both kernels know the same format (V2 since \
                    6.16 and in stable kernels)",
        };
        return Some((says, einval));
    }
    if magic == MAGIC_V2 && data("major_ver") != MAJOR {
        let says = FindingDraft {
            code: "hisi_acc/match-version",
            step: "match: version",
            text: format!(
                "The source's driver has format version {}.{}, this one has {MAJOR}.",
                data("major_ver"),
                data("minor_ver")
            ),
            check: "the kernels of both hosts",
        };
        return Some((says, einval));
    }
    if let Some(here) = device.pci_id.filter(|here| *here != data("dev_id")) {
        let says = FindingDraft {
            code: "hisi_acc/match-device",
            step: "match: device",
            text: format!(
                "The source is a {} ({:#x}), this device a {} ({here:#x}).",
                accelerator(data("dev_id")),
                data("dev_id"),
                accelerator(here)
            ),
            check: "that the destination VM has the same kind of accelerator VF",
        };
        return Some((says, einval));
    }
    // Commands only: where vf_qm_check_match() is not inlined, it is itself a step that failed.
    let asked = steps.iter().rfind(|step| steps::mailbox(step) == Some(MailboxCommand::ReadVft))?;
    if let Some(errno) = asked.outcome.errno() {
        let says = FindingDraft {
            code: "hisi_acc/match-vft",
            step: MailboxCommand::ReadVft.name(),
            text: format!(
                "{} when the driver asked which queues the VF has.",
                mailbox_said(steps, asked, errno)
            ),
            check: "the destination's VF and PF in dmesg (\"failed to get vft qp nums\")",
        };
        return Some((says, errno));
    }
    // The driver knows the format and the device, or it would not have asked for the queues; what is left is the
    // answer.
    let after = after.filter(|_| asked.outcome.is_ok())?;
    // The driver stores the number of queues only if it is the same.
    let queues = after.value("vf_qm.qp_num")?;
    let says = if queues == data("qp_num") {
        FindingDraft {
            code: "hisi_acc/match-isolation",
            step: "match: isolation",
            text: format!(
                "The source's queue isolation is {:#x}, the PF of this VF has another.",
                data("que_iso_cfg")
            ),
            check: "the PFs' queue isolation on both hosts (uacce and isolation settings must be the same)",
        }
    } else {
        FindingDraft {
            code: "hisi_acc/match-queues",
            step: "match: queues",
            text: format!("The source's VF has {} queue pairs, this one has another number.", data("qp_num")),
            check: "the PFs of both hosts: the VFs must get the same number of queues (pf_q_num, vfs_num, number of VFs)",
        }
    };
    Some((says, einval))
}

/// Makes the finding for a stream that was refused, or not read, for an unknown reason. `migf`: the data that had
/// arrived.
fn unknown(migf: Option<&MigfImage>) -> FindingDraft {
    let text = match migf.and_then(|migf| migf.data("acc_magic")) {
        Some(magic) => {
            let format = if magic == MAGIC_V2 { "V2" } else { "V1" };
            format!(
                "The destination refused what was written, or could not read it from the VMM's memory; which was not seen. \
                 The stream has format {format}; a kernel that does not know V2 refuses it."
            )
        },
        None => "The destination refused what was written, or could not read it from the VMM's memory; the driver's copy of \
                 it was not seen."
            .to_owned(),
    };
    FindingDraft {
        code: "hisi_acc/match",
        step: "match",
        text,
        check: "dmesg of the destination (\"failed to match …\"), and the kernels of both hosts (format V2: since 6.16 and in \
                stable kernels)",
    }
}

fn queues_or_isolation() -> FindingDraft {
    FindingDraft {
        code: "hisi_acc/match",
        step: "match",
        text: "The driver had asked how many queues the VF has, and then found that the stream does not fit: their number, or \
               the PF's queue isolation, is another than the source's."
            .to_owned(),
        check: "dmesg of the destination (\"failed to match …\"); queues of the VFs and queue isolation of the PFs on both hosts",
    }
}

fn unreadable() -> FindingDraft {
    FindingDraft {
        code: "hisi_acc/write-buffer",
        step: "write",
        text: "What was to be written could not be read from the VMM's memory: the driver had no reason to refuse it.".to_owned(),
        check: "the VMM: which buffer it gave to write(), and whether that was still mapped",
    }
}

fn overwritten() -> FindingDraft {
    FindingDraft {
        code: "hisi_acc/match",
        step: "match",
        text: "The driver found that its copy of the stream does not fit. It puts each write where the first one was (Linux 6.1 \
               does), and there were several: its copy is not what arrived."
            .to_owned(),
        check: "that the VMM gives the stream to the device in one write, or a newer kernel on the destination",
    }
}
