//! The live source: the ring buffer of this machine's kernel, with the probes that fill it.

use std::{
    io,
    os::fd::AsFd,
    time::{Duration, Instant},
};

use aya::maps::{MapData, RingBuf};
use aya_log::EbpfLogger;
use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use thiserror::Error;
use tokio::io::unix::AsyncFd;
use vfio_trace_common::{role::Role, wire};

use super::{
    batches::{RecordBatches, RingEntry},
    clock::mono_ns,
    handed::{DriverRegistry, HandoverNotes},
    loads::LoadTracker,
    snapshot::{HolderQuery, InventoryLosses, take_inventory},
    taken::RecordQueue,
};

use crate::{
    driver::WANTED,
    event::{ProbeReport, RecordBody, RecordNote, WireRecord, record_text},
    kernel::{
        Kallsyms, KernelFacts, KernelFiles, ModuleStamp, VfioCore,
        caps::{self, CapSet, LinuxCap, MissingCap},
        process::ProcessTable,
    },
    probe::{
        BpfPrograms, LoadOptions, PlannedProbe, ProbeChanges, ProbeManager, ProbeTarget, ProgramLoadError,
        plan,
    },
    sys,
};

/// How often the list of modules is looked at for drivers that came or went.
pub const RESCAN: Duration = Duration::from_millis(500);

