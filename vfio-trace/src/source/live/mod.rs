//! The live source: the ring buffer of this machine's kernel, with the probes that fill it.

mod error;
mod follow;
mod run;

use std::{os::fd::AsFd, time::Instant};

use aya::maps::{MapData, RingBuf};
use aya_log::EbpfLogger;
use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::unix::AsyncFd;
use vfio_trace_common::role::Role;

pub(super) use self::error::{allowed, capable};
use self::follow::PendingRescan;
pub use self::{
    error::LiveError,
    follow::RESCAN,
    run::{LiveLoop, RunEnd, RunObserver},
};
use super::{
    batches::{LOOKS, RecordBatches, RingEntry},
    clock::mono_ns,
    handed::{DriverRegistry, HandoverNotes},
    loads::LoadTracker,
    notices::{ModuleNotices, OrderedScan, scan_modules},
    snapshot::{HolderQuery, InventoryLosses, take_inventory},
    taken::RecordQueue,
};
use crate::{
    driver::WANTED,
    event::{ProbeReport, RecordNote},
    kernel::{
        KernelFacts, KernelFiles, KprobeSupport, ModuleStamp, VfioCore,
        caps::{self, LinuxCap, MissingCap},
        process::ProcessTable,
    },
    probe::{BpfPrograms, LoadOptions, ProbeChanges, ProbeManager, plan},
    sys,
};

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

/// Probes of this machine's kernel, and the ring buffer that they feed. [`LiveSource::open`] makes it; a [`LiveLoop`]
/// drives it and hands its records to a [`RunObserver`]. It follows drivers that are loaded and unloaded meanwhile.
pub struct LiveSource {
    files: KernelFiles,
    facts: KernelFacts,
    manager: ProbeManager,
    ring: AsyncFd<RingBuf<MapData>>,
    log: Option<EbpfLogger<BoxedLog>>,
    rescanned: Instant,
    /// Notes of our own that come before the kernel's next record.
    notes: Vec<RecordNote>,
    /// Start of tracing, and the modules loaded since.
    loads: LoadTracker,
    /// Modules that the kernel has told of and that were not looked for yet.
    notices: ModuleNotices,
    /// Changes of probes that were not reported yet.
    pending: ProbeChanges,
    /// Modules that have come and are not completely known yet.
    hurried: Option<PendingRescan>,
    /// The loaded vfio module that devices belong to.
    vfio: Option<ModuleStamp>,
    /// The programs' entries of drivers.
    handed: DriverRegistry,
    /// Pointers that wait until symbols are known again.
    deferred: Vec<(Role, u64)>,
    /// Reason why the kernel does not report modules; `None` if it does.
    unwatched: Option<String>,
    batches: RecordBatches,
    /// Records that were taken during the inventory: they come before those in the ring buffer.
    taken: RecordQueue,
    buffer_bytes: u32,
}

