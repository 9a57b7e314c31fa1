//! `/sys/kernel/debug/vfio/<dev>/migration/{state,features}`, byte for byte (drivers/vfio/debugfs.c; `state` since 6.8,
//! `features` since 6.18).

use vfio_trace_common::uapi::migration_flags;

use crate::event::{MigFlags, MigState};

/// Returns the file `state`: one name. A number that is none of the kernel's states is "Invalid" there.
pub(super) fn state(state: MigState) -> String {
    format!("{}\n", state.name())
}

/// Returns the file `features`: a line per feature, none for a device without features.
pub(super) fn features(flags: MigFlags, dirty_tracking: bool) -> String {
    let lines = [
        (flags.0 & migration_flags::STOP_COPY != 0, "stop-copy\n"),
        (flags.0 & migration_flags::P2P != 0, "p2p\n"),
        (flags.0 & migration_flags::PRE_COPY != 0, "pre-copy\n"),
        (dirty_tracking, "dirty-tracking\n"),
    ];
    lines.into_iter().filter(|(has, _)| *has).map(|(_, line)| line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_the_kernels() {
        let names: Vec<String> = (0..9).map(|number| state(MigState(number))).collect();
        let expected = [
            "ERROR\n",
            "STOP\n",
            "RUNNING\n",
            "STOP_COPY\n",
            "RESUMING\n",
            "RUNNING_P2P\n",
            "PRE_COPY\n",
            "PRE_COPY_P2P\n",
            "Invalid\n",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn features_are_lines() {
        assert_eq!(features(MigFlags(7), true), "stop-copy\np2p\npre-copy\ndirty-tracking\n");
        assert_eq!(features(MigFlags(1), false), "stop-copy\n");
        assert_eq!(features(MigFlags(0), false), "");
    }
}
