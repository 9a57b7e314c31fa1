//! Calls of probed functions: the key of the calling thread, the innermost call, and the return value. Pure.

/// Returns the key of the thread that a program runs in. `id` has the process and thread numbers of
/// `bpf_get_current_pid_tgid()`. The idle threads of all processors have `id` 0, and interrupts can run on top of them;
/// there the processor's number is the key. No other thread has such a small key.
pub const fn thread_key(id: u64, cpu: u32) -> u64 {
    if id == 0 { cpu as u64 } else { id }
}

/// A call that a thread is in. The eBPF programs make it from their map of calls, to find the call that a step belongs
/// to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Within {
    /// Time at which the call began (CLOCK_MONOTONIC, ns).
    pub start_ns: u64,
    /// Address of its `struct vfio_device`, or 0.
    pub device: u64,
    /// Number of its [`Role`](crate::role::Role); `u32::MAX` if there is no call.
    pub role: u32,
}

impl Within {
    /// No call.
    pub const NONE: Self = Self { start_ns: 0, device: 0, role: u32::MAX };

    /// Returns the inner one of two calls of a thread, which is the one that began later. The other one may even be
    /// over, if its return was missed.
    #[must_use]
    pub const fn inner(self, other: Self) -> Self {
        if other.start_ns > self.start_ns { other } else { self }
    }
}

/// `MAX_ERRNO` (include/linux/err.h): pointers above `-MAX_ERRNO` are errors.
const MAX_ERRNO: u64 = 4095;

/// Splits the return value of a function that returns a pointer or an error pointer: the pointer or 0, and the negative
/// errno or 0.
pub const fn pointer_or_errno(returned: u64) -> (u64, i32) {
    if returned > u64::MAX - MAX_ERRNO { (0, returned as i32) } else { (returned, 0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_threads_are_told_apart_by_their_processor() {
        let thread = 0x1267_0000_1268;
        assert_eq!((thread_key(thread, 0), thread_key(thread, 3)), (thread, thread));
        assert_eq!((thread_key(0, 0), thread_key(0, 3)), (0, 3));
    }

    #[test]
    fn a_call_whose_return_was_missed_is_not_taken_for_the_one_that_goes_on() {
        let stale = Within { start_ns: 100, device: 1, role: 4 };
        let ioctl = Within { start_ns: 900, device: 2, role: 8 };
        let set_state = Within { start_ns: 950, device: 2, role: 1 };
        assert_eq!(Within::NONE.inner(stale).inner(set_state).inner(ioctl), set_state);
        assert_eq!(Within::NONE.inner(ioctl).inner(Within::NONE), ioctl);
        // Two calls can have the same start time: then the one that comes first wins, and inner calls are asked for
        // first.
        let at_once = Within { start_ns: 900, ..set_state };
        assert_eq!(at_once.inner(ioctl), at_once);
    }

    #[test]
    fn a_kernel_pointer_is_no_errno() {
        assert_eq!(pointer_or_errno(0xffff_8880_9abc_de00), (0xffff_8880_9abc_de00, 0));
        assert_eq!(pointer_or_errno(-16_i64 as u64), (0, -16));
        assert_eq!(pointer_or_errno(-4095_i64 as u64), (0, -4095));
        assert_eq!(pointer_or_errno(-4096_i64 as u64), (-4096_i64 as u64, 0));
        assert_eq!(pointer_or_errno(0), (0, 0));
    }
}
