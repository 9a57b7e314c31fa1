//! Which devices there are: they come and go, and there is room for so many.

use std::{collections::BTreeSet, sync::Arc};

use vfio_trace_common::wire;

use super::{HostState, device::TrackedDevice};
use crate::event::text;

/// Devices that are gone and whose events are kept, in case that they come again.
const KEPT_GONE: usize = 64;

/// Devices that there was no room for and that are counted: there are so many only if names are made up.
pub(super) const MOST_FORGOTTEN: usize = 1 << 16;

impl HostState {
    /// Tells which devices exist. Without it, records alone say that.
    pub fn set_existing(&mut self, names: &BTreeSet<String>, now_ns: u64) {
        for name in names {
            if self.device(name, now_ns).is_some_and(|device| !device.present) {
                self.is_now(name, true, now_ns);
            }
        }
        let mut gone = Vec::new();
        for (name, device) in self.devices.iter_mut().filter(|(name, _)| !names.contains(&***name)) {
            // Whoever had it open has let go of it: what comes next by this name is a new one.
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

    /// Returns when something was heard of a device last, CLOCK_MONOTONIC; `None`: there is no such device.
    pub fn device_changed_ns(&self, name: &str) -> Option<u64> {
        self.devices.get(name).map(|device| device.changed_ns)
    }

    /// Returns when a device came or went last, CLOCK_MONOTONIC.
    pub const fn changed_ns(&self) -> u64 {
        self.changed_ns
    }

    /// Returns a device's number in the order of first sight: of two that have the same name one after the other, because the
    /// first one was forgotten, each has another. `None`: there is no such device.
    pub fn device_number(&self, name: &str) -> Option<u64> {
        self.devices.get(name).map(|device| device.number)
    }

    /// Lists the names of all devices, also of those that are gone, with their numbers.
    pub fn device_names(&self) -> impl Iterator<Item = (&Arc<str>, u64)> {
        self.devices.iter().map(|(name, device)| (name, device.number))
    }

    /// Counts the devices that were seen for the first time so far: without a change of it there is no new one.
    pub const fn devices_first_seen(&self) -> u64 {
        self.first_seen
    }

    /// Counts the devices whose names are not known.
    pub fn unnamed_devices(&self) -> usize {
        self.unnamed.len()
    }

    /// Counts what was forgotten because there was more of it at a time than is kept.
    pub fn forgotten(&self) -> u64 {
        self.pipeline.forgotten_with(self.forgotten.len() as u64)
    }

    /// Before 6.6 a device stays in sysfs while those who have it open let go of it, and then another look finds it
    /// there; that does not make it a new one.
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

    /// Returns what there is of a device; made if need be, and if there is room for it.
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

    /// Notes that there was no room for a device, once for each.
    pub(super) fn leave_out(&mut self, name: &str, nr: u32) {
        if self.forgotten.len() < MOST_FORGOTTEN {
            self.forgotten.insert((name.into(), nr));
        }
    }

    /// Forgets those that went first. Devices that come under a new name each time must not fill the memory.
    fn forget(&mut self) {
        while self.gone.len() > KEPT_GONE
            && let Some((_, name)) = self.gone.pop_first()
            && let Some(device) = self.devices.remove(&name)
        {
            self.timelines.remove(&name, device.changed_ns);
        }
    }
}
