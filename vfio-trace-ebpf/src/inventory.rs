//! The inventory: devices and open device fds that were there before tracing began, from an iterator over all open
//! files. It only reads.
//!
//! Two kinds of files tell of devices. vfio-trace has opened the folders of `/sys/class/vfio-dev`: a folder in sysfs
//! leads to its kobject, which is part of the `struct vfio_device`; so every device is found, also one that no process
//! has open. And every device fd, in any process, tells which process holds the device.

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, generated::bpf_get_smp_processor_id};
use vfio_trace_common::{
    capture::moment,
    layout::{Field, Layout},
    role::Role,
    wire::{COMM_LEN, Header, Holder, Kind},
};

use crate::{
    capture, core_fn, device,
    emit::{Record, emit_as},
    gate::Probe,
    inflight::Call,
    maps::{SEARCH, WATCHED},
    read,
};

/// Offset in `struct bpf_iter__task_file` (kernel/bpf/task_iter.c): meta, task, fd, file, each 8 bytes wide.
const TASK: u64 = 8;
const FD: u64 = 16;
const FILE: u64 = 24;

/// Visits one open file. Runs once per open file of every process, and once more at the end without a file.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
pub extern "C" fn inventory(ctx: *mut core::ffi::c_void) -> u32 {
    let _: Option<()> = visit(ctx as u64);
    0
}

/// Visits one open file to make a capture of its device: the capture whose index user space has set.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
pub extern "C" fn copies(ctx: *mut core::ffi::c_void) -> u32 {
    let _: Option<()> = visit_for_copy(ctx as u64);
    0
}

#[inline(always)]
fn visit_for_copy(ctx: u64) -> Option<()> {
    let task: u64 = read::kernel(ctx + TASK)?;
    let file: u64 = read::kernel(ctx + FILE)?;
    if task == 0 || file == 0 {
        return None;
    }
    let layout = read::layout()?;
    let tgid: u32 = read::member(layout, task, Field::TaskTgid)?;
    let fd: u32 = read::kernel(ctx + FD)?;
    if tgid != (bpf_get_current_pid_tgid() >> 32) as u32 {
        return None;
    }
    WATCHED.get_ptr(fd)?;
    let device = sysfs_device(layout, file)?;
    let call = Call { device, ..Call::now() };
    let driver = device::known(device)?.set_state;
    capture::one(Probe::NONE, moment::SEEN, &call, driver, SEARCH.get(0)?.capture)
}

#[inline(always)]
fn visit(ctx: u64) -> Option<()> {
    // Read as memory, not as typed pointers: the verifier forbids offsets from a map on those.
    let task: u64 = read::kernel(ctx + TASK)?;
    let file: u64 = read::kernel(ctx + FILE)?;
    if task == 0 || file == 0 {
        return None;
    }
    let layout = read::layout()?;
    let search = SEARCH.get(0)?;
    let tgid: u32 = read::member(layout, task, Field::TaskTgid)?;
    let probe = Probe::NONE;
    let fd: u32 = read::kernel(ctx + FD)?;
    // The iterator runs within a read() of the process that wants the inventory.
    if tgid == (bpf_get_current_pid_tgid() >> 32) as u32 {
        WATCHED.get_ptr(fd)?;
        let device = sysfs_device(layout, file)?;
        // A device that is being unregistered has had its last description.
        if device::known(device).is_some_and(|known| known.leaving != 0) {
            return None;
        }
        // So has one that is gone: its folder is still open here, and leads to memory that may belong to anything. If
        // another device is registered at its address, it is described then.
        if device::is_gone(device) {
            return None;
        }
        // Also if it is known: a second inventory asks for the present state.
        device::describe(probe, Role::Inventory, &Call { device, ..Call::now() });
        return Some(());
    }
    let f_op = read::pointer(layout, file, Field::FileOp);
    let ioctl = read::pointer(layout, f_op, Field::FopIoctl);
    if ioctl == 0 || ioctl != search.device_ioctl {
        return None;
    }
    let call = Call { device: core_fn::device_of(file), ..Call::now() };
    // Its description must come first.
    device::seen(probe, Role::Inventory, &call);
    let header = Header {
        len: size_of::<Record<Holder>>() as u16,
        kind: Kind::Holder as u16,
        probe: probe.index(),
        // SAFETY: takes nothing, touches nothing.
        cpu: unsafe { bpf_get_smp_processor_id() } as u16,
        tgid,
        tid: read::member(layout, task, Field::TaskPid).unwrap_or(tgid),
        start_ns: call.start_ns,
        end_ns: call.start_ns,
        device: call.device,
        file: 0,
        comm: read::member(layout, task, Field::TaskComm).unwrap_or([0; COMM_LEN]),
    };
    emit_as(probe, header, Holder { fd, reserved: 0 });
    Some(())
}

/// Returns the device of a folder `/sys/class/vfio-dev/vfioN`: its kobject is `vfio_device.device.kobj`.
#[inline(always)]
fn sysfs_device(layout: &Layout, file: u64) -> Option<u64> {
    let search = layout.get(Field::DeviceDevice)? + layout.get(Field::DevKobj)?;
    let inode: u64 = read::member(layout, file, Field::FileInode)?;
    let node: u64 = read::member(layout, inode, Field::InodePrivate)?;
    let kobject: u64 = read::member(layout, node, Field::KernfsPriv)?;
    kobject.checked_sub(u64::from(search))
}
