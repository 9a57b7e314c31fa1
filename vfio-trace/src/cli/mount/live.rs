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
    no_drop,
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

/// How long somebody that looks waits for the host's state to be brought up to date. What is known by then is shown.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long records are taken in for one that waits.
const CATCH_UP: Duration = Duration::from_millis(100);

/// How often losses are counted, if somebody looks.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// Asks the loop that takes in records to bring the host's state up to date.
struct RefreshRequest(UnboundedSender<mpsc::SyncSender<()>>);

impl Refresh for RefreshRequest {
    fn refresh(&self) {
        let (done, wait) = mpsc::sync_channel(1);
        if self.0.send(done).is_ok() {
            // Late or never: then what is known has to do.
            let _answered = wait.recv_timeout(PATIENCE).is_ok();
        }
    }
}

/// What keeps the host's state up to date with a live source.
struct LiveUpdater {
    files: KernelFiles,
    host: Arc<Mutex<HostState>>,
    notes: LiveNotes,
    looks: InventorySchedule,
    clock: WallClock,
    /// What looks could not tell, as it was said last.
    last_looked: InventoryLosses,
    counted: Instant,
    /// How much was forgotten when that was said last.
    forgotten: u64,
}

impl LiveUpdater {
    fn host(&self) -> MutexGuard<'_, HostState> {
        self.host.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings the host's state up to date for somebody about to look: what they see must be how things are. In a flood
    /// there is always more, and sometimes too much for one that waits.
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

    /// Reads the kernel's memory, and sysfs: some things happen to devices without an event. The first look that goes well
    /// also tells the devices' holders.
    fn look(&mut self, live: &mut LiveSource) -> Result<(), LiveError> {
        let (began, informed) = (Instant::now(), self.looks.is_informed());
        let looked = if informed { live.look_again() } else { live.take_inventory() };
        live.catch_up(self, CATCH_UP)?;
        self.exist();
        let failed = looked.as_ref().err().map(ToString::to_string);
        let tell = self.looks.done(began, Instant::now(), failed.as_deref());
        match looked {
            // Only the first one asks for the holders.
            Ok(looked) if informed => {
                self.seen(InventoryLosses { without_holders: self.last_looked.without_holders, ..looked });
            },
            Ok(looked) => self.seen(looked),
            Err(error) if tell => say_uninformed(&error),
            Err(_) => {},
        }
        // What this look has shown needs no other one.
        self.host().take_stale();
        Ok(())
    }

    /// A look has told what it can; what it cannot is said when that changes.
    fn seen(&mut self, looked: InventoryLosses) {
        if looked != self.last_looked {
            say_missing(looked);
        }
        self.last_looked = looked;
    }

    /// Tells the host's state which devices there are.
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

    /// Does what is due every now and then although nobody looks.
    fn tick(&mut self, settled_ns: u64, _live: &mut LiveSource) -> Result<(), LiveError> {
        // It may have been set, or the host asleep: what happens from now on has other wall times.
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

/// What the loop is interrupted by.
enum MountInterrupt {
    /// Somebody is about to look, and waits for an answer.
    Look(mpsc::SyncSender<()>),
    /// All is over.
    End(MountEnd),
}

/// Shows what is there, until the end.
pub(super) async fn run(args: &MountArgs, mut site: MountPoint) -> Result<u8, CliError> {
    let files = args.kernel.files()?;
    let notes = LiveNotes::new(args.verbose);
    let mut live = open_source(files.clone(), args.buffer, notes)?;
    let (mounted, guard) = site.mount(true)?;
    live.drop_privileges().map_err(no_drop)?;
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
    // After the switch: an arc that comes in between is seen by both, and never by neither.
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
                // Whoever asked may have lost patience.
                let _waited = done.try_send(()).is_ok();
            },
            Some(MountInterrupt::End(end)) => return Ok(end),
            // It is never full.
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
