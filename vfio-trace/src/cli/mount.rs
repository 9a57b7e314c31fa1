//! `vfio-trace mount DIR`: all views as files, with debugfs' layout, until it is told to stop.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    time::{Duration, Instant},
};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};

use super::{
    error::{CliError, FAILED, NOT_PERMITTED, NOT_SUPPORTED, USAGE},
    kernel_args::KernelArgs,
    output::note,
    parse,
    session::say_changes,
};
use crate::{
    event::Record,
    fs::{self, About, DirError, Freshen, Guard, GuardError, Losses, MountError, Target, World},
    kernel::{KernelFiles, VfioDevice},
    probe::LoadOptions,
    source::{
        clock::{anchor, mono_ns},
        live::{Live, LiveError, LogTo, RESCAN},
    },
};

/// Name of the verb that the guard is started with.
pub(super) const GUARD_VERB: &str = "mount-guard";

/// How long somebody who looks waits for the world to be brought up to date. What is known by then is shown.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long records are taken in for one who waits.
const CATCH_UP: Duration = Duration::from_millis(100);

/// What changes without an event is looked for no more often than this, however often files are read.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A look goes over all open files of all processes: it may take this part of the time, one in so many.
const LOOK_SHARE: u32 = 10;

/// How often losses are counted, if somebody looks.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// Arguments of `mount`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Directory to mount on: what is /sys/kernel/debug for debugfs. It gets DIR/vfio/DEVICE/migration/state and so on,
    /// and DIR/vfio/DEVICE/timeline.json.
    dir: PathBuf,
    /// Let other users look as well. Without it only the user who mounts can, not even root if that is another one.
    #[arg(long)]
    allow_other: bool,
    /// Events that timeline.json keeps per device, the last ones.
    #[arg(long, value_name = "N", default_value = "4096", value_parser = clap::value_parser!(u32).range(1..))]
    events: u32,
    /// Size of the buffer between kernel and vfio-trace.
    #[arg(long, value_name = "SIZE", default_value = "4M", value_parser = parse::bytes)]
    buffer: u32,
    /// Also print the eBPF programs' own messages, and which functions are probed.
    #[arg(long, short)]
    verbose: bool,
    /// Say in drivers' files where their data is from, on lines that begin with #.
    #[arg(long)]
    annotate: bool,
    #[command(flatten)]
    kernel: KernelArgs,
}

/// Arguments of the guard; `mount` starts it.
#[derive(Debug, clap::Args)]
pub(super) struct GuardArgs {
    /// Where its parent mounts.
    dir: PathBuf,
}

/// `vfio-trace mount`.
pub(super) fn main(args: Args) -> Result<u8, CliError> {
    // One thread until all capabilities are dropped.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|why| CliError::failed("cannot start", why, "check the limit of open files (ulimit -n)"))?;
    runtime.block_on(run(args))
}

/// The guard.
pub(super) fn guard_main(args: &GuardArgs) -> Result<u8, CliError> {
    match fs::guard(&args.dir) {
        Ok(()) => Ok(0),
        Err(why) => Err(still_mounted(&args.dir, &why)),
    }
}

fn still_mounted(dir: &Path, why: &GuardError) -> CliError {
    let dir = dir.display();
    CliError::failed(format!("cannot unmount {dir}"), why, format!("unmount it yourself: umount -l {dir}"))
}

/// Asks the loop that takes in records to bring the world up to date.
struct Asker(UnboundedSender<mpsc::SyncSender<()>>);

impl Freshen for Asker {
    fn freshen(&self) {
        let (done, wait) = mpsc::sync_channel(1);
        if self.0.send(done).is_ok() {
            // Late or never: then what is known has to do.
            let _answered = wait.recv_timeout(PATIENCE).is_ok();
        }
    }
}

/// The live source, and the world that it keeps up to date.
struct Keeper {
    live: Live,
    files: KernelFiles,
    world: Arc<Mutex<World>>,
    verbose: bool,
    undecoded: u64,
    /// When the kernel's memory was looked at last, and how long that took; `None` if it cannot be.
    looked: Option<(Instant, Duration)>,
    counted: Instant,
}

