//! Programs for functions of the vfio and PCI core: the arc table, the device ioctl, open and close, register and
//! unregister, reset.

use aya_ebpf::{
    macros::{kprobe, kretprobe},
    programs::{ProbeContext, RetProbeContext},
};
use vfio_trace_common::{
    call::pointer_or_errno,
    capture::moment,
    layout::Field,
    role::{Role, cookie},
    uapi::{VFIO_DEVICE_FEATURE, VFIO_DEVICE_RESET},
    wire::{
        Close, FEATURE_WORDS, Ioctl, Kind, NextState, Open, PciReset, RESET_BY_FLR, Registered, ioctl_unread,
    },
};

use crate::{
    capture, device, dirty,
    emit::emit,
    gate::{self, Probe},
    inflight::{self, Call},
    maps::{IN_FLIGHT, PARENTS},
    read,
};

/// Length of `struct vfio_device_feature` before its payload, in bytes.
const FEATURE_HEADER: u64 = 8;

/// Handles the entry of `int vfio_mig_get_next_state(struct vfio_device *, cur_fsm, new_fsm, *next_fsm)`.
#[kprobe]
pub fn next_state_enter(ctx: ProbeContext) -> u32 {
    let Some(probe) = gate::probe(&ctx) else { return 0 };
    let call = Call {
        device: ctx.arg(0).unwrap_or(0),
        a: pair(ctx.arg(1).unwrap_or(0), ctx.arg(2).unwrap_or(0)),
        b: ctx.arg(3).unwrap_or(0),
        ..Call::now()
    };
    inflight::enter(&ctx, probe, Role::NextState, &call);
    0
}

/// Handles the return of `vfio_mig_get_next_state()`: reads the next state, emits a record.
#[kretprobe]
pub fn next_state_exit(ctx: RetProbeContext) -> u32 {
    let Some(probe) = gate::probe(&ctx) else { return 0 };
    let Some(call) = inflight::leave(Role::NextState) else { return 0 };
    let ret = ctx.ret::<i32>();
    let next = if ret == 0 { read::kernel(call.b).unwrap_or(u32::MAX) } else { u32::MAX };
    device::seen(probe, Role::NextState, &call);
    let body = NextState { current: call.a as u32, target: (call.a >> 32) as u32, next, ret };
    emit(probe, Kind::NextState, &call, inflight::now(), body);
    capture::run(&ctx, moment::ARC, &call);
    0
}

/// Handles the entry of `long vfio_device_fops_unl_ioctl(struct file *, unsigned int cmd, unsigned long arg)`.
#[kprobe]
pub fn device_ioctl_enter(ctx: ProbeContext) -> u32 {
    // Interrupt set-up and all other ioctls of the device pass here too: leave before anything else is done.
    let cmd = ctx.arg::<u32>(1).unwrap_or(0);
    if cmd != VFIO_DEVICE_FEATURE && cmd != VFIO_DEVICE_RESET {
        return 0;
    }
    let Some(probe) = gate::probe(&ctx) else { return 0 };
    let user = ctx.arg::<u64>(2).unwrap_or(0);
    let mut call =
        Call { device: device_of(ctx.arg(0).unwrap_or(0)), a: u64::from(cmd), b: user, ..Call::now() };
    if cmd == VFIO_DEVICE_FEATURE {
        let unread;
        (call.data, unread) = payload(user);
        call.a |= u64::from(unread) << 32;
    }
    inflight::enter(&ctx, probe, Role::DeviceIoctl, &call);
    if cmd == VFIO_DEVICE_RESET {
        capture::run(&ctx, moment::RESET, &call);
    }
    0
}

/// Handles the return of `vfio_device_fops_unl_ioctl()`: reads the structure again, emits a record.
#[kretprobe]
pub fn device_ioctl_exit(ctx: RetProbeContext) -> u32 {
    let Some(probe) = gate::probe(&ctx) else { return 0 };
    let Some(call) = inflight::leave(Role::DeviceIoctl) else { return 0 };
    device::seen(probe, Role::DeviceIoctl, &call);
    let cmd = call.a as u32;
    let mut body = Ioctl {
        cmd,
        ret: ctx.ret::<i64>() as i32,
        argsz: 0,
        flags: 0,
        data_in: call.data,
        data_out: [0; FEATURE_WORDS],
        unread: 0,
        late: 0,
    };
    if cmd == VFIO_DEVICE_FEATURE {
        // Read now, not at entry: by now the kernel has copied the header, so its page is there.
        let mut words = [0u32; 2];
        body.unread = read::user_into(call.b, &mut words) * ioctl_unread::HEADER;
        [body.argsz, body.flags] = words;
        let unread_in = (call.a >> 32) as u32;
        let (data_out, unread_out) = payload(call.b);
        body.data_out = data_out;
        // A word whose page was not resident at entry is readable by now if the kernel has used it.
        body.late = unread_in & !unread_out;
        #[expect(
            clippy::needless_range_loop,
            reason = "the index also counts bits; a constant bound for the verifier"
        )]
        for word in 0..FEATURE_WORDS {
            // Zero until now.
            body.data_in[word] |= data_out[word] & 0u64.wrapping_sub(u64::from(body.late >> word & 1));
        }
        body.unread |=
            (unread_in & unread_out) << ioctl_unread::DATA_IN | unread_out << ioctl_unread::DATA_OUT;
        dirty::explain(probe, &call, &body);
    }
    emit(probe, Kind::Ioctl, &call, inflight::now(), body);
    0
}

