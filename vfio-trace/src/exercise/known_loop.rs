//! Requests on which many kernels loop for ever: never made, unless the kernel is known to be mended or the user insists.

use vfio_trace_common::defects::{NEXT_STATE_LOOP, Standing};

use super::path;
use crate::{
    event::{MigFlags, MigState},
    kernel::KernelWords,
};

/// Why these requests are not made; `None`: they may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Avoided(Option<String>);

impl Avoided {
    pub(super) fn of(kernel: &KernelWords, force: bool) -> Self {
        let defect = &NEXT_STATE_LOOP;
        // A kernel that says it is older than PRE_COPY, and has a device with it, is not what it says.
        let why = match kernel.standing(defect) {
            Standing::Mended => None,
            Standing::Older => {
                Some(format!("{} is not what it says: it should not have PRE_COPY", kernel.release))
            },
            Standing::Affected | Standing::Unknown => kernel.suspicion(defect),
        };
        let text = |why| format!("avoided: {}; {why}; --force asks for it all the same", defect.harm);
        Self(why.filter(|_| !force).map(text))
    }

    /// Why a request must not be made, if that is so. `from`: where the device is; `None`: it may be anywhere.
    pub(super) fn request(&self, flags: MigFlags, from: Option<MigState>, to: MigState) -> Option<&str> {
        let asks = matches!(to, MigState::PRE_COPY | MigState::PRE_COPY_P2P) && path::has(flags, to);
        let there = from.is_none_or(|from| from == MigState::STOP_COPY);
        self.0.as_deref().filter(|_| asks && there)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exercise::path::{STATES, path};

    fn avoided(release: &str, force: bool) -> Avoided {
        Avoided::of(&KernelWords { release: release.to_owned(), version: String::new() }, force)
    }

    #[test]
    fn exactly_what_the_core_would_loop_on_is_avoided() {
        for flags in [1, 3, 5, 7].map(MigFlags) {
            for from in STATES.into_iter().filter(|state| *state != MigState::ERROR) {
                for to in STATES {
                    // Allowed ones, those of states that the device does not have, and ERROR are answered before the loop.
                    let has = |state| path(flags, state, state).is_some();
                    let loops = path(flags, from, to).is_none() && has(from) && has(to);
                    let found = avoided("6.12.50", false).request(flags, Some(from), to).is_some();
                    assert_eq!(found, loops, "{flags}: {from} to {to}");
                }
            }
        }
    }

    #[test]
    fn only_a_mended_kernel_or_force_is_asked() {
        let asks = |release, force| {
            let avoided = avoided(release, force);
            avoided.request(MigFlags(5), Some(MigState::STOP_COPY), MigState::PRE_COPY).is_none()
        };
        assert!(asks("6.12.117", false) && asks("7.3.4", false) && asks("6.12.50", true));
        for release in ["6.12.50", "6.1.9", "6.8.0-45-generic", "2.6.72", ""] {
            assert!(!asks(release, false), "{release}");
        }
        let unknown = avoided("6.12.50", false);
        assert!(unknown.request(MigFlags(5), None, MigState::PRE_COPY).is_some(), "it may be in STOP_COPY");
        let why = unknown.request(MigFlags(7), Some(MigState::STOP_COPY), MigState::PRE_COPY_P2P).unwrap();
        assert!(
            why.starts_with("avoided: ")
                && why.contains("6.12.50 has this defect")
                && why.contains("--force"),
            "{why}"
        );
    }
}
