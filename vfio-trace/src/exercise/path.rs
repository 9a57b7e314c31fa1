//! Arcs that a request takes, like `vfio_mig_get_next_state()`, as documented in include/uapi/linux/vfio.h.

use vfio_trace_common::uapi::migration_flags::{P2P, PRE_COPY, STOP_COPY};

use crate::event::{MigFlags, MigState};

/// All states that can be asked for.
pub const STATES: [MigState; 8] = [
    MigState::ERROR,
    MigState::STOP,
    MigState::RUNNING,
    MigState::STOP_COPY,
    MigState::RESUMING,
    MigState::RUNNING_P2P,
    MigState::PRE_COPY,
    MigState::PRE_COPY_P2P,
];

/// Returns true if a device with these migration_flags has the state, and can be asked for it.
pub const fn has(flags: MigFlags, state: MigState) -> bool {
    let needs = match state {
        MigState::STOP | MigState::RUNNING | MigState::STOP_COPY | MigState::RESUMING => STOP_COPY,
        MigState::RUNNING_P2P => STOP_COPY | P2P,
        MigState::PRE_COPY => STOP_COPY | PRE_COPY,
        MigState::PRE_COPY_P2P => STOP_COPY | P2P | PRE_COPY,
        _ => return false,
    };
    flags.0 & needs == needs
}

/// Returns the next state on the way, for a device that has all states.
const fn next(from: MigState, to: MigState) -> Option<MigState> {
    use MigState as S;
    Some(match (from, to) {
        (S::ERROR, _) | (_, S::ERROR) | (S::STOP_COPY, S::PRE_COPY | S::PRE_COPY_P2P) => return None,
        (S::STOP, S::STOP_COPY | S::RESUMING) => to,
        (S::STOP, _) => S::RUNNING_P2P,
        (S::RUNNING, S::PRE_COPY) => S::PRE_COPY,
        (S::RUNNING, _) => S::RUNNING_P2P,
        (S::RUNNING_P2P, S::RUNNING | S::PRE_COPY) => S::RUNNING,
        (S::RUNNING_P2P, S::PRE_COPY_P2P) => S::PRE_COPY_P2P,
        (S::RUNNING_P2P, _) => S::STOP,
        (S::PRE_COPY, S::PRE_COPY_P2P | S::STOP_COPY) => S::PRE_COPY_P2P,
        (S::PRE_COPY, _) => S::RUNNING,
        (S::PRE_COPY_P2P, S::PRE_COPY | S::STOP_COPY) => to,
        (S::PRE_COPY_P2P, _) => S::RUNNING_P2P,
        (S::STOP_COPY | S::RESUMING, _) => S::STOP,
        _ => return None,
    })
}

/// Returns the states that a request leads through, its target last; empty if the device is there already. `None`: the
/// core must refuse it with EINVAL.
pub fn path(flags: MigFlags, from: MigState, to: MigState) -> Option<Vec<MigState>> {
    if !has(flags, from) || !has(flags, to) {
        return None;
    }
    let (mut at, mut path) = (from, Vec::new());
    while at != to {
        at = next(at, to)?;
        // States that the device does not have are skipped.
        if has(flags, at) {
            path.push(at);
        }
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tables made from the kernel's source: see the files.
    const GOLDEN: [(u64, &str); 4] = [
        (1, include_str!("../../../xtask/src/test/paths/flags-1.txt")),
        (3, include_str!("../../../xtask/src/test/paths/flags-3.txt")),
        (5, include_str!("../../../xtask/src/test/paths/flags-5.txt")),
        (7, include_str!("../../../xtask/src/test/paths/flags-7.txt")),
    ];

    fn state(name: &str) -> MigState {
        STATES.into_iter().find(|state| state.name() == name).unwrap()
    }

    #[test]
    fn as_the_kernels_table() {
        let mut cells = 0;
        for (flags, text) in GOLDEN {
            let flags = MigFlags(flags);
            let mut lines = text.lines().filter(|line| !(line.is_empty() || line.starts_with('#')));
            let targets: Vec<MigState> =
                lines.next().unwrap().split('|').skip(1).map(|name| state(name.trim())).collect();
            assert_eq!(STATES.into_iter().filter(|state| has(flags, *state)).count(), targets.len());
            for line in lines {
                let mut words = line.split('|').map(str::trim);
                let from = state(words.next().unwrap());
                for (to, cell) in targets.iter().zip(words) {
                    let wanted = match cell {
                        "EINVAL" => None,
                        "·" => Some(Vec::new()),
                        path => Some(path.split('→').map(state).collect()),
                    };
                    assert_eq!(path(flags, from, *to), wanted, "{flags}: {from} to {to}");
                    cells += 1;
                }
            }
        }
        assert_eq!(cells, 16 + 25 + 25 + 49);
    }

    #[test]
    fn what_a_device_does_not_have_is_refused() {
        assert_eq!(path(MigFlags(1), MigState::RUNNING, MigState::PRE_COPY), None);
        assert_eq!(path(MigFlags(7), MigState::RUNNING, MigState::ERROR), None);
        assert_eq!(path(MigFlags(7), MigState::ERROR, MigState::RUNNING), None);
        assert_eq!(path(MigFlags(7), MigState::RUNNING, MigState(9)), None);
        assert_eq!(path(MigFlags(0), MigState::RUNNING, MigState::STOP), None);
    }
}
