//! Requests on which many kernels loop for ever. They are not made unless the kernel is known to be fixed or `--force`
//! is given.

use vfio_trace_common::defects::{Defect, NEXT_STATE_LOOP, Standing};

use super::path;
use crate::{
    event::{MigFlags, MigState},
    kernel::KernelVersion,
};

/// Reason why these requests are not made; `None`: they are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AvoidedRequests(Option<String>);

/// Returns the reason why this kernel may loop for a device with PRE_COPY; `None`: it is known not to.
fn suspicion(kernel: &KernelVersion) -> Option<String> {
    match kernel.standing(&NEXT_STATE_LOOP) {
        Standing::Mended => None,
        // A kernel that claims to be older than PRE_COPY, and has a device with it, reports a wrong version.
        Standing::Older => {
            Some(format!("{} is not what it says: it should not have PRE_COPY", kernel.release))
        },
        Standing::Affected | Standing::Unknown => kernel.suspicion(&NEXT_STATE_LOOP),
    }
}

/// Returns a sentence about the requests that `matrix` makes with `--force`; `None`: none of them could loop. `flags`:
/// the device's migration_flags, if they are known before it is opened.
pub fn force_warning(kernel: &KernelVersion, flags: Option<MigFlags>) -> Option<String> {
    let Defect { trigger, harm, .. } = NEXT_STATE_LOOP;
    let asks = match flags {
        Some(flags) => path::has(flags, MigState::PRE_COPY),
        None => kernel.standing(&NEXT_STATE_LOOP) != Standing::Older,
    };
    let why = suspicion(kernel).filter(|_| asks)?;
    Some(format!("--force asks for {trigger}, too. {why}: {harm}."))
}

impl AvoidedRequests {
    pub(super) fn of(kernel: &KernelVersion, force: bool) -> Self {
        let text =
            |why| format!("avoided: {}; {why}; --force asks for it all the same", NEXT_STATE_LOOP.harm);
        Self(suspicion(kernel).filter(|_| !force).map(text))
    }

    /// Returns the reason why a request must not be made; `None` if it may. `from`: the device's state; `None`: any
    /// state is possible.
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

    fn words(release: &str) -> KernelVersion {
        KernelVersion { release: release.to_owned(), version: String::new() }
    }

    fn avoided(release: &str, force: bool) -> AvoidedRequests {
        AvoidedRequests::of(&words(release), force)
    }

    #[test]
    fn exactly_what_the_core_would_loop_on_is_avoided() {
        for flags in [1, 3, 5, 7].map(MigFlags) {
            for from in STATES.into_iter().filter(|state| *state != MigState::ERROR) {
                for to in STATES {
                    // The core answers allowed requests, those with states that the device does not have, and those
                    // with ERROR before the loop.
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

    #[test]
    fn who_insists_is_warned_of_what_would_be_asked_and_of_nothing_else() {
        let said = |release: &str, flags: Option<u64>| force_warning(&words(release), flags.map(MigFlags));
        for mended in ["6.12.117", "7.3.4"] {
            assert_eq!([said(mended, None), said(mended, Some(7))], [None, None], "{mended}");
        }
        for release in ["6.1.9", "6.12.50", "6.8.0-45-generic", ""] {
            for flags in 0..16 {
                // There is a warning exactly if a request would be avoided without --force.
                let would = STATES.into_iter().any(|to| {
                    avoided(release, false).request(MigFlags(flags), Some(MigState::STOP_COPY), to).is_some()
                });
                assert_eq!(said(release, Some(flags)).is_some(), would, "{release:?} {flags}");
            }
        }
        assert_eq!(said("6.1.9", None), None, "what is really from before has no device with PRE_COPY");
        let said = said("6.12.50", None).unwrap();
        assert!(
            said.starts_with("--force asks for STOP_COPY to PRE_COPY or PRE_COPY_P2P, on a device with PRE_COPY, too. 6.12.50 has")
                && said.contains(NEXT_STATE_LOOP.harm),
            "{said}"
        );
    }
}
