//! Errors of the source: stopping the VF and saving its state.

use super::{EBUSY, ETIMEDOUT, FindingDraft, first_failed, mailbox_said, saw, saw_function};
use crate::{
    driver::hisi_acc::{
        data::{DATA_LEN, MATCH_LEN, MigfImage},
        device::HisiDevice,
        steps::{self, MailboxCommand},
    },
    event::{CallOutcome, DriverCall, DriverFinding, Errno, FindingSeverity, MigState},
};

/// Explains why `hisi_acc_open_saving_migf()` failed: making the file, or `vf_qm_get_match_data()`.
pub(super) fn match_data(steps: &[DriverCall], errno: Errno) -> DriverFinding {
    let errno = first_failed(steps).map_or(errno, |(_, errno)| errno);
    // ENOMEM, ENFILE, EMFILE: the PF has not been asked yet.
    if matches!(errno.0, 12 | 23 | 24) {
        return FindingDraft {
            code: "hisi_acc/no-file",
            step: "open save file",
            text: "The driver could not make the data file: the host is out of memory or of open files."
                .to_owned(),
            check: "free memory, the VMM's memory cgroup, and the host's limit of open files (fs.file-max)",
        }
        .failed(errno);
    }
    FindingDraft {
        code: "hisi_acc/match-data",
        step: "collect match data",
        text: "The queues of the VF could not be read from the PF (its VFT is empty, or the PF does not answer): without \
               these no match data can be sent."
            .to_owned(),
        check: "the PF: is its driver healthy, does the VF have queues (vfs_num, sriov_numvfs), did the PF reset?",
    }
    .failed(errno)
}

/// Explains why `hisi_acc_vf_stop_device()` failed, or, in PRE_COPY → STOP_COPY, `vf_qm_state_save()` after it.
pub(super) fn stop_or_save(steps: &[DriverCall], to: MigState, errno: Errno) -> DriverFinding {
    let stopped = steps
        .iter()
        .any(|step| steps::mailbox(step) == Some(MailboxCommand::Stop) && step.outcome == CallOutcome::Ok);
    if let Some((step, failed)) = first_failed(steps) {
        match (steps::mailbox(step), step.function.as_deref()) {
            (Some(MailboxCommand::Stop), _) => return stop_mailbox(steps, step, failed),
            (Some(_), _) => return save(steps, errno),
            (None, Some("vf_qm_cache_wb")) => return cache().failed(failed),
            (None, Some("hisi_acc_check_int_state")) if failed == EBUSY => return interrupt().failed(failed),
            (None, Some("hisi_acc_vf_stop_device")) => return inlined(stopped, MigState::STOP, failed),
            (None, Some("vf_qm_read_data" | "vf_qm_state_save")) => return save(steps, errno),
            _ => return not_seen("stop").failed(failed),
        }
    }
    // Normal builds have these functions inlined: the steps that were seen show how far the driver got.
    let saving = to == MigState::STOP_COPY
        && (saw(steps, MailboxCommand::ReadSqc) || saw_function(steps, "qm_wait_dev_not_ready"));
    if saving { save(steps, errno) } else { inlined(stopped, to, errno) }
}

/// Explains a failure after the command to stop, where the driver's checks have no step of their own: EBUSY can only
/// come from the check of interrupts, other errnos from writing the cache back.
fn inlined(stopped: bool, to: MigState, errno: Errno) -> DriverFinding {
    let says = match errno {
        EBUSY if stopped => interrupt(),
        ETIMEDOUT if stopped => cache(),
        Errno::EINVAL if stopped && to == MigState::STOP => cache(),
        _ => not_seen("stop"),
    };
    says.failed(errno)
}

/// Makes the finding for a failure without a failed step, where the steps that were seen allow more than one reason.
pub(super) fn not_seen(step: &'static str) -> FindingDraft {
    FindingDraft {
        code: "hisi_acc/step-unknown",
        step,
        text: "The driver failed in a step that was not seen.".to_owned(),
        check: "dmesg of the VF and PF (hisi_acc_vfio_pci, hisi_qm); `vfio-trace doctor` tells which steps can be seen",
    }
}

fn stop_mailbox(steps: &[DriverCall], step: &DriverCall, errno: Errno) -> DriverFinding {
    FindingDraft {
        code: "hisi_acc/stop-mailbox",
        step: "stop queues",
        text: format!("{} when the driver asked the VF to pause its queues.", mailbox_said(steps, step, errno)),
        check: "the PF's and VF's health in dmesg (hisi_qm), and whether the accelerator hangs: a reset of the VF may \
                clear it",
    }
    .failed(errno)
}