impl LiveSource {
    /// Loads the programs and attaches all probes, also those that driver plug-ins want; nothing is counted before
    /// [`Self::enable`]. Needs a tokio runtime.
    pub fn open(
        files: KernelFiles,
        options: LoadOptions,
        log: Option<BoxedLog>,
    ) -> Result<(Self, ProbeChanges), LiveError> {
        // Before the kernel is looked at, which takes a while.
        let held = capable(&files)?;
        let facts = KernelFacts::read_for(&files, &WANTED);
        allowed(&facts)?;
        match KprobeSupport::read(&files) {
            KprobeSupport::Present => {},
            KprobeSupport::Absent => {
                return Err(LiveError::NotSupported(
                    "this kernel has no kprobes (built without CONFIG_KPROBES or CONFIG_KPROBE_EVENTS)"
                        .to_owned(),
                ));
            },
            KprobeSupport::Unknown => return Err(LiveError::NoSysfs),
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
        // Also those of drivers that may come later: the verifier's time would be a gap then.
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
            notices: ModuleNotices::default(),
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

    /// Returns the facts about the kernel.
    pub const fn facts(&self) -> &KernelFacts {
        &self.facts
    }

    /// Drops all capabilities but those that probes attached later need.
    pub fn drop_privileges(&self) -> Result<(), caps::DropError> {
        caps::keep_only(&self.needs())
    }

    /// Returns the capabilities that probes attached later need.
    pub fn needs(&self) -> Vec<LinuxCap> {
        self.facts.caps.tracing_part(self.facts.perf_wants_admin)
    }

    /// Returns true if process ids are the same here as in records.
    pub fn shares_pid_numbers(&self) -> bool {
        ProcessTable::of(&self.files).matches_kernel()
    }

    /// Drops capabilities likewise, but keeps those aside that starting a program takes: see [`caps::start_with`].
    pub fn put_privileges_aside(&self) -> Result<(), caps::DropError> {
        caps::put_aside(&self.needs())
    }

    /// Returns true if vfio is loaded.
    pub const fn has_vfio(&self) -> bool {
        !matches!(self.facts.vfio, VfioCore::NotLoaded)
    }

    /// Starts all probes at the same moment.
    pub fn enable(&mut self) -> Result<(), LiveError> {
        self.manager.enable(true)?;
        self.loads.begin(mono_ns());
        Ok(())
    }

    /// Runs the inventory: the kernel makes a record for every device, and one for every process that holds one.
    pub fn take_inventory(&mut self) -> Result<InventoryLosses, LiveError> {
        self.inventory(HolderQuery::Included)
    }

    /// Runs the inventory again for devices only: a record for every device, none for its holders.
    pub fn look_again(&mut self) -> Result<InventoryLosses, LiveError> {
        self.inventory(HolderQuery::Omitted)
    }

    /// Runs an inventory, and empties the ring buffer meanwhile: thousands of devices do not fit into it.
    fn inventory(&mut self, holders: HolderQuery) -> Result<InventoryLosses, LiveError> {
        let Self { manager, facts, files, ring, taken, loads, notices, buffer_bytes, .. } = self;
        let ring = ring.get_mut();
        let drain = || taken.fill(|| notices.split(loads, || next_of(ring)));
        take_inventory(manager.programs_mut(), facts, files, holders, *buffer_bytes, drain)
    }

    /// Looks at the list of modules. If something has come, what waits in the ring buffer is taken out before: the
    /// kernel's notice may be there, behind other records.
    fn scan(&mut self) -> OrderedScan {
        let Self { facts, files, ring, taken, loads, notices, unwatched, .. } = self;
        let ring = ring.get_mut();
        let drain = |notices: &mut ModuleNotices, loads: &mut LoadTracker| {
            for _ in 0..LOOKS {
                taken.fill(|| notices.split(loads, || next_of(ring)));
                if !is_ready(&*ring) {
                    break;
                }
            }
        };
        scan_modules((facts, files), notices, loads, unwatched.is_none(), drain)
    }

    /// Stops all probes. Records that they sent before are still to be taken.
    fn disable(&mut self) -> Result<(), LiveError> {
        Ok(self.manager.enable(false)?)
    }

    /// Waits until there are records.
    pub async fn ready(&self) -> Result<(), LiveError> {
        if !self.taken.is_empty() || self.notices.are_due() {
            return Ok(());
        }
        // The readiness is cleared before the ring is read: what arrives in between wakes the next wait.
        self.ring.readable().await.map_err(LiveError::Poll)?.clear_ready();
        Ok(())
    }

    /// Takes the records that are there, a limited number at a time; empty when there are none.
    fn take(&mut self) -> Vec<Bytes> {
        if let Some(log) = &mut self.log {
            log.flush();
        }
        // The kernel's records rely on these notes, which were made before the first of those could be.
        self.notes.extend(self.manager.take_notes());
        let settled_ns = self.batches.settled_ns();
        let notes = self.notes.drain(..).filter_map(|note| note.record(settled_ns));
        let records = notes.map(Bytes::from).collect();
        let Self { ring, taken, batches, loads, notices, .. } = &mut *self;
        let ring = ring.get_mut();
        let mut records = batches.take(mono_ns(), records, || {
            let next = taken.pop().or_else(|| notices.split(loads, || next_of(ring)));
            match next {
                Some(record) => RingEntry::Record(record),
                // A record that a program has only begun to write also makes the ring readable.
                None if is_ready(&*ring) => RingEntry::Unfinished,
                None => RingEntry::Nothing,
            }
        });
        if self.notices.are_due() {
            self.modules_came();
            let notes = self.notes.drain(..).filter_map(|note| note.record(mono_ns()));
            records.extend(notes.map(Bytes::from));
        }
        records
    }

    /// Returns the reason why drivers that are loaded later are not noticed at once; `None` if they are.
    pub fn unwatched(&self) -> Option<&str> {
        self.unwatched.as_deref()
    }

    /// Returns the time (CLOCK_MONOTONIC, ns) up to which [`Self::pump`] has given all records: the time at which the
    /// ring was read before it was found empty. A pipeline may be given this time, but not the clock's: if the reader
    /// is behind, the rest of a call may still be in the ring.
    pub const fn settled_ns(&self) -> u64 {
        self.batches.settled_ns()
    }

    /// Returns the report of each probe.
    pub fn report(&self) -> Vec<ProbeReport> {
        self.manager.report()
    }
}

/// Returns the next record of a ring buffer.
fn next_of(ring: &mut RingBuf<MapData>) -> Option<Bytes> {
    ring.next().map(|item| Bytes::copy_from_slice(&item))
}

/// Returns true if there is any record in a ring buffer, finished or not; does not wait. An error counts as none.
fn is_ready(ring: impl AsFd) -> bool {
    poll(&mut [PollFd::new(&ring, PollFlags::IN)], Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}
