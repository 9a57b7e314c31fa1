//! Devices by kernel pointer. Events have names and numbers only: no pointer gets past this table.

use std::{collections::BTreeMap, sync::Arc};

use vfio_trace_common::{
    role::Role,
    wire::{self, device_known},
};

use super::{DeviceRef, DeviceSeen, MigFlags, MigState, record};

/// Most devices that are kept, more than any host has at once. Beyond it those that are gone are forgotten, then those
/// that were met first: such a device gets another number if it is seen again.
const MAX_DEVICES: usize = 16_384;

/// The devices of a run, by the address of their `struct vfio_device`.
#[derive(Debug, Default)]
pub(super) struct DeviceTable {
    bound: BTreeMap<u64, BoundDevice>,
    next_nr: u32,
    /// Number of devices that were forgotten because the table was full.
    forgotten: u64,
}

#[derive(Debug)]
struct BoundDevice {
    device: DeviceRef,
    seen: Option<DeviceSeen>,
    /// True if it was taken from vfio. Events of its openers may still come.
    gone: bool,
}

/// Returns true if a Device record can be of a new device at the address of one that is gone. A device that is being
/// removed can still be opened by a process that has opened `/dev/vfio/devices/vfioN` before, but it cannot be found
/// any more; such a record says so.
pub(crate) const fn may_be_new_device(record: &wire::Device) -> bool {
    record.known & device_known::LEAVING == 0
        && (record.seen_by == Role::Register as u32
            || record.seen_by == Role::Open as u32
            || record.seen_by == Role::Inventory as u32)
}

/// Effect of a Device record on the table.
#[derive(Debug)]
pub(super) struct DeviceBinding {
    /// The device that the pointer stands for from now on.
    pub(super) device: DeviceRef,
    /// The data to report, if the device is new or has changed.
    pub(super) news: Option<DeviceSeen>,
    /// True if the pointer stood for another device until now, which must be gone.
    pub(super) replaced: bool,
}

impl DeviceTable {
    /// Returns the device at this address; `None` for address 0. One that was never named gets a number of its own.
    pub(super) fn get(&mut self, pointer: u64) -> Option<DeviceRef> {
        if pointer == 0 {
            return None;
        }
        self.make_room(pointer);
        let next_nr = &mut self.next_nr;
        let bound = self.bound.entry(pointer).or_insert_with(|| {
            *next_nr = next_nr.saturating_add(1);
            BoundDevice {
                device: DeviceRef { nr: *next_nr, name: None, driver: None },
                seen: None,
                gone: false,
            }
        });
        Some(bound.device.clone())
    }

    /// Returns true if the device can migrate, as far as is known.
    pub(super) fn may_migrate(&self, pointer: u64) -> bool {
        let seen = self.bound.get(&pointer).and_then(|bound| bound.seen.as_ref());
        seen.is_none_or(|seen| seen.migration != Some(false))
    }

    /// Marks the device as removed from vfio. Its address stands for it until a new device is seen there.
    pub(super) fn leave(&mut self, pointer: u64) {
        if let Some(bound) = self.bound.get_mut(&pointer) {
            bound.gone = true;
        }
    }

