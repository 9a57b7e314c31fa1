//! The timelines of all devices: their common limit of events, and the rendered ones that are kept.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use super::timeline::{DeviceTimeline, TimelineContext, TimelineGaps, TimelineLosses, TraceOrigin};
use crate::event::{DriverModules, VfioEvent};

/// Limit of the events in all timelines together, unless one of them may have more.
const MOST_EVENTS: usize = 1 << 20;

/// Number of rendered timelines that are kept for programs that read them in pieces: those of thousands of devices
/// would take gigabytes.
const KEPT_RENDERED: usize = 16;

/// The timelines of all devices, by name.
#[derive(Debug)]
pub(super) struct TimelineStore {
    pub(super) origin: TraceOrigin,
    pub(super) losses: TimelineLosses,
    pub(super) gaps: TimelineGaps,
    timelines: BTreeMap<Arc<str>, DeviceTimeline>,
    /// Number of events that each may have.
    keep: usize,
    /// Time from which a timeline that is made now has all events.
    began_ns: u64,
    /// Devices by the number of the oldest event in their timelines.
    oldest: BTreeMap<u64, Arc<str>>,
    /// Number of events in all timelines, and its limit; and the number of the last event.
    kept_events: usize,
    most_events: usize,
    last_event: u64,
    /// Devices whose timelines were rendered last.
    rendered: VecDeque<Arc<str>>,
}

impl TimelineStore {
    /// Makes a store without any timeline. `keep`: events of each; `began_ns`: CLOCK_MONOTONIC, as of the records.
    pub(super) fn new(origin: TraceOrigin, keep: usize, began_ns: u64) -> Self {
        Self {
            origin,
            losses: TimelineLosses::default(),
            gaps: TimelineGaps::default(),
            timelines: BTreeMap::new(),
            keep,
            began_ns,
            oldest: BTreeMap::new(),
            kept_events: 0,
            most_events: MOST_EVENTS.max(keep),
            last_event: 0,
            rendered: VecDeque::new(),
        }
    }

    /// Sets a lower limit of events of all devices.
    #[cfg(test)]
    pub(super) const fn limit(&mut self, events: usize) {
        self.most_events = events;
    }

    /// Begins the timeline of a new device.
    pub(super) fn add(&mut self, name: Arc<str>) {
        self.timelines.insert(name, DeviceTimeline::new(self.keep, self.began_ns));
    }

    /// Drops a device's timeline. `changed_ns`: time of the device's last event. Should it come again, its timeline
    /// does not have its beginning.
    pub(super) fn remove(&mut self, name: &str, changed_ns: u64) {
        let Some(timeline) = self.timelines.remove(name) else { return };
        self.kept_events -= timeline.len();
        if let Some(first) = timeline.first() {
            self.oldest.remove(&first);
        }
        self.began_ns = self.began_ns.max(changed_ns);
    }

    /// Puts an event into its device's timeline. Beyond the limit, the oldest of all goes.
    pub(super) fn push(&mut self, name: &str, event: VfioEvent) {
        self.last_event += 1;
        let number = self.last_event;
        if let Some(more) = self.with_timeline(name, |timeline| timeline.push(event, number)) {
            self.kept_events += usize::from(more);
        }
        while self.kept_events > self.most_events {
            let Some(oldest) = self.oldest.values().next().cloned() else { return };
            self.with_timeline(&oldest, DeviceTimeline::drop_first);
            self.kept_events -= 1;
        }
    }

    /// Changes a device's timeline, and notes its oldest event afterwards.
    fn with_timeline<T>(&mut self, name: &str, change: impl FnOnce(&mut DeviceTimeline) -> T) -> Option<T> {
        let timeline = self.timelines.get_mut(name)?;
        let before = timeline.first();
        let done = change(timeline);
        let first = timeline.first();
        if before != first {
            let known = before.and_then(|before| self.oldest.remove(&before));
            if let Some(first) = first {
                self.oldest.insert(first, known.unwrap_or_else(|| name.into()));
            }
        }
        Some(done)
    }

    /// Returns the size in bytes of a device's document when it was made last; 0 before, `None` without a timeline.
    pub(super) fn size(&self, name: &str) -> Option<u64> {
        self.timelines.get(name).map(DeviceTimeline::size)
    }

    /// Renders a device's document, or returns the last one if nothing has changed since; `None` without a timeline.
    pub(super) fn document(
        &mut self,
        name: &str,
        driver: Option<&str>,
        drivers: &DriverModules,
    ) -> Option<serde_json::Result<Arc<[u8]>>> {
        self.keep_rendered(name);
        let context = TimelineContext {
            origin: &self.origin,
            losses: self.losses,
            gaps: &self.gaps,
            drivers,
            device: name,
            driver,
        };
        Some(self.timelines.get_mut(name)?.document(&context))
    }

    /// Makes room for one more rendered timeline.
    fn keep_rendered(&mut self, name: &str) {
        self.rendered.retain(|other| **other != *name);
        self.rendered.push_back(name.into());
        while self.rendered.len() > KEPT_RENDERED {
            let oldest = self.rendered.pop_front().and_then(|oldest| self.timelines.get_mut(&oldest));
            if let Some(oldest) = oldest {
                oldest.let_go();
            }
        }
    }
}
