//! The kernel's kprobes: what the manager attaches with.

use std::{
    os::fd::{AsFd as _, OwnedFd},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
};

use vfio_trace_common::{capture::StepSpec, role::Role, stats::ProbeStats};

use super::{
    diagnose::{explain, is_denied},
    manager::{Backend, Refusal},
    plan::Target,
    programs::Programs,
};
use crate::{kernel::KernelFiles, sys};

/// The kprobe PMU: its `type`, and the bit of `config` that makes a kretprobe.
#[derive(Clone, Copy, Debug)]
struct Pmu {
    kind: u32,
    retprobe: u64,
}

impl Pmu {
    fn read(files: &KernelFiles) -> Option<Self> {
        let kind = files.line("/sys/bus/event_source/devices/kprobe/type")?.trim().parse().ok()?;
        let format = files.line("/sys/bus/event_source/devices/kprobe/format/retprobe")?;
        let bit: u32 = format.trim().strip_prefix("config:")?.parse().ok()?;
        Some(Self { kind, retprobe: 1u64.checked_shl(bit)? })
    }
}

/// Keeps links from being closed while others are attached: the kernel does one at a time, and closing waits for all CPUs.
#[derive(Default)]
struct Gate {
    attaching: Mutex<bool>,
    open: Condvar,
}

impl Gate {
    fn attaching(&self, on: bool) {
        *self.attaching.lock().unwrap_or_else(PoisonError::into_inner) = on;
        self.open.notify_all();
    }

    fn wait(&self) {
        let attaching = self.attaching.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.open.wait_while(attaching, |attaching| *attaching));
    }
}

/// Programs, and the PMU that puts them at functions.
pub struct Kprobes {
    pub(super) programs: Programs,
    pmu: Option<Pmu>,
    gate: Arc<Gate>,
}

impl Kprobes {
    pub(super) fn new(programs: Programs, files: &KernelFiles) -> Self {
        Self { programs, pmu: Pmu::read(files), gate: Arc::default() }
    }
}

impl Backend for Kprobes {
    type Link = OwnedFd;

    fn set_step(&mut self, slot: u16, spec: &StepSpec) -> Result<(), Refusal> {
        self.programs
            .set_step(slot, spec)
            .map_err(|error| Refusal { reason: error.to_string(), denied: false })
    }

    fn attaching(&mut self, on: bool) {
        self.gate.attaching(on);
    }

    /// The return probe first: a call that begins between the two is then not remembered, instead of remembered for
    /// ever.
    fn attach(&mut self, target: &Target, slot: u16) -> Result<Vec<OwnedFd>, Refusal> {
        let Some(pmu) = self.pmu else {
            return Err("this kernel has no kprobes (no /sys/bus/event_source/devices/kprobe)".into());
        };
        self.programs.prepare(target.role).map_err(|error| Refusal::from(error.to_string().as_str()))?;
        let (enter, exit) = self.programs.fds(target.role).ok_or("its program is not loaded")?;
        let cookie = u64::from(slot) | target.takes;
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
                // What the best place said is what the user should read.
                Err(error) => {
                    first_error = first_error.or_else(|| {
                        Some(Refusal { reason: explain(target, &error), denied: is_denied(&error) })
                    });
                },
            }
        }
        Err(first_error.unwrap_or_else(|| "there is no name and no address to attach to".into()))
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

    /// On a thread of its own: the kernel waits for all CPUs at each, several times, and probes of what was loaded anew
    /// must not wait behind that. Should there be no thread to be had, they are closed here.
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
