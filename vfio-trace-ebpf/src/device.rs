//! Tells user space who a `struct vfio_device` is, once, and again whenever it is opened.

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

/// Describes the device of `call` if user space has not heard of it. One that is gone is not described again: its memory
/// may be anybody's.
#[inline(always)]
pub fn seen(probe: Probe, role: Role, call: &Call) {
    if call.device != 0 && DEVICES.get_ptr(call.device).is_none() && !is_gone(call.device) {
        describe(probe, role, call);
    }
}

/// Whether a device has gone, and none was registered at its address since.
#[inline(always)]
pub fn is_gone(device: u64) -> bool {
    GONE.get_ptr(device).is_some()
}

/// What is known of a device.
#[inline(always)]
pub fn known(device: u64) -> Option<KnownDevice> {
    // SAFETY: an entry is replaced as a whole; half of an old one would only be a wrong time.
    unsafe { DEVICES.get(device) }.copied()
}

/// The device that a data fd belongs to, 0 if that is gone and its address stands for another one, or for none that is
/// known. `None` for a file that set_state did not return while we looked.
#[inline(always)]
pub fn of_file(file: u64) -> Option<u64> {
    // SAFETY: written before user space has the file's descriptor, and then only when the file is another one.
    let owner = unsafe { FILES.get(file) }.copied()?;
    let same = match known(owner.device) {
        Some(known) => known.born_ns == owner.born_ns,
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

/// The device is being taken from vfio. Those that have it open may still be heard of.
#[inline(always)]
pub fn leaves(probe: Probe, device: u64, open_count: u32) {
    if open_count == 0 {
        return forget(probe, device);
    }
    let known = known(device).unwrap_or(KnownDevice { set_state: 0, born_ns: 0, leaving: 0 });
    if DEVICES.insert(device, KnownDevice { leaving: 1, ..known }, 0).is_err() {
        probe.no_room();
    }
}

/// The device is gone, and its memory about to be freed.
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

/// Describes the device of `call`. It counts as known only when the record got through: else the next one tries again.
#[inline(always)]
pub fn describe(probe: Probe, role: Role, call: &Call) {
    let Some(layout) = read::layout() else { return };
    let Some(mut entry) = EVENTS.reserve::<Record<Device>>(0) else {
        probe.lost();
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
    // Registered anew, it is another device; so it is if it is opened after it left, which takes a registration that was
    // not seen.
    let registers = role as u32 == Role::Register as u32;
    let same = known(device).filter(|known| known.leaving == 0 && !registers);
    let born_ns = same.map_or(call.start_ns, |known| known.born_ns);
    // A full map only means that the device is described again.
    if DEVICES.insert(device, KnownDevice { set_state, born_ns, leaving: 0 }, 0).is_err() {
        probe.no_room();
    }
    let _: Result<(), i32> = GONE.remove(device);
    body.state = 0;
    if let Some(state) = private(probe, device, set_state) {
        body.state = state;
        body.known |= device_known::STATE;
    }
    entry.submit(0);
    probe.sent();
    // Without room its PCI resets are not told.
    if dev != 0 && PARENTS.insert(dev, device, 0).is_err() {
        probe.no_room();
    }
}

/// What the driver's private structure says: the current state, read without its lock, and the data files it has open,
/// which are remembered as the device's.
#[inline(always)]
fn private(probe: Probe, device: u64, set_state: u64) -> Option<u32> {
    // SAFETY: user space writes an entry once, before the driver's first record.
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
