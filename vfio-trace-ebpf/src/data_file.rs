//! Programs for a driver's data fd: read, write, ioctl, release.
//!
//! The functions are found by their type, so some may turn out to belong to another kind of file. A file that set_state
//! returned is certainly a data fd; other files count only where the call itself tells (see each program).

use aya_ebpf::{
    macros::{kprobe, kretprobe},
    programs::{ProbeContext, RetProbeContext},
};
use vfio_trace_common::{
    capture::moment,
    layout::Field,
    role::Role,
    uapi::VFIO_MIG_GET_PRECOPY_INFO,
    wire::{DataIo, DataRelease, Kind, PrecopyInfo, precopy_unread},
};

use crate::{
    capture, device,
    emit::emit,
    gate::{self, Probe},
    inflight::{self, Call},
    maps::FILES,
    read,
};

/// Reads `file->f_pos`; -1 if it cannot be read.
#[inline(always)]
fn position(file: u64) -> i64 {
    read::layout().and_then(|layout| read::member(layout, file, Field::FilePos)).unwrap_or(-1)
}

#[inline(always)]
fn io_enter(ctx: &ProbeContext, role: Role) -> Option<()> {
    let probe = gate::probe(ctx)?;
    let file = ctx.arg(0)?;
    // An unknown file was opened before tracing began: its bytes count, but its device is not known.
    let device = device::of_file(file).unwrap_or(0);
    let call =
        Call { device, file, a: ctx.arg(2).unwrap_or(0), b: position(file).cast_unsigned(), ..Call::now() };
    inflight::enter(ctx, probe, role, &call);
    Some(())
}

#[inline(always)]
fn io_exit(ctx: &RetProbeContext, role: Role, kind: Kind) -> Option<()> {
    let probe: Probe = gate::probe(ctx)?;
    let call = inflight::leave(role)?;
    let body = DataIo { requested: call.a, ret: ctx.ret(), pos: call.b.cast_signed() };
    device::seen(probe, role, &call);
    emit(probe, kind, &call, inflight::now(), body);
    let moment = if role as u32 == Role::Read as u32 { moment::READ } else { moment::WRITE };
    capture::run(ctx, moment, &call);
    Some(())
}

/// Handles the entry of `ssize_t read(struct file *, char __user *, size_t, loff_t *)`.
#[kprobe]
pub fn read_enter(ctx: ProbeContext) -> u32 {
    let _: Option<()> = io_enter(&ctx, Role::Read);
    0
}

/// Handles the return of a read: emits a record.
#[kretprobe]
pub fn read_exit(ctx: RetProbeContext) -> u32 {
    let _: Option<()> = io_exit(&ctx, Role::Read, Kind::Read);
    0
}

/// Handles the entry of `ssize_t write(struct file *, const char __user *, size_t, loff_t *)`.
#[kprobe]
pub fn write_enter(ctx: ProbeContext) -> u32 {
    let _: Option<()> = io_enter(&ctx, Role::Write);
    0
}

/// Handles the return of a write: emits a record.
#[kretprobe]
pub fn write_exit(ctx: RetProbeContext) -> u32 {
    let _: Option<()> = io_exit(&ctx, Role::Write, Kind::Write);
    0
}

/// Handles the entry of `long unlocked_ioctl(struct file *, unsigned int cmd, unsigned long arg)`. Of files that are
/// not known, only VFIO_MIG_GET_PRECOPY_INFO counts.
#[kprobe]
pub fn data_ioctl_enter(ctx: ProbeContext) -> u32 {
    let Some(probe) = gate::probe(&ctx) else { return 0 };
    let file = ctx.arg(0).unwrap_or(0);
    let cmd = ctx.arg::<u32>(1).unwrap_or(0);
    let device = device::of_file(file);
    if device.is_none() && cmd != VFIO_MIG_GET_PRECOPY_INFO {
        return 0;
    }
    let call = Call {
        device: device.unwrap_or(0),
        file,
        a: u64::from(cmd),
        b: ctx.arg(2).unwrap_or(0),
        ..Call::now()
    };
    inflight::enter(&ctx, probe, Role::DataIoctl, &call);
    0
}

/// Handles the return of an ioctl: reads `struct vfio_precopy_info`, emits a record.
#[kretprobe]
pub fn data_ioctl_exit(ctx: RetProbeContext) -> u32 {
    let Some(probe) = gate::probe(&ctx) else { return 0 };
    let Some(call) = inflight::leave(Role::DataIoctl) else { return 0 };
    device::seen(probe, Role::DataIoctl, &call);
    // struct vfio_precopy_info: argsz, flags, initial_bytes, dirty_bytes
    let mut body = PrecopyInfo {
        cmd: call.a as u32,
        ret: ctx.ret::<i64>() as i32,
        argsz: 0,
        flags: 0,
        initial_bytes: 0,
        dirty_bytes: 0,
        unread: 0,
        reserved: 0,
    };
    body.unread = (read::user_into(call.b, &mut body.argsz) * precopy_unread::ARGSZ)
        | (read::user_into(call.b + 4, &mut body.flags) * precopy_unread::FLAGS)
        | (read::user_into(call.b + 8, &mut body.initial_bytes) * precopy_unread::INITIAL)
        | (read::user_into(call.b + 16, &mut body.dirty_bytes) * precopy_unread::DIRTY);
    emit(probe, Kind::PrecopyInfo, &call, inflight::now(), body);
    capture::run(&ctx, moment::DATA_IOCTL, &call);
    0
}

/// Handles the entry of `int release(struct inode *, struct file *)`: forgets the file, emits a record.
#[kprobe]
pub fn release_enter(ctx: ProbeContext) -> u32 {
    let Some(probe) = gate::probe(&ctx) else { return 0 };
    let file = ctx.arg(1).unwrap_or(0);
    // Functions of this type are common; only a file that set_state returned is a data fd.
    let Some(device) = device::of_file(file) else { return 0 };
    probe.hit();
    let _: Result<(), i32> = FILES.remove(file);
    let call = Call { device, file, ..Call::now() };
    emit(probe, Kind::DataRelease, &call, call.start_ns, DataRelease { pos: position(file) });
    0
}
