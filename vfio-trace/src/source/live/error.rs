//! Why tracing cannot start, and what is asked before it does.

use std::io;

use thiserror::Error;

use crate::{
    kernel::{
        KernelFacts, KernelFiles,
        caps::{CapSet, MissingCap},
    },
    probe::ProgramLoadError,
};

/// Tracing cannot start.
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
    /// It cannot be known which devices there are.
    #[error("/sys/class/vfio-dev cannot be listed: {0}")]
    Unlisted(io::Error),
    /// The ring buffer cannot be waited for.
    #[error("the ring buffer cannot be polled: {0}")]
    Poll(#[source] io::Error),
}

/// What this process holds, if that is what the eBPF programs need.
pub(in crate::source) fn capable(files: &KernelFiles) -> Result<CapSet, LiveError> {
    let held = CapSet::effective(files);
    let missing: Vec<MissingCap> =
        held.missing_for_tracing(false).into_iter().filter(|need| need.essential).collect();
    if missing.is_empty() { Ok(held) } else { Err(LiveError::NotPermitted(missing)) }
}

/// Whether lockdown leaves the kernel's memory readable.
pub(in crate::source) fn allowed(facts: &KernelFacts) -> Result<(), LiveError> {
    if facts.lockdown.forbids_tracing() { Err(LiveError::Lockdown) } else { Ok(()) }
}
