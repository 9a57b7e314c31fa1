//! Errors of the destination: loading the data that arrived.

use super::{
    FindingDraft, first_failed, mailbox_said, saw, stop::not_seen, stream::mismatch_at_load, waited,
};
use crate::{
    driver::hisi_acc::{
        data::{DATA_LEN, MATCH_LEN, MigfImage},
        device::HisiDevice,
        steps::{self, MailboxCommand},
    },
    event::{DriverCall, DriverFinding, Errno, FindingSeverity},
};

/// Explains why `vf_qm_load_data()` failed.
pub(super) fn load(device: &HisiDevice, steps: &[DriverCall], errno: Errno) -> DriverFinding {
    let length = device.resuming.as_ref().map(MigfImage::total_length);
    let failed = first_failed(steps);
    // Match data alone is no error, and the driver checks the length before it does anything.
    let short = |length: &u64| *length < DATA_LEN && *length != MATCH_LEN;
    if let Some(length) =
        length.filter(short).filter(|_| errno == Errno::EINVAL && !saw(steps, MailboxCommand::WriteSqc))
    {
        return FindingDraft {
            code: "hisi_acc/stream-truncated",
            step: "load",
            text: format!("Only {length} of {DATA_LEN} bytes had arrived when the destination was asked to load them: fewer it does not load."),
            check: "the stream: did the source fail in STOP_COPY, was the connection cut, do both hosts' drivers agree on \
                    the size?",
        }
        .failed(errno);
    }
    // Linux 6.1 checks only now whether the stream fits.
    if let Some(finding) = mismatch_at_load(device, errno) {
        return finding;
    }
    let errno = failed.map_or(errno, |(_, errno)| errno);
    let says = match failed.and_then(|(step, _)| Some((step, steps::mailbox(step)?))) {
        Some((step, mailbox @ (MailboxCommand::WriteSqc | MailboxCommand::WriteCqc))) => FindingDraft {
            code: "hisi_acc/load-mailbox",
            step: mailbox.name(),
            text: format!(
                "{} when the driver gave the VF the address of its queue contexts.",
                mailbox_said(steps, step, errno)
            ),
            check: "the VF's and PF's health in dmesg (\"set sqc failed\", \"set cqc failed\"); the VF must be reset before \
                    another try",
        },
        None if waited(failed) && device.mailbox.is_some() => FindingDraft {
            code: "hisi_acc/load-not-ready",
            step: "wait for the mailbox",
            text: "The VF's mailbox did not become free before its registers could be written.".to_owned(),
            check: "the VF's health in dmesg (\"QM device is not ready to write\"): another command hangs; reset the VF",
        },
        _ => not_seen("load"),
    };
    says.failed(errno)
}

/// Reports a RESUMING → STOP that succeeded without loading what it should.
pub(in crate::driver::hisi_acc) fn loaded(device: &HisiDevice) -> Vec<DriverFinding> {
    let mut findings = Vec::new();
    let Some(migf) = &device.resuming else { return findings };
    if migf.total_length() == MATCH_LEN {
        findings.push(
            FindingDraft {
                code: "hisi_acc/nothing-loaded",
                step: "load",
                text: "Only match data had arrived, so nothing was restored: right if no guest driver used the source's VF."
                    .to_owned(),
                check: "whether the source said hisi_acc/guest-not-loaded",
            }
            .silent(FindingSeverity::Info),
        );
        return findings;
    }
    let null = migf.null_addresses();
    if migf.total_length() >= DATA_LEN && !null.is_empty() {
        findings.push(
            FindingDraft {
                code: "hisi_acc/null-address",
                step: "load",
                text: format!(
                    "The load \"succeeded\" but {} is null: the driver leaves the VF stopped.",
                    null.join(", ")
                ),
                check: "the source: what it saved, and its kernel; the guest's driver must be loaded anew",
            }
            .silent(FindingSeverity::Warning),
        );
    }
    if device.refused {
        findings.push(
            FindingDraft {
                code: "hisi_acc/mismatch-loaded",
                step: "load",
                text: "The driver had refused the stream (EFAULT to write), and loaded it all the same: the VF has the state of a \
                       device that was not found to fit."
                    .to_owned(),
                check: "that the VMM resets the device after a failed write; reset it now",
            }
            .silent(FindingSeverity::Warning),
        );
    }
    findings
}

/// Reports a stream that the driver had no reason to check.
pub(in crate::driver::hisi_acc) fn stale() -> DriverFinding {
    FindingDraft {
        code: "hisi_acc/stale-match",
        step: "match",
        text: "match_done was left from an earlier session, so that the driver does not check this stream at all: a wrong \
               one would be loaded."
            .to_owned(),
        check: "a kernel with the fix (7.0 and later clear it at open); before, load the module anew between migrations",
    }
    .silent(FindingSeverity::Warning)
}
