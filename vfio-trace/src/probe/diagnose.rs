//! Reasons why a function could not be probed, in words. No I/O.

use super::plan::ProbeTarget;
use crate::sys::SysError;

/// errno values, as in asm-generic.
const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const EACCES: i32 = 13;
const EINVAL: i32 = 22;
const EADDRNOTAVAIL: i32 = 99;

/// Returns true if the kernel refused because a capability is missing.
pub(super) fn is_denied(error: &SysError) -> bool {
    matches!(error.errno(), EACCES | EPERM)
}

/// Returns the meaning of the kernel's refusal to attach at one place.
pub(super) fn explain(target: &ProbeTarget, error: &SysError) -> String {
    let meaning = match error.errno() {
        ENOENT => match &target.module {
            Some(module) => {
                format!("no such function: module {module} is not loaded, or the compiler inlined it")
            },
            None => "no such function: the compiler inlined it, or it is not in this kernel".to_owned(),
        },
        EACCES | EPERM => "not permitted: CAP_PERFMON and CAP_BPF are needed, and CAP_SYS_ADMIN where \
                           kernel.perf_event_paranoid is above 2"
            .to_owned(),
        EINVAL => "the kernel does not allow a probe there (notrace, or on the kprobe blacklist)".to_owned(),
        EADDRNOTAVAIL => "several functions have this name and none could be picked".to_owned(),
        _ => return error.to_string(),
    };
    format!("{meaning} ({error})")
}