/// Handles the entry of `int vfio_df_open(struct vfio_device_file *)`, or of its predecessor in older kernels.
#[kprobe]
pub fn open_enter(ctx: ProbeContext) -> u32 {
    let Some(probe) = gate::probe(&ctx) else { return 0 };
    let call = Call { device: opened(probe, &ctx), ..Call::now() };
    inflight::enter(&ctx, probe, Role::Open, &call);
    0
}

/// Handles the return of `vfio_df_open()`: describes the device anew, emits a record.
#[kretprobe]
pub fn open_exit(ctx: RetProbeContext) -> u32 {
    let Some(probe) = gate::probe(&ctx) else { return 0 };
    let Some(call) = inflight::leave(Role::Open) else { return 0 };
    if call.device != 0 {
        // Always: the address may have belonged to a device that is gone by now.
        device::describe(probe, Role::Open, &call);
    }
    // Before 6.2 it returns the file that it opens.
    let returned = ctx.ret::<u64>();
    let ret = if probe.returns_file() { pointer_or_errno(returned).1 } else { returned as i32 };
    let body = Open { ret, open_count: open_count(call.device) };
    emit(probe, Kind::Open, &call, inflight::now(), body);
    capture::run(&ctx, moment::SEEN, &call);
    0
}

/// Handles the entry of `void vfio_df_close(struct vfio_device_file *)`, or of its predecessor in older kernels.
#[kprobe]
pub fn close_enter(ctx: ProbeContext) -> u32 {
    let Some(probe) = gate::probe(&ctx) else { return 0 };
    probe.hit();
    let call = Call { device: opened(probe, &ctx), ..Call::now() };
    device::seen(probe, Role::Close, &call);
    let body = Close { open_count: open_count(call.device), reserved: 0 };
    emit(probe, Kind::Close, &call, call.start_ns, body);
    capture::run(&ctx, moment::CLOSE, &call);
    0
}

/// Handles the entry of `int vfio_register_group_dev(struct vfio_device *)`, or of its sister for emulated IOMMUs
/// (mdev).
#[kprobe]
pub fn register_enter(ctx: ProbeContext) -> u32 {
    let Some(probe) = gate::probe(&ctx) else { return 0 };
    let call = Call { device: ctx.arg(0).unwrap_or(0), ..Call::now() };
    inflight::enter(&ctx, probe, Role::Register, &call);
    0
}

/// Handles the return of `vfio_register_group_dev()`: describes the device, emits a record.
#[kretprobe]
pub fn register_exit(ctx: RetProbeContext) -> u32 {
    let Some(probe) = gate::probe(&ctx) else { return 0 };
    let Some(call) = inflight::leave(Role::Register) else { return 0 };
    device::describe(probe, Role::Register, &call);
    let ret = ctx.ret();
    emit(probe, Kind::Register, &call, inflight::now(), Registered { ret, reserved: 0 });
    if ret != 0 {
        // Registration failed: its name was told, and nothing else will be; the driver frees it now.
        device::forget(probe, call.device);
        return 0;
    }
    capture::run(&ctx, moment::SEEN, &call);
    0
}

/// Handles the entry of `void vfio_unregister_group_dev(struct vfio_device *)`, which waits until the device is no
/// longer open and can no longer be opened.
#[kprobe]
pub fn unregister_enter(ctx: ProbeContext) -> u32 {
    let Some(probe) = gate::probe(&ctx) else { return 0 };
    let call = Call { device: ctx.arg(0).unwrap_or(0), ..Call::now() };
    device::seen(probe, Role::Unregister, &call);
    emit(probe, Kind::Unregister, &call, call.start_ns, ());
    device::leaves(probe, call.device);
    inflight::enter(&ctx, probe, Role::Unregister, &call);
    0
}

/// Handles the return of `vfio_unregister_group_dev()`: nothing uses the device any more.
#[kretprobe]
pub fn unregister_exit(ctx: RetProbeContext) -> u32 {
    let Some(probe) = gate::probe(&ctx) else { return 0 };
    let Some(call) = inflight::leave(Role::Unregister) else { return 0 };
    device::forget(probe, call.device);
    0
}

