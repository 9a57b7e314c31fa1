//! Explanations: the command that failed and its reason, and errors that no return value shows.

use std::borrow::Cow;

use super::device::{ERROR, PRE_COPY_ERROR};
use crate::event::{CallOutcome, DriverCall, DriverFinding, DriverImage, Errno, FindingSeverity};

/// Value of `enum mlx5_vf_load_state`: between two records of the stream.
pub(super) const READ_HEADER: &str = "MLX5_VF_LOAD_STATE_READ_HEADER";
/// Value of `enum mlx5_vf_load_state`: the stream has no records, and is loaded as a whole when RESUMING is left; until
/// Linux 6.8.
pub(super) const NO_HEADER: &str = "MLX5_VF_LOAD_STATE_READ_IMAGE_NO_HEADER";

const ENOTCONN: u32 = 107;
const EREMOTEIO: u32 = 121;
const EOPNOTSUPP: u32 = 95;
const ETIMEDOUT: u32 = 110;
/// Errno used inside of the kernel only: a signal came, and the call is to be repeated.
const ERESTARTSYS: u32 = 512;
const EINTR: u32 = 4;
const ENODEV: u32 = 19;

fn finding(
    severity: FindingSeverity,
    code: &'static str,
    step: &'static str,
    text: String,
    check: &'static str,
) -> DriverFinding {
    DriverFinding {
        code: code.into(),
        severity,
        step: Some(step.into()),
        errno: None,
        text,
        check: check.into(),
    }
}

fn with_errno(finding: DriverFinding, errno: Errno) -> DriverFinding {
    DriverFinding { errno: Some(Cow::Owned(errno.name().into_owned())), ..finding }
}

/// Explains a function that returned, if a firmware command failed in it.
pub(super) fn step(step: &DriverCall, core: Option<&DriverImage>) -> Option<DriverFinding> {
    let function = step.function.as_deref()?;
    if function == "mlx5vf_save_callback" {
        let status = (*step.args.first()? as u32).cast_signed();
        return (status != 0).then(|| save_done(status));
    }
    let CallOutcome::Failed(errno) = step.outcome else { return None };
    let (code, name, doing) = match function {
        "mlx5vf_cmd_suspend_vhca" => ("mlx5/suspend", "suspend", "suspend the VF"),
        "mlx5vf_cmd_resume_vhca" => ("mlx5/resume", "resume", "let the VF run again"),
        "mlx5vf_cmd_query_vhca_migration_state" => {
            ("mlx5/query", "query size", "tell the size of the VF's state")
        },
        "mlx5vf_cmd_save_vhca_state" => ("mlx5/save", "begin save", "save the VF's state"),
        "mlx5vf_cmd_load_vhca_state" => ("mlx5/load", "load", "load the VF's state"),
        _ => return None,
    };
    let detached = core.and_then(|core| core.value("mdev_detach")) == Some(1);
    // These functions wait for a save that was begun before, and all but one check its result. Suspending waits since
    // Linux 6.2.
    let looks = matches!(code, "mlx5/query" | "mlx5/save");
    let waits = looks || code == "mlx5/suspend";
    let (why, check) = match errno.0 {
        ENOTCONN => (
            "the PF's driver is gone from under it (mdev_detach)",
            "the PF: was mlx5_core unloaded or unbound, or did the PF reset or go into recovery?",
        ),
        EREMOTEIO => (
            "the firmware refused",
            "dmesg for the command's status and syndrome, which mlx5_core prints; the firmware's version on both hosts",
        ),
        ETIMEDOUT => (
            "the firmware did not answer",
            "dmesg of mlx5_core: the device's health, and whether it recovers",
        ),
        ERESTARTSYS | EINTR if waits => (
            "a signal came while it waited for a save in progress",
            "what signalled the VMM's thread; it may be done again",
        ),
        ENODEV if looks => (
            "a save had failed before, so that there is nothing to add to",
            "the first finding of this session; the migration has to begin anew",
        ),
        _ if detached => ("the PF's driver is gone from under it", "the PF and its driver"),
        _ => (
            "it could not be asked, memory for it not be had, or the firmware refused",
            "dmesg of mlx5_core (status and syndrome, where the firmware refused), and free memory",
        ),
    };
    let text = format!("The driver asked the firmware to {doing}: {why}.");
    Some(with_errno(finding(FindingSeverity::Error, code, name, text, check), errno))
}

/// Explains an error in `mlx5vf_save_callback()`: the end of a save that was begun earlier.
fn save_done(status: i32) -> DriverFinding {
    let text = "The firmware ended a save that had begun well with an error: read() will say ENODEV, or, if it was for \
                PRE_COPY and the firmware lost track of changes, all of the state will be saved again while the VM stands."
        .to_owned();
    let check = "dmesg for status and syndrome of SAVE_VHCA_STATE, which kernels since 6.9 print; the firmware's version";
    let found = finding(FindingSeverity::Error, "mlx5/save-failed", "save done", text, check);
    match Errno::from_ret(status.into()) {
        Some(errno) => with_errno(found, errno),
        None => found,
    }
}

