//! Between assembler and sinks: lets each driver's plug-in name, complete and judge the events of its devices.

use std::collections::{BTreeMap, VecDeque, btree_map::Entry};

use super::{PluginDevices, ViewError, ViewStyle, plugin};
use crate::event::{DriverImage, EventData, VfioEvent};

/// More devices than any host has at once. Beyond it those of which nothing was heard for longest are forgotten: their
/// next images are news, and findings that need an earlier event are not made.
const MAX_DEVICES: usize = 4096;
/// How many devices that are gone are kept, for what still comes of them and for a look at their files.
const MAX_GONE: usize = 64;

/// All devices with a plug-in.
#[derive(Debug, Default)]
pub struct PluginDispatcher {
    /// By driver.
    drivers: BTreeMap<&'static str, Box<dyn PluginDevices>>,
    /// By number; which driver's, and the name.
    devices: BTreeMap<u32, (&'static str, Option<String>)>,
    /// By number: which event of it was the last.
    last: BTreeMap<u32, u64>,
    /// Events so far.
    events: u64,
    /// How many devices were forgotten for want of room.
    forgotten: u64,
    /// Devices that are gone, in that order.
    gone: VecDeque<u32>,
    /// The last image of each device and capture: the same again is no news.
    images: BTreeMap<(u32, u32), (Option<u32>, Vec<u8>)>,
    /// Whether secret members are shown.
    reveal: bool,
}

impl PluginDispatcher {
    /// Knows no device. `reveal`: show what images keep secret otherwise.
    pub fn new(reveal: bool) -> Self {
        Self { reveal, ..Self::default() }
    }

    /// Completes events, adds findings behind those that led to them, and leaves out images that say nothing new.
    pub fn apply(&mut self, events: Vec<VfioEvent>) -> Vec<VfioEvent> {
        let mut out = Vec::with_capacity(events.len());
        for mut event in events {
            let Some((nr, driver)) = self.driver_of(&event) else {
                out.push(event);
                continue;
            };
            // Unchanged or not, the plug-in is told: the moment may matter to it.
            let news = self.is_news(nr, &event.data);
            let Some(devices) = self.drivers.get_mut(driver) else {
                out.push(event);
                continue;
            };
            if let EventData::Image(image) = &mut event.data {
                image.reveal = self.reveal;
            }
            let findings = devices.apply(nr, &mut event);
            if matches!(event.data, EventData::Unregister {}) {
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

    /// A file of a device by its name; of several by this name the last.
    ///
    /// # Errors
    ///
    /// [`NoView`]: nothing is known that could be shown.
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

    /// The device of an event, and its driver if that has a plug-in.
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

    /// How many devices were forgotten for want of room.
    pub const fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// A device that is bound again has another number: what is known of this one is of no more use soon, and that it is
    /// forgotten is no loss.
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
        // One that is there all the time and does nothing; another is bound and unbound.
        let binds = MAX_DEVICES as u32 + 100;
        interpreter.apply(vec![event(0, crate::driver::fixture::open())]);
        for nr in 1..binds {
            interpreter
                .apply(vec![event(nr, crate::driver::fixture::open()), event(nr, EventData::Unregister {})]);
        }
        assert_eq!((interpreter.forgotten(), interpreter.devices.len()), (0, MAX_GONE + 1));
        assert!(interpreter.devices.contains_key(&0) && interpreter.last.len() == MAX_GONE + 1);
    }
}
