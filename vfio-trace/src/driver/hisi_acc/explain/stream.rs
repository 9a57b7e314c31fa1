//! What is written to the data fd, and what the driver has against it.

use super::{ENODEV, Says, mailbox_said, session_over};
use crate::{
    driver::hisi_acc::{
        data::{DATA_LEN, MAGIC_V1, MAGIC_V2, MAJOR, MATCH_LEN},
        device::HisiDevice,
        steps::{self, Mailbox},
        views::accelerator,
    },
    event::{DataIo, Errno, Finding},
};

/// A `write()` failed, but not with EFAULT: see [`mismatch`].
pub(in crate::driver::hisi_acc) fn write(io: &DataIo) -> Vec<Finding> {
    let Some(errno) = io.outcome.errno() else { return Vec::new() };
    let says = if io.ended || errno == ENODEV {
        session_over("write")
    } else if errno == Errno::ENOMEM {
        Says {
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

/// A `write()` failed with EFAULT, which is what everything is that `vf_qm_check_match()` finds wrong. These are its
/// checks, in its order.
pub(in crate::driver::hisi_acc) fn mismatch(device: &HisiDevice) -> Finding {
    let einval = Errno::EINVAL;
    let unknown = || {
        Says {
        code: "hisi_acc/match",
        step: "match",
        text: "The destination refused what was written, or could not read it from the VMM's memory; the driver's copy of \
               it was not seen."
            .to_owned(),
        check: "dmesg of the destination (\"failed to match …\")",
    }
    };
    let Some(migf) = device.resuming.as_ref().filter(|migf| migf.total_length() >= MATCH_LEN) else {
        return unknown().failed(Errno::EFAULT);
    };
    let data = |member| migf.data(member).unwrap_or(0);
    let magic = data("acc_magic");
    if magic != MAGIC_V1 && magic != MAGIC_V2 {
        return Says {
            code: "hisi_acc/match-magic",
            step: "match: magic",
            text: format!("The stream begins with {magic:#x}, which no hisi_acc driver writes."),
            check: "whether the source device is of another kind, and whether both kernels know the same format (V2 since \
                    6.16 and in stable kernels)",
        }
        .failed(einval);
    }
    if magic == MAGIC_V2 && data("major_ver") != MAJOR {
        return Says {
            code: "hisi_acc/match-version",
            step: "match: version",
            text: format!(
                "The source's driver has format version {}.{}, this one has {MAJOR}.",
                data("major_ver"),
                data("minor_ver")
            ),
            check: "the kernels of both hosts",
        }
        .failed(einval);
    }
    let here = device.pci_id;
    if here.is_some_and(|here| here != data("dev_id")) {
        let here = here.unwrap_or(0);
        return Says {
            code: "hisi_acc/match-device",
            step: "match: device",
            text: format!(
                "The source is a {} ({:#x}), this device a {} ({here:#x}).",
                accelerator(data("dev_id")),
                data("dev_id"),
                accelerator(here)
            ),
            check: "that the destination VM has the same kind of accelerator VF",
        }
        .failed(einval);
    }
    // Of the commands only: where it is not inlined, vf_qm_check_match() itself is a step that failed.
    let mut asked = device.steps.iter().filter(|step| steps::mailbox(step).is_some());
    if let Some((step, errno)) = asked.find_map(|step| Some((step, step.outcome.errno()?))) {
        return Says {
            code: "hisi_acc/match-vft",
            step: Mailbox::ReadVft.name(),
            text: format!(
                "{} when the driver asked which queues the VF has.",
                mailbox_said(&device.steps, step, errno)
            ),
            check: "the destination's VF and PF in dmesg (\"failed to get vft qp nums\")",
        }
        .failed(errno);
    }
    // The driver notes the number of queues only when it is the same.
    let queues = device.core.as_ref().and_then(|core| core.value("vf_qm.qp_num"));
    let fits = queues == Some(data("qp_num"));
    if here.is_some() && queues.is_some() && !fits {
        return Says {
            code: "hisi_acc/match-queues",
            step: "match: queues",
            text: format!("The source's VF has {} queue pairs, this one has another number.", data("qp_num")),
            check: "the PFs of both hosts: the VFs must get the same number of queues (pf_q_num, vfs_num, number of VFs)",
        }
        .failed(einval);
    }
    if here.is_some() && fits {
        return Says {
            code: "hisi_acc/match-isolation",
            step: "match: isolation",
            text: format!(
                "The source's queue isolation is {:#x}, the PF of this VF has another.",
                data("que_iso_cfg")
            ),
            check: "the PFs' queue isolation on both hosts (uacce and isolation settings must be the same)",
        }
        .failed(einval);
    }
    unknown().failed(Errno::EFAULT)
}
