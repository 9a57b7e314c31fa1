//! What the tree shows: all devices, as records tell of them. Pure: time and the names in sysfs are the caller's, so
//! records may as well come out of a recording.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use vfio_trace_common::{
    role::Role,
    wire::{self, device_known},
};

use super::{
    bearing::{StateEffect, opened},
    folders::DeviceFolders,
    timeline::{DeviceTimeline, TimelineGaps, TimelineLosses, TraceOrigin},
    tree::{self, MIGRATION, NodeKind, TIMELINE, TreePath, VFIO},
};
use crate::{
    driver::{PluginDispatcher, ViewStyle, driver_quirks},
    event::{
        DriverModules, EventAssembler, EventData, MigState, RecordBody, VfioEvent, WallClock, WireRecord,
        text,
    },
    state::{self, ContentError, DeviceFile, DeviceReport, MOST_DEVICES, TraceModel, ViewContext},
};

/// Devices that are gone and whose events are kept, in case that they come again.
const KEPT_GONE: usize = 64;

/// Devices that there was no room for and that are counted: there are so many only if names are made up.
const MOST_FORGOTTEN: usize = 1 << 16;

/// Events that the timelines of all devices have together, unless one of them is to have more.
const MOST_EVENTS: usize = 1 << 20;

/// So many devices without a name are told apart; more are no more news.
const MOST_UNNAMED: usize = 1 << 16;

/// So many rendered timelines are kept for who reads them in pieces: of thousands of devices they would be gigabytes.
const KEPT_RENDERED: usize = 16;

/// What a `debug` file says before anything was written to it.
const UNUSED: &str =
    "nothing was run; write 0 (save), 1 (resume) or 2 (I/O test), if mounted with --allow-exercise\n";

/// A file's content, or that there is nothing to tell.
pub(super) type NodeContent = Option<Arc<[u8]>>;

/// Something in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TreeNode {
    pub(super) kind: NodeKind,
    /// Bytes of a file's content.
    pub(super) size: u64,
    /// Names that lead here: `.` and the `..` of subfolders count.
    pub(super) links: u32,
    /// When it changed last, CLOCK_MONOTONIC.
    pub(super) changed_ns: u64,
}

/// All that is known.
#[derive(Debug)]
pub struct HostState {
    assembler: EventAssembler,
    interpreter: PluginDispatcher,
    annotate: bool,
    /// What the `debug` file of each device says; `None`: there are no such files.
    debug: Option<BTreeMap<Arc<str>, Arc<[u8]>>>,
    model: TraceModel,
    about: TraceOrigin,
    losses: TimelineLosses,
    gaps: TimelineGaps,
    keep: usize,
    began_ns: u64,
    devices: BTreeMap<Arc<str>, TrackedDevice>,
    /// How many devices there may be. What happens on others is forgotten.
    most_devices: usize,
    /// These are they, and those that the model had no room for, by name or else by number; no more than
    /// [`MOST_FORGOTTEN`].
    forgotten: BTreeSet<(Arc<str>, u32)>,
    /// Those that are gone, in the order in which they went.
    gone: BTreeSet<(u64, Arc<str>)>,
    /// Devices by the number of the oldest event in their timelines.
    oldest: BTreeMap<u64, Arc<str>>,
    /// Events that all timelines have, and may have; and the number of the last.
    kept_events: usize,
    most_events: usize,
    last_event: u64,
    folders: DeviceFolders,
    /// Numbers of devices whose names never became known.
    unnamed: BTreeSet<u32>,
    /// Devices whose timelines were rendered last.
    rendered: VecDeque<Arc<str>>,
    /// When a device came or went last.
    changed_ns: u64,
    stale: bool,
}

/// What there is of a device besides the model.
#[derive(Debug)]
struct TrackedDevice {
    /// The name of its folder; `None`: it can have none.
    folder: Option<Arc<str>>,
    present: bool,
    /// Since when it is not; 0 while it is.
    gone_ns: u64,
    /// It was about to be taken from vfio, and has not come again since.
    leaving: bool,
    /// Its state as read from the driver's memory, if nothing that concerns it has come since.
    reading: Option<MigState>,
    /// Nobody is left who has it open, and no look at it came since: its driver may have done anything.
    state_uncertain: bool,
    /// How often it is open.
    open_count: Option<u32>,
    changed_ns: u64,
    timeline: DeviceTimeline,
}