impl Keeper {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in a batch of what has arrived; gives the time of the latest record, `None` if there was none.
    fn pump(&mut self) -> Option<u64> {
        let records = self.live.take();
        let mut latest = records.first().map(|_| 0);
        for bytes in &records {
            match Record::decode(bytes) {
                Ok(record) => {
                    say_changes(&self.live.follow(&record), self.verbose);
                    self.world().push(&record);
                    latest = latest.max(Some(record.header.end_ns));
                },
                Err(error) => {
                    self.undecoded += 1;
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
        let stale = self.world().take_stale();
        match self.looked {
            Some((at, took)) if stale || at.elapsed() >= LOOK_EVERY.max(took * LOOK_SHARE) => self.look(),
            Some(_) => {},
            None => self.exist(),
        }
        if self.counted.elapsed() >= COUNT_EVERY {
            self.count();
        }
        self.world().expire(mono_ns());
    }

    /// Reads the kernel's memory again: some things happen to devices without an event.
    fn look(&mut self) {
        let start = Instant::now();
        if let Err(error) = self.live.look_again() {
            self.blind(&error);
        } else {
            self.looked = Some((start, start.elapsed()));
        }
        self.catch_up();
        self.exist();
        // What this look has shown needs no other one.
        self.world().take_stale();
    }

    /// The first look, which also tells who holds the devices.
    fn first_look(&mut self) {
        let start = Instant::now();
        if let Err(error) = self.live.take_inventory() {
            self.blind(&error);
        } else {
            self.looked = Some((start, start.elapsed()));
        }
        self.catch_up();
        self.exist();
    }

    fn blind(&mut self, error: &LiveError) {
        self.looked = None;
        note(&format!("devices, states and holders are not known until something happens: {error}"));
    }

    /// Tells the world which devices there are.
    fn exist(&self) {
        let names: BTreeSet<String> =
            VfioDevice::all(&self.files).into_iter().map(|device| device.name).collect();
        self.world().exist(&names, mono_ns());
    }

    fn count(&mut self) {
        self.counted = Instant::now();
        let lost = self.live.report().iter().fold(0, |sum: u64, probe| sum.saturating_add(probe.lost));
        self.world().lose(Losses { lost, undecoded: self.undecoded });
    }

    /// What is due every now and then although nobody looks.
    fn tick(&mut self) -> Result<(), LiveError> {
        say_changes(&self.live.rescan()?, self.verbose);
        self.pump();
        self.world().expire(mono_ns());
        Ok(())
    }
}

/// Why the loop ended.
enum End {
    /// A signal asked for it.
    Signal,
    /// There is no mount any more.
    Unmounted(io::Result<()>),
}

async fn run(args: Args) -> Result<u8, CliError> {
    let cannot_signal =
        |why: io::Error| CliError::failed("cannot wait for signals", why, "report this as a bug");
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot_signal)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot_signal)?;
    let target = Target::look(&args.dir).map_err(|why| wrong_dir(&args.dir, &why))?;
    let cannot_mount = |why: MountError| not_mounted(&target.path, &why);
    fs::check_device().map_err(cannot_mount)?;
    if target.recovered > 0 {
        note("a dead mount that an earlier vfio-trace left there was taken away");
    }
    if target.hides {
        note("the directory is not empty: what is in it is hidden until it is unmounted");
    }

    let files = args.kernel.files()?;
    let log: Option<Box<dyn log::Log>> = args.verbose.then(|| Box::new(LogTo(note)) as Box<dyn log::Log>);
    let options = LoadOptions { buffer_bytes: args.buffer, log: args.verbose };
    let (live, changes) = Live::open(files.clone(), options, log)?;
    say_changes(&changes, args.verbose);
    let no_guard = |why: GuardError| {
        CliError::failed(format!("cannot mount on {}", target.path.display()), why, "try again")
    };
    let mut guard = Guard::start(GUARD_VERB, &target.path).map_err(no_guard)?;
    // From here on the guard unmounts, whatever comes.
    let mounted = fs::mount(&target.path, args.allow_other).map_err(cannot_mount)?;
    guard.watch(&mounted.device).map_err(no_guard)?;
    live.drop_privileges()
        .map_err(|why| CliError::failed("cannot give up capabilities", why, "report this as a bug"))?;
    if !live.has_vfio() {
        note("vfio is not loaded yet; waiting for it");
    }

    let world = World::new(about(), args.events as usize, mono_ns()).annotated(args.annotate);
    let (asker, mut asks) = unbounded_channel();
    let mut keeper = Keeper {
        live,
        files,
        world: Arc::new(Mutex::new(world)),
        verbose: args.verbose,
        undecoded: 0,
        looked: None,
        counted: Instant::now(),
    };
    keeper.live.enable()?;
    // After the switch: an arc that comes in between is seen by both, and never by neither.
    keeper.first_look();
    let world = Arc::clone(&keeper.world);
    let mut serving = fs::serve(mounted.fuse, args.allow_other, world, Box::new(Asker(asker)))
        .map_err(|why| cannot_mount(MountError::Failed { call: "the kernel's FUSE", why }))?;
    note(&format!("mounted on {}; Ctrl-C unmounts it", target.path.display()));

    match attend(&mut keeper, &mut asks, &mut serving, [&mut interrupt, &mut terminate]).await? {
        End::Signal => {
            guard.unmount().map_err(|why| still_mounted(&target.path, &why))?;
        },
        End::Unmounted(Ok(())) => note("somebody else has unmounted it"),
        End::Unmounted(Err(why)) => {
            let todo = "mount it again; if this comes back, report it as a bug";
            return Err(CliError::failed("the file system has ended", why, todo));
        },
    }
    Ok(0)
}

/// Keeps the world up to date until the end.
async fn attend(
    keeper: &mut Keeper,
    asks: &mut UnboundedReceiver<mpsc::SyncSender<()>>,
    serving: &mut fs::Serving,
    [interrupt, terminate]: [&mut tokio::signal::unix::Signal; 2],
) -> Result<End, CliError> {
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
            ended = &mut serving.ended => {
                let result = ended.unwrap_or_else(|_| Err(io::Error::other("its thread has panicked")));
                return Ok(End::Unmounted(result));
            },
            _ = interrupt.recv() => return Ok(End::Signal),
            _ = terminate.recv() => return Ok(End::Signal),
            _ = tick.tick() => keeper.tick()?,
        }
    }
}

