//! Of a call: what it returns. Pure.

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
    fn a_kernel_pointer_is_no_errno() {
        assert_eq!(pointer_or_errno(0xffff_8880_9abc_de00), (0xffff_8880_9abc_de00, 0));
        assert_eq!(pointer_or_errno(-16_i64 as u64), (0, -16));
        assert_eq!(pointer_or_errno(-4095_i64 as u64), (0, -4095));
        assert_eq!(pointer_or_errno(-4096_i64 as u64), (-4096_i64 as u64, 0));
        assert_eq!(pointer_or_errno(0), (0, 0));
    }
}