/// A device as it is known to be.
#[derive(Clone, Debug)]
pub struct DeviceStatus {
    /// What views are made from.
    pub report: DeviceReport,
    /// It is bound to a driver of vfio.
    pub present: bool,
    /// How often it is open.
    pub open_count: Option<u32>,
    /// When something was heard of it last, CLOCK_MONOTONIC.
    pub changed_ns: u64,
}

impl HostState {
    /// A world that has seen nothing. `keep`: events per device; `now_ns`: CLOCK_MONOTONIC, as of the records.
    pub fn new(about: TraceOrigin, keep: usize, now_ns: u64) -> Self {
        Self {
            assembler: EventAssembler::new(),
            interpreter: PluginDispatcher::new(false),
            annotate: false,
            debug: None,
            model: TraceModel::new(),
            about,
            losses: TimelineLosses::default(),
            gaps: TimelineGaps::default(),
            keep,
            began_ns: now_ns,
            devices: BTreeMap::new(),
            most_devices: MOST_DEVICES,
            forgotten: BTreeSet::new(),
            gone: BTreeSet::new(),
            oldest: BTreeMap::new(),
            kept_events: 0,
            most_events: MOST_EVENTS.max(keep),
            last_event: 0,
            folders: DeviceFolders::default(),
            unnamed: BTreeSet::new(),
            rendered: VecDeque::new(),
            changed_ns: now_ns,
            stale: false,
        }
    }

    /// Lets drivers' files say where their data is from, on lines that begin with `#`.
    #[must_use]
    pub const fn annotated(mut self, annotate: bool) -> Self {
        self.annotate = annotate;
        self
    }

    /// Keeps fewer devices, and fewer events of all of them.
    #[cfg(test)]
    pub(super) const fn limited(mut self, devices: usize, events: usize) -> Self {
        (self.most_devices, self.most_events) = (devices, events);
        self
    }

    /// Has a model with limits of its own.
    #[cfg(test)]
    pub(super) fn with_model(mut self, model: TraceModel) -> Self {
        self.model = model;
        self
    }

    /// Gives devices of drivers that had such a thing in debugfs a `debug` file.
    #[must_use]
    pub fn with_debug(mut self) -> Self {
        self.debug = Some(BTreeMap::new());
        self
    }

    /// From now on the `debug` file of a device says this.
    pub(super) fn say_in_debug(&mut self, device: &str, text: &str) {
        if let Some(debug) = &mut self.debug {
            debug.insert(device.into(), text.as_bytes().into());
        }
    }

    /// The device whose `debug` file this is.
    pub(super) fn device_of_debug(&self, path: &str) -> Option<String> {
        let Some(TreePath::Device(folder, inner)) = TreePath::of(path) else { return None };
        let (name, _) = self.existing(folder)?;
        (self.debug_file(&self.report(name))? == inner).then(|| name.to_string())
    }

    fn debug_file(&self, report: &DeviceReport) -> Option<String> {
        self.debug.as_ref()?;
        let file = driver_quirks(report.driver.as_deref()?)?.debug?;
        Some(format!("{MIGRATION}/{file}"))
    }

    /// Takes in the next record.
    pub fn push(&mut self, record: &WireRecord) {
        let found = match &record.body {
            RecordBody::Device(body) if body.seen_by == Role::Inventory as u32 => Some(body),
            _ => None,
        };
        if found.is_some_and(|body| self.is_leaving(body)) {
            return;
        }
        let events = self.assembler.push(record);
        self.apply(events);
        if let Some(body) = found {
            self.read(body, record.header.end_ns);
        }
    }

    /// Before 6.6 a device stays in sysfs while those who have it open let go of it, and then another look finds it
    /// there; that does not make it a new one.
    fn is_leaving(&self, body: &wire::Device) -> bool {
        self.devices.get(text(&body.name).as_str()).is_some_and(|device| device.leaving)
    }

    /// How much was forgotten because there was more of it at a time than is kept.
    pub fn forgotten(&self) -> u64 {
        self.assembler.forgotten(self.interpreter.forgotten().max(self.forgotten.len() as u64))
    }