fn about() -> About {
    let uname = rustix::system::uname();
    About {
        kernel: uname.release().to_string_lossy().into_owned(),
        host: Some(uname.nodename().to_string_lossy().into_owned()),
        clock: anchor(),
    }
}

fn wrong_dir(dir: &Path, why: &DirError) -> CliError {
    let code = match why {
        DirError::Missing | DirError::NotDirectory => USAGE,
        DirError::Busy | DirError::Dead { .. } | DirError::Other(_) => FAILED,
    };
    CliError::with_code(code, format!("cannot mount on {}", dir.display()), why, why.todo(dir))
}

fn not_mounted(dir: &Path, why: &MountError) -> CliError {
    let (code, todo) = match why {
        MountError::NoFuse(_) => {
            (NOT_SUPPORTED, "load it: modprobe fuse; a container must be given the device /dev/fuse")
        },
        MountError::Device(_) => (NOT_PERMITTED, "run it as root, or get access to /dev/fuse"),
        MountError::Root => (NOT_PERMITTED, "run it as root, or install fuse3"),
        MountError::Helper(_) => (NOT_PERMITTED, "run it as root, or do what it says"),
        MountError::Failed { why, .. } if why.kind() == io::ErrorKind::PermissionDenied => {
            (NOT_PERMITTED, "run it as root; a security module may forbid it all the same")
        },
        MountError::Failed { .. } => (FAILED, "try another directory"),
    };
    CliError::with_code(code, format!("cannot mount on {}", dir.display()), why, todo)
}
