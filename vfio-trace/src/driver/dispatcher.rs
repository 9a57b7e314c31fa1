//! Stage between assembler and sinks: lets each driver's plug-in name, complete and judge the events of its devices.

use std::collections::{BTreeMap, VecDeque, btree_map::Entry};

use super::{PluginDevices, ViewError, ViewStyle, plugin};
use crate::event::{DriverImage, EventData, VfioEvent};

/// Maximum number of devices, more than any host has at once. Beyond it the devices without an event for the longest
/// time are forgotten: their next images count as new, and findings that need an earlier event are not made.
const MAX_DEVICES: usize = 4096;
/// Maximum number of removed devices that are kept, for their late events and for their files.
const MAX_GONE: usize = 64;

/// State of all devices whose driver has a plug-in.
///
/// The `Pipeline` feeds it all events in order, and reads the files' texts from it.
#[derive(Debug, Default)]
pub struct PluginDispatcher {
    /// State of the plug-ins' devices, by driver.
    drivers: BTreeMap<&'static str, Box<dyn PluginDevices>>,
    /// Driver and name of each device, by its number.
    devices: BTreeMap<u32, (&'static str, Option<String>)>,
    /// Number of the last event of each device (counted by `events`), by the device's number.
    last: BTreeMap<u32, u64>,
    /// Number of events so far.
    events: u64,
    /// Number of devices that were forgotten because there were too many.
    forgotten: u64,
    /// Numbers of the removed devices, in the order of their removal.
    gone: VecDeque<u32>,
    /// Last image (session, bytes) by device and capture. An equal one is not passed on.
    images: BTreeMap<(u32, u32), (Option<u32>, Vec<u8>)>,
    /// True if secret members are shown.
    reveal: bool,
}

impl PluginDispatcher {
    /// Makes a dispatcher without devices. `reveal`: show the members that are secret otherwise.
    pub fn new(reveal: bool) -> Self {
        Self { reveal, ..Self::default() }
    }

    /// Completes events, inserts findings behind the events that led to them, and drops images that have not changed.
    pub fn apply(&mut self, events: Vec<VfioEvent>) -> Vec<VfioEvent> {
        let mut out = Vec::with_capacity(events.len());
        for mut event in events {
            let Some((nr, driver)) = self.driver_of(&event) else {
                out.push(event);
                continue;
            };
            // The plug-in gets unchanged images too: their moment may matter to it.
            let news = self.is_news(nr, &event.data);
            let Some(devices) = self.drivers.get_mut(driver) else {
                out.push(event);
                continue;
            };
            if let EventData::Image(image) = &mut event.data {
                image.reveal = self.reveal;
            }
            let findings = devices.apply(nr, &mut event);
            if matches!(event.data, EventData::Unregister(_)) {
                self.went(nr);
            }
            let findings = findings.into_iter().map(|finding| VfioEvent {
                start_ns: event.end_ns,
                duration_ns: None,
                data: EventData::Finding(finding),
                ..event.clone()
            });
            let findings: Vec<VfioEvent> = findings.collect();
            if news {
                out.push(event);
            }
            out.extend(findings);
        }
        out
    }

    /// Returns the text of a device's file. Of several devices with this name, the one with the highest number counts.
    ///
    /// # Errors
    ///
    /// [`ViewError`]: there is no such file, or nothing that it could show has been seen.
    pub fn view(
        &self,
        device: &str,
        file: &str,
        style: ViewStyle,
        annotate: bool,
    ) -> Result<String, ViewError> {
        let named = |(_, name): &&(&str, Option<String>)| name.as_deref() == Some(device);
        let found = self.devices.iter().rev().find(|(_, known)| named(known));
        let (nr, (driver, _)) = found.ok_or(ViewError::Unknown("nothing of the device was seen"))?;
        let devices = self.drivers.get(driver).ok_or(ViewError::Unknown("nothing of the driver was seen"))?;
        devices.view(*nr, file, style, annotate)
    }

    /// Returns the number of an event's device and its driver; `None` if there is no device or no plug-in.
    fn driver_of(&mut self, event: &VfioEvent) -> Option<(u32, &'static str)> {
        let device = event.device.as_ref()?;
        if self.devices.len() >= MAX_DEVICES && !self.devices.contains_key(&device.nr) {
            self.make_room();
        }
        let entry = match self.devices.entry(device.nr) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let plugin = plugin(device.driver.as_deref()?)?;
                let driver = plugin.wanted().module;
                self.drivers.entry(driver).or_insert_with(|| plugin.devices());
                entry.insert((driver, None))
            },
        };
        if entry.1.is_none() {
            entry.1 = device.name.as_deref().map(str::to_owned);
        }
        self.events += 1;
        self.last.insert(device.nr, self.events);
        Some((device.nr, entry.0))
    }

    /// Returns the number of devices that were forgotten because there were too many.
    pub const fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Notes that a device was removed, and forgets the one that was removed longest ago if too many are kept. It
    /// is not needed any more, and does not count as forgotten: a device that is bound again has another number.
    fn went(&mut self, nr: u32) {
        self.gone.push_back(nr);
        if self.gone.len() > MAX_GONE
            && let Some(nr) = self.gone.pop_front()
        {
            self.last.remove(&nr);
            self.forget(nr);
            self.images.retain(|(of, _), _| *of != nr);
        }
    }

    fn forget(&mut self, nr: u32) {
        if let Some((driver, _)) = self.devices.remove(&nr)
            && let Some(devices) = self.drivers.get_mut(driver)
        {
            devices.forget(nr);
        }
    }

    fn make_room(&mut self) {
        let mut times: Vec<u64> = self.last.values().copied().collect();
        if times.is_empty() {
            return;
        }
        let middle = times.len() / 2;
        let (_, median, _) = times.select_nth_unstable(middle);
        let old: BTreeMap<u32, u64> = self.last.extract_if(.., |_, last| *last < *median).collect();
        for nr in old.keys() {
            self.forget(*nr);
        }
        self.gone.retain(|nr| !old.contains_key(nr));
        self.images.retain(|(nr, _), _| !old.contains_key(nr));
        self.forgotten = self.forgotten.saturating_add(old.len() as u64);
    }

    fn is_news(&mut self, nr: u32, data: &EventData) -> bool {
        let EventData::Image(DriverImage { layout, session, bytes, .. }) = data else { return true };
        let now = (*session, bytes.clone());
        self.images.insert((nr, layout.id), now.clone()) != Some(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{DeviceRef, EventProcess};

    #[test]
    fn devices_that_are_gone_make_room() {
        let mut interpreter = PluginDispatcher::new(false);
        let event = |nr: u32, data| VfioEvent {
            start_ns: 1,
            end_ns: 1,
            duration_ns: None,
            device: Some(DeviceRef {
                nr,
                name: Some("0000:75:00.1".into()),
                driver: Some("hisi_acc_vfio_pci".into()),
            }),
            process: EventProcess::default(),
            data,
        };
        // Device 0 exists all the time and does nothing; another device is bound and unbound again and again.
        let binds = MAX_DEVICES as u32 + 100;
        interpreter.apply(vec![event(0, crate::driver::fixture::open())]);
        for nr in 1..binds {
            interpreter.apply(vec![
                event(nr, crate::driver::fixture::open()),
                event(nr, EventData::Unregister(crate::event::DeviceUnregister {})),
            ]);
        }
        assert_eq!((interpreter.forgotten(), interpreter.devices.len()), (0, MAX_GONE + 1));
        assert!(interpreter.devices.contains_key(&0) && interpreter.last.len() == MAX_GONE + 1);
    }
}
