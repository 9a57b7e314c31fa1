//! Devices: describes each `struct vfio_device` to user space once, and again whenever it is opened; remembers devices
//! and their data fds.

use vfio_trace_common::{
    layout::{DRIVER_FILES, Field},
    role::Role,
    wire::{DRIVER_LEN, Device, Kind, NAME_LEN, device_known},
};

use crate::{
    emit::{Record, header},
    gate::Probe,
    inflight::Call,
    maps::{DEVICES, DRIVERS, EVENTS, FILES, FileOwner, GONE, KnownDevice, PARENTS},
    read,
};

/// Describes the device of `call` unless user space has been told of it. A device that is gone is not described again:
/// its memory may belong to anything.
#[inline(always)]
pub fn seen(probe: Probe, role: Role, call: &Call) {
    if call.device == 0 {
        return;
    }
    let told = match known(call.device) {
        Some(known) => known.untold == 0,
        None => is_gone(call.device),
    };
    if !told {
        describe(probe, role, call);
    }
}

/// Returns true if the device has gone and no other one was registered at its address since.
#[inline(always)]
pub fn is_gone(device: u64) -> bool {
    GONE.get_ptr(device).is_some()
}

/// Looks up a device in the `DEVICES` map.
#[inline(always)]
pub fn known(device: u64) -> Option<KnownDevice> {
    // SAFETY: the entry may change while it is copied. If it is removed at that moment, it may already be another
    // device's. It has only numbers, and any number is valid: at worst this one call is attributed to a wrong device.
    unsafe { DEVICES.get(device) }.copied()
}

/// Returns the device that a data fd belongs to; 0 if that device is gone and its address belongs to another one, or to
/// none that is known. Returns `None` for a file that set_state did not return while tracing.
#[inline(always)]
pub fn of_file(file: u64) -> Option<u64> {
    // SAFETY: the call that uses the file keeps it from being released, which is when the entry is removed. It has only
    // numbers, as above.
    let owner = unsafe { FILES.get(file) }.copied()?;
    let same = match known(owner.device) {
        // 0: the file was seen before its device could be remembered.
        Some(known) => known.born_ns == owner.born_ns || owner.born_ns == 0,
        None => is_gone(owner.device),
    };
    Some(if same { owner.device } else { 0 })
}

/// Remembers a device's data fd.
#[inline(always)]
pub fn keep_file(probe: Probe, file: u64, device: u64) {
    let born_ns = known(device).map_or(0, |known| known.born_ns);
    if FILES.insert(file, FileOwner { device, born_ns }, 0).is_err() {
        // Its reads and writes have no device; user space says so.
        probe.no_room();
    }
}

/// Marks the device as leaving: vfio_unregister_group_dev() has begun. That it is not open says nothing: a process that
/// has opened `/dev/vfio/devices/vfioN` can still bind the device, and open it that way. vfio waits for all such
/// processes, see [`forget`].
#[inline(always)]
pub fn leaves(probe: Probe, device: u64) {
    let known = known(device).unwrap_or(KnownDevice { set_state: 0, born_ns: 0, leaving: 0, untold: 0 });
    if DEVICES.insert(device, KnownDevice { leaving: 1, ..known }, 0).is_err() {
        probe.no_room();
    }
}

/// Forgets the device: vfio has waited until nothing uses it, and its memory is about to be freed.
#[inline(always)]
pub fn forget(probe: Probe, device: u64) {
    let _: Result<(), i32> = DEVICES.remove(device);
    if GONE.insert(device, 1, 0).is_err() {
        probe.no_room();
    }
    if let Some(layout) = read::layout() {
        let _: Result<(), i32> = PARENTS.remove(read::pointer(layout, device, Field::DeviceDev));
    }
}

/// Remembers the device of `call` under its address, and returns the new entry. `told`: user space has been told of it.
#[inline(always)]
fn remember(probe: Probe, role: Role, call: &Call, set_state: u64, told: bool) -> KnownDevice {
    let device = call.device;
    // A device that is registered is a new one, unless it was seen since that call began: udev and others open it as
    // soon as they can, which is before vfio_register_group_dev() returns.
    let registers = role as u32 == Role::Register as u32;
    let same = known(device).filter(|known| !registers || known.born_ns >= call.start_ns);
    let mut now = KnownDevice { set_state, born_ns: call.start_ns, leaving: 0, untold: u32::from(!told) };
    if let Some(same) = same {
        now.born_ns = same.born_ns;
        // An open does not end its leaving.
        now.leaving = same.leaving;
        if !told {
            (now.set_state, now.untold) = (same.set_state, same.untold);
        }
    }
    // A full map only means that the device is described again.
    if DEVICES.insert(device, now, 0).is_err() {
        probe.no_room();
    }
    let _: Result<(), i32> = GONE.remove(device);
    now
}

