//! Of a call: the thread that makes it, the call around it, what it returns. Pure.

/// What stands for the thread that a program runs in; `id`: process and thread as the kernel gives them. All processors'
/// idle threads are of number 0, and interrupts find them at work: there the processor stands for the thread. No
/// other thread has such a small one.
pub const fn thread_key(id: u64, cpu: u32) -> u64 {
    if id == 0 { cpu as u64 } else { id }
}

/// A call that a thread is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Within {
    /// When it began.
    pub start_ns: u64,
    /// The device that it is about, or 0.
    pub device: u64,
    /// Its role.
    pub role: u32,
}

impl Within {
    /// No call.
    pub const NONE: Self = Self { start_ns: 0, device: 0, role: u32::MAX };

    /// The inner one of two calls of a thread, which is the one that began later. The other may even be over, if its return
    /// was missed.
    #[must_use]
    pub const fn inner(self, other: Self) -> Self {
        if other.start_ns > self.start_ns { other } else { self }
    }
}

/// `MAX_ERRNO` (include/linux/err.h): pointers above `-MAX_ERRNO` are errors.
const MAX_ERRNO: u64 = 4095;

/// What a function returned that gives a pointer or an error in its place: the pointer, or 0, and the errno, or 0.
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
        // The clock may not tell them apart: then what is inside is asked for first.
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