fn interrupt() -> FindingDraft {
    FindingDraft {
        code: "hisi_acc/interrupt-pending",
        step: "check interrupts",
        text: "An interrupt stayed pending for the 10 ms that the driver waits: of the PF's RAS status, of the VF's \
               communication with the PF (IFC), or of the accelerator's core. Which one, the driver tells in dmesg only."
            .to_owned(),
        check: "dmesg of the PF for \"failed to check QM RAS state\", \"IFC INT state\" or \"Core INT state\"",
    }
}

fn cache() -> FindingDraft {
    FindingDraft {
        code: "hisi_acc/cache-writeback",
        step: "write cache back",
        text: "The queue manager did not finish writing its cache back to memory.".to_owned(),
        check: "the VF's health in dmesg (\"writeback sqc cache fail\"), and whether another try works",
    }
}

/// Explains why `hisi_acc_vf_stop_copy()` failed where it makes the file itself: that part may be inlined.
pub(super) fn save_opened(steps: &[DriverCall], errno: Errno) -> DriverFinding {
    let tells = first_failed(steps).is_some()
        || saw_function(steps, "hisi_acc_open_saving_migf")
        || saw_function(steps, "qm_wait_dev_not_ready");
    if tells { save(steps, errno) } else { not_seen("save").failed(errno) }
}

/// Explains why `vf_qm_state_save()` failed.
fn save(steps: &[DriverCall], errno: Errno) -> DriverFinding {
    let failed = first_failed(steps);
    let errno = failed.map_or(errno, |(_, errno)| errno);
    let function = failed.and_then(|(step, _)| step.function.as_deref());
    let says = match failed.and_then(|(step, _)| Some((step, steps::mailbox(step)?))) {
        // Linux 6.1 writes the cache back here.
        None if function == Some("vf_qm_cache_wb") => cache(),
        Some((step, mailbox @ (MailboxCommand::ReadSqc | MailboxCommand::ReadCqc))) => FindingDraft {
            code: "hisi_acc/save-mailbox",
            step: mailbox.name(),
            text: format!(
                "{} when the driver read the address of the queue contexts.",
                mailbox_said(steps, step, errno)
            ),
            check: "the VF's health in dmesg (\"failed to read SQC addr\", \"CQC addr\"); source side, the VF must be reset",
        },
        _ => not_seen("save"),
    };
    says.failed(errno)
}

pub(super) fn paused(from: MigState) -> DriverFinding {
    FindingDraft {
        code: "hisi_acc/queues-paused",
        step: "stop queues",
        text: format!(
            "The queues had been paused when the next step failed, and the driver does not start them again: the state says \
             {from}, but the VF does nothing."
        ),
        check: "reset the device before the VM goes on (VFIO_DEVICE_RESET, or the guest's driver)",
    }
    .silent(FindingSeverity::Warning)
}

pub(super) fn leaked() -> DriverFinding {
    FindingDraft {
        code: "hisi_acc/file-leaked",
        step: "save",
        text: "The driver had made a data file and, as all that are known with PRE_COPY (Linux 6.2 to 7.3), forgets it: file, memory and a reference to the module are leaked.".to_owned(),
        check: "nothing can be done short of a reboot: the module cannot be unloaded any more; a fixed driver",
    }
    .silent(FindingSeverity::Warning)
}

/// Reports a STOP_COPY that was entered with nothing to save, or with addresses missing.
pub(in crate::driver::hisi_acc) fn saved(device: &HisiDevice) -> Vec<DriverFinding> {
    // The state alone may be left from before: the length of the file must confirm it.
    let match_only = device.saving.as_ref().is_some_and(|migf| migf.total_length() == MATCH_LEN);
    if device.vf_qm_state() == Some(1) && match_only {
        return vec![not_ready()];
    }
    let saving = device.saving.as_ref().filter(|migf| migf.total_length() >= DATA_LEN);
    let null = saving.map_or_else(Vec::new, MigfImage::null_addresses);
    if null.is_empty() { Vec::new() } else { vec![null_saved(&null)] }
}

fn not_ready() -> DriverFinding {
    FindingDraft {
        code: "hisi_acc/guest-not-loaded",
        step: "is a guest driver loaded",
        text: format!(
            "No guest driver has set the VF up: only the {MATCH_LEN} bytes of match data are moved, and the destination \
             starts nothing."
        ),
        check: "nothing, if the guest does not use the device; else whether its driver was loaded when the migration began",
    }
    .silent(FindingSeverity::Info)
}

fn null_saved(null: &[&str]) -> DriverFinding {
    FindingDraft {
        code: "hisi_acc/null-address-saved",
        step: "save",
        text: format!(
            "The saved image has no {}: the destination will accept it and not start the VF.",
            null.join(", ")
        ),
        check: "the guest's driver, and the 2025 fix of the addresses' order in this host's kernel",
    }
    .silent(FindingSeverity::Warning)
}
