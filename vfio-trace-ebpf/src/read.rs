//! Reading kernel and user memory, by the layout table.

use aya_ebpf::helpers::{bpf_probe_read_kernel, bpf_probe_read_kernel_str_bytes, bpf_probe_read_user};
use vfio_trace_common::layout::{Field, Layout};

use crate::maps::LAYOUT;

/// The layout table.
#[inline(always)]
pub fn layout() -> Option<&'static Layout> {
    LAYOUT.get(0)
}

/// A member of the kernel object at `base`; `None` if the member's place is not known, the object is NULL, or the
/// read faults.
#[inline(always)]
pub fn member<T>(layout: &Layout, base: u64, field: Field) -> Option<T> {
    let offset = layout.get(field)?;
    if base == 0 {
        return None;
    }
    kernel(base + u64::from(offset))
}

/// A pointer member; 0 where [`member`] has nothing.
#[inline(always)]
pub fn pointer(layout: &Layout, base: u64, field: Field) -> u64 {
    member(layout, base, field).unwrap_or(0)
}

/// A value in kernel memory.
#[inline(always)]
pub fn kernel<T>(address: u64) -> Option<T> {
    // SAFETY: the helper checks the address and fails instead of faulting; T is plain data wherever this is used.
    unsafe { bpf_probe_read_kernel(address as *const T) }.ok()
}

/// A value in the current task's memory. A page that is not resident counts as unreadable.
#[inline(always)]
pub fn user<T>(address: u64) -> Option<T> {
    // SAFETY: as above, for user addresses.
    unsafe { bpf_probe_read_user(address as *const T) }.ok()
}

/// Copies a NUL-terminated kernel string; false if it could not be read.
#[inline(always)]
pub fn string(address: u64, to: &mut [u8]) -> bool {
    // SAFETY: the helper checks the address and writes at most `to.len()` bytes.
    address != 0 && unsafe { bpf_probe_read_kernel_str_bytes(address as *const u8, to) }.is_ok()
}
