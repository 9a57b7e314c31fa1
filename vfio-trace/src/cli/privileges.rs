//! Giving up what is no longer needed, once a verb has looked at the kernel.

use super::error::CliError;
use crate::kernel::caps::{self, LinuxCap};

/// Gives up all capabilities of this thread.
pub(super) fn give_up() -> Result<(), CliError> {
    keep_only(&[])
}

/// Gives up all capabilities of this thread but these.
pub(super) fn keep_only(keep: &[LinuxCap]) -> Result<(), CliError> {
    Ok(caps::keep_only(keep)?)
}
