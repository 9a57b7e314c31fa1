//! Errors for which tracing cannot start, and the checks before it does.

use std::{borrow::Cow, io};

use rustix::io::Errno;
use thiserror::Error;

use crate::{
    kernel::{
        KernelFacts, KernelFiles,
        caps::{CapSet, LinuxCap, MissingCap, is_root, setcap_line},
    },
    probe::ProgramLoadError,
    units::advice::{ErrorAdvice, FAILED, NOT_PERMITTED, NOT_SUPPORTED},
};

/// Error for which tracing cannot start.
#[derive(Debug, Error)]
pub enum LiveError {
    /// Capabilities are missing.
    #[error("tracing needs {}", .0.iter().map(|need| format!("{} ({})", need.cap.name(), need.why)).collect::<Vec<_>>().join(" and "))]
    NotPermitted(Vec<MissingCap>),
    /// Lockdown forbids it.
    #[error("kernel lockdown is in confidentiality mode, which refuses kprobes to everybody")]
    Lockdown,
    /// There is no sysfs to see.
    #[error("sysfs cannot be read, which alone tells how kprobes are attached (/sys/bus/event_source)")]
    NoSysfs,
    /// The kernel cannot do it.
    #[error("{0}")]
    NotSupported(String),
    /// The programs could not be loaded.
    #[error(transparent)]
    Load(#[from] ProgramLoadError),
    /// The vfio devices cannot be listed.
    #[error("/sys/class/vfio-dev cannot be listed: {0}")]
    Unlisted(io::Error),
    /// The ring buffer cannot be waited for.
    #[error("the ring buffer cannot be polled: {0}")]
    Poll(#[source] io::Error),
}

impl ErrorAdvice for LiveError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::NotPermitted(_) | Self::NoSysfs => NOT_PERMITTED,
            Self::Lockdown | Self::NotSupported(_) => NOT_SUPPORTED,
            Self::Unlisted(_) => FAILED,
            Self::Load(_) | Self::Poll(_) if scarce(self).is_some() => FAILED,
            Self::Load(_) | Self::Poll(_) => NOT_SUPPORTED,
        }
    }

    fn advice(&self) -> Cow<'static, str> {
        let text = match self {
            Self::NotPermitted(missing) if is_root() => {
                let names: Vec<&str> = missing.iter().map(|need| need.cap.name()).collect();
                return format!("let this container have {}, or run it on the host", names.join(" and ")).into();
            },
            Self::NotPermitted(missing) if missing.iter().all(|need| need.cap == LinuxCap::SysAdmin) => {
                "run it as root, or once: sudo sysctl kernel.perf_event_paranoid=2"
            },
            Self::NotPermitted(_) => {
                let binary = std::env::current_exe()
                    .map_or_else(|_| "vfio-trace".to_owned(), |path| path.display().to_string());
                return format!("run it as root, or once: {}", setcap_line(&binary)).into();
            },
            Self::Lockdown => {
                "boot without lockdown=confidentiality (integrity, the mode of Secure Boot, is fine)"
            },
            Self::NotSupported(_) => {
                "trace on a host whose kernel has CONFIG_KPROBE_EVENTS, as distributions' have"
            },
            Self::NoSysfs => "mount it (mount -t sysfs sysfs /sys), or let this container or user see it",
            Self::Unlisted(_) if is_root() => {
                "let it read /sys: a container, or a security module, keeps it from that"
            },
            Self::Unlisted(_) => "run it as root",
            Self::Load(_) | Self::Poll(_) => scarce(self).unwrap_or(
                "check that the kernel is 6.1 or newer (docs/requirements.md) and that nothing (a container, a security \
                 module) keeps bpf(2) from this process",
            ),
        };
        text.into()
    }
}

/// Returns the advice where something has run out, which says nothing of the kernel.
fn scarce(error: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    let io = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
    match io.map(Errno::from_raw_os_error) {
        Some(Errno::NOMEM) => {
            Some("give a smaller --buffer, or let it have more memory (a container may have a limit)")
        },
        Some(Errno::MFILE | Errno::NFILE) => Some("raise the limit of open files (ulimit -n)"),
        _ => error.source().and_then(scarce),
    }
}

/// Returns this process's capabilities, if they are enough for the eBPF programs.
pub(in crate::source) fn capable(files: &KernelFiles) -> Result<CapSet, LiveError> {
    let held = CapSet::effective(files);
    let missing: Vec<MissingCap> =
        held.missing_for_tracing(false).into_iter().filter(|need| need.essential).collect();
    if missing.is_empty() { Ok(held) } else { Err(LiveError::NotPermitted(missing)) }
}

/// Returns an error if lockdown hides the kernel's memory.
pub(in crate::source) fn allowed(facts: &KernelFacts) -> Result<(), LiveError> {
    if facts.lockdown.forbids_tracing() { Err(LiveError::Lockdown) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_run_out_says_nothing_of_the_kernel() {
        let error = |errno: Errno| LiveError::Load(ProgramLoadError::Iterate(errno.into()));
        let memory = error(Errno::NOMEM);
        assert!(memory.exit_code() == FAILED && memory.advice().contains("more memory"), "{memory:?}");
        let files = LiveError::Poll(Errno::MFILE.into());
        assert!(files.exit_code() == FAILED && files.advice().contains("ulimit -n"), "{files:?}");
        assert_eq!(error(Errno::INVAL).exit_code(), NOT_SUPPORTED);
    }
}
