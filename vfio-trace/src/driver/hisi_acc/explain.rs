//! Which step failed and why; and what went wrong although everything said that it worked.

use std::borrow::Cow;

use super::{
    data::{DATA_LEN, MAGIC_V1, MAGIC_V2, MAJOR, MATCH_LEN},
    device::HisiDevice,
    steps::{self, Mailbox},
    views::accelerator,
};
use crate::event::{DataIo, Errno, Finding, MigState, Outcome, Severity, Step};

const EBUSY: Errno = Errno(16);
const ENODEV: Errno = Errno(19);

/// What a finding says, before it is known which error it was.
struct Says {
    code: &'static str,
    step: &'static str,
    text: String,
    check: &'static str,
}

impl Says {
    fn failed(self, errno: Errno) -> Finding {
        let errno = Some(Cow::Owned(errno.name().into_owned()));
        let Self { code, step, text, check } = self;
        Finding {
            code: code.into(),
            severity: Severity::Error,
            step: Some(step.into()),
            errno,
            text,
            check: check.into(),
        }
    }

    fn silent(self, severity: Severity) -> Finding {
        let Self { code, step, text, check } = self;
        Finding {
            code: code.into(),
            severity,
            step: Some(step.into()),
            errno: None,
            text,
            check: check.into(),
        }
    }
}

/// The first step that failed: of a mailbox command, the command and not the wait for its answer.
fn first_failed(steps: &[Step]) -> Option<(&Step, Errno)> {
    let failed = |step: &&Step| matches!(step.outcome, Outcome::Failed(_));
    let first = steps.iter().find(failed)?;
    let command = steps.iter().filter(failed).find(|step| steps::mailbox(step).is_some());
    let step = command.unwrap_or(first);
    Some((step, step.outcome.errno()?))
}

/// The step that failed is the wait for a free mailbox, before registers are touched.
fn waited(failed: Option<(&Step, Errno)>) -> bool {
    failed.is_some_and(|(step, _)| step.function.as_deref() == Some("hisi_qm_wait_mb_ready"))
}

fn saw(steps: &[Step], mailbox: Mailbox) -> bool {
    steps.iter().any(|step| steps::mailbox(step) == Some(mailbox))
}

fn saw_function(steps: &[Step], name: &str) -> bool {
    steps.iter().any(|step| step.function.as_deref() == Some(name))
}

/// An arc failed with `errno`, which is the one that the driver returned.
pub(super) fn arc(device: &HisiDevice, from: MigState, to: MigState, errno: Errno) -> Vec<Finding> {
    let steps = device.steps.as_slice();
    let mut findings = Vec::new();
    match (from, to) {
        (MigState::RUNNING, MigState::PRE_COPY) => findings.push(match_data(steps, errno)),
        (MigState::STOP, MigState::STOP_COPY) => {
            let opened =
                steps.iter().find(|step| step.function.as_deref() == Some("hisi_acc_open_saving_migf"));
            if opened.is_some_and(|step| matches!(step.outcome, Outcome::Failed(_))) {
                findings.push(match_data(steps, errno));
            } else {
                findings.push(save(steps, errno));
                if opened.is_some() {
                    findings.push(leaked());
                }
            }
        },
        (MigState::RUNNING, MigState::STOP) | (MigState::PRE_COPY, MigState::STOP_COPY) => {
            findings.push(stop_or_save(steps, to, errno));
            if device.paused {
                findings.push(paused(from));
            }
        },
        (MigState::RESUMING, MigState::STOP) => findings.push(load(device, steps, errno)),
        _ => {},
    }
    findings
}

/// `vf_qm_get_match_data()`.
fn match_data(steps: &[Step], errno: Errno) -> Finding {
    let errno = first_failed(steps).map_or(errno, |(_, errno)| errno);
    Says {
        code: "hisi_acc/match-data",
        step: "collect match data",
        text: "The queues of the VF could not be read from the PF (its VFT is empty, or the PF does not answer), or the \
               PF's queue isolation register could not be read: without these no match data can be sent."
            .to_owned(),
        check: "the PF: is its driver healthy, does the VF have queues (vfs_num, sriov_numvfs), did the PF reset?",
    }
    .failed(errno)
}