    /// Takes in a Device record. A device that changes its name, or comes again after it was gone, has been replaced:
    /// kernel memory is used again. Returns `None` for a record that is not to be believed: it was read at the address
    /// of a device that is gone.
    pub(super) fn bind(&mut self, pointer: u64, record: &wire::Device) -> Option<DeviceBinding> {
        let known = |bit: u32| record.known & bit != 0;
        let name =
            known(device_known::NAME).then(|| record::text(&record.name)).filter(|name| !name.is_empty());
        let driver =
            known(device_known::DRIVER).then(|| record::text(&record.driver)).filter(|name| !name.is_empty());
        let seen = DeviceSeen {
            migration: known(device_known::MIG_OPS).then_some(record.mig_ops != 0),
            migration_flags: known(device_known::FLAGS).then_some(MigFlags(record.migration_flags)),
            dirty_tracking: known(device_known::LOG_OPS).then_some(record.log_ops != 0),
            state: known(device_known::STATE).then_some(MigState(record.state)),
            open_count: known(device_known::OPEN_COUNT).then_some(record.open_count),
            seen_by: Role::from_raw(record.seen_by),
        };
        let old = self.bound.get(&pointer).filter(|_| pointer != 0);
        let leaving = known(device_known::LEAVING);
        if old.is_some_and(|old| old.gone) && !may_be_new_device(record) && !leaving {
            return None;
        }
        let same_name =
            old.filter(|old| old.device.name.as_deref() == name.as_deref() && (!old.gone || leaving));
        let replaced = old.is_some_and(|old| old.device.name.is_some() || old.gone) && same_name.is_none();
        let nr = same_name.map_or_else(|| self.next_nr.saturating_add(1), |old| old.device.nr);
        let unchanged = same_name.is_some_and(|old| {
            let DeviceSeen { state, open_count, seen_by, .. } = seen;
            let same = |old: &DeviceSeen| DeviceSeen { state, open_count, seen_by, ..old.clone() } == seen;
            old.device.driver.as_deref() == driver.as_deref() && old.seen.as_ref().is_some_and(same)
        });
        self.next_nr = self.next_nr.max(nr);
        let device = DeviceRef { nr, name: name.map(Arc::from), driver: driver.map(Arc::from) };
        if pointer != 0 {
            self.make_room(pointer);
            self.bound.insert(
                pointer,
                BoundDevice { device: device.clone(), seen: Some(seen.clone()), gone: leaving },
            );
        }
        Some(DeviceBinding { device, news: (!unchanged).then_some(seen), replaced })
    }

    /// Returns the number of devices that were forgotten because the table was full.
    pub(super) const fn forgotten(&self) -> u64 {
        self.forgotten
    }

    fn make_room(&mut self, pointer: u64) {
        if self.bound.len() < MAX_DEVICES || self.bound.contains_key(&pointer) {
            return;
        }
        // Devices that are gone have no further records.
        self.bound.retain(|_, bound| !bound.gone);
        let before = self.bound.len();
        if self.bound.len() > MAX_DEVICES / 2 {
            let mut numbers: Vec<u32> = self.bound.values().map(|bound| bound.device.nr).collect();
            let (_, median, _) = numbers.select_nth_unstable(self.bound.len() / 2);
            let median = *median;
            self.bound.retain(|_, bound| bound.device.nr >= median);
        }
        self.forgotten = self.forgotten.saturating_add((before - self.bound.len()) as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{RecordBody, WireRecord, fixture::RecordScript};

    #[test]
    fn who_opens_a_device_that_is_being_taken_away_brings_no_new_one() {
        let script = RecordScript::new(7).device("0000:01:00.0", "mtty", 1);
        let record = |known: u32| {
            let Some(WireRecord { body: RecordBody::Device(mut body), .. }) = script.clone().records().pop()
            else {
                panic!("no device")
            };
            body.known |= known;
            body
        };
        let mut devices = DeviceTable::default();
        let first = devices.bind(7, &record(0)).unwrap();
        devices.leave(7);
        let again = devices.bind(7, &record(device_known::LEAVING)).unwrap();
        assert!(again.device == first.device && !again.replaced && again.news.is_none(), "{again:?}");
        let next = devices.bind(7, &record(0)).unwrap();
        assert!(next.device.nr != first.device.nr && next.replaced, "it had gone: {next:?}");
    }

    #[test]
    fn devices_that_come_and_go_for_months_take_no_more_room() {
        let mut devices = DeviceTable::default();
        let kept = devices.get(1).unwrap().nr;
        for pointer in 2..100_000u64 {
            devices.get(pointer);
            devices.leave(pointer);
        }
        assert!(devices.bound.len() <= MAX_DEVICES, "{}", devices.bound.len());
        assert_eq!(devices.get(1).unwrap().nr, kept, "one that stays is still the same");
        assert_eq!(devices.forgotten(), 0, "nothing can come of one that is gone");
    }

    #[test]
    fn more_than_there_can_be_are_forgotten_and_counted() {
        let mut devices = DeviceTable::default();
        let told = (1..100_000u64).filter_map(|pointer| devices.get(pointer)).count();
        assert_eq!(told as u64, devices.forgotten() + devices.bound.len() as u64);
        assert!(devices.bound.len() <= MAX_DEVICES);
    }
}
