//! Reads of kernel and user memory, by the table of member offsets.

use aya_ebpf::helpers::{bpf_probe_read_kernel, bpf_probe_read_kernel_str_bytes, generated};
use vfio_trace_common::layout::{Field, Layout};

use crate::maps::LAYOUT;

/// Returns the table of member offsets.
#[inline(always)]
pub fn layout() -> Option<&'static Layout> {
    LAYOUT.get(0)
}

/// Reads a member of the kernel object at `base`; `None` if the member's offset is not known, the object is NULL, or
/// the read faults.
#[inline(always)]
pub fn member<T>(layout: &Layout, base: u64, field: Field) -> Option<T> {
    let offset = layout.get(field)?;
    if base == 0 {
        return None;
    }
    kernel(base + u64::from(offset))
}

/// Reads a pointer member; 0 where [`member`] returns `None`.
#[inline(always)]
pub fn pointer(layout: &Layout, base: u64, field: Field) -> u64 {
    member(layout, base, field).unwrap_or(0)
}

/// Reads a value in kernel memory.
#[inline(always)]
pub fn kernel<T>(address: u64) -> Option<T> {
    // SAFETY: the helper checks the address and fails instead of faulting; T is plain data wherever this is used.
    unsafe { bpf_probe_read_kernel(address as *const T) }.ok()
}

/// Copies a value from the current task's memory. Returns 1 if it could not be read, which leaves zero; a page that is
/// not resident counts as unreadable. The result is computed without a branch: the verifier would follow both sides of
/// each, and sixteen of them are more than older verifiers take.
#[inline(always)]
pub fn user_into<T>(address: u64, to: &mut T) -> u32 {
    // SAFETY: the helper checks the source, and writes the whole value or zeros; T is plain data wherever this is used.
    let result = unsafe {
        generated::bpf_probe_read_user(
            core::ptr::from_mut(to).cast(),
            size_of::<T>() as u32,
            address as *const _,
        )
    };
    result.cast_unsigned() as u32 >> 31
}

/// Copies a NUL-terminated kernel string; returns false if it could not be read.
#[inline(always)]
pub fn string(address: u64, to: &mut [u8]) -> bool {
    // SAFETY: the helper checks the address and writes at most `to.len()` bytes.
    address != 0 && unsafe { bpf_probe_read_kernel_str_bytes(address as *const u8, to) }.is_ok()
}
