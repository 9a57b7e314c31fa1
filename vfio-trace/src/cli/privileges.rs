//! Giving up what is no longer needed, once a verb has looked at the kernel.

use super::error::CliError;
use crate::kernel::caps;

/// Gives up all capabilities of this thread.
pub(super) fn give_up() -> Result<(), CliError> {
    caps::keep_only(&[])
        .map_err(|why| CliError::failed("cannot give up capabilities", why, "report this as a bug"))
}
