//! Explanations: the step that failed and its reason, and errors that no return value shows.
//!
//! A statement is made only if it is proven: the failed step is known from steps that were seen, never from an errno
//! alone.

mod compare;
mod load;
mod stop;
mod stream;

use std::borrow::Cow;

pub(super) use self::{
    compare::{StreamEnds, compare},
    load::{loaded, stale},
    stop::saved,
    stream::{mismatch, write},
};
use super::{
    device::HisiDevice,
    steps::{self, MailboxCommand},
};
use crate::event::{CallOutcome, DataIo, DriverCall, DriverFinding, Errno, FindingSeverity, MigState};

const EIO: Errno = Errno(5);
const EBUSY: Errno = Errno(16);
const ENODEV: Errno = Errno(19);
const ETIMEDOUT: Errno = Errno(110);

/// Finding without severity and errno.
struct FindingDraft {
    code: &'static str,
    step: &'static str,
    text: String,
    check: &'static str,
}

impl FindingDraft {
    fn failed(self, errno: Errno) -> DriverFinding {
        let errno = Some(Cow::Owned(errno.name().into_owned()));
        let Self { code, step, text, check } = self;
        DriverFinding {
            code: code.into(),
            severity: FindingSeverity::Error,
            step: Some(step.into()),
            errno,
            text,
            check: check.into(),
        }
    }

    fn silent(self, severity: FindingSeverity) -> DriverFinding {
        let Self { code, step, text, check } = self;
        DriverFinding {
            code: code.into(),
            severity,
            step: Some(step.into()),
            errno: None,
            text,
            check: check.into(),
        }
    }
}

/// Returns the first step that failed. If a mailbox command failed, it is the command and not the wait for its answer.
fn first_failed(steps: &[DriverCall]) -> Option<(&DriverCall, Errno)> {
    let failed = |step: &&DriverCall| matches!(step.outcome, CallOutcome::Failed(_));
    let first = steps.iter().find(failed)?;
    let command = steps.iter().filter(failed).find(|step| steps::mailbox(step).is_some());
    let step = command.unwrap_or(first);
    Some((step, step.outcome.errno()?))
}

fn is_wait(step: &DriverCall) -> bool {
    step.function.as_deref() == Some("hisi_qm_wait_mb_ready")
}

/// Returns true if the failed step is the wait for a free mailbox, before registers are touched.
fn waited(failed: Option<(&DriverCall, Errno)>) -> bool {
    failed.is_some_and(|(step, _)| is_wait(step))
}

fn saw(steps: &[DriverCall], mailbox: MailboxCommand) -> bool {
    steps.iter().any(|step| steps::mailbox(step) == Some(mailbox))
}

fn saw_function(steps: &[DriverCall], name: &str) -> bool {
    steps.iter().any(|step| step.function.as_deref() == Some(name))
}

/// Returns true if a command that failed had been sent: if the mailbox was not free before, it was not. `None`: not
/// seen.
fn sent(steps: &[DriverCall], command: &DriverCall) -> Option<bool> {
    let at = steps.iter().position(|step| std::ptr::eq(step, command))?;
    // Waits within the command end before it does.
    let first = steps[..at].iter().rev().take_while(|step| is_wait(step)).last()?;
    match first.outcome {
        CallOutcome::Failed(_) => Some(false),
        // The wait before registers are written precedes the command's own wait, and cannot be told apart from it.
        CallOutcome::Ok if steps::mailbox(command) != Some(MailboxCommand::WriteSqc) => Some(true),
        _ => None,
    }
}

/// Returns the reason why a mailbox command failed, as the beginning of a sentence. Linux 6 returns EBUSY if the
/// command could not be sent and ETIMEDOUT if no answer came. Linux 7 returns ETIMEDOUT for both, and EIO also if
/// errors of the device keep the command from being sent.
fn mailbox_said(steps: &[DriverCall], command: &DriverCall, errno: Errno) -> &'static str {
    match (errno, sent(steps, command)) {
        (EBUSY, _) | (_, Some(false)) => "The mailbox was still busy, so that no command was sent,",
        (ETIMEDOUT, Some(true)) => "The mailbox did not answer in time",
        (ETIMEDOUT, None) => "The mailbox was not free, or did not answer in time,",
        (EIO, Some(true)) => "The mailbox answered with an error status",
        (EIO, None) => {
            "The mailbox answered with an error status, or the device's errors kept it from being used,"
        },
        _ => "The mailbox command failed",
    }
}

/// Explains an arc that failed. `errno`: the one that the driver returned.
pub(super) fn arc(device: &HisiDevice, from: MigState, to: MigState, errno: Errno) -> Vec<DriverFinding> {
    let steps = device.in_arc.as_slice();
    let mut findings = Vec::new();
    match (from, to) {
        (MigState::RUNNING, MigState::PRE_COPY) => findings.push(stop::match_data(steps, errno)),
        (MigState::STOP, MigState::STOP_COPY) => {
            let opened =
                steps.iter().find(|step| step.function.as_deref() == Some("hisi_acc_open_saving_migf"));
            let failed = |step: &DriverCall| matches!(step.outcome, CallOutcome::Failed(_));
            let no_match = steps
                .iter()
                .any(|step| step.function.as_deref() == Some("vf_qm_get_match_data") && failed(step));
            if no_match || opened.is_some_and(failed) {
                findings.push(stop::match_data(steps, errno));
            } else {
                findings.push(stop::save_opened(steps, errno));
                if opened.is_some() {
                    findings.push(stop::leaked());
                }
            }
        },
        (MigState::RUNNING, MigState::STOP) | (MigState::PRE_COPY, MigState::STOP_COPY) => {
            findings.push(stop::stop_or_save(steps, to, errno));
            if device.paused {
                findings.push(stop::paused(from));
            }
        },
        (MigState::RESUMING, MigState::STOP) => findings.push(load::load(device, steps, errno)),
        _ => {},
    }
    findings
}

/// Makes the finding for a call on a file that the driver had ended. `step`: the call.
fn session_over(step: &'static str) -> FindingDraft {
    FindingDraft {
        code: "hisi_acc/session-over",
        step,
        text: "The driver had ended this file before: ENODEV means that the session is gone, not the device."
            .to_owned(),
        check: "what ended it: a reset or another change of state, earlier in the timeline",
    }
}

/// Explains a `read()` that failed.
pub(super) fn read(io: &DataIo) -> Vec<DriverFinding> {
    let over = io.outcome.errno().filter(|errno| *errno == ENODEV);
    over.map(|errno| session_over("read").failed(errno)).into_iter().collect()
}
