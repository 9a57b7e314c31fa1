//! Giving up what is no longer needed, once a verb has looked at the kernel.

use super::error::CliError;
use crate::kernel::caps::{self, LinuxCap};

/// Gives up all capabilities of this thread.
pub(super) fn give_up() -> Result<(), CliError> {
    keep_only(&[])
}

/// Gives up all capabilities of this thread but these.
pub(super) fn keep_only(keep: &[LinuxCap]) -> Result<(), CliError> {
    caps::keep_only(keep)
        .map_err(|why| CliError::failed("cannot give up capabilities", why, "report this as a bug"))
}

/// Whether root runs it: who is denied all the same is denied by something else, mostly a container.
pub(super) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
