//! Requests on which many kernels loop for ever. A step that would make one is refused.

use std::fs;

use vfio_trace_common::defects::{NEXT_STATE_LOOP, Standing};
use vfio_trace_common::uapi::migration_flags::{P2P, PRE_COPY};

use crate::states::MigState;

/// Returns true if the running kernel is known to answer all requests.
pub(super) fn is_mended() -> bool {
    let line = |name: &str| fs::read_to_string(name).unwrap_or_default().trim().to_owned();
    let (release, version) = (line("/proc/sys/kernel/osrelease"), line("/proc/sys/kernel/version"));
    NEXT_STATE_LOOP.standing(&release, &version) == Standing::Mended
}

/// Returns true if a kernel that is not known to be mended may loop on this request. `from` is `None`
/// if the state may be any.
pub(super) fn may_loop(flags: u64, from: Option<MigState>, to: MigState) -> bool {
    // The core refuses a state that the device does not have before it comes to the loop.
    let needs = match to {
        MigState::PRE_COPY => PRE_COPY,
        MigState::PRE_COPY_P2P => PRE_COPY | P2P,
        _ => return false,
    };
    flags & needs == needs && from.is_none_or(|from| from == MigState::STOP_COPY)
}

/// Returns the text to print for such a request.
pub(super) fn why() -> String {
    format!(
        "avoided: {}; it is asked for on kernels only that are known to be mended ({})",
        NEXT_STATE_LOOP.harm,
        NEXT_STATE_LOOP.mended()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_loops_is_left_out() {
        assert!(may_loop(7, Some(MigState::STOP_COPY), MigState::PRE_COPY));
        assert!(may_loop(5, Some(MigState::STOP_COPY), MigState::PRE_COPY));
        assert!(may_loop(7, None, MigState::PRE_COPY_P2P));
        assert!(!may_loop(5, Some(MigState::STOP_COPY), MigState::PRE_COPY_P2P));
        assert!(!may_loop(3, Some(MigState::STOP_COPY), MigState::PRE_COPY));
        assert!(!may_loop(7, Some(MigState::STOP), MigState::PRE_COPY));
        assert!(!may_loop(7, Some(MigState::STOP_COPY), MigState::RUNNING));
        assert!(why().starts_with("avoided: "));
    }
}
