//! Quality of the kernel's wall clock: adjtimex(2), which none of our crates wraps.

use std::mem::MaybeUninit;

/// Returns the kernel's bound on the error of CLOCK_REALTIME against UTC, in ns; `None` if the clock is not
/// synchronised or the kernel refuses to tell.
pub fn utc_error_ns() -> Option<u64> {
    let mut state = MaybeUninit::<libc::timex>::zeroed();
    // SAFETY: `struct timex` is integers only, so zeroes are one; with `modes` 0 the call only fills it in.
    let (clock, state) = unsafe { (libc::adjtimex(state.as_mut_ptr()), state.assume_init()) };
    let synchronised = clock >= 0 && clock != libc::TIME_ERROR && state.status & libc::STA_UNSYNC == 0;
    // In µs (include/uapi/linux/timex.h).
    let error = u64::try_from(state.maxerror).ok().filter(|_| synchronised)?;
    error.checked_mul(1_000)
}
