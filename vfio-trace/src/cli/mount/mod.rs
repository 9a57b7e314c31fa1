//! `vfio-trace mount DIR`: all views as files, with debugfs' layout, until it is told to stop.

mod debug;
mod live;
mod looks;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, atomic::AtomicBool},
};

use super::{
    error::CliError,
    kernel_args::KernelArgs,
    output::note,
    parse,
    past::{FromArgs, PastState, say_unnamed},
    session::block_on,
    signals::{HangupRule, SignalLimit, StopSignals},
};
use crate::{
    kernel::caps,
    mount::{
        self, DeviceExerciser, FuseMount, GuardError, MountError, MountLock, MountTarget, MountTree, Refresh,
        UnmountGuard,
    },
    state::HostState,
    units::{advice::ErrorAdvice, human},
};

/// Name of the verb that the guard is started with.
pub(super) const GUARD_VERB: &str = "mount-guard";

/// Arguments of `mount`.
#[derive(Debug, clap::Args)]
pub(super) struct MountArgs {
    /// Directory to mount on: what is /sys/kernel/debug for debugfs. It gets DIR/vfio/DEVICE/migration/state and so on,
    /// and DIR/vfio/DEVICE/timeline.json.
    dir: PathBuf,
    /// Let other users look as well. Without it only the user who mounts can, not even root if that is another one.
    #[arg(long)]
    allow_other: bool,
    /// Let what is written to DIR/vfio/DEVICE/migration/hisi_acc/debug be done, if nobody uses the device: 0 save, 1
    /// resume, 2 I/O test, as `vfio-trace exercise` does it. Reading the file gives the last result.
    #[arg(long, conflicts_with = "from")]
    allow_exercise: bool,
    /// Events that timeline.json keeps per device, the last ones.
    #[arg(long, value_name = "N", default_value = "4096", value_parser = clap::value_parser!(u32).range(1..))]
    events: u32,
    /// Size of the buffer between kernel and vfio-trace.
    #[arg(long, value_name = "SIZE", default_value = "4M", value_parser = parse::bytes, conflicts_with = "from")]
    buffer: u32,
    /// Also print the eBPF programs' own messages, and which functions are probed.
    #[arg(long, short, conflicts_with = "from")]
    verbose: bool,
    /// Say in drivers' files where their data is from, on lines that begin with #.
    #[arg(long)]
    annotate: bool,
    #[command(flatten)]
    from: FromArgs,
    #[command(flatten)]
    kernel: KernelArgs,
}

/// Arguments of the guard; `mount` starts it.
#[derive(Debug, clap::Args)]
pub(super) struct GuardArgs {
    /// Where its parent mounts.
    dir: PathBuf,
}

/// Runs `vfio-trace mount`.
pub(super) fn main(args: MountArgs) -> Result<u8, CliError> {
    // One thread until all capabilities are dropped.
    block_on(run(args))
}

/// Runs the guard: `vfio-trace mount-guard`, which only `mount` starts.
pub(super) fn guard_main(args: &GuardArgs) -> Result<u8, CliError> {
    match mount::guard(&args.dir) {
        Ok(()) => Ok(0),
        Err(why) => Err(still_mounted(&args.dir, &why)),
    }
}

fn still_mounted(dir: &Path, why: &GuardError) -> CliError {
    let dir = dir.display();
    CliError::failed(format!("cannot unmount {dir}"), why, format!("unmount it yourself: umount -l {dir}"))
}

/// Reason why the loop ended.
enum MountEnd {
    /// A signal asked for the end.
    Signal,
    /// There is no mount any more.
    Unmounted(io::Result<()>),
}

/// Directory that is about to be mounted on, with the lock on it and the signals that end the mount.
struct MountPoint {
    target: MountTarget,
    claim: Option<MountLock>,
    allow_other: bool,
    signals: StopSignals,
}

impl MountPoint {
    /// Returns the directory of the arguments, if it can be mounted on.
    fn look(args: &MountArgs) -> Result<MountTarget, CliError> {
        let target = MountTarget::look(&args.dir).map_err(|why| not_mounted(&args.dir, &why))?;
        mount::check_device().map_err(|why| not_mounted(&target.path, &why))?;
        if target.recovered > 0 {
            note("a dead mount that an earlier vfio-trace left there was taken away");
        }
        if target.hides {
            note("the directory is not empty: what is in it is hidden until it is unmounted");
        }
        Ok(target)
    }

