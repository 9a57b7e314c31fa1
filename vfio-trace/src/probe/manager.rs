//! Keeps the attached probes in step with the kernel: attaches, detaches, and knows what became of each.

use std::{
    collections::HashSet,
    os::fd::{AsFd as _, OwnedFd},
};

use vfio_trace_common::{
    role::Role,
    stats::{MAX_PROBES, ProbeStats},
};

use super::{
    diagnose::{explain, is_denied},
    plan::{Planned, Target},
    programs::{LoadError, Programs},
};
use crate::{
    event::{FunctionNote, Note, ProbeReport},
    kernel::KernelFiles,
    sys,
};

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

/// One function of the plan.
#[derive(Debug)]
struct Probe {
    role: Role,
    symbol: String,
    module: Option<String>,
    address: Option<u64>,
    /// Slot in the statistics map.
    slot: u16,
    /// Open links: entry, and return. Empty if not attached.
    links: Vec<OwnedFd>,
    /// Counts of links that are closed by now.
    missed_before: u64,
    reason: Option<String>,
}

impl Probe {
    fn is(&self, role: Role, symbol: &str, module: Option<&str>) -> bool {
        self.role == role && self.symbol == symbol && self.module.as_deref() == module
    }

    /// Calls missed by its links; `None` where the kernel does not tell.
    fn missed(&self) -> Option<u64> {
        self.links
            .iter()
            .try_fold(self.missed_before, |sum, link| Some(sum.saturating_add(sys::missed(link.as_fd())?)))
    }

    fn detach(&mut self, reason: String) {
        self.missed_before = self.missed().unwrap_or(self.missed_before);
        self.links.clear();
        self.reason = Some(reason);
    }
}

/// What [`Manager::reconcile`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Functions newly probed.
    pub attached: Vec<String>,
    /// Functions no longer probed, with the reason.
    pub detached: Vec<(String, String)>,
    /// Functions that could not be probed, with the reason.
    pub failed: Vec<(String, String)>,
    /// The kernel refused one of them for want of a capability.
    pub denied: bool,
}

impl Changes {
    /// Adds what happened later.
    pub fn extend(&mut self, later: Self) {
        let Self { attached, detached, failed, denied } = later;
        self.attached.extend(attached);
        self.detached.extend(detached);
        self.failed.extend(failed);
        self.denied |= denied;
    }
}

/// Why a function could not be attached.
struct Refusal {
    reason: String,
    denied: bool,
}

impl From<&str> for Refusal {
    fn from(reason: &str) -> Self {
        Self { reason: reason.to_owned(), denied: false }
    }
}

/// All probes.
pub struct Manager {
    programs: Programs,
    pmu: Option<Pmu>,
    probes: Vec<Probe>,
    /// Pointers that were looked up, so that each is tried once per load of its module.
    pointers: HashSet<(Role, u64)>,
    /// What readers of the records must know, and have not been told.
    notes: Vec<Note>,
}

impl Manager {
    /// A manager without probes.
    pub fn new(programs: Programs, files: &KernelFiles) -> Self {
        Self {
            programs,
            pmu: Pmu::read(files),
            probes: Vec::new(),
            pointers: HashSet::new(),
            notes: Vec::new(),
        }
    }

    /// The programs.
    pub const fn programs_mut(&mut self) -> &mut Programs {
        &mut self.programs
    }

