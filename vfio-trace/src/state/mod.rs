//! Sums of events, per device. Pure: no clock, no I/O; the same events give the same answer on any machine.

mod account;
mod debugfs;
mod device;
mod files;
mod host;
mod path;
mod track;

use std::{collections::BTreeMap, convert::Infallible};

use crate::{
    event::{DeviceRef, DriverModules, VfioEvent},
    pipeline::EventConsumer,
};

pub use self::{
    account::{ArcCounts, DeviceReport, HolderReport, IoReport, StateTime, TraceReport},
    files::{ContentError, DeviceFile, ViewContext, files},
    host::{DeviceStatus, HostState, TIMELINE_SCHEMA, TimelineLosses, TraceOrigin, timeline_schema},
    path::{PathEntry, StatePath},
};
use device::DeviceModel;

/// Number of devices that are told apart, far more than hosts have; events of others are left out, and counted.
pub const MOST_DEVICES: usize = 1 << 16;

/// Accumulates the events of a run, per device. `tail`, `replay`, `list`, snapshots and [`HostState`] give it every
/// event in order, and take reports from it at any time.
#[derive(Clone, Debug)]
pub struct TraceModel {
    /// Devices in order of first sight.
    devices: Vec<DeviceModel>,
    /// Indexes of devices by name; of those without a name by number.
    by_name: BTreeMap<std::sync::Arc<str>, usize>,
    by_nr: BTreeMap<u32, usize>,
    first_ns: Option<u64>,
    last_ns: u64,
    most_devices: usize,
    device_events_left_out: u64,
}

impl Default for TraceModel {
    fn default() -> Self {
        Self {
            devices: Vec::new(),
            by_name: BTreeMap::new(),
            by_nr: BTreeMap::new(),
            first_ns: None,
            last_ns: 0,
            most_devices: MOST_DEVICES,
            device_events_left_out: 0,
        }
    }
}

impl EventConsumer for TraceModel {
    type Error = Infallible;

    fn event(&mut self, event: VfioEvent) -> Result<(), Infallible> {
        self.apply(&event);
        Ok(())
    }
}

impl TraceModel {
    /// Makes a model that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets another limit of devices.
    #[must_use]
    pub const fn with_room_for(mut self, devices: usize) -> Self {
        self.most_devices = devices;
        self
    }

    /// Takes in the next event. Events without any device are left out.
    pub fn apply(&mut self, event: &VfioEvent) {
        self.first_ns = Some(self.first_ns.map_or(event.start_ns, |first| first.min(event.start_ns)));
        self.last_ns = self.last_ns.max(event.end_ns);
        if let Some(device) = &event.device {
            match self.device(device) {
                Some(device) => device.apply(event),
                None => self.device_events_left_out += 1,
            }
        }
    }

    /// Returns the report so far. `until_ns` (CLOCK_MONOTONIC): time up to which the present states count, of devices that
    /// are not gone; without it, up to the last event.
    pub fn report(&self, until_ns: Option<u64>) -> TraceReport {
        let until_ns = until_ns.unwrap_or(self.last_ns).max(self.last_ns);
        TraceReport {
            duration_ns: until_ns.saturating_sub(self.first_ns.unwrap_or(until_ns)),
            devices: self.devices.iter().map(|device| device.report(until_ns)).collect(),
            device_events_left_out: self.device_events_left_out,
        }
    }

    /// Returns the report of one device up to the last event.
    pub fn device_report(&self, name: &str) -> Option<DeviceReport> {
        let at = *self.by_name.get(name)?;
        Some(self.devices.get(at)?.report(self.last_ns))
    }

    /// Returns the driver of one device, if it is known.
    pub fn driver(&self, name: &str) -> Option<&str> {
        self.devices.get(*self.by_name.get(name)?)?.driver()
    }

    /// Returns the number of events so far of devices for which there was no room.
    pub const fn device_events_left_out(&self) -> u64 {
        self.device_events_left_out
    }

    /// Returns the drivers of all devices.
    pub fn drivers(&self) -> DriverModules {
        self.devices.iter().filter_map(DeviceModel::driver).collect()
    }

    /// Returns a device by its name, which outlives the kernel's structure; one without a name by its number. `None`:
    /// there is no room for another one.
    fn device(&mut self, device: &DeviceRef) -> Option<&mut DeviceModel> {
        let known = match &device.name {
            Some(name) => self.by_name.get(name),
            None => self.by_nr.get(&device.nr),
        };
        if known.is_none() && self.devices.len() >= self.most_devices {
            return None;
        }
        let at = known.copied().unwrap_or_else(|| {
            let at = self.devices.len();
            match &device.name {
                Some(name) => self.by_name.insert(std::sync::Arc::clone(name), at),
                None => self.by_nr.insert(device.nr, at),
            };
            self.devices.push(DeviceModel::new(device));
            at
        });
        self.devices.get_mut(at)
    }
}

#[cfg(test)]
mod tests;
