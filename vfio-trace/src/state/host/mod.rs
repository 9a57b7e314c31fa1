//! The present state of all devices of a host, from records. Pure: time and the names in sysfs come from the caller, so
//! the records may also come from a recording.

mod device;
mod presence;
mod store;
mod timeline;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use vfio_trace_common::{
    role::Role,
    wire::{self, Header, device_known},
};

pub use self::{
    device::DeviceStatus,
    timeline::{TIMELINE_SCHEMA, TimelineLosses, TraceOrigin, timeline_schema},
};
use self::{device::TrackedDevice, store::TimelineStore};
use super::{DeviceReport, MOST_DEVICES, TraceModel};
use crate::{
    driver::PluginDispatcher,
    event::{
        DecodeError, DriverModules, EventData, MigState, ProbeReport, RecordBody, VfioEvent, WallClock,
        WireRecord, text,
    },
    pipeline::Pipeline,
};

/// Number of devices without a name that are told apart; further ones make no change.
const MOST_UNNAMED: usize = 1 << 16;

/// State of all devices of one host at a moment: their presence, their states, their openers, their last events, and
/// the losses that may have hidden some of these.
///
/// It is made with the host's [`TraceOrigin`] by the user of the host's records: `mount` of this machine, which also
/// passes on, from time to time, the names in sysfs and the losses; `list`, `show` and `mount` with `--from`, which
/// push a recording's records up to the requested moment. Times are CLOCK_MONOTONIC of the records, in ns. It has no
/// paths and no files: `mount` makes those from its answers.
#[derive(Debug)]
pub struct HostState {
    pipeline: Pipeline,
    model: TraceModel,
    timelines: TimelineStore,
    devices: BTreeMap<Arc<str>, TrackedDevice>,
    /// Number of devices that were seen for the first time so far.
    first_seen: u64,
    /// Limit of the number of devices. Events of further ones are dropped.
    most_devices: usize,
    /// Devices beyond the limits of this or of the model, by name or else by number; no more than
    /// [`presence::MOST_FORGOTTEN`].
    forgotten: BTreeSet<(Arc<str>, u32)>,
    /// Devices that are gone, in the order in which they went.
    gone: BTreeSet<(u64, Arc<str>)>,
    /// Numbers of devices whose names never became known.
    unnamed: BTreeSet<u32>,
    /// Time at which a device came or went last.
    changed_ns: u64,
    stale: bool,
}

impl HostState {
    /// Makes a host that has seen nothing. `keep`: events per device; `now_ns`: CLOCK_MONOTONIC, as of the records.
    pub fn new(origin: TraceOrigin, keep: usize, now_ns: u64) -> Self {
        Self {
            pipeline: Pipeline::new(false),
            model: TraceModel::new(),
            timelines: TimelineStore::new(origin, keep, now_ns),
            devices: BTreeMap::new(),
            first_seen: 0,
            most_devices: MOST_DEVICES,
            forgotten: BTreeSet::new(),
            gone: BTreeSet::new(),
            unnamed: BTreeSet::new(),
            changed_ns: now_ns,
            stale: false,
        }
    }

    /// Sets lower limits for devices, and for the events of all of them.
    #[cfg(test)]
    pub(crate) const fn limited(mut self, devices: usize, events: usize) -> Self {
        self.most_devices = devices;
        self.timelines.limit(events);
        self
    }

    /// Sets a model with limits of its own.
    #[cfg(test)]
    pub(crate) fn with_model(mut self, model: TraceModel) -> Self {
        self.model = model;
        self
    }

    /// Takes in the next record as [`WireRecord::decode`] gives it. One that cannot be decoded is counted.
    pub fn push(&mut self, record: Result<&WireRecord, DecodeError>) {
        let found = record.ok().and_then(found_by_inventory);
        if found.is_some_and(|(_, body)| self.is_leaving(body)) {
            return;
        }
        let mut events = Vec::new();
        let Ok(()) = self.pipeline.push(record, &mut events);
        for event in events {
            self.apply(event);
        }
        if let Some((header, body)) = found {
            self.read(body, header.end_ns);
        }
    }

    /// Advances the clock when there are no records: see [`Pipeline::tick`].
    pub fn tick(&mut self, now_ns: u64) {
        let mut events = Vec::new();
        let Ok(()) = self.pipeline.tick(now_ns, &mut events);
        for event in events {
            self.apply(event);
        }
    }

    /// Sets another wall clock, which knows of steps.
    pub fn set_clock(&mut self, clock: &WallClock) {
        self.timelines.origin.clock = clock.clone();
    }

