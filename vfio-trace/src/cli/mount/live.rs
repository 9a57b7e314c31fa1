//! `mount` of this machine: the loop that keeps the host's state up to date.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    time::{Duration, Instant},
};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::{
    super::{
        error::CliError,
        events::too_many_more,
        output::note,
        session::{say_changes, say_missing, say_uninformed, say_unwatched},
    },
    MountArgs, MountEnd, MountPoint,
    debug::ExerciseProcess,
    looks::InventorySchedule,
    no_drop,
};
use crate::{
    event::{WallClock, WireRecord},
    kernel::{KernelFiles, VfioDevice},
    mount::{self, DeviceExerciser, MountTree, Refresh},
    probe::LoadOptions,
    source::{
        clock::{anchor, mono_ns, sample},
        live::{LiveError, LiveSource, LogForwarder, RESCAN},
        snapshot::InventoryLosses,
    },
    state::{HostState, TraceOrigin},
};

/// How long somebody who looks waits for the host's state to be brought up to date. What is known by then is shown.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long records are taken in for one who waits.
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

/// The live source, and the host's state that it keeps up to date.
struct LiveUpdater {
    live: LiveSource,
    files: KernelFiles,
    host: Arc<Mutex<HostState>>,
    verbose: bool,
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

    /// Takes in a batch of what has arrived; gives the time of the latest record, `None` if there was none.
    fn pump(&mut self) -> Option<u64> {
        let records = self.live.take();
        let mut latest = records.first().map(|_| 0);
        for bytes in &records {
            match WireRecord::decode(bytes) {
                Ok(record) => {
                    say_changes(&self.live.follow(&record), self.verbose);
                    self.host().push(Ok(&record));
                    latest = latest.max(Some(record.header.end_ns));
                },
                Err(error) => {
                    self.host().push(Err(error));
                    if self.verbose {
                        note(&format!("record not understood: {error}"));
                    }
                },
            }
        }
        latest
    }

    /// Takes in all that has happened until now. In a flood there is always more, and sometimes too much for one who
    /// waits.
    fn catch_up(&mut self) {
        let (start, now_ns) = (Instant::now(), mono_ns());
        while self.pump().is_some_and(|latest| latest < now_ns) && start.elapsed() < CATCH_UP {}
    }

    /// Somebody is about to look: what they see must be how things are.
    fn freshen(&mut self) {
        self.catch_up();
        let stale = self.host().take_stale();
        if self.looks.is_due(stale, Instant::now()) {
            self.look();
        }
        if self.counted.elapsed() >= COUNT_EVERY {
            self.count();
        }
        self.host().tick(self.live.settled_ns());
    }

    /// Reads the kernel's memory, and sysfs: some things happen to devices without an event. The first look that goes well
    /// also tells who holds the devices.
    fn look(&mut self) {
        let (began, informed) = (Instant::now(), self.looks.is_informed());
        let looked = if informed { self.live.look_again() } else { self.live.take_inventory() };
        self.catch_up();
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

    fn count(&mut self) {
        self.counted = Instant::now();
        self.host().set_losses(Some(&self.live.report()));
    }

    /// What is due every now and then although nobody looks.
    fn tick(&mut self) -> Result<(), LiveError> {
        self.pump();
        // It may have been set, or the host asleep: what happens from now on has other wall times.
        let found = sample();
        if self.clock.sample(found.anchor(), found.error_ns) {
            self.host().set_clock(&self.clock);
        }
        say_changes(&self.live.rescan()?, self.verbose);
        self.host().tick(self.live.settled_ns());
        let forgotten = self.host().forgotten();
        if let Some(text) = too_many_more(forgotten, &mut self.forgotten) {
            note(&text);
        }
        Ok(())
    }
}

/// Shows what is there, until the end.
pub(super) async fn run(args: &MountArgs, mut site: MountPoint) -> Result<u8, CliError> {
    let files = args.kernel.files()?;
    let log: Option<Box<dyn log::Log>> =
        args.verbose.then(|| Box::new(LogForwarder(note)) as Box<dyn log::Log>);
    let options = LoadOptions { buffer_bytes: args.buffer, log: args.verbose };
    let (live, changes) = LiveSource::open(files.clone(), options, log)?;
    say_changes(&changes, args.verbose);
    say_unwatched(&live);
    let (mounted, guard) = site.mount(true)?;
    live.drop_privileges().map_err(no_drop)?;
    if !live.has_vfio() {
        note("vfio is not loaded yet; waiting for it");
    }

    let clock = WallClock::from(anchor());
    let host = HostState::new(origin(clock.clone()), args.events as usize, mono_ns());
    let tree = MountTree::new().annotated(args.annotate).with_debug();
    let (asker, mut asks) = unbounded_channel();
    let mut keeper = LiveUpdater {
        live,
        files,
        host: Arc::new(Mutex::new(host)),
        verbose: args.verbose,
        looks: InventorySchedule::default(),
        clock,
        last_looked: InventoryLosses::default(),
        counted: Instant::now(),
        forgotten: 0,
    };
    keeper.live.enable()?;
    // After the switch: an arc that comes in between is seen by both, and never by neither.
    keeper.look();
    let exercise = args.allow_exercise.then(|| Box::new(ExerciseProcess) as Box<dyn DeviceExerciser>);
    let mut serving =
        site.serve(mounted, (Arc::clone(&keeper.host), tree), Box::new(RefreshRequest(asker)), exercise)?;
    let end = attend(&mut keeper, &mut asks, &mut serving, &mut site).await?;
    site.end(end, guard)?;
    Ok(0)
}

/// Keeps the host's state up to date until the end.
async fn attend(
    keeper: &mut LiveUpdater,
    asks: &mut UnboundedReceiver<mpsc::SyncSender<()>>,
    serving: &mut mount::FuseServer,
    site: &mut MountPoint,
) -> Result<MountEnd, CliError> {
    let mut tick = tokio::time::interval(RESCAN);
    let mut more = false;
    loop {
        tokio::select! {
            // One batch, then round again: a flood must not starve the other branches.
            ready = keeper.live.ready(), if !more => {
                ready?;
                more = keeper.pump().is_some();
            },
            () = std::future::ready(()), if more => more = keeper.pump().is_some(),
            Some(done) = asks.recv() => {
                keeper.freshen();
                // Who asked may have lost patience.
                let _waited = done.try_send(()).is_ok();
            },
            end = site.ended(serving) => return Ok(end),
            _ = tick.tick() => keeper.tick()?,
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
