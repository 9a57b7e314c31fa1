//! Backend of the manager: the kernel's kprobes.

use std::{
    iter,
    num::NonZero,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    panic,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use vfio_trace_common::{capture::StepSpec, role::Role, stats::ProbeStats};

use super::{
    diagnose::{explain, is_denied},
    manager::{AttachError, ProbeBackend},
    plan::ProbeTarget,
    programs::BpfPrograms,
};
use crate::{kernel::KernelFiles, sys};

/// kprobe PMU: its `type`, and the bit of `config` that makes a kretprobe.
#[derive(Clone, Copy, Debug)]
struct KprobePmu {
    kind: u32,
    retprobe: u64,
}

impl KprobePmu {
    fn read(files: &KernelFiles) -> Option<Self> {
        let kind = files.line("/sys/bus/event_source/devices/kprobe/type")?.trim().parse().ok()?;
        let format = files.line("/sys/bus/event_source/devices/kprobe/format/retprobe")?;
        let bit: u32 = format.trim().strip_prefix("config:")?.parse().ok()?;
        Some(Self { kind, retprobe: 1u64.checked_shl(bit)? })
    }
}

/// Gate that keeps links from being closed while others are attached: the kernel does one at a time, and closing waits
/// for all CPUs.
#[derive(Default)]
struct AttachGate {
    attaching: Mutex<bool>,
    open: Condvar,
}

impl AttachGate {
    fn attaching(&self, on: bool) {
        *self.attaching.lock().unwrap_or_else(PoisonError::into_inner) = on;
        self.open.notify_all();
    }

    fn wait(&self) {
        let attaching = self.attaching.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.open.wait_while(attaching, |attaching| *attaching));
    }
}

/// eBPF programs, and the PMU that attaches them to functions.
///
/// Owned by [`ProbeManager`](super::ProbeManager), which takes another backend in tests.
pub struct KprobeBackend {
    pub(super) programs: BpfPrograms,
    pmu: Option<KprobePmu>,
    gate: Arc<AttachGate>,
}

impl KprobeBackend {
    pub(super) fn new(programs: BpfPrograms, files: &KernelFiles) -> Self {
        Self { programs, pmu: KprobePmu::read(files), gate: Arc::default() }
    }

    /// Returns the programs and the cookie to attach to a function; an error if its programs are not loaded.
    fn work<'a>(&'a self, target: &'a ProbeTarget, slot: u16) -> Result<AttachJob<'a>, AttachError> {
        let pmu = self
            .pmu
            .ok_or("how kprobes are attached cannot be read (/sys/bus/event_source/devices/kprobe)")?;
        let (enter, exit) = self.programs.fds(target.role).ok_or("its program is not loaded")?;
        Ok(AttachJob { target, cookie: u64::from(slot) | target.cookie_bits, pmu, enter, exit })
    }
}

/// A function, and the programs and the cookie to attach to it.
struct AttachJob<'a> {
    target: &'a ProbeTarget,
    cookie: u64,
    pmu: KprobePmu,
    enter: BorrowedFd<'a>,
    exit: Option<BorrowedFd<'a>>,
}

impl AttachJob<'_> {
    /// Attaches the return probe, then the entry probe: a call that begins between the two is then not stored, instead
    /// of stored for ever.
    fn attach(&self) -> Result<Vec<OwnedFd>, AttachError> {
        let Self { target, cookie, pmu, enter, exit } = *self;
        let mut first_error = None;
        for place in target.places() {
            let attach = |program, config| sys::attach_kprobe(program, (pmu.kind, config), &place, cookie);
            let links = (|| {
                let mut links = Vec::with_capacity(2);
                if let Some(exit) = exit {
                    links.push(attach(exit, pmu.retprobe)?);
                }
                links.push(attach(enter, 0)?);
                Ok(links)
            })();
            match links {
                Ok(links) => return Ok(links),
                // The user should read the error of the best place.
                Err(error) => {
                    first_error = first_error.or_else(|| {
                        Some(AttachError { reason: explain(target, &error), denied: is_denied(&error) })
                    });
                },
            }
        }
        Err(first_error.unwrap_or_else(|| "there is no name and no address to attach to".into()))
    }
}

/// Number of threads that attach. For each probe the kernel searches all its jump labels under one lock, and then arms
/// it under others. One thread can do the first while another does the second; more threads would wait for each other.
const LANES: usize = 2;

