//! Calls in flight: the arguments of a call, remembered from its entry to its return.
//!
//! The key has the thread and the role: the functions nest (ioctl, set_state, get_next_state) but none of them
//! calls itself.

use core::ffi::c_void;

use aya_ebpf::{
    EbpfContext,
    helpers::{
        bpf_get_current_pid_tgid,
        generated::{bpf_for_each_map_elem, bpf_get_smp_processor_id, bpf_ktime_get_ns},
    },
};
use aya_log_ebpf::warn;
use vfio_trace_common::{
    call::{Within, thread_key},
    role::Role,
};

use crate::{
    gate::Probe,
    maps::{IN_FLIGHT, SWEPT},
};

/// Key of the `IN_FLIGHT` map: thread and role.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Key {
    thread: u64,
    role: u64,
}

/// A call, as its entry program saw it: value of the `IN_FLIGHT` map. The entry program stores it, the return program
/// takes it back and makes a record of it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Call {
    /// Time of entry (CLOCK_MONOTONIC, ns).
    pub start_ns: u64,
    /// `struct vfio_device *` or 0.
    pub device: u64,
    /// `struct file *` of a data fd or 0.
    pub file: u64,
    /// First word that the role's return program needs.
    pub a: u64,
    /// Second word that the role's return program needs.
    pub b: u64,
    /// User memory read at entry.
    pub data: [u64; 4],
    /// Slot of the probe; filled in when the call is remembered.
    pub slot: u64,
}

impl Call {
    /// Makes a call that begins now.
    #[inline(always)]
    pub fn now() -> Self {
        Self { start_ns: now(), device: 0, file: 0, a: 0, b: 0, data: [0; 4], slot: 0 }
    }
}

/// Returns the time (CLOCK_MONOTONIC, ns).
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: takes nothing, touches nothing.
    unsafe { bpf_ktime_get_ns() }
}

/// Returns the number that stands for this thread in keys.
#[inline(always)]
fn thread() -> u64 {
    // SAFETY: takes nothing, touches nothing.
    thread_key(bpf_get_current_pid_tgid(), unsafe { bpf_get_smp_processor_id() })
}

/// Returns the key of this thread's call of a role.
#[inline(always)]
pub fn key(role: Role) -> Key {
    Key { thread: thread(), role: role as u64 }
}

/// Returns the key of this thread's call of a step. Steps nest, but no function calls itself.
#[inline(always)]
pub fn step_key(probe: Probe) -> Key {
    Key { thread: thread(), role: Role::Step as u64 | u64::from(probe.index()) << 32 }
}

/// Returns the device that this thread works on, and the role of the call; 0 and `u32::MAX` if it is in none.
#[inline(always)]
pub fn of_thread() -> (u64, u32) {
    let mut within = Within::NONE;
    // Inner calls come first.
    for role in [Role::Read, Role::Write, Role::DataIoctl, Role::SetState, Role::DeviceIoctl, Role::Open] {
        // SAFETY: only this thread writes this key.
        if let Some(call) = unsafe { IN_FLIGHT.get(key(role)) } {
            within = within.inner(Within { start_ns: call.start_ns, device: call.device, role: role as u32 });
        }
    }
    if within.device == 0 { (0, u32::MAX) } else { (within.device, within.role) }
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
    // A call of this thread that is still here was never taken back: its return probe was missed.
    if let Some(stale) = IN_FLIGHT.get_ptr(key) {
        // It may be of another function: the key has only the role.
        // SAFETY: only this thread writes this key.
        Probe::at(unsafe { (*stale).slot } as u16).unmatched();
    }
    let call = Call { slot: u64::from(probe.index()), ..*call };
    if put(key, &call) {
        return;
    }
    let swept = sweep(call.start_ns);
    if swept && put(key, &call) {
        return;
    }
    probe.unmatched();
    // Once per sweep, so that these messages stay few.
    if swept {
        warn!(ctx, "no room to remember a call of role {}", key.role);
    }
}

#[inline(always)]
fn put(key: Key, call: &Call) -> bool {
    IN_FLIGHT.insert(key, call, 0).is_ok()
}

/// Age from which calls are given up when there is no room, in ns. Some calls do take longer; they are as rare as full
/// maps, and the other calls are worth more.
const STALE_NS: u64 = 10_000_000_000;

/// Least time between two sweeps, in ns: a sweep looks at all entries, and a thread waits for it.
const SWEEP_NS: u64 = 1_000_000_000;

/// Makes room: gives up all calls that began long ago; returns true if it has looked. Most of these calls have
/// returned, but the kernel had no return probe for them and their threads are gone, so that no program takes them
/// back. The map is no LRU map: on hosts with many processors an LRU map gives up calls that have just begun, long
/// before it is full, and they could not be counted.
#[inline(always)]
fn sweep(now_ns: u64) -> bool {
    let Some(swept) = SWEPT.get_ptr_mut(0) else { return false };
    // SAFETY: one word of the map. Two processors that read it at the same time both sweep, which does no harm.
    let swept = unsafe { &mut *swept };
    if now_ns.saturating_sub(*swept) < SWEEP_NS {
        return false;
    }
    *swept = now_ns;
    let mut before_ns = now_ns.saturating_sub(STALE_NS);
    // SAFETY: the map is a hash map with the types that `give_up` takes, and it gets the address of `before_ns`, which
    // lives as long as the call.
    unsafe {
        bpf_for_each_map_elem(
            (&raw const IN_FLIGHT).cast_mut().cast(),
            give_up as *mut c_void,
            (&raw mut before_ns).cast(),
            0,
        );
    }
    true
}

/// Gives up one call if it began before `before_ns`: its return cannot be matched any more.
unsafe extern "C" fn give_up(
    _map: *mut c_void,
    key: *const Key,
    call: *const Call,
    before_ns: *const u64,
) -> i64 {
    // SAFETY: the kernel passes an entry of the map, and what `sweep` has passed on. An entry that its thread replaces
    // meanwhile is at worst given up, and counted.
    let (key, began_ns, slot, before_ns) = unsafe { (&*key, (*call).start_ns, (*call).slot, *before_ns) };
    if began_ns < before_ns && IN_FLIGHT.remove(key).is_ok() {
        Probe::at(slot as u16).unmatched();
    }
    0
}

/// Takes a call back at its return. Returns `None` for calls that began before tracing did.
#[inline(always)]
pub fn leave(role: Role) -> Option<Call> {
    leave_as(key(role))
}

/// Takes a call back by its key.
#[inline(always)]
pub fn leave_as(key: Key) -> Option<Call> {
    // SAFETY: only this thread writes this key, so the value cannot change while it is copied.
    let call = unsafe { IN_FLIGHT.get(key) }.copied()?;
    // The entry is there: only this thread removes it.
    let _: Result<(), i32> = IN_FLIGHT.remove(key);
    Some(call)
}
