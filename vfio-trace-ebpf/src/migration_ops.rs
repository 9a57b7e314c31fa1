//! Programs for a driver's `struct vfio_migration_ops`: set_state, get_state, get_data_size.

use aya_ebpf::{
    macros::{kprobe, kretprobe},
    programs::{ProbeContext, RetProbeContext},
};
use vfio_trace_common::{
    call::pointer_or_errno,
    capture::moment,
    layout::Field,
    role::Role,
    wire::{DataSize, GetState, Kind, SetState},
};

use crate::{
    capture, device,
    emit::emit,
    gate,
    inflight::{self, Call},
    read,
};

/// Handles the entry of `struct file *migration_set_state(struct vfio_device *, enum vfio_device_mig_state)`.
#[kprobe]
pub fn set_state_enter(ctx: ProbeContext) -> u32 {
    let Some(probe) = gate::probe(&ctx) else { return 0 };
    let target = ctx.arg::<u32>(1).unwrap_or(0);
    let call = Call { device: ctx.arg(0).unwrap_or(0), a: u64::from(target), ..Call::now() };
    inflight::enter(&ctx, probe, Role::SetState, &call);
    0
}

/// Handles the return of `migration_set_state()`, which returns a data file, NULL or an error: remembers the data file,
/// emits a record.
#[kretprobe]
pub fn set_state_exit(ctx: RetProbeContext) -> u32 {
    let Some(probe) = gate::probe(&ctx) else { return 0 };
    let Some(mut call) = inflight::leave(Role::SetState) else { return 0 };
    device::seen(probe, Role::SetState, &call);
    let ret;
    (call.file, ret) = pointer_or_errno(ctx.ret());
    let mut body =
        SetState { target: call.a as u32, ret, f_op: 0, read: 0, write: 0, unlocked_ioctl: 0, release: 0 };
    if call.file != 0 {
        device::keep_file(probe, call.file, call.device);
        if let Some(layout) = read::layout() {
            body.f_op = read::pointer(layout, call.file, Field::FileOp);
            body.read = read::pointer(layout, body.f_op, Field::FopRead);
            body.write = read::pointer(layout, body.f_op, Field::FopWrite);
            body.unlocked_ioctl = read::pointer(layout, body.f_op, Field::FopIoctl);
            body.release = read::pointer(layout, body.f_op, Field::FopRelease);
        }
    }
    emit(probe, Kind::SetState, &call, inflight::now(), body);
    capture::run(&ctx, moment::SET_STATE, &call);
    0
}

/// Handles the entry of `int migration_get_state(struct vfio_device *, enum vfio_device_mig_state *)`.
#[kprobe]
pub fn get_state_enter(ctx: ProbeContext) -> u32 {
    let Some(probe) = gate::probe(&ctx) else { return 0 };
    let call = Call { device: ctx.arg(0).unwrap_or(0), a: ctx.arg(1).unwrap_or(0), ..Call::now() };
    inflight::enter(&ctx, probe, Role::GetState, &call);
    0
}

/// Handles the return of `migration_get_state()`: emits a record.
#[kretprobe]
pub fn get_state_exit(ctx: RetProbeContext) -> u32 {
    let Some(probe) = gate::probe(&ctx) else { return 0 };
    let Some(call) = inflight::leave(Role::GetState) else { return 0 };
    device::seen(probe, Role::GetState, &call);
    let ret = ctx.ret::<i32>();
    let state = if ret == 0 { read::kernel(call.a).unwrap_or(u32::MAX) } else { u32::MAX };
    emit(probe, Kind::GetState, &call, inflight::now(), GetState { state, ret });
    0
}

/// Handles the entry of `int migration_get_data_size(struct vfio_device *, unsigned long *)`.
#[kprobe]
pub fn data_size_enter(ctx: ProbeContext) -> u32 {
    let Some(probe) = gate::probe(&ctx) else { return 0 };
    let call = Call { device: ctx.arg(0).unwrap_or(0), a: ctx.arg(1).unwrap_or(0), ..Call::now() };
    inflight::enter(&ctx, probe, Role::DataSize, &call);
    0
}

/// Handles the return of `migration_get_data_size()`: emits a record.
#[kretprobe]
pub fn data_size_exit(ctx: RetProbeContext) -> u32 {
    let Some(probe) = gate::probe(&ctx) else { return 0 };
    let Some(call) = inflight::leave(Role::DataSize) else { return 0 };
    device::seen(probe, Role::DataSize, &call);
    let ret = ctx.ret::<i32>();
    let stop_copy_length = if ret == 0 { read::kernel(call.a) } else { Some(0) };
    let unread = u32::from(stop_copy_length.is_none());
    let body = DataSize { stop_copy_length: stop_copy_length.unwrap_or(0), ret, unread };
    emit(probe, Kind::DataSize, &call, inflight::now(), body);
    0
}
