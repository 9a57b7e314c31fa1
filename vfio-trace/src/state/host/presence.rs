//! Presence of devices: they come and go, and their number is limited.

use std::{collections::BTreeSet, sync::Arc};

use vfio_trace_common::wire;

use super::{HostState, device::TrackedDevice};
use crate::event::text;

/// Number of devices that are gone and whose events are kept, in case that they come again.
const KEPT_GONE: usize = 64;

/// Number of devices beyond the limits that are counted: there are so many only if names are made up.
pub(super) const MOST_FORGOTTEN: usize = 1 << 16;

impl HostState {
    /// Sets the names of the devices that exist. Without it, records alone show that.
    pub fn set_existing(&mut self, names: &BTreeSet<String>, now_ns: u64) {
        for name in names {
            if self.device(name, now_ns).is_some_and(|device| !device.present) {
                self.is_now(name, true, now_ns);
            }
        }
        let mut gone = Vec::new();
        for (name, device) in self.devices.iter_mut().filter(|(name, _)| !names.contains(&***name)) {
            // Its openers have let go of it: the next device of this name is a new one.
            device.leaving = false;
            gone.extend(device.present.then(|| Arc::clone(name)));
        }
        for name in gone {
            self.is_now(&name, false, now_ns);
        }
    }

    /// Returns true for a device that is bound to a driver of vfio.
    pub fn is_present(&self, name: &str) -> bool {
        self.devices.get(name).is_some_and(|device| device.present)
    }

    /// Returns the time of a device's last event, CLOCK_MONOTONIC; `None`: there is no such device.
    pub fn device_changed_ns(&self, name: &str) -> Option<u64> {
        self.devices.get(name).map(|device| device.changed_ns)
    }

    /// Returns the time at which a device came or went last, CLOCK_MONOTONIC.
    pub const fn changed_ns(&self) -> u64 {
        self.changed_ns
    }

    /// Returns a device's number in the order of first sight. If a device of the same name comes after the first one
    /// was forgotten, it gets another number. `None`: there is no such device.
    pub fn device_number(&self, name: &str) -> Option<u64> {
        self.devices.get(name).map(|device| device.number)
    }

    /// Lists the names of all devices, also of those that are gone, with their numbers.
    pub fn device_names(&self) -> impl Iterator<Item = (&Arc<str>, u64)> {
        self.devices.iter().map(|(name, device)| (name, device.number))
    }

    /// Counts the devices that were seen for the first time so far: if it has not changed, there is no new one.
    pub const fn devices_first_seen(&self) -> u64 {
        self.first_seen
    }

    /// Counts the devices whose names are not known.
    pub fn unnamed_devices(&self) -> usize {
        self.unnamed.len()
    }

    /// Counts devices, sessions, threads and notes that were forgotten because of limits.
    pub fn forgotten(&self) -> u64 {
        self.pipeline.forgotten_with(self.forgotten.len() as u64)
    }

    /// Returns true if the device is still leaving. Before 6.6 a device stays in sysfs while its openers let go of it,
    /// and then another look finds it there; that does not make it a new one.
    pub(super) fn is_leaving(&self, body: &wire::Device) -> bool {
        self.devices.get(text(&body.name).as_str()).is_some_and(|device| device.leaving)
    }

    /// Notes that a device has come or gone.
    pub(super) fn is_now(&mut self, name: &str, present: bool, now_ns: u64) {
        let Some((name, device)) = self.devices.get_key_value(name) else { return };
        let name = Arc::clone(name);
        self.gone.remove(&(device.gone_ns, Arc::clone(&name)));
        if !present {
            self.gone.insert((now_ns, Arc::clone(&name)));
        }
        if let Some(device) = self.devices.get_mut(&name) {
            device.set_present(present, now_ns);
        }
        self.changed_ns = self.changed_ns.max(now_ns);
        self.forget();
    }

    /// Returns the facts about a device; they are made if there are none, unless there are too many devices.
    pub(super) fn device(&mut self, name: &str, now_ns: u64) -> Option<&mut TrackedDevice> {
        if !self.devices.contains_key(name) {
            if self.devices.len() >= self.most_devices {
                self.leave_out(name, 0);
                return None;
            }
            self.changed_ns = self.changed_ns.max(now_ns);
            let name: Arc<str> = name.into();
            self.timelines.add(Arc::clone(&name));
            self.devices.insert(name, TrackedDevice::new(self.first_seen, now_ns));
            self.first_seen += 1;
        }
        self.devices.get_mut(name)
    }

    /// Counts a device beyond the limits, once for each.
    pub(super) fn leave_out(&mut self, name: &str, nr: u32) {
        if self.forgotten.len() < MOST_FORGOTTEN {
            self.forgotten.insert((name.into(), nr));
        }
    }

    /// Forgets the devices that went first. Devices that come under a new name each time must not fill the memory.
    fn forget(&mut self) {
        while self.gone.len() > KEPT_GONE
            && let Some((_, name)) = self.gone.pop_first()
            && let Some(device) = self.devices.remove(&name)
        {
            self.timelines.remove(&name, device.changed_ns);
        }
    }
}