    /// Sets the probes' losses so far; `None`: not known. Records that could not be decoded are counted here.
    pub fn set_losses(&mut self, probes: Option<&[ProbeReport]>) {
        self.timelines.losses = TimelineLosses::new(probes, self.pipeline.undecoded());
    }

    /// Counts the records that could not be decoded.
    pub const fn undecoded(&self) -> u64 {
        self.pipeline.undecoded()
    }

    /// Returns true if an event since the last call needs another look at the kernel's memory, or at sysfs, to know the
    /// devices' present condition.
    pub fn take_stale(&mut self) -> bool {
        std::mem::take(&mut self.stale)
    }

    fn apply(&mut self, event: VfioEvent) {
        let left_out = self.model.device_events_left_out();
        self.model.apply(&event);
        if let Some(device) = &event.device
            && self.model.device_events_left_out() > left_out
        {
            match &device.name {
                Some(name) => self.leave_out(name, 0),
                None => self.leave_out("", device.nr),
            }
        }
        if let EventData::ProbeGap(gap) = &event.data {
            self.timelines.gaps.push(gap.clone());
        }
        let Some(name) = event.device_name() else {
            let nr = event.device.as_ref().map(|device| device.nr);
            self.unnamed.extend(nr.filter(|_| self.unnamed.len() < MOST_UNNAMED));
            return;
        };
        self.stale |= event.data.state_effect().certainty() == Some(false);
        let (name, end_ns) = (name.to_owned(), event.end_ns);
        let Some(device) = self.device(&name, end_ns) else { return };
        let changed = device.apply(&event);
        self.timelines.push(&name, event);
        if let Some(present) = changed {
            self.is_now(&name, present, end_ns);
        }
    }

    /// Takes in a device's state that the inventory has read from the driver's memory: `show` would print the same.
    fn read(&mut self, body: &wire::Device, now_ns: u64) {
        let known = |bit: u32| body.known & bit != 0;
        let name = text(&body.name);
        if !known(device_known::NAME) || name.is_empty() {
            return;
        }
        let before = self.report(&name).state;
        let reading = known(device_known::STATE).then_some(MigState(body.state));
        let open_count = known(device_known::OPEN_COUNT).then_some(body.open_count);
        if let Some(device) = self.device(&name, now_ns) {
            device.read(reading, open_count, before, now_ns);
        }
    }

    /// Returns a device as views see it.
    pub fn report(&self, name: &str) -> DeviceReport {
        let unseen = || DeviceReport { device: Some(name.to_owned()), ..DeviceReport::default() };
        let mut report = self.model.device_report(name).unwrap_or_else(unseen);
        if let Some(device) = self.devices.get(name) {
            device.correct(&mut report);
        }
        report
    }

    /// Lists all devices, also those that are gone, by name.
    pub fn devices(&self) -> impl Iterator<Item = (&str, DeviceStatus)> {
        self.devices.iter().map(|(name, device)| {
            let &TrackedDevice { present, open_count, changed_ns, .. } = device;
            (&**name, DeviceStatus { report: self.report(name), present, open_count, changed_ns })
        })
    }

    /// Returns drivers' plug-ins with their knowledge of devices.
    pub const fn drivers(&self) -> &PluginDispatcher {
        self.pipeline.drivers()
    }

    /// Returns the wall time of a moment.
    pub fn wall(&self, mono_ns: u64) -> std::time::SystemTime {
        self.timelines.origin.clock.wall(mono_ns).into()
    }

    /// Returns the last events of a device as a document, which docs/mount.md describes; `None`: there is no such
    /// device.
    pub fn timeline(&mut self, name: &str) -> Option<serde_json::Result<Arc<[u8]>>> {
        let driver = self.model.driver(name);
        // The drivers matter only if some functions were not probed.
        let drivers =
            if self.timelines.gaps.is_empty() { DriverModules::default() } else { self.model.drivers() };
        self.timelines.document(name, driver, &drivers)
    }

    /// Returns the size of that document in bytes when it was made last; 0 before.
    pub fn timeline_bytes(&self, name: &str) -> Option<u64> {
        self.timelines.size(name)
    }
}

/// Returns the header and device of a record that the inventory made.
fn found_by_inventory(record: &WireRecord) -> Option<(&Header, &wire::Device)> {
    match &record.body {
        RecordBody::Device(body) if body.seen_by == Role::Inventory as u32 => Some((&record.header, body)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
