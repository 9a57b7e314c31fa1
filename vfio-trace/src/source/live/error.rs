//! Errors for which tracing cannot start, and the checks before it does.

use std::io;

use thiserror::Error;

use crate::{
    kernel::{
        KernelFacts, KernelFiles,
        caps::{CapSet, MissingCap},
    },
    probe::ProgramLoadError,
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