/// Longest time that a reset is taken to last, in ns: the end of one that began earlier was missed. PCI gives a device
/// one minute to come back.
const RESET_NS: u64 = 120_000_000_000;

/// Handles the entry of `int __pci_reset_function_locked(struct pci_dev *)`, which tries all ways, or of `pcie_flr()`,
/// which has the same type. Calls within a call are counted, not remembered on their own.
#[kprobe]
pub fn pci_reset_enter(ctx: ProbeContext) -> u32 {
    let Some(probe) = gate::probe(&ctx) else { return 0 };
    let Some(layout) = read::layout() else { return 0 };
    let Some(dev) = layout.get(Field::PciDevDev) else { return 0 };
    let pci_dev: u64 = ctx.arg(0).unwrap_or(0);
    // SAFETY: values are written once per device.
    let Some(&device) = (unsafe { PARENTS.get(pci_dev + u64::from(dev)) }) else { return 0 };
    let how = if probe.is_flr() { u64::from(RESET_BY_FLR) } else { 0 };
    let call = Call { device, a: how, ..Call::now() };
    if let Some(outer) = IN_FLIGHT.get_ptr_mut(inflight::key(Role::PciReset)) {
        // SAFETY: only this thread uses this key.
        let outer = unsafe { &mut *outer };
        if outer.device == device && call.start_ns - outer.start_ns < RESET_NS {
            outer.a |= how;
            outer.b += 1;
            return 0;
        }
    }
    inflight::enter(&ctx, probe, Role::PciReset, &call);
    capture::run(&ctx, moment::RESET, &call);
    0
}

/// Handles the return of these functions: emits a record when the outermost call returns.
#[kretprobe]
pub fn pci_reset_exit(ctx: RetProbeContext) -> u32 {
    let Some(probe) = gate::probe(&ctx) else { return 0 };
    let Some(outer) = IN_FLIGHT.get_ptr_mut(inflight::key(Role::PciReset)) else { return 0 };
    // SAFETY: only this thread uses this key.
    let outer = unsafe { &mut *outer };
    if outer.b > 0 {
        outer.b -= 1;
        return 0;
    }
    let Some(call) = inflight::leave(Role::PciReset) else { return 0 };
    let body = PciReset { ret: ctx.ret(), how: call.a as u32 };
    emit(probe, Kind::PciReset, &call, inflight::now(), body);
    0
}

#[inline(always)]
fn pair(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

/// Returns the device of a device fd. `filp->private_data` is the device itself up to 6.5, a `struct vfio_device_file`
/// since.
#[inline(always)]
pub fn device_of(file: u64) -> u64 {
    let Some(layout) = read::layout() else { return 0 };
    let private = read::pointer(layout, file, Field::FilePrivateData);
    if layout.get(Field::DeviceFileDevice).is_some() {
        read::pointer(layout, private, Field::DeviceFileDevice)
    } else if layout.get(Field::DeviceDev).is_some() {
        private
    } else {
        // Without vfio's BTF nothing tells which of the two it is.
        0
    }
}

/// Returns the device that an open or close function is called for. Kernels differ in the arguments.
#[inline(always)]
fn opened(probe: Probe, ctx: &ProbeContext) -> u64 {
    let arg0 = ctx.arg(0).unwrap_or(0);
    match probe.takes() {
        cookie::TAKES_DEVICE => arg0,
        cookie::TAKES_FILE => device_of(arg0),
        cookie::TAKES_INODE_FILE => device_of(ctx.arg(1).unwrap_or(0)),
        _ => {
            let Some(layout) = read::layout() else { return 0 };
            read::pointer(layout, arg0, Field::DeviceFileDevice)
        },
    }
}

#[inline(always)]
fn open_count(device: u64) -> u32 {
    let Some(layout) = read::layout() else { return u32::MAX };
    read::member(layout, device, Field::DeviceOpenCount).unwrap_or(u32::MAX)
}

/// Reads the first words of `vfio_device_feature.data`; the bits of the second value are set for words that could not
/// be read. Reads word by word: a short structure may end at the end of a page.
#[inline(always)]
fn payload(user: u64) -> ([u64; FEATURE_WORDS], u32) {
    let at = user + FEATURE_HEADER;
    let (mut words, mut unread) = ([0; FEATURE_WORDS], 0);
    #[expect(
        clippy::needless_range_loop,
        reason = "the index also counts bits; a constant bound for the verifier"
    )]
    for word in 0..FEATURE_WORDS {
        unread |= read::user_into(at + 8 * word as u64, &mut words[word]) << word;
    }
    (words, unread)
}
