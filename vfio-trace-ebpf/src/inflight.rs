//! What a call was entered with, remembered until it returns.
//!
//! The key has the thread and the role: the functions nest (ioctl, set_state, get_next_state) but none of them
//! calls itself.

use aya_ebpf::{EbpfContext, helpers::bpf_get_current_pid_tgid, helpers::generated::bpf_ktime_get_ns};
use aya_log_ebpf::warn;
use vfio_trace_common::role::Role;

use crate::{gate::Probe, maps::IN_FLIGHT};

/// Which call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Key {
    thread: u64,
    role: u64,
}

/// What was known when it began.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Call {
    /// CLOCK_MONOTONIC in ns.
    pub start_ns: u64,
    /// `struct vfio_device *` or 0.
    pub device: u64,
    /// `struct file *` of a data fd or 0.
    pub file: u64,
    /// First word that the role wants back at return.
    pub a: u64,
    /// Second word.
    pub b: u64,
    /// User data read at entry.
    pub data: [u64; 4],
}

impl Call {
    /// A call that begins now.
    #[inline(always)]
    pub fn now() -> Self {
        Self { start_ns: now(), device: 0, file: 0, a: 0, b: 0, data: [0; 4] }
    }
}

/// CLOCK_MONOTONIC in ns.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: takes nothing, touches nothing.
    unsafe { bpf_ktime_get_ns() }
}

/// A role's call of this thread.
#[inline(always)]
pub fn key(role: Role) -> Key {
    Key { thread: bpf_get_current_pid_tgid(), role: role as u64 }
}

/// A step's call of this thread: steps nest, but no function calls itself.
#[inline(always)]
pub fn step_key(probe: Probe) -> Key {
    Key { thread: bpf_get_current_pid_tgid(), role: Role::Step as u64 | u64::from(probe.index()) << 32 }
}

/// The device that this thread is at work on, and in which call; 0 and `u32::MAX` if in none.
#[inline(always)]
pub fn of_thread() -> (u64, u32) {
    // What is inside comes first.
    for role in [Role::Read, Role::Write, Role::DataIoctl, Role::SetState, Role::DeviceIoctl, Role::Open] {
        // SAFETY: only this thread writes this key.
        if let Some(call) = unsafe { IN_FLIGHT.get(key(role)) }
            && call.device != 0
        {
            return (call.device, role as u32);
        }
    }
    (0, u32::MAX)
}

/// Remembers a call.
#[inline(always)]
pub fn enter(ctx: &impl EbpfContext, probe: Probe, role: Role, call: &Call) {
    enter_as(ctx, probe, key(role), call);
}

/// Remembers a call under a key.
#[inline(always)]
pub fn enter_as(ctx: &impl EbpfContext, probe: Probe, key: Key, call: &Call) {
    probe.hit();
    // A call of this thread that is still here never told us that it returned: its return probe was missed.
    if IN_FLIGHT.get_ptr(key).is_some() {
        probe.unmatched();
    }
    if IN_FLIGHT.insert(key, call, 0).is_err() {
        probe.unmatched();
        warn!(ctx, "no room to remember a call of role {}", key.role);
    }
}

/// Takes a call back at its return. `None` for calls that began before tracing did.
#[inline(always)]
pub fn leave(role: Role) -> Option<Call> {
    leave_as(key(role))
}

/// Takes a call back by its key.
#[inline(always)]
pub fn leave_as(key: Key) -> Option<Call> {
    // SAFETY: only this thread writes this key, so the value cannot change while it is copied.
    let call = unsafe { IN_FLIGHT.get(key) }.copied()?;
    // It was there a moment ago, and only this thread removes it.
    let _: Result<(), i32> = IN_FLIGHT.remove(key);
    Some(call)
}