/// `hisi_acc_vf_stop_device()`, and after it in PRE_COPY → STOP_COPY `vf_qm_state_save()`.
fn stop_or_save(steps: &[Step], to: MigState, errno: Errno) -> Finding {
    if let Some((step, errno)) = first_failed(steps) {
        return match steps::mailbox(step) {
            Some(Mailbox::Stop) => Says {
                code: "hisi_acc/stop-mailbox",
                step: "stop queues",
                text: format!("{} when the driver asked the VF to pause its queues.", mailbox_said(errno)),
                check: "the PF's and VF's health in dmesg (hisi_qm), and whether the accelerator hangs: a reset of the VF \
                        clears it",
            }
            .failed(errno),
            Some(_) => save(steps, errno),
            None => named(step, errno, interrupt_or_cache(errno)),
        };
    }
    // Normal builds have these inlined: what was seen tells how far it got.
    let saving = to == MigState::STOP_COPY
        && (saw(steps, Mailbox::ReadSqc) || saw_function(steps, "qm_wait_dev_not_ready"));
    if saving { save(steps, errno) } else { interrupt_or_cache(errno).failed(errno) }
}

fn mailbox_said(errno: Errno) -> &'static str {
    match errno.name().as_ref() {
        "ETIMEDOUT" => "The mailbox did not answer in time",
        "EBUSY" => "The mailbox was busy with another command",
        "EIO" => "The mailbox answered with an error status",
        _ => "The mailbox command failed",
    }
}

fn interrupt_or_cache(errno: Errno) -> Says {
    if errno == EBUSY {
        return Says {
            code: "hisi_acc/interrupt-pending",
            step: "check interrupts",
            text: "An interrupt stayed pending for the 10 ms that the driver waits: of the PF's RAS status, of the VF's \
                   communication with the PF (IFC), or of the accelerator's core. Which one, the driver tells in dmesg only."
                .to_owned(),
            check: "dmesg of the PF for \"failed to check QM RAS state\", \"IFC INT state\" or \"Core INT state\"",
        };
    }
    Says {
        code: "hisi_acc/cache-writeback",
        step: "write cache back",
        text: "The queue manager did not finish writing its cache back to memory.".to_owned(),
        check: "the VF's health in dmesg (\"writeback sqc cache fail\"); the queues stay paused until a reset",
    }
}

/// A step that has no mailbox command to tell more; `says` has what is known of it.
fn named(step: &Step, errno: Errno, says: Says) -> Finding {
    match step.function.as_deref() {
        Some("vf_qm_cache_wb" | "hisi_acc_check_int_state" | "hisi_acc_vf_stop_device") => says.failed(errno),
        _ => save(std::slice::from_ref(step), errno),
    }
}

/// `vf_qm_state_save()`.
fn save(steps: &[Step], errno: Errno) -> Finding {
    let failed = first_failed(steps);
    let errno = failed.map_or(errno, |(_, errno)| errno);
    match failed.and_then(|(step, _)| steps::mailbox(step)) {
        Some(mailbox @ (Mailbox::ReadSqc | Mailbox::ReadCqc)) => Says {
            code: "hisi_acc/save-mailbox",
            step: mailbox.name(),
            text: format!("{} when the driver read the address of the queue contexts.", mailbox_said(errno)),
            check: "the VF's health in dmesg (\"failed to read SQC addr\", \"CQC addr\"); source side, the VF must be reset",
        },
        _ if waited(failed) => Says {
            code: "hisi_acc/save-not-ready",
            step: "wait for the mailbox",
            text: "The VF's mailbox did not become free before its registers could be read.".to_owned(),
            check: "the VF's health in dmesg (\"QM device is not ready to read\"): another command hangs; reset the VF",
        },
        _ => Says {
            code: "hisi_acc/save-registers",
            step: "read registers",
            text: "A register of the VF could not be read while its state was saved.".to_owned(),
            check: "the VF's health in dmesg (\"failed to read …\" names the register)",
        },
    }
    .failed(errno)
}