/// Explains an error that a new image of the saving file shows.
pub(super) fn save_file(before: &DriverImage, now: &DriverImage) -> Option<DriverFinding> {
    let (was, is) = (before.value("state")?, now.value("state")?);
    if was == is || before.session != now.session {
        return None;
    }
    // The status of a command if positive, an errno if negative.
    let status = now.value("async_data.status").map_or(0, |status| (status as u32).cast_signed());
    let status = match status {
        0 => String::new(),
        1.. => format!(" (firmware status {status:#x})"),
        _ => format!(" ({})", Errno(status.unsigned_abs()).name()),
    };
    match is {
        PRE_COPY_ERROR => Some(finding(
            FindingSeverity::Warning,
            "mlx5/pre-copy-error",
            "save done",
            format!(
                "The firmware lost track of what changes{status}: the driver sends nothing more in PRE_COPY, and all of \
                 the state in STOP_COPY, while the VM stands."
            ),
            "whether the VF was reset or reconfigured meanwhile, and the firmware's version; the downtime will be long",
        )),
        ERROR => Some(finding(
            FindingSeverity::Error,
            "mlx5/save-file-error",
            "save done",
            format!("The file being saved was marked bad{status}: every read() from now on says ENODEV."),
            "the first failed step or finding of this session",
        )),
        _ => None,
    }
}

/// Explains an error of dirty tracking that a new image of the device shows.
pub(super) fn tracker(before: &DriverImage, now: &DriverImage) -> Option<DriverFinding> {
    let sets = |name: &str| before.value(name) == Some(0) && now.value(name).is_some_and(|value| value != 0);
    if !(sets("tracker.is_err") || sets("tracker.object_changed")) {
        return None;
    }
    Some(finding(
        FindingSeverity::Error,
        "mlx5/tracker-error",
        "track dirty pages",
        "The firmware lost track of pages that the VF has written: the next report of dirty pages says EIO."
            .to_owned(),
        "dmesg of mlx5_core (queue overflow, tracker state); fewer or smaller ranges, and the firmware's version",
    ))
}

/// Reports that STOP_COPY began before all initial bytes were read.
pub(super) fn initial_left(left: u64) -> DriverFinding {
    finding(
        FindingSeverity::Warning,
        "mlx5/initial-bytes-left",
        "final save",
        format!(
            "STOP_COPY began, and {left} initial bytes were not seen to be read: without them the destination cannot make \
             its resources ready, and does so while the VM stands."
        ),
        "switchover-ack in the VMM, on both sides; the time of `load` in the destination's first writes after the switch",
    )
}

/// Reports a RESUMING → STOP that succeeded, as it always does, without having loaded everything.
pub(super) fn loaded(file: &DriverImage, write_failed: bool) -> Option<DriverFinding> {
    // Linux 6.1 has no such member. It loads in this arc, which fails if loading fails.
    let load_state = file.value("load_state")?;
    let max_pos = file.value("max_pos").unwrap_or(0);
    // The meaning of the numbers differs between kernels: it is known only from the kernel's BTF.
    let number = |name| file.layout.number("load_state", name);
    let within = number(READ_HEADER).is_some_and(|header| load_state != header)
        && number(NO_HEADER) != Some(load_state);
    let what = if write_failed || file.value("state") == Some(ERROR) {
        "A write() had failed"
    } else if max_pos == 0 {
        "Nothing had arrived"
    } else if within {
        "The stream ended in the middle of a record"
    } else {
        return None;
    };
    Some(finding(
        FindingSeverity::Warning,
        "mlx5/load-incomplete",
        "load",
        format!("{what}, and the driver says that all is well: the VF does not have the source's state."),
        "whether the source failed or the connection was cut; reset the device before it is used",
    ))
}

/// Explains a write that failed without a failed firmware command.
pub(super) fn write(errno: Errno) -> Option<DriverFinding> {
    let (code, text, check) = match errno.0 {
        EOPNOTSUPP => (
            "mlx5/stream-tag",
            "The stream has a record that this driver does not know and must not leave out.",
            "the kernels of both hosts: the source's driver is newer",
        ),
        12 => (
            "mlx5/stream-size",
            "A record of the stream is longer than the driver takes, or there is no memory for it.",
            "whether this is mlx5's stream at all, and free memory",
        ),
        _ => return None,
    };
    Some(with_errno(finding(FindingSeverity::Error, code, "load", text.to_owned(), check), errno))
}

/// Makes the finding for a call on a file that the driver had ended.
pub(super) fn session_over(step: &'static str) -> DriverFinding {
    let found = finding(
        FindingSeverity::Error,
        "mlx5/session-over",
        step,
        "The driver had ended this file before, or a save had failed: ENODEV means that the session is gone, not the device."
            .to_owned(),
        "what ended it: a reset or another change of state, or a failed save, earlier in the timeline",
    );
    with_errno(found, Errno(ENODEV))
}
