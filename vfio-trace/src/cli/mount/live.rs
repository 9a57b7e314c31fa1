//! `mount` of this machine: the loop that keeps the host's state up to date.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::{
    super::{
        error::CliError,
        events::too_many_more,
        output::note,
        session::{LiveNotes, open_source, say_missing, say_uninformed, say_waiting},
    },
    MountArgs, MountEnd, MountPoint,
    debug::ExerciseProcess,
    looks::InventorySchedule,
};
use crate::{
    event::{DecodeError, WallClock, WireRecord},
    kernel::{KernelFiles, VfioDevice},
    mount::{self, DeviceExerciser, MountTree, Refresh},
    probe::ProbeChanges,
    source::{
        clock::{anchor, mono_ns, sample},
        live::{LiveError, LiveLoop, LiveSource, RunObserver},
        snapshot::InventoryLosses,
    },
    state::{HostState, TraceOrigin},
};

/// Longest time that a reader of a file waits for the host's state. After it, the state is shown as it is known.
const PATIENCE: Duration = Duration::from_secs(1);

/// Longest time for which records are taken in while a reader of a file waits.
const CATCH_UP: Duration = Duration::from_millis(100);

/// Shortest time between two counts of losses. They are counted only when a file is read.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// Sender of requests to the loop that takes in records: it is to bring the host's state up to date.
struct RefreshRequest(UnboundedSender<mpsc::SyncSender<()>>);

impl Refresh for RefreshRequest {
    fn refresh(&self) {
        let (done, wait) = mpsc::sync_channel(1);
        if self.0.send(done).is_ok() {
            // If the answer comes late or never, the state is shown as it is known.
            let _answered = wait.recv_timeout(PATIENCE).is_ok();
        }
    }
}

/// Observer of a live source that keeps the host's state up to date.
struct LiveUpdater {
    files: KernelFiles,
    host: Arc<Mutex<HostState>>,
    notes: LiveNotes,
    looks: InventorySchedule,
    clock: WallClock,
    /// Losses of the last look, as they were reported.
    last_looked: InventoryLosses,
    counted: Instant,
    /// Number of forgotten things when it was last reported.
    forgotten: u64,
}

impl LiveUpdater {
    fn host(&self) -> MutexGuard<'_, HostState> {
        self.host.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings the host's state up to date before a file is read: the file must show the present state. In a flood there
    /// are always more records, and sometimes too many for a reader that waits.
    fn freshen(&mut self, live: &mut LiveSource) -> Result<(), LiveError> {
        live.catch_up(self, CATCH_UP)?;
        let stale = self.host().take_stale();
        if self.looks.is_due(stale, Instant::now()) {
            self.look(live)?;
        }
        if self.counted.elapsed() >= COUNT_EVERY {
            self.count(live);
        }
        self.host().tick(live.settled_ns());
        Ok(())
    }

    /// Reads the kernel's memory and sysfs: some changes of devices make no event. The first look that succeeds also
    /// finds the devices' holders.
    fn look(&mut self, live: &mut LiveSource) -> Result<(), LiveError> {
        let (began, informed) = (Instant::now(), self.looks.is_informed());
        let looked = if informed { live.look_again() } else { live.take_inventory() };
        live.catch_up(self, CATCH_UP)?;
        self.exist();
        let failed = looked.as_ref().err().map(ToString::to_string);
        let tell = self.looks.done(began, Instant::now(), failed.as_deref());
        match looked {
            // Only the first successful look asks for the holders.
            Ok(looked) if informed => {
                self.seen(InventoryLosses { without_holders: self.last_looked.without_holders, ..looked });
            },
            Ok(looked) => self.seen(looked),
            Err(error) if tell => say_uninformed(&error),
            Err(_) => {},
        }
        // Records of this look do not make another one due.
        self.host().take_stale();
        Ok(())
    }

    /// Takes the losses of a look, and reports them if they have changed.
    fn seen(&mut self, looked: InventoryLosses) {
        if looked != self.last_looked {
            say_missing(looked);
        }
        self.last_looked = looked;
    }

    /// Tells the host's state the names of all devices in sysfs.
    fn exist(&self) {
        let names: BTreeSet<String> =
            VfioDevice::all(&self.files).into_iter().map(|device| device.name).collect();
        self.host().set_existing(&names, mono_ns());
    }