/// Describes the device of `call`: emits a `Device` record and remembers the device. If the record finds no room, the
/// next call for the device tries again.
#[inline(always)]
pub fn describe(probe: Probe, role: Role, call: &Call) {
    let Some(layout) = read::layout() else { return };
    let Some(mut entry) = EVENTS.reserve::<Record<Device>>(0) else {
        probe.lost();
        remember(probe, role, call, 0, false);
        return;
    };
    let device = call.device;
    // Big for the stack of a BPF program, so it is filled in place.
    // SAFETY: the reserved entry is ours until it is submitted, and every byte of the record is written first.
    let record = unsafe { &mut *entry.as_mut_ptr() };
    record.header = header::<Device>(probe, Kind::Device, call, call.start_ns);
    let body = &mut record.body;
    body.name = [0; NAME_LEN];
    body.driver = [0; DRIVER_LEN];
    body.known = 0;
    body.seen_by = role as u32;

    let dev = read::pointer(layout, device, Field::DeviceDev);
    if read::string(read::pointer(layout, dev, Field::DevKobjName), &mut body.name) {
        body.known |= device_known::NAME;
    }
    let driver = read::pointer(layout, dev, Field::DevDriver);
    if read::string(read::pointer(layout, driver, Field::DriverName), &mut body.driver) {
        body.known |= device_known::DRIVER;
    }
    body.migration_flags = 0;
    if let Some(flags) = read::member::<u32>(layout, device, Field::DeviceMigrationFlags) {
        body.migration_flags = u64::from(flags);
        body.known |= device_known::FLAGS;
    }
    body.mig_ops = 0;
    if let Some(mig_ops) = read::member(layout, device, Field::DeviceMigOps) {
        body.mig_ops = mig_ops;
        body.known |= device_known::MIG_OPS;
    }
    body.log_ops = 0;
    if let Some(log_ops) = read::member(layout, device, Field::DeviceLogOps) {
        body.log_ops = log_ops;
        body.known |= device_known::LOG_OPS;
    }
    body.set_state = read::pointer(layout, body.mig_ops, Field::MigSetState);
    body.get_state = read::pointer(layout, body.mig_ops, Field::MigGetState);
    body.get_data_size = read::pointer(layout, body.mig_ops, Field::MigGetDataSize);
    body.log_start = read::pointer(layout, body.log_ops, Field::LogStart);
    body.log_stop = read::pointer(layout, body.log_ops, Field::LogStop);
    body.log_read_and_clear = read::pointer(layout, body.log_ops, Field::LogReadAndClear);
    let ops = read::pointer(layout, device, Field::DeviceOps);
    body.open_device = read::pointer(layout, ops, Field::OpsOpenDevice);
    body.open_count = 0;
    if let Some(open_count) = read::member(layout, device, Field::DeviceOpenCount) {
        body.open_count = open_count;
        body.known |= device_known::OPEN_COUNT;
    }
    let set_state = body.set_state;
    if remember(probe, role, call, set_state, true).leaving != 0 {
        body.known |= device_known::LEAVING;
    }
    body.state = 0;
    if let Some(state) = private(probe, device, set_state) {
        body.state = state;
        body.known |= device_known::STATE;
    }
    entry.submit(0);
    probe.sent();
    // Without room, PCI resets of the device are not recorded.
    if dev != 0 && PARENTS.insert(dev, device, 0).is_err() {
        probe.no_room();
    }
}

/// Reads the driver's private structure: returns the current state, read without its lock, and remembers the data files
/// that it has open as the device's.
#[inline(always)]
fn private(probe: Probe, device: u64, set_state: u64) -> Option<u32> {
    // SAFETY: user space writes an entry when the driver is loaded and removes it when the driver is gone. If it is
    // removed at this moment, it may already be another driver's. It has only numbers, and any number is valid: the
    // addresses that they lead to are read by helpers that check.
    let driver = unsafe { DRIVERS.get(set_state) }?;
    for index in 0..DRIVER_FILES {
        if index >= driver.files_known as usize {
            break;
        }
        let place = driver.files[index];
        let migration_file: u64 = read::kernel(device.wrapping_add_signed(place.pointer)).unwrap_or(0);
        if migration_file == 0 {
            continue;
        }
        let file: u64 = read::kernel(migration_file + place.file).unwrap_or(0);
        if file != 0 && of_file(file) != Some(device) {
            keep_file(probe, file, device);
        }
    }
    if driver.state_known == 0 {
        return None;
    }
    read::kernel(device.wrapping_add_signed(driver.state))
}