/// Tracing cannot start.
#[derive(Debug, Error)]
pub enum LiveError {
    /// Capabilities are missing.
    #[error("tracing needs {}", .0.iter().map(|need| format!("{} ({})", need.cap.name(), need.why)).collect::<Vec<_>>().join(" and "))]
    NotPermitted(Vec<MissingCap>),
    /// Lockdown forbids it.
    #[error("kernel lockdown is in confidentiality mode, which refuses kprobes to everybody")]
    Lockdown,
    /// The kernel cannot do it.
    #[error("{0}")]
    NotSupported(String),
    /// The programs could not be loaded.
    #[error(transparent)]
    Load(#[from] ProgramLoadError),
    /// It cannot be known which devices there are.
    #[error("/sys/class/vfio-dev cannot be listed: {0}")]
    Unlisted(io::Error),
    /// The ring buffer cannot be waited for.
    #[error("the ring buffer cannot be polled: {0}")]
    Poll(#[source] io::Error),
}

/// What this process holds, if that is what the eBPF programs need.
pub(super) fn capable(files: &KernelFiles) -> Result<CapSet, LiveError> {
    let held = CapSet::effective(files);
    let missing: Vec<MissingCap> =
        held.missing_for_tracing(false).into_iter().filter(|need| need.essential).collect();
    if missing.is_empty() { Ok(held) } else { Err(LiveError::NotPermitted(missing)) }
}

/// Whether lockdown leaves the kernel's memory readable.
pub(super) fn allowed(facts: &KernelFacts) -> Result<(), LiveError> {
    if facts.lockdown.forbids_tracing() { Err(LiveError::Lockdown) } else { Ok(()) }
}

/// Forwards the eBPF programs' own messages to a function.
pub struct LogForwarder<F>(pub F);

impl<F: Fn(&str) + Send + Sync> log::Log for LogForwarder<F> {
    fn enabled(&self, _metadata: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        (self.0)(&format!("eBPF: {}", record.args()));
    }

    fn flush(&self) {}
}

type BoxedLog = Box<dyn log::Log>;

/// Probes that feed a ring buffer.
pub struct LiveSource {
    files: KernelFiles,
    facts: KernelFacts,
    manager: ProbeManager,
    ring: AsyncFd<RingBuf<MapData>>,
    log: Option<EbpfLogger<BoxedLog>>,
    rescanned: Instant,
    /// Records of our own that come before the next one of the kernel's.
    notes: Vec<RecordNote>,
    /// When tracing was switched on, and which modules were loaded since.
    loads: LoadTracker,
    /// What was done in between, and has not been told.
    pending: ProbeChanges,
    /// Modules that have come, if not all of them is known yet.
    hurried: Option<PendingRescan>,
    /// The vfio that devices are of.
    vfio: Option<ModuleStamp>,
    /// What the programs know of drivers.
    handed: DriverRegistry,
    /// Pointers that wait until symbols are known again.
    deferred: Vec<(Role, u64)>,
    /// Why the kernel does not tell of modules, if so.
    unwatched: Option<String>,
    batches: RecordBatches,
    /// Records that were taken while the inventory went on: before those that the ring buffer has.
    taken: RecordQueue,
    buffer_bytes: u32,
}

/// When modules were noticed that nothing but names is known of.
#[derive(Clone, Copy, Debug)]
struct PendingRescan {
    first: Instant,
    last: Instant,
}

/// A look at all of it waits no longer than this, however many modules still come.
const HURRY: Duration = Duration::from_secs(2);

impl PendingRescan {
    /// One more has come.
    fn goes_on(before: Option<Self>, now: Instant) -> Self {
        Self { first: before.map_or(now, |before| before.first), last: now }
    }

    /// Whether all is to be looked at.
    fn is_over(self, now: Instant) -> bool {
        now.duration_since(self.last) >= RESCAN || now.duration_since(self.first) >= HURRY
    }
}

impl LiveSource {
    /// Loads the programs and attaches all probes, also those that driver plug-ins want; nothing is counted before
    /// [`Self::enable`]. Needs a tokio runtime.
    pub fn open(
        files: KernelFiles,
        options: LoadOptions,
        log: Option<BoxedLog>,
    ) -> Result<(Self, ProbeChanges), LiveError> {
        // Before the kernel is looked at: that takes a while.
        let held = capable(&files)?;
        let facts = KernelFacts::read_for(&files, &WANTED);
        allowed(&facts)?;
        if files.line("/sys/bus/event_source/devices/kprobe/type").is_none() {
            return Err(LiveError::NotSupported(
                "this kernel has no kprobes (built without CONFIG_KPROBES or CONFIG_KPROBE_EVENTS)"
                    .to_owned(),
            ));
        }
        let buffer_bytes = options.buffer_bytes;
        let mut programs = BpfPrograms::load(options)?;
        let ring = sys::readable(programs.take_events()?).map_err(LiveError::Poll)?;
        let log = log.map(|log| programs.take_log(log)).transpose()?;
        let mut handed = DriverRegistry::default();
        let HandoverNotes { notes, unread } = handed.hand_over(&mut programs, &facts)?;
        let unwatched = match facts.module_name_offset() {
            None => Some("the kernel's BTF does not say where a module has its name".to_owned()),
            Some(offset) => programs.watch_modules(offset).err().map(|error| error.to_string()),
        };
        let mut manager = ProbeManager::new(programs, &files);
        let mut changes = manager.reconcile(&plan(&facts), |name| facts.load_of(&files, name));
        changes.unread = unread;
        if manager.attached() == 0
            && let Some((function, reason)) = changes.failed.first()
        {
            let missing = held.missing_for_tracing(facts.perf_wants_admin);
            let admin: Vec<MissingCap> =
                missing.into_iter().filter(|need| need.cap == LinuxCap::SysAdmin).collect();
            if changes.denied && !admin.is_empty() {
                return Err(LiveError::NotPermitted(admin));
            }
            return Err(LiveError::NotSupported(format!(
                "no function could be probed; {}: {reason}",
                function.symbol
            )));
        }
        // Those of a driver that comes later, too: the verifier's time would be a gap then.
        manager.programs_mut().prepare_all();
        let (rescanned, batches) = (Instant::now(), RecordBatches::new(mono_ns()));
        let vfio = facts.load_of(&files, "vfio");
        let live = Self {
            files,
            facts,
            manager,
            ring,
            log,
            rescanned,
            notes,
            loads: LoadTracker::new(mono_ns()),
            pending: ProbeChanges::default(),
            hurried: None,
            vfio,
            handed,
            deferred: Vec::new(),
            unwatched,
            batches,
            taken: RecordQueue::new(buffer_bytes),
            buffer_bytes,
        };
        Ok((live, changes))
    }

    /// What is known of the kernel.
    pub const fn facts(&self) -> &KernelFacts {
        &self.facts
    }

    /// Gives up all capabilities but those that probes attached later need.
    pub fn drop_privileges(&self) -> Result<(), caps::DropError> {
        caps::keep_only(&self.needs())
    }

    /// The capabilities that probes attached later need.
    pub fn needs(&self) -> Vec<LinuxCap> {
        self.facts.caps.tracing_part(self.facts.perf_wants_admin)
    }

    /// Whether processes have the numbers here that they have in records.
    pub fn shares_pid_numbers(&self) -> bool {
        ProcessTable::of(&self.files).matches_kernel()
    }

    /// The same, with what it takes to start a program put aside: see [`caps::start_with`].
    pub fn put_privileges_aside(&self) -> Result<(), caps::DropError> {
        caps::put_aside(&self.needs())
    }

    /// Whether there is a vfio to trace.
    pub const fn has_vfio(&self) -> bool {
        !matches!(self.facts.vfio, VfioCore::NotLoaded)
    }

    /// Starts all probes at the same moment.
    pub fn enable(&mut self) -> Result<(), LiveError> {
        self.manager.enable(true)?;
        self.loads.begin(mono_ns());
        Ok(())
    }

    /// Lets the kernel tell what is there already: a record for every device, and one for every process that holds one.
    pub fn take_inventory(&mut self) -> Result<InventoryLosses, LiveError> {
        self.inventory(HolderQuery::Included)
    }

    /// Lets the kernel tell again how its devices are: a record for every device, none for those who hold them.
    pub fn look_again(&mut self) -> Result<InventoryLosses, LiveError> {
        self.inventory(HolderQuery::Omitted)
    }

    /// The ring buffer is emptied meanwhile: thousands of devices do not fit into it.
    fn inventory(&mut self, holders: HolderQuery) -> Result<InventoryLosses, LiveError> {
        let Self { manager, facts, files, ring, taken, buffer_bytes, .. } = self;
        let ring = ring.get_mut();
        let drain = || taken.fill(|| ring.next().map(|item| Bytes::copy_from_slice(&item)));
        take_inventory(manager.programs_mut(), facts, files, holders, *buffer_bytes, drain)
    }

    /// Stops all probes; what they sent before is still to be taken.
    pub fn disable(&mut self) -> Result<(), LiveError> {
        Ok(self.manager.enable(false)?)
    }

    /// Waits until there are records.
    pub async fn ready(&self) -> Result<(), LiveError> {
        if !self.taken.is_empty() {
            return Ok(());
        }
        // The readiness is cleared before the ring is read: what arrives in between wakes the next wait.
        self.ring.readable().await.map_err(LiveError::Poll)?.clear_ready();
        Ok(())
    }

    /// Takes the records that are there, a limited number at a time; empty when there are none.
    pub fn take(&mut self) -> Vec<Bytes> {
        if let Some(log) = &mut self.log {
            log.flush();
        }
        // The kernel's records rely on these: they were made before the first of those could be.
        self.notes.extend(self.manager.take_notes());
        let settled_ns = self.batches.settled_ns();
        let notes = self.notes.drain(..).filter_map(|note| note.record(settled_ns));
        let records = notes.map(Bytes::from).collect();
        let Self { ring, taken, batches, .. } = &mut *self;
        let ring = ring.get_mut();
        let mut records = batches.take(mono_ns(), records, || {
            let next = taken.pop().or_else(|| ring.next().map(|item| Bytes::copy_from_slice(&item)));
            match next {
                Some(record) => RingEntry::Record(record),
                // Ready to be read is also what a program has only begun to write.
                None if is_ready(&*ring) => RingEntry::Unfinished,
                None => RingEntry::Nothing,
            }
        });
        let before = records.len();
        records.retain(|bytes| {
            // All others are decoded where they are needed.
            let decoded = WireRecord::kind(bytes).filter(|kind| *kind == wire::Kind::Module);
            match decoded.map(|_module| WireRecord::decode(bytes)) {
                Some(Ok(WireRecord { header, body: RecordBody::Module(module) })) => {
                    self.loads.note_load(record_text(&module.name), header.end_ns);
                    false
                },
                _ => true,
            }
        });
        if records.len() < before {
            self.modules_came();
            let notes = self.notes.drain(..).filter_map(|note| note.record(mono_ns()));
            records.extend(notes.map(Bytes::from));
        }
        records
    }

    /// The kernel has loaded modules: probes their functions at once, by name. All else has time until the next look.
    fn modules_came(&mut self) {
        let changed = self.facts.add_modules(&self.files);
        let (facts, files) = (&self.facts, &self.files);
        self.loads.keep(|name| facts.load_of(files, name), mono_ns());
        if !changed {
            return;
        }
        self.hurried = Some(PendingRescan::goes_on(self.hurried, Instant::now()));
        self.forget_old_vfio();
        // Probes of a new vfio read nothing before they know where, and nothing may be known of a driver that is gone; the
        // next look says why, if this fails.
        self.hand_over();
        self.attach_at_once();
        // The driver itself first: what plug-ins want of it takes longer to find.
        if self.facts.add_plugins() {
            self.attach_at_once();
        }
        let manager = &self.manager;
        self.facts.set_addresses(|role, symbol, module| manager.address(role, symbol, module));
        self.hand_over();
    }

    fn hand_over(&mut self) {
        if let Ok(HandoverNotes { notes, unread }) =
            self.handed.hand_over(self.manager.programs_mut(), &self.facts)
        {
            self.notes.extend(notes);
            self.pending.unread.extend(unread);
        }
    }

    /// Attaches what is known of new modules, and tells from when to when it was not.
    fn attach_at_once(&mut self) {
        let (facts, files) = (&self.facts, &self.files);
        let mut plan = plan(facts);
        // Each takes the kernel its time, and what the first requests do is worth the most.
        plan.sort_by_key(PlannedProbe::urgency);
        let mut changes = self.manager.attach_at_once(&plan, |name| facts.load_of(files, name));
        self.tell_gaps(&mut changes);
        self.pending.extend(changes);
    }

    /// Devices of a vfio that was unloaded are gone, whether that was seen or not: their addresses are others' by now.
    fn forget_old_vfio(&mut self) {
        let now = self.facts.load_of(&self.files, "vfio");
        let is_new = now.is_some_and(|now| self.vfio.is_some_and(|before| !before.is_same(&now)));
        if is_new {
            // At worst one of them is taken for one that comes to its address, until that is opened.
            let _kept = self.manager.programs_mut().forget_devices().is_err();
        }
        self.vfio = now.or(self.vfio);
    }

    /// Puts into the stream which functions were there before they were probed.
    fn tell_gaps(&mut self, changes: &mut ProbeChanges) {
        self.notes.extend(self.manager.take_notes());
        let (facts, files) = (&self.facts, &self.files);
        let load = |name: &str| facts.load_of(files, name);
        let gaps = self.loads.gaps(&changes.attached, &changes.failed, load, mono_ns());
        self.notes.extend(gaps.iter().cloned().map(RecordNote::ProbeGap));
        changes.gaps.extend(gaps);
    }

    /// Why drivers that are loaded later are not noticed at once, if so.
    pub fn unwatched(&self) -> Option<&str> {
        self.unwatched.as_deref()
    }

    /// The time (CLOCK_MONOTONIC, ns) up to which [`Self::take`] has given all records: when the ring was read before it
    /// was found empty. This is what an assembler may be told of the time, and not what the clock shows: of a reader
    /// that is behind, the rest of a call may still be in the ring.
    pub const fn settled_ns(&self) -> u64 {
        self.batches.settled_ns()
    }

    /// Looks for drivers that came or went since, if the last look is long enough ago.
    pub fn rescan(&mut self) -> Result<ProbeChanges, LiveError> {
        let mut changes = std::mem::take(&mut self.pending);
        // More may come: a driver's module follows those that it uses, and must not wait behind the long look.
        let calm = self.hurried.is_none_or(|hurry| hurry.is_over(Instant::now()));
        if self.rescanned.elapsed() < RESCAN || !calm {
            return Ok(changes);
        }
        if self.hurried.is_none() {
            // By name first, here too: symbols take seconds on a slow machine, and the kernel may not have told.
            self.modules_came();
            if self.hurried.is_some() {
                self.rescanned = Instant::now();
                changes.extend(std::mem::take(&mut self.pending));
                return Ok(changes);
            }
        }
        changes.extend(self.look()?);
        Ok(changes)
    }

    /// Looks at what has come in a hurry as a whole: before the end, so that it is told what the kernel refused.
    pub fn settle(&mut self) -> Result<ProbeChanges, LiveError> {
        let mut changes = std::mem::take(&mut self.pending);
        if self.hurried.is_some() {
            changes.extend(self.look()?);
        }
        Ok(changes)
    }

    /// Takes in what is loaded now, with all that takes long.
    fn look(&mut self) -> Result<ProbeChanges, LiveError> {
        let mut changes = ProbeChanges::default();
        (self.rescanned, self.hurried) = (Instant::now(), None);
        let now_ns = mono_ns();
        if self.facts.refresh(&self.files) {
            let HandoverNotes { notes, unread } =
                self.handed.hand_over(self.manager.programs_mut(), &self.facts)?;
            self.notes.extend(notes);
            changes.unread.extend(unread);
            let (facts, files) = (&self.facts, &self.files);
            self.loads.keep(|name| facts.load_of(files, name), mono_ns());
            let mut later = self.manager.reconcile(&plan(facts), |name| facts.load_of(files, name));
            self.tell_gaps(&mut later);
            changes.extend(later);
        }
        self.loads.note_scan(now_ns);
        let deferred = std::mem::take(&mut self.deferred);
        changes.extend(self.resolve(&deferred));
        Ok(changes)
    }

    /// Follows the pointers that a record shows: a driver whose functions could not be found by type is probed from
    /// its first operation on.
    pub fn follow(&mut self, record: &WireRecord) -> ProbeChanges {
        let pointers = match &record.body {
            RecordBody::Device(device) => [
                (Role::SetState, device.set_state),
                (Role::GetState, device.get_state),
                (Role::DataSize, device.get_data_size),
                // The core's own function is better: it also sees the second and later opens.
                (Role::Open, if self.manager.has(Role::Open) { 0 } else { device.open_device }),
            ],
            RecordBody::SetState(state) => [
                (Role::Read, state.read),
                (Role::Write, state.write),
                (Role::DataIoctl, state.unlocked_ioctl),
                (Role::Release, state.release),
            ],
            _ => return ProbeChanges::default(),
        };
        let mut now = Vec::new();
        for (role, address) in pointers {
            if !self.manager.is_new_pointer(role, address) {
                continue;
            }
            // Addresses of what was probed by name may not be known yet.
            if self.hurried.is_none() || !self.manager.has_unplaced(role) {
                now.push((role, address));
            } else if !self.deferred.contains(&(role, address)) {
                self.deferred.push((role, address));
            }
        }
        self.resolve(&now)
    }

    /// Probes the functions that pointers lead to.
    fn resolve(&mut self, pointers: &[(Role, u64)]) -> ProbeChanges {
        let mut all = ProbeChanges::default();
        for &(role, address) in pointers {
            if !self.manager.is_new_pointer(role, address) {
                continue;
            }
            let known = self.facts.kallsyms.as_ref().ok().and_then(|symbols| symbols.resolve(address));
            let symbol = known.or_else(|| {
                Kallsyms::resolve_many(&self.files, &[address])
                    .ok()
                    .and_then(|found| found.into_iter().next().flatten())
            });
            let target = symbol.map(|symbol| ProbeTarget::from_pointer(role, symbol));
            let (facts, files) = (&self.facts, &self.files);
            let load = |name: &str| facts.load_of(files, name);
            all.extend(self.manager.attach_pointer(role, address, target, load));
        }
        if !all.attached.is_empty() || !all.failed.is_empty() {
            self.notes.extend(self.manager.take_notes());
            let (facts, files) = (&self.facts, &self.files);
            let load = |name: &str| facts.load_of(files, name);
            let gaps = self.loads.by_pointer(&all.attached, &all.failed, load, mono_ns());
            self.notes.extend(gaps.iter().cloned().map(RecordNote::ProbeGap));
            all.gaps.extend(gaps);
        }
        all
    }

    /// What became of each probe.
    pub fn report(&self) -> Vec<ProbeReport> {
        self.manager.report()
    }
}

/// Whether anything is in a ring buffer, finished or not; does not wait. If it cannot be told, nothing is.
fn is_ready(ring: impl AsFd) -> bool {
    poll(&mut [PollFd::new(&ring, PollFlags::IN)], Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_that_keep_coming_do_not_put_off_the_look_for_ever() {
        let start = Instant::now();
        let mut hurry = PendingRescan::goes_on(None, start);
        let mut waited = Duration::ZERO;
        while !hurry.is_over(start + waited) {
            assert!(waited < Duration::from_mins(1), "starved");
            waited += Duration::from_millis(100);
            hurry = PendingRescan::goes_on(Some(hurry), start + waited);
        }
        assert_eq!(waited, HURRY);
        let one = PendingRescan::goes_on(None, start);
        assert!(
            !one.is_over(start) && one.is_over(start + RESCAN),
            "a single one waits for those that follow it"
        );
    }
}
