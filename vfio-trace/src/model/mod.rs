//! What events add up to, per device. Pure: no clock, no I/O; the same events give the same answer on any machine.

mod device;
pub mod document;
mod history;
mod migrations;
mod path;
mod report;

use crate::event::{DeviceRef, Event};

pub use self::history::History;
pub use self::{
    migrations::{Options, document},
    path::{Path, Step},
    report::{ArcCounts, DeviceReport, HolderReport, IoReport, Report, StateTime},
};
use device::DeviceModel;

/// Accumulates events.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// In order of first sight.
    devices: Vec<DeviceModel>,
    first_ns: Option<u64>,
    last_ns: u64,
}

impl Model {
    /// A model that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in the next event. Events without any device are left out.
    pub fn apply(&mut self, event: &Event) {
        self.first_ns = Some(self.first_ns.map_or(event.start_ns, |first| first.min(event.start_ns)));
        self.last_ns = self.last_ns.max(event.end_ns);
        if let Some(device) = &event.device {
            self.device(device).apply(event);
        }
    }

    /// The account so far. `until_ns` (CLOCK_MONOTONIC): up to when the present states count; without it, up to the
    /// last event.
    pub fn report(&self, until_ns: Option<u64>) -> Report {
        let until_ns = until_ns.unwrap_or(self.last_ns).max(self.last_ns);
        Report {
            duration_ns: until_ns.saturating_sub(self.first_ns.unwrap_or(until_ns)),
            devices: self.devices.iter().map(|device| device.report(until_ns)).collect(),
        }
    }

    /// The account of one device up to the last event.
    pub fn device_report(&self, name: &str) -> Option<DeviceReport> {
        let device = self.devices.iter().find(|device| device.name.as_deref() == Some(name))?;
        Some(device.report(self.last_ns))
    }

    /// A device by its name, which outlives the kernel's structure; one without a name by its number.
    fn device(&mut self, device: &DeviceRef) -> &mut DeviceModel {
        let known = self.devices.iter().position(|model| match &device.name {
            Some(name) => model.name.as_ref() == Some(name),
            None => model.name.is_none() && model.nr == device.nr,
        });
        let at = known.unwrap_or_else(|| {
            self.devices.push(DeviceModel::new(device));
            self.devices.len() - 1
        });
        &mut self.devices[at]
    }
}

#[cfg(test)]
mod tests;