    /// What readers of the records must know of probes attached since the last call.
    pub fn take_notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.notes)
    }

    /// Attaches what the plan has and is not attached; detaches functions that are in it no longer, because their
    /// module is gone. `replaced` tells of a module that it was loaded anew: its old probes are dead.
    pub fn reconcile(&mut self, plan: &[Planned], replaced: impl Fn(&str) -> bool) -> Changes {
        let mut changes = Changes::default();
        for probe in &mut self.probes {
            let wanted = plan.iter().any(|planned| match planned {
                Planned::Attach(target) => probe.is(target.role, &target.symbol, target.module.as_deref()),
                Planned::Without { .. } => false,
            });
            let anew = probe.module.as_deref().is_some_and(&replaced);
            if !probe.links.is_empty() && (!wanted || anew) {
                let reason = format!("module {} was unloaded", probe.module.as_deref().unwrap_or("?"));
                changes.detached.push((probe.symbol.clone(), reason.clone()));
                probe.detach(reason);
            }
        }
        if !changes.detached.is_empty() {
            self.pointers.clear();
        }
        for planned in plan {
            match planned {
                Planned::Attach(target) => self.attach(target, &mut changes),
                Planned::Without { role, symbol, module, reason } => {
                    let probe = self.entry(*role, symbol, module.as_deref());
                    if let Some(probe) = probe
                        && probe.links.is_empty()
                    {
                        probe.reason = Some(reason.clone());
                    }
                },
            }
        }
        changes
    }

    /// Whether a pointer still has to be resolved and attached for a role.
    pub fn is_new_pointer(&self, role: Role, address: u64) -> bool {
        address != 0
            && !self.pointers.contains(&(role, address))
            && !self
                .probes
                .iter()
                .any(|probe| probe.role == role && probe.address == Some(address) && !probe.links.is_empty())
    }

    /// Whether a function of the vfio core is probed for a role.
    pub fn has(&self, role: Role) -> bool {
        self.probes.iter().any(|probe| {
            probe.role == role
                && !probe.links.is_empty()
                && probe.module.as_deref().is_none_or(|name| name == "vfio")
        })
    }

    /// Attaches a function that was met through a pointer.
    pub fn attach_pointer(&mut self, role: Role, address: u64, target: Option<Target>) -> Changes {
        let mut changes = Changes::default();
        self.pointers.insert((role, address));
        if let Some(target) = target {
            self.attach(&target, &mut changes);
        }
        changes
    }

    /// The probe of a function, made if it is new; `None` if there are too many.
    fn entry(&mut self, role: Role, symbol: &str, module: Option<&str>) -> Option<&mut Probe> {
        let known = self.probes.iter().position(|probe| probe.is(role, symbol, module));
        if known.is_none() {
            // Slot 0 is nobody's.
            let slot =
                u16::try_from(self.probes.len() + 1).ok().filter(|slot| u32::from(*slot) < MAX_PROBES)?;
            self.probes.push(Probe {
                role,
                symbol: symbol.to_owned(),
                module: module.map(str::to_owned),
                address: None,
                slot,
                links: Vec::new(),
                missed_before: 0,
                reason: None,
            });
        }
        let at = known.unwrap_or(self.probes.len() - 1);
        self.probes.get_mut(at)
    }

    fn attach(&mut self, target: &Target, changes: &mut Changes) {
        let Some(probe) = self.entry(target.role, &target.symbol, target.module.as_deref()) else {
            let reason = format!("more than {} functions to probe", MAX_PROBES - 1);
            changes.failed.push((target.symbol.clone(), reason));
            return;
        };
        if !probe.links.is_empty() {
            return;
        }
        let slot = probe.slot;
        let result = self.prepare_step(target, slot).and_then(|()| self.links(target, slot));
        // `entry` found it a moment ago.
        let Some(probe) = self.entry(target.role, &target.symbol, target.module.as_deref()) else { return };
        probe.address = target.address;
        match result {
            Ok(links) => {
                probe.links = links;
                probe.reason = None;
                changes.attached.push(target.symbol.clone());
            },
            Err(Refusal { reason, denied }) => {
                changes.denied |= denied;
                if probe.reason.as_ref() != Some(&reason) {
                    changes.failed.push((target.symbol.clone(), reason.clone()));
                }
                probe.reason = Some(reason);
            },
        }
    }

    /// Tells the programs what a step is about, before its first call.
    fn prepare_step(&mut self, target: &Target, slot: u16) -> Result<(), Refusal> {
        let Some(step) = &target.step else { return Ok(()) };
        self.programs
            .set_step(slot, &step.spec)
            .map_err(|error| Refusal { reason: error.to_string(), denied: false })?;
        self.notes.push(Note::Function(FunctionNote {
            probe: slot,
            function: target.symbol.clone(),
            module: target.module.clone(),
            returns: step.returns,
            params: step.params,
        }));
        Ok(())
    }

    /// Opens the links of one function. The return probe first: a call that begins between the two is then not
    /// remembered, instead of remembered for ever.
    fn links(&mut self, target: &Target, slot: u16) -> Result<Vec<OwnedFd>, Refusal> {
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

    /// Lets all probes count and emit, or stops them.
    pub fn enable(&mut self, on: bool) -> Result<(), LoadError> {
        self.programs.enable(on)
    }

    /// Number of functions that are probed now.
    pub fn attached(&self) -> usize {
        self.probes.iter().filter(|probe| !probe.links.is_empty()).count()
    }

    /// What became of each function, in the order of the plan.
    pub fn report(&self) -> Vec<ProbeReport> {
        let mut counted = Vec::new();
        self.probes
            .iter()
            .map(|probe| {
                let ProbeStats { hits, records, lost, unmatched } = self.programs.stats(probe.slot);
                // A program serves all functions of its role; what it did not see is told with the first of them.
                let recursion = if counted.contains(&probe.role) || probe.links.is_empty() {
                    Some(0)
                } else {
                    counted.push(probe.role);
                    self.programs.recursion_misses(probe.role)
                };
                ProbeReport {
                    name: probe.symbol.clone(),
                    role: probe.role,
                    module: probe.module.clone(),
                    attached: !probe.links.is_empty(),
                    reason: probe.reason.clone(),
                    hits,
                    records,
                    lost,
                    missed: probe
                        .missed()
                        .zip(recursion)
                        .map(|(missed, recursion)| missed.saturating_add(recursion)),
                    unmatched,
                }
            })
            .collect()
    }
}