    /// Tells the time when no record does: see [`Assembler::expire`].
    pub fn expire(&mut self, now_ns: u64) {
        let events = self.assembler.expire(now_ns);
        self.apply(events);
    }

    /// Tells of another wall clock, which knows of steps.
    pub fn set_clock(&mut self, clock: &WallClock) {
        self.about.clock = clock.clone();
    }

    /// Tells what got lost so far.
    pub const fn set_losses(&mut self, losses: TimelineLosses) {
        self.losses = losses;
    }

    /// Whether something has happened since the last call after which only another look at the kernel's memory, or at
    /// sysfs, tells how things are.
    pub fn take_stale(&mut self) -> bool {
        std::mem::take(&mut self.stale)
    }

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

    /// A device has come or gone.
    fn is_now(&mut self, name: &str, present: bool, now_ns: u64) {
        let Some((name, device)) = self.devices.get_key_value(name) else { return };
        let name = Arc::clone(name);
        self.gone.remove(&(device.gone_ns, Arc::clone(&name)));
        if !present {
            self.gone.insert((now_ns, Arc::clone(&name)));
        }
        if let Some(device) = self.devices.get_mut(&name) {
            (device.present, device.gone_ns) = (present, if present { 0 } else { now_ns });
            device.changed_ns = device.changed_ns.max(now_ns);
        }
        self.changed_ns = self.changed_ns.max(now_ns);
        self.forget();
    }