/// Runs jobs on as many threads as are useful, beginning with the first job. Returns the results in the order of the
/// jobs.
fn side_by_side<T: Send>(count: usize, run: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let lane = || {
        let mine = iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed)).take_while(|at| *at < count);
        mine.map(|at| (at, run(at))).collect::<Vec<_>>()
    };
    let lanes = thread::available_parallelism().map_or(1, NonZero::get).min(LANES).min(count);
    let mut all = thread::scope(|scope| {
        let other = |_| thread::Builder::new().name("attach".to_owned()).spawn_scoped(scope, lane).ok();
        let others: Vec<_> = (1..lanes).filter_map(other).collect();
        let mut all = lane();
        for other in others {
            all.extend(other.join().unwrap_or_else(|panic| panic::resume_unwind(panic)));
        }
        all
    });
    all.sort_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, done)| done).collect()
}

impl ProbeBackend for KprobeBackend {
    type Link = OwnedFd;

    fn set_step(&mut self, slot: u16, spec: &StepSpec) -> Result<(), AttachError> {
        self.programs
            .set_step(slot, spec)
            .map_err(|error| AttachError { reason: error.to_string(), denied: false })
    }

    fn attaching(&mut self, on: bool) {
        self.gate.attaching(on);
    }

    fn attach(&mut self, functions: &[(&ProbeTarget, u16)]) -> Vec<Result<Vec<OwnedFd>, AttachError>> {
        let prepare = |(target, _slot): &(&ProbeTarget, u16)| {
            self.programs.prepare(target.role).map_err(|error| AttachError::from(error.to_string().as_str()))
        };
        let prepared: Vec<Result<(), AttachError>> = functions.iter().map(prepare).collect();
        let this = &*self;
        let works: Vec<Result<AttachJob<'_>, AttachError>> = functions
            .iter()
            .zip(prepared)
            .map(|(&(target, slot), prepared)| prepared.and_then(|()| this.work(target, slot)))
            .collect();
        side_by_side(works.len(), |at| match works.get(at) {
            Some(Ok(work)) => work.attach(),
            Some(Err(refusal)) => Err(refusal.clone()),
            None => Err("it was never tried".into()),
        })
    }

    fn address(&self, link: &OwnedFd) -> Option<u64> {
        sys::address(link.as_fd())
    }

    fn missed(&self, link: &OwnedFd) -> Option<u64> {
        sys::missed(link.as_fd())
    }

    fn recursion_misses(&self, role: Role) -> Option<u64> {
        self.programs.recursion_misses(role)
    }

    fn stats(&self, slot: u16) -> ProbeStats {
        self.programs.stats(slot)
    }

    /// Closes links on a thread of its own: the kernel waits for all CPUs at each, several times, and probes of a newly
    /// loaded module must not wait for that. If there is no thread, the links are closed here.
    fn close(&mut self, links: Vec<OwnedFd>) {
        let gate = Arc::clone(&self.gate);
        let close = move || {
            for link in links {
                gate.wait();
                drop(link);
            }
        };
        let _closed_meanwhile = thread::Builder::new().name("close-probes".to_owned()).spawn(close);
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, time::Duration};

    use super::*;

    #[test]
    fn what_is_done_side_by_side_keeps_its_order() {
        let lanes = thread::available_parallelism().map_or(1, NonZero::get).min(LANES);
        let (threads, came) = (Mutex::new(HashSet::new()), Mutex::new([0; 10]));
        let another = Condvar::new();
        let run = |at: usize| {
            threads.lock().unwrap().insert(thread::current().id());
            // Jobs meet in pairs, so that no thread runs several in a row.
            let mut came = came.lock().unwrap();
            came[at / 2] += 1;
            another.notify_all();
            let alone = |came: &mut [usize; 10]| lanes > 1 && came[at / 2] < 2;
            let (_came, waited) = another.wait_timeout_while(came, Duration::from_secs(10), alone).unwrap();
            assert!(!waited.timed_out(), "{at} has met nobody");
            at * 2
        };
        let done = side_by_side(20, run);
        assert_eq!(done, (0..20).map(|at| at * 2).collect::<Vec<_>>());
        assert_eq!(threads.lock().unwrap().len(), lanes);
        assert_eq!(side_by_side(0, |at| at), Vec::<usize>::new());
        assert_eq!(side_by_side(1, |at| at), [0]);
    }
}