    /// Makes signals wait from here on until they are asked for.
    fn new(args: &MountArgs, target: MountTarget) -> Result<Self, CliError> {
        // A hangup ends the process at once: then the guard unmounts.
        let stop = Arc::new(AtomicBool::new(false));
        let signals = StopSignals::heed(&stop, SignalLimit::Unlimited, HangupRule::Untouched)?;
        Ok(Self { target, claim: None, allow_other: args.allow_other, signals })
    }

    /// Mounts. A process that looks there waits until the mount is served. In any case the guard unmounts it.
    fn mount(&mut self, writable: bool) -> Result<(FuseMount, UnmountGuard), CliError> {
        let claim = self.target.claim().map_err(|why| not_mounted(&self.target.path, &why))?;
        self.claim = Some(claim);
        let no_guard = |why: GuardError| {
            CliError::failed(format!("cannot mount on {}", self.target.path.display()), why, "try again")
        };
        let mut guard = UnmountGuard::start(GUARD_VERB, &self.target.path).map_err(no_guard)?;
        let mounted = mount::mount(&self.target.path, self.allow_other, writable)
            .map_err(|why| not_mounted(&self.target.path, &why))?;
        guard.watch(&mounted.device).map_err(no_guard)?;
        Ok((mounted, guard))
    }

    fn serve(
        &self,
        mounted: FuseMount,
        (host, tree): (Arc<Mutex<HostState>>, MountTree),
        fresh: Box<dyn Refresh>,
        exercise: Option<Box<dyn DeviceExerciser>>,
    ) -> Result<mount::FuseServer, CliError> {
        let serving =
            mount::serve(mounted.fuse, self.allow_other, host, tree, fresh, exercise).map_err(|why| {
                not_mounted(&self.target.path, &MountError::Failed { call: "the kernel's FUSE", why })
            })?;
        note(&format!("mounted on {}; Ctrl-C unmounts it", self.target.path.display()));
        Ok(serving)
    }

    /// Waits for a signal, or until another process has unmounted it.
    async fn ended(&mut self, serving: &mut mount::FuseServer) -> MountEnd {
        tokio::select! {
            ended = &mut serving.ended => {
                MountEnd::Unmounted(ended.unwrap_or_else(|_| Err(io::Error::other("its thread has panicked"))))
            },
            _ = self.signals.next() => MountEnd::Signal,
        }
    }

    /// Unmounts, if that was not done by another process, and says so.
    fn end(&self, end: MountEnd, guard: UnmountGuard) -> Result<(), CliError> {
        match end {
            MountEnd::Signal => guard.unmount().map_err(|why| still_mounted(&self.target.path, &why)),
            MountEnd::Unmounted(Ok(())) => {
                note("somebody else has unmounted it");
                Ok(())
            },
            MountEnd::Unmounted(Err(why)) => {
                let todo = "mount it again; if this comes back, report it as a bug";
                Err(CliError::failed("the file system has ended", why, todo))
            },
        }
    }
}

async fn run(args: MountArgs) -> Result<u8, CliError> {
    let target = MountPoint::look(&args)?;
    if args.from.is_given() {
        // Before signals wait: a long recording can be interrupted.
        let past = args.from.read(args.events as usize)?;
        let tree = MountTree::new().annotated(args.annotate);
        past_of(past, tree, MountPoint::new(&args, target)?).await
    } else {
        let site = MountPoint::new(&args, target)?;
        live::run(&args, site).await
    }
}

/// Refresh of a recording, whose state never changes.
struct NoRefresh;

impl Refresh for NoRefresh {
    fn refresh(&self) {}
}

/// Shows a moment of a recording.
async fn past_of(past: PastState, tree: MountTree, mut site: MountPoint) -> Result<u8, CliError> {
    let (mounted, guard) = site.mount(false)?;
    caps::keep_only(&[])?;
    note(&past.describe());
    past.unknown().into_iter().for_each(note);
    let (host, through) = past.into_parts();
    let odd = mount::without_folder(&host);
    if odd > 0 {
        let devices = human::count(odd as u64, "device");
        note(&format!(
            "{devices} cannot have a folder: the name has a /, or is . or ..; `vfio-trace list` shows all"
        ));
    }
    say_unnamed(host.unnamed_devices());
    let mut serving = site.serve(mounted, (Arc::new(Mutex::new(host)), tree), Box::new(NoRefresh), None)?;
    let end = site.ended(&mut serving).await;
    site.end(end, guard)?;
    through.code()
}

fn not_mounted(dir: &Path, why: &impl ErrorAdvice) -> CliError {
    CliError::advised(format!("cannot mount on {}", dir.display()), why)
}