    fn apply(&mut self, events: Vec<VfioEvent>) {
        for event in self.interpreter.apply(events) {
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
                self.gaps.push(gap.clone());
            }
            let Some(name) = event.device_name() else {
                let nr = event.device.as_ref().map(|device| device.nr);
                self.unnamed.extend(nr.filter(|_| self.unnamed.len() < MOST_UNNAMED));
                continue;
            };
            let bearing = StateEffect::of(&event.data);
            self.stale |= matches!(bearing, StateEffect::Uncertain);
            let (name, end_ns) = (name.to_owned(), event.end_ns);
            let Some(device) = self.device(&name, end_ns) else { continue };
            if !matches!(bearing, StateEffect::None) {
                device.reading = None;
            }
            device.state_uncertain = match (&event.data, bearing) {
                (EventData::Close(close), _) => close.open_count.is_none_or(|count| count <= 1),
                // vfio-pci resets a function at its last close in a way that the driver is not told of.
                (EventData::PciReset(_), _) => device.state_uncertain || device.open_count == Some(0),
                (_, StateEffect::Known) => false,
                (_, StateEffect::None | StateEffect::Uncertain) => device.state_uncertain,
            };
            device.open_count = opened(&event.data, device.open_count);
            device.changed_ns = device.changed_ns.max(end_ns);
            let presence = match &event.data {
                EventData::Unregister {} => Some(false),
                EventData::Register(registered) => Some(registered.outcome.is_ok()),
                EventData::Device(_) => Some(true),
                _ => None,
            };
            if let Some(present) = presence {
                device.leaving = !present;
            }
            let changed = presence.filter(|present| *present != device.present);
            self.keep_event(&name, event);
            if let Some(present) = changed {
                self.is_now(&name, present, end_ns);
            }
        }
    }

    /// Puts an event into its device's timeline. For one too many, the oldest of all goes.
    fn keep_event(&mut self, name: &str, event: VfioEvent) {
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

    /// Changes a device's timeline, and notes what its oldest event is then.
    fn with_timeline<T>(&mut self, name: &str, change: impl FnOnce(&mut DeviceTimeline) -> T) -> Option<T> {
        let timeline = &mut self.devices.get_mut(name)?.timeline;
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

    /// The inventory has read a device's state from the driver's memory: this is what `show` would say, too.
    fn read(&mut self, body: &wire::Device, now_ns: u64) {
        let known = |bit: u32| body.known & bit != 0;
        let name = text(&body.name);
        if !known(device_known::NAME) || name.is_empty() {
            return;
        }
        let before = self.report(&name).state;
        let reading = known(device_known::STATE).then_some(MigState(body.state));
        let Some(device) = self.device(&name, now_ns) else { return };
        device.reading = reading;
        device.state_uncertain &= reading.is_none();
        if known(device_known::OPEN_COUNT) {
            device.open_count = Some(body.open_count);
        }
        if reading.is_some_and(|state| Some(state) != before) {
            device.changed_ns = device.changed_ns.max(now_ns);
        }
    }

    /// Notes that there was no room for a device, once for each.
    fn leave_out(&mut self, name: &str, nr: u32) {
        if self.forgotten.len() < MOST_FORGOTTEN {
            self.forgotten.insert((name.into(), nr));
        }
    }

    /// What there is of a device; made if need be, and if there is room for it.
    fn device(&mut self, name: &str, now_ns: u64) -> Option<&mut TrackedDevice> {
        if !self.devices.contains_key(name) {
            if self.devices.len() >= self.most_devices {
                self.leave_out(name, 0);
                return None;
            }
            self.changed_ns = self.changed_ns.max(now_ns);
            let name: Arc<str> = name.into();
            let folder = self.folders.add(&name);
            let timeline = DeviceTimeline::new(self.keep, self.began_ns);
            let device = TrackedDevice {
                folder,
                present: true,
                gone_ns: 0,
                leaving: false,
                reading: None,
                state_uncertain: false,
                open_count: None,
                changed_ns: now_ns,
                timeline,
            };
            self.devices.insert(name, device);
        }
        self.devices.get_mut(name)
    }

    /// Devices that can have no folder, and those whose names are not known.
    pub fn without_folder(&self) -> (usize, usize) {
        let present = self.devices.values().filter(|device| device.present && device.folder.is_none());
        (present.count(), self.unnamed.len())
    }

    /// Devices that come under a new name each time must not fill the memory.
    fn forget(&mut self) {
        while self.gone.len() > KEPT_GONE
            && let Some((_, name)) = self.gone.pop_first()
            && let Some(device) = self.devices.remove(&name)
        {
            if let Some(folder) = &device.folder {
                self.folders.remove(folder);
            }
            self.kept_events -= device.timeline.len();
            if let Some(first) = device.timeline.first() {
                self.oldest.remove(&first);
            }
            // Should it come again, its timeline is not from the beginning.
            self.began_ns = self.began_ns.max(device.changed_ns);
        }
    }

    /// A device as views see it.
    fn report(&self, name: &str) -> DeviceReport {
        let unseen = || DeviceReport { device: Some(name.to_owned()), ..DeviceReport::default() };
        let mut report = self.model.device_report(name).unwrap_or_else(unseen);
        if let Some(device) = self.devices.get(name) {
            report.state = device.reading.or_else(|| report.state.filter(|_| !device.state_uncertain));
            // A look may have found that those who had it open are gone.
            if device.open_count == Some(0) {
                report.holders.clear();
            }
        }
        report
    }

    /// All devices, also those that are gone, by name.
    pub fn devices(&self) -> impl Iterator<Item = (&str, DeviceStatus)> {
        self.devices.iter().map(|(name, device)| {
            let &TrackedDevice { present, open_count, changed_ns, .. } = device;
            (&**name, DeviceStatus { report: self.report(name), present, open_count, changed_ns })
        })
    }

    /// What drivers' plug-ins know.
    pub const fn drivers(&self) -> &PluginDispatcher {
        &self.interpreter
    }

    /// The device that a folder is of, with its name.
    fn existing(&self, folder: &str) -> Option<(&Arc<str>, &TrackedDevice)> {
        let found = self.devices.get_key_value(self.folders.device(folder)?);
        found.filter(|(_, device)| device.present)
    }

    /// The time of a moment, for `stat`.
    pub(super) fn wall(&self, mono_ns: u64) -> std::time::SystemTime {
        self.about.clock.wall(mono_ns).into()
    }

    /// What is in a folder, in order; `None` if there is no such folder.
    pub(super) fn list(&self, path: &str) -> Option<Vec<(String, NodeKind)>> {
        match TreePath::of(path)? {
            TreePath::Root => Some(vec![(VFIO.to_owned(), NodeKind::Folder)]),
            TreePath::Vfio => {
                let present = self.devices.iter().filter(|(_, device)| device.present);
                let folders = present.filter_map(|(_, device)| device.folder.as_deref());
                let mut folders: Vec<_> =
                    folders.map(|folder| (folder.to_owned(), NodeKind::Folder)).collect();
                folders.sort_unstable_by(|one, two| one.0.cmp(&two.0));
                Some(folders)
            },
            TreePath::Device(folder, inner) => {
                let (name, _) = self.existing(folder)?;
                let report = self.report(name);
                let files: Vec<String> = paths(&report).into_iter().chain(self.debug_file(&report)).collect();
                let names = tree::children(&files, inner)?;
                Some(names.into_iter().map(|(name, kind)| (name.to_owned(), kind)).collect())
            },
        }
    }

    /// Makes room for one more rendered timeline.
    fn keep_rendered(&mut self, name: &str) {
        self.rendered.retain(|other| **other != *name);
        self.rendered.push_back(name.into());
        while self.rendered.len() > KEPT_RENDERED {
            let oldest = self.rendered.pop_front().and_then(|oldest| self.devices.get_mut(&oldest));
            if let Some(oldest) = oldest {
                oldest.timeline.let_go();
            }
        }
    }

    /// A file's content; `None` if there is no such file.
    pub(super) fn content(&mut self, path: &str) -> Option<NodeContent> {
        let Some(TreePath::Device(folder, inner)) = TreePath::of(path) else { return None };
        let name = &*Arc::clone(self.existing(folder)?.0);
        let report = self.report(name);
        if inner == TIMELINE {
            self.keep_rendered(name);
            // Whose functions were not probed is only asked if some were not.
            let drivers = if self.gaps.is_empty() { DriverModules::default() } else { self.model.drivers() };
            let device = self.devices.get_mut(name)?;
            let driver = report.driver.as_deref();
            let besides = (self.losses, &self.gaps, &drivers);
            return Some(device.timeline.document(&self.about, besides, name, driver).ok());
        }
        if self.debug_file(&report).as_deref() == Some(inner) {
            let said = self.debug.as_ref().and_then(|debug| debug.get(name)).cloned();
            return Some(Some(said.unwrap_or_else(|| UNUSED.as_bytes().into())));
        }
        let file = file(&report, inner)?;
        let look = ViewContext {
            device: &report,
            drivers: &self.interpreter,
            style: ViewStyle::ByName,
            annotate: self.annotate,
        };
        let text = match file.text(&look) {
            Ok(text) => Some(text),
            // Reading it is no error: others of the same folder have something to tell.
            Err(ContentError::Driver(why)) if self.annotate => Some(format!("# {why}\n")),
            Err(ContentError::Driver(why)) => Some(format!("{why}\n")),
            Err(_) => None,
        };
        Some(text.map(|text| text.into_bytes().into()))
    }

    /// What a path stands for; `None` if there is no such thing.
    pub(super) fn node(&mut self, path: &str) -> Option<TreeNode> {
        let changed_ns = match TreePath::of(path)? {
            TreePath::Root | TreePath::Vfio => self.changed_ns,
            TreePath::Device(folder, _) => self.existing(folder)?.1.changed_ns,
        };
        if let Some(names) = self.list(path) {
            let folders = names.iter().filter(|(_, kind)| *kind == NodeKind::Folder).count();
            let links = u32::try_from(folders).unwrap_or(u32::MAX).saturating_add(2);
            return Some(TreeNode { kind: NodeKind::Folder, size: 0, links, changed_ns });
        }
        let size = match TreePath::of(path)? {
            TreePath::Device(folder, TIMELINE) => self.existing(folder)?.1.timeline.size(),
            _ => self.content(path)?.map_or(0, |content| content.len() as u64),
        };
        Some(TreeNode { kind: NodeKind::File, size, links: 1, changed_ns })
    }
}

/// The paths of all files of a device, below its folder.
fn paths(report: &DeviceReport) -> Vec<String> {
    let views = state::files(report).map(|file| format!("{MIGRATION}/{}", file.path));
    views.chain([TIMELINE.to_owned()]).collect()
}

fn file(report: &DeviceReport, inner: &str) -> Option<DeviceFile> {
    let path = inner.strip_prefix(MIGRATION)?.strip_prefix('/')?;
    state::files(report).find(|file| file.path == path)
}