    fn count(&mut self, live: &LiveSource) {
        self.counted = Instant::now();
        self.host().set_losses(Some(&live.report()));
    }
}

impl RunObserver for LiveUpdater {
    type Error = LiveError;

    fn record(&mut self, _bytes: &Bytes, record: Result<&WireRecord, DecodeError>) -> Result<(), LiveError> {
        if let Err(error) = record {
            self.notes.undecoded(error);
        }
        self.host().push(record);
        Ok(())
    }

    fn changes(&mut self, changes: &ProbeChanges) {
        self.notes.changes(changes);
    }

    /// Does what is due from time to time, also when no file is read.
    fn tick(&mut self, settled_ns: u64, _live: &mut LiveSource) -> Result<(), LiveError> {
        // The clock may have been set, or the host asleep: events from now on have other wall times.
        let found = sample();
        if self.clock.sample(found.anchor(), found.error_ns) {
            self.host().set_clock(&self.clock);
        }
        self.host().tick(settled_ns);
        let forgotten = self.host().forgotten();
        if let Some(text) = too_many_more(forgotten, &mut self.forgotten) {
            note(&text);
        }
        Ok(())
    }
}

/// Reason for interrupting the loop.
enum MountInterrupt {
    /// A file is about to be read, and its reader waits for an answer.
    Look(mpsc::SyncSender<()>),
    /// The end of the mount.
    End(MountEnd),
}

/// Mounts the tree of this machine and serves it until the end; returns the exit code.
pub(super) async fn run(args: &MountArgs, mut site: MountPoint) -> Result<u8, CliError> {
    let files = args.kernel.files()?;
    let notes = LiveNotes::new(args.verbose);
    let mut live = open_source(files.clone(), args.buffer, notes)?;
    let (mounted, guard) = site.mount(true)?;
    live.drop_privileges()?;
    say_waiting(&live);

    let clock = WallClock::from(anchor());
    let host = HostState::new(origin(clock.clone()), args.events as usize, mono_ns());
    let tree = MountTree::new().annotated(args.annotate).with_debug();
    let (asker, mut asks) = unbounded_channel();
    let mut keeper = LiveUpdater {
        files,
        host: Arc::new(Mutex::new(host)),
        notes,
        looks: InventorySchedule::default(),
        clock,
        last_looked: InventoryLosses::default(),
        counted: Instant::now(),
        forgotten: 0,
    };
    live.enable()?;
    // After the probes are on: an arc that comes in between is seen by both, and never by neither.
    keeper.look(&mut live)?;
    let exercise = args.allow_exercise.then(|| Box::new(ExerciseProcess) as Box<dyn DeviceExerciser>);
    let mut serving =
        site.serve(mounted, (Arc::clone(&keeper.host), tree), Box::new(RefreshRequest(asker)), exercise)?;
    let end = attend(&mut live, &mut keeper, &mut asks, &mut serving, &mut site).await?;
    site.end(end, guard)?;
    Ok(0)
}

/// Keeps the host's state up to date until the end.
async fn attend(
    live: &mut LiveSource,
    keeper: &mut LiveUpdater,
    asks: &mut UnboundedReceiver<mpsc::SyncSender<()>>,
    serving: &mut mount::FuseServer,
    site: &mut MountPoint,
) -> Result<MountEnd, CliError> {
    let mut attending = LiveLoop::new(Arc::clone(site.signals.stop()));
    loop {
        let interrupt = async {
            tokio::select! {
                Some(done) = asks.recv() => MountInterrupt::Look(done),
                end = site.ended(serving) => MountInterrupt::End(end),
            }
        };
        match attending.run_until(live, keeper, interrupt).await? {
            Some(MountInterrupt::Look(done)) => {
                keeper.freshen(live)?;
                // The reader may have stopped waiting (`PATIENCE`).
                let _waited = done.try_send(()).is_ok();
            },
            Some(MountInterrupt::End(end)) => return Ok(end),
            // For observers that are full: this one never is.
            None => {},
        }
    }
}

fn origin(clock: WallClock) -> TraceOrigin {
    let uname = rustix::system::uname();
    TraceOrigin {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        replayed_by: None,
        kernel: uname.release().to_string_lossy().into_owned(),
        host: Some(uname.nodename().to_string_lossy().into_owned()),
        clock,
    }
}