/// `vf_qm_load_data()`.
fn load(device: &HisiDevice, steps: &[Step], errno: Errno) -> Finding {
    let length = device.resuming.as_ref().map(super::data::Migf::total_length);
    if let Some(length) = length.filter(|length| *length < DATA_LEN && *length != MATCH_LEN) {
        return Says {
            code: "hisi_acc/stream-truncated",
            step: "load",
            text: format!("Only {length} of {DATA_LEN} bytes had arrived when the destination was asked to load them."),
            check: "the stream: did the source fail in STOP_COPY, was the connection cut, do both hosts' drivers agree on \
                    the size?",
        }
        .failed(errno);
    }
    let failed = first_failed(steps);
    let errno = failed.map_or(errno, |(_, errno)| errno);
    match failed.and_then(|(step, _)| steps::mailbox(step)) {
        Some(mailbox) => Says {
            code: "hisi_acc/load-mailbox",
            step: mailbox.name(),
            text: format!("{} when the driver gave the VF the address of its queue contexts.", mailbox_said(errno)),
            check: "the VF's and PF's health in dmesg (\"set sqc failed\", \"set cqc failed\"); the VF must be reset before \
                    another try",
        },
        None if waited(failed) => Says {
            code: "hisi_acc/load-not-ready",
            step: "wait for the mailbox",
            text: "The VF's mailbox did not become free before its registers could be written.".to_owned(),
            check: "the VF's health in dmesg (\"QM device is not ready to write\"): another command hangs; reset the VF",
        },
        None => Says {
            code: "hisi_acc/load-registers",
            step: "load registers",
            text: "A register of the VF could not be written while its state was loaded.".to_owned(),
            check: "the VF's health in dmesg (\"set VF regs failed\", \"failed to write …\" names the register)",
        },
    }
    .failed(errno)
}

/// The file was ended; `step` is what was tried on it.
fn session_over(step: &'static str) -> Says {
    Says {
        code: "hisi_acc/session-over",
        step,
        text: "The driver had ended this file before: ENODEV means that the session is gone, not the device."
            .to_owned(),
        check: "what ended it: a reset or another change of state, earlier in the timeline",
    }
}

/// A `read()` returned.
pub(super) fn read(io: &DataIo) -> Vec<Finding> {
    let over = io.outcome.errno().filter(|errno| *errno == ENODEV);
    over.map(|errno| session_over("read").failed(errno)).into_iter().collect()
}

/// A `write()` failed, but not with EFAULT: see [`mismatch`].
pub(super) fn write(io: &DataIo) -> Vec<Finding> {
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
pub(super) fn mismatch(device: &HisiDevice) -> Finding {
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
    if let Some(errno) = asked.find_map(|step| step.outcome.errno()) {
        return Says {
            code: "hisi_acc/match-vft",
            step: Mailbox::ReadVft.name(),
            text: format!("{} when the driver asked which queues the VF has.", mailbox_said(errno)),
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

fn paused(from: MigState) -> Finding {
    Says {
        code: "hisi_acc/queues-paused",
        step: "stop queues",
        text: format!(
            "The queues had been paused when the next step failed, and the driver does not start them again: the state says \
             {from}, but the VF does nothing."
        ),
        check: "reset the device before the VM goes on (VFIO_DEVICE_RESET, or the guest's driver)",
    }
    .silent(Severity::Warning)
}

fn leaked() -> Finding {
    Says {
        code: "hisi_acc/file-leaked",
        step: "save",
        text: "The driver had made a data file and forgets it: file, memory and a reference to the module are leaked.".to_owned(),
        check: "nothing can be done short of a reboot: the module cannot be unloaded any more; a fixed driver",
    }
    .silent(Severity::Warning)
}

/// STOP_COPY was entered: is there anything to save?
pub(super) fn saved(device: &HisiDevice) -> Vec<Finding> {
    if device.vf_qm_state() == Some(1) {
        return vec![not_ready()];
    }
    let saving = device.saving.as_ref().filter(|migf| migf.total_length() >= DATA_LEN);
    let null = saving.map_or_else(Vec::new, super::data::Migf::null_addresses);
    if null.is_empty() { Vec::new() } else { vec![null_saved(&null)] }
}

fn not_ready() -> Finding {
    Says {
        code: "hisi_acc/guest-not-loaded",
        step: "is a guest driver loaded",
        text: format!(
            "No guest driver has set the VF up: only the {MATCH_LEN} bytes of match data are moved, and the destination \
             starts nothing."
        ),
        check: "nothing, if the guest does not use the device; else whether its driver was loaded when the migration began",
    }
    .silent(Severity::Info)
}

fn null_saved(null: &[&str]) -> Finding {
    Says {
        code: "hisi_acc/null-address-saved",
        step: "save",
        text: format!(
            "The saved image has no {}: the destination will accept it and not start the VF.",
            null.join(", ")
        ),
        check: "the guest's driver, and the 2025 fix of the addresses' order in this host's kernel",
    }
    .silent(Severity::Warning)
}

/// RESUMING → STOP worked: was anything loaded?
pub(super) fn loaded(device: &HisiDevice) -> Vec<Finding> {
    let mut findings = Vec::new();
    let Some(migf) = &device.resuming else { return findings };
    if migf.total_length() == MATCH_LEN {
        findings.push(
            Says {
                code: "hisi_acc/nothing-loaded",
                step: "load",
                text: "Only match data had arrived, so nothing was restored: right if no guest driver used the source's VF."
                    .to_owned(),
                check: "whether the source said hisi_acc/guest-not-loaded",
            }
            .silent(Severity::Info),
        );
        return findings;
    }
    let null = migf.null_addresses();
    if migf.total_length() >= DATA_LEN && !null.is_empty() {
        findings.push(
            Says {
                code: "hisi_acc/null-address",
                step: "load",
                text: format!(
                    "The load \"succeeded\" but {} is null: the driver leaves the VF stopped.",
                    null.join(", ")
                ),
                check: "the source: what it saved, and its kernel; the guest's driver must be loaded anew",
            }
            .silent(Severity::Warning),
        );
    }
    if device.refused {
        findings.push(
            Says {
                code: "hisi_acc/mismatch-loaded",
                step: "load",
                text: "The driver had refused the stream (EFAULT to write), and loaded it all the same: the VF has another \
                       device's state."
                    .to_owned(),
                check: "that the VMM resets the device after a failed write; reset it now",
            }
            .silent(Severity::Warning),
        );
    }
    findings
}

/// A stream arrived, and the driver had no reason to look at it.
pub(super) fn stale() -> Finding {
    Says {
        code: "hisi_acc/stale-match",
        step: "match",
        text: "match_done was left from an earlier session, so that the driver does not check this stream at all: a wrong \
               one would be loaded."
            .to_owned(),
        check: "a kernel with the fix (7.0 and later clear it at open); before, load the module anew between migrations",
    }
    .silent(Severity::Warning)
}

/// A stream on both sides: which members differ, and what that means.
pub(super) fn compare(source: &HisiDevice, here: &HisiDevice) -> Option<Finding> {
    let from = source.saving.as_ref().or_else(|| Some(&source.saved.as_ref()?.migf))?;
    let to = here.resuming.as_ref()?;
    let name = source.name.as_deref().unwrap_or("the source");
    let lengths = (from.total_length(), to.total_length());
    let begins = from.image.place("vf_data.acc_magic")?.offset;
    let mut different = Vec::new();
    for field in from.image.layout.fields.iter().filter(|field| field.path.starts_with("vf_data.")) {
        // What was not moved is not compared. And the driver learns that the guest has no driver after PRE_COPY has sent
        // the match data, so that only its own copy says so.
        let end = u64::from(field.offset - begins) + u64::from(field.size) * u64::from(field.count);
        let late = lengths.0 == MATCH_LEN && field.path == "vf_data.vf_qm_state";
        if end > lengths.0.min(lengths.1) || late {
            continue;
        }
        let (was, is) = (from.image.elements(&field.path), to.image.elements(&field.path));
        if was != is {
            let member = field.path.trim_start_matches("vf_data.");
            let show = |values: &[u64]| match (field.secret, values) {
                (true, [0]) => "null".to_owned(),
                (true, _) => "redacted".to_owned(),
                (false, values) => {
                    values.iter().map(|value| format!("{value:#x}")).collect::<Vec<_>>().join(" ")
                },
            };
            different.push(format!("{member} ({} there, {} here)", show(&was), show(&is)));
        }
    }
    if lengths.0 != lengths.1 {
        different.push(format!("length ({} there, {} here)", lengths.0, lengths.1));
    }
    Some(if different.is_empty() {
        Says {
            code: "hisi_acc/images-equal",
            step: "compare",
            text: format!("What arrived is what {name} has saved, all {} bytes.", lengths.1),
            check: "nothing",
        }
        .silent(Severity::Info)
    } else {
        Says {
            code: "hisi_acc/images-differ",
            step: "compare",
            text: format!("What arrived is not what {name} has saved: {}.", different.join(", ")),
            check: "what is between the two: the stream was changed, cut, or is another device's",
        }
        .silent(Severity::Warning)
    })
}
