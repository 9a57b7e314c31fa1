//! Keeps the attached probes in step with the kernel: attaches, detaches, and knows the state of each probe.

use std::collections::{BTreeMap, HashSet};

use vfio_trace_common::{
    capture::StepSpec,
    role::Role,
    stats::{INVENTORY_SLOT, MAX_PROBES, ProbeStats},
};

use super::{
    kprobes::KprobeBackend,
    plan::{PlannedProbe, ProbeTarget},
    programs::{BpfPrograms, ProgramLoadError},
};
use crate::{
    event::{FunctionNote, GapFunction, ProbeGap, ProbeReport, RecordNote},
    kernel::{KernelFiles, ModuleStamp, ReturnKind},
};

/// Interface that attaches probes: to the kernel, or to a simulation in tests.
pub trait ProbeBackend {
    /// Attached probe. It is detached when it is dropped.
    type Link;

    /// Stores a step's description for the programs, before its first call.
    fn set_step(&mut self, slot: u16, spec: &StepSpec) -> Result<(), AttachError>;
    /// Announces the begin or end of attaching: in between, the kernel must not be kept busy by anything else.
    fn attaching(&mut self, on: bool);
    /// Attaches functions, each with its slot, urgent ones first. Returns the results in this order.
    fn attach(&mut self, functions: &[(&ProbeTarget, u16)]) -> Vec<Result<Vec<Self::Link>, AttachError>>;
    /// Returns the address of a link's function; `None` if the kernel does not tell.
    fn address(&self, link: &Self::Link) -> Option<u64>;
    /// Returns the number of calls that a link has missed; `None` if the kernel does not tell.
    fn missed(&self, link: &Self::Link) -> Option<u64>;
    /// Returns the number of calls that a role's programs have missed because another program ran on that CPU; `None`
    /// if the kernel does not tell.
    fn recursion_misses(&self, role: Role) -> Option<u64>;
    /// Returns the counts of a probe.
    fn stats(&self, slot: u16) -> ProbeStats;
    /// Closes links that are not needed any more.
    fn close(&mut self, links: Vec<Self::Link>);
}

/// State of one function that is or was to be probed.
#[derive(Debug)]
struct ManagedProbe<L> {
    role: Role,
    symbol: String,
    module: Option<String>,
    address: Option<u64>,
    /// Slot in the statistics map.
    slot: u16,
    /// Open links: return and entry. Empty if not attached.
    links: Vec<L>,
    /// Number of calls missed by links that are closed; `None` if the kernel does not tell.
    missed_before: Option<u64>,
    reason: Option<String>,
    /// True if the function was found through a pointer, so that no plan has it.
    by_pointer: bool,
    /// Load of its module during which it was attached.
    load: Option<ModuleStamp>,
    /// Facts about a step that the programs and the readers of its records have got.
    step: Option<StepDetails>,
}

/// Facts about a step that depend on its driver, which may be rebuilt while the function stays.
type StepDetails = (StepSpec, ReturnKind, u32);

impl<L> ManagedProbe<L> {
    fn is(&self, role: Role, symbol: &str, module: Option<&str>) -> bool {
        self.role == role && self.symbol == symbol && self.module.as_deref() == module
    }

    /// Returns the number of calls missed by all links so far; `None` if the kernel does not tell.
    fn missed(&self, missed: impl Fn(&L) -> Option<u64>) -> Option<u64> {
        self.links.iter().try_fold(self.missed_before?, |sum, link| Some(sum.saturating_add(missed(link)?)))
    }

    /// Returns the reason why the function can never be called again, if there is one.
    fn gone(&self, load: impl Fn(&str) -> Option<ModuleStamp>) -> Option<String> {
        let module = self.module.as_deref()?;
        // Without a load it was attached before its module was in the list: see `adopt`.
        let same = load(module).is_some_and(|now| self.load.is_none_or(|then| now.is_same(&then)));
        (!same).then(|| format!("module {module} was unloaded"))
    }

    fn function(&self) -> ProbedFunction {
        ProbedFunction { symbol: self.symbol.clone(), module: self.module.clone(), role: self.role }
    }
}

/// Function whose probe has changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProbedFunction {
    /// Symbol of the function.
    pub symbol: String,
    /// Name of its module; `None` for the kernel image.
    pub module: Option<String>,
    /// Role of the function.
    pub role: Role,
}

impl From<&ProbedFunction> for GapFunction {
    fn from(function: &ProbedFunction) -> Self {
        Self { function: function.symbol.clone(), role: function.role }
    }
}

impl From<&ProbeTarget> for ProbedFunction {
    fn from(target: &ProbeTarget) -> Self {
        Self { symbol: target.symbol.clone(), module: target.module.clone(), role: target.role }
    }
}

/// Changes that one call of the manager has made, such as [`ProbeManager::reconcile`].
///
/// The live source reports them to the user, and adds `gaps`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbeChanges {
    /// Functions that are probed now.
    pub attached: Vec<ProbedFunction>,
    /// Functions that are no longer probed, with the reason.
    pub detached: Vec<(ProbedFunction, String)>,
    /// Functions that could not be probed, with the reason.
    pub failed: Vec<(ProbedFunction, String)>,
    /// True if the kernel refused one of them because a capability is missing.
    pub denied: bool,
    /// Times in which functions could be called before they were probed.
    pub gaps: Vec<ProbeGap>,
    /// Drivers whose own structures are not read: module and reason.
    pub unread: Vec<(String, String)>,
}

impl ProbeChanges {
    /// Appends later changes.
    pub fn extend(&mut self, later: Self) {
        let Self { attached, detached, failed, denied, gaps, unread } = later;
        self.attached.extend(attached);
        self.detached.extend(detached);
        self.failed.extend(failed);
        self.denied |= denied;
        self.gaps.extend(gaps);
        self.unread.extend(unread);
    }
}

/// Reason why a function could not be attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachError {
    /// Reason in words.
    pub reason: String,
    /// True if a capability is missing.
    pub denied: bool,
}

impl From<&str> for AttachError {
    fn from(reason: &str) -> Self {
        Self { reason: reason.to_owned(), denied: false }
    }
}

/// Manager of all probes.
///
/// The live source owns it. It calls it at the start and whenever modules come or go, and reads the counts at the end.
pub struct ProbeManager<B: ProbeBackend = KprobeBackend> {
    backend: B,
    probes: Vec<ManagedProbe<B::Link>>,
    /// Pointers that were looked up, so that each is tried once per load of its module.
    pointers: HashSet<(Role, u64)>,
    /// Looked up pointers without a probed function: each is tried again when modules have come or gone.
    unresolved: Vec<(Role, u64)>,
    /// Slot of each role whose report has the role's recursion misses: that of its first probe ever, even if it is
    /// detached.
    first_of: BTreeMap<Role, u16>,
    /// Notes for the readers of the records that were not taken yet.
    notes: Vec<RecordNote>,
}

impl ProbeManager {
    /// Makes a manager of the kernel's probes, without any probe.
    pub fn new(programs: BpfPrograms, files: &KernelFiles) -> Self {
        Self::over(KprobeBackend::new(programs, files))
    }

    /// Returns the eBPF programs.
    pub const fn programs_mut(&mut self) -> &mut BpfPrograms {
        &mut self.backend.programs
    }

    /// Lets all probes count and emit, or stops them.
    pub fn enable(&mut self, on: bool) -> Result<(), ProgramLoadError> {
        self.backend.programs.enable(on)
    }
}

impl<B: ProbeBackend> ProbeManager<B> {
    fn over(backend: B) -> Self {
        Self {
            backend,
            probes: Vec::new(),
            pointers: HashSet::new(),
            unresolved: Vec::new(),
            first_of: BTreeMap::new(),
            notes: Vec::new(),
        }
    }

    /// Takes the notes for the readers of the records about probes attached since the last call.
    pub fn take_notes(&mut self) -> Vec<RecordNote> {
        std::mem::take(&mut self.notes)
    }

    /// Attaches the functions of the plan that are not attached. Detaches functions whose module is gone or was loaded
    /// anew, and those that neither this plan nor a pointer needs. `load` returns the present load of a module, `None`
    /// if it is not loaded.
    pub fn reconcile(
        &mut self,
        plan: &[PlannedProbe],
        load: impl Fn(&str) -> Option<ModuleStamp>,
    ) -> ProbeChanges {
        let mut changes = ProbeChanges::default();
        for pointer in std::mem::take(&mut self.unresolved) {
            // Symbols have been read again.
            self.pointers.remove(&pointer);
        }
        self.backend.attaching(true);
        self.detach(&mut changes, |probe| {
            let wanted = probe.by_pointer
                || plan.iter().any(|planned| match planned {
                    PlannedProbe::Attach(target) => {
                        probe.is(target.role, &target.symbol, target.module.as_deref())
                    },
                    PlannedProbe::NotAvailable { .. } => false,
                });
            let idle = || (!wanted).then(|| "no driver that it serves is loaded".to_owned());
            probe.gone(&load).or_else(idle)
        });
        self.adopt(&load);
        let mut targets = Vec::new();
        for planned in plan {
            match planned {
                PlannedProbe::Attach(target) => {
                    // Made here, so that a report has the probes in the order of the plan.
                    self.entry(target.role, &target.symbol, target.module.as_deref());
                    targets.push(target);
                },
                PlannedProbe::NotAvailable { role, symbol, module, reason } => {
                    let probe = self.entry(*role, symbol, module.as_deref());
                    if let Some(probe) = probe
                        && probe.links.is_empty()
                    {
                        probe.reason = Some(reason.clone());
                    }
                },
            }
        }
        self.attach(&targets, &load, &mut changes);
        self.backend.attaching(false);
        changes
    }

    /// Attaches the functions of this plan, detaches only dead ones, and does not report refusals: a plan made in a
    /// hurry has functions that do not exist, and addresses that may be other functions' by now.
    pub fn attach_at_once(
        &mut self,
        plan: &[PlannedProbe],
        load: impl Fn(&str) -> Option<ModuleStamp>,
    ) -> ProbeChanges {
        let mut changes = ProbeChanges::default();
        self.backend.attaching(true);
        self.detach(&mut changes, |probe| probe.gone(&load));
        self.adopt(&load);
        let mut targets = Vec::new();
        for planned in plan {
            let PlannedProbe::Attach(target) = planned else { continue };
            let mut target = target.clone();
            if let Some(module) = &target.module {
                if load(module).is_none() {
                    continue;
                }
                // By module and name: another module may have the same name, and be at the address by now.
                (target.address, target.unique) = (None, false);
            }
            targets.push((self.reason_of(&target), target));
        }
        self.attach(&targets.iter().map(|(_, target)| target).collect::<Vec<_>>(), &load, &mut changes);
        self.backend.attaching(false);
        for (before, target) in targets {
            if let Some(probe) = self.entry(target.role, &target.symbol, target.module.as_deref())
                && probe.links.is_empty()
            {
                probe.reason = before;
            }
        }
        changes.failed.clear();
        changes
    }

    /// Returns the reason why a function is not probed, if it is known.
    fn reason_of(&self, target: &ProbeTarget) -> Option<String> {
        let is = |probe: &&ManagedProbe<_>| probe.is(target.role, &target.symbol, target.module.as_deref());
        self.probes.iter().find(is)?.reason.clone()
    }

    /// Assigns probes whose module was not in the list when they were attached to its present load.
    fn adopt(&mut self, load: impl Fn(&str) -> Option<ModuleStamp>) {
        for probe in self.probes.iter_mut().filter(|probe| !probe.links.is_empty() && probe.load.is_none()) {
            probe.load = probe.module.as_deref().and_then(&load);
        }
    }

    /// Detaches the probes for which `why` returns a reason.
    fn detach(&mut self, changes: &mut ProbeChanges, why: impl Fn(&ManagedProbe<B::Link>) -> Option<String>) {
        let before = changes.detached.len();
        for probe in self.probes.iter_mut().filter(|probe| !probe.links.is_empty()) {
            let Some(reason) = why(probe) else { continue };
            changes.detached.push((probe.function(), reason.clone()));
            // Counted before they are closed, so that their missed calls stay counted.
            probe.missed_before = probe.missed(|link| self.backend.missed(link));
            self.backend.close(std::mem::take(&mut probe.links));
            probe.reason = Some(reason);
            (probe.by_pointer, probe.address) = (false, None);
        }
        if changes.detached.len() > before {
            self.pointers.clear();
        }
    }

    /// Returns true if a pointer still has to be resolved and attached for a role.
    pub fn is_new_pointer(&self, role: Role, address: u64) -> bool {
        address != 0
            && !self.pointers.contains(&(role, address))
            && !self
                .probes
                .iter()
                .any(|probe| probe.role == role && probe.address == Some(address) && !probe.links.is_empty())
    }

    /// Returns true if a probed function of a role has an unknown address: a pointer may lead to it.
    pub fn has_unplaced(&self, role: Role) -> bool {
        self.probes
            .iter()
            .any(|probe| probe.role == role && !probe.links.is_empty() && probe.address.is_none())
    }

    /// Returns true if a function of the vfio core is probed for a role.
    pub fn has(&self, role: Role) -> bool {
        self.probes.iter().any(|probe| {
            probe.role == role
                && !probe.links.is_empty()
                && probe.module.as_deref().is_none_or(|name| name == "vfio")
        })
    }

    /// Returns the address of a probed function, if it is known.
    pub fn address(&self, role: Role, symbol: &str, module: Option<&str>) -> Option<u64> {
        self.probes
            .iter()
            .find(|probe| !probe.links.is_empty() && probe.is(role, symbol, module))
            .and_then(|probe| probe.address)
    }

    /// Attaches a function that was found through a pointer. `target`: the function; `None` if no symbol has this
    /// address.
    pub fn attach_pointer(
        &mut self,
        role: Role,
        address: u64,
        target: Option<ProbeTarget>,
        load: impl Fn(&str) -> Option<ModuleStamp>,
    ) -> ProbeChanges {
        let mut changes = ProbeChanges::default();
        self.pointers.insert((role, address));
        let Some(target) = target else {
            self.unresolved.push((role, address));
            // It may be a function that is probed by its name.
            if !self.has_unplaced(role) {
                let function = ProbedFunction { symbol: format!("? ({})", role.name()), module: None, role };
                let why = "a driver has it, and no symbol tells which it is: the kernel hides its addresses \
                           (kernel.kptr_restrict), or the module is gone";
                changes.failed.push((function, why.to_owned()));
            }
            return changes;
        };
        self.attach(&[&target], &load, &mut changes);
        if let Some(probe) = self.entry(target.role, &target.symbol, target.module.as_deref()) {
            probe.by_pointer = true;
            if probe.links.is_empty() {
                self.unresolved.push((role, address));
            }
        }
        changes
    }

    /// Returns the state of a function, made if it is new; `None` if there are too many.
    fn entry(
        &mut self,
        role: Role,
        symbol: &str,
        module: Option<&str>,
    ) -> Option<&mut ManagedProbe<B::Link>> {
        let known = self.probes.iter().position(|probe| probe.is(role, symbol, module));
        if known.is_none() {
            // Slot 0 is not used.
            let slot =
                u16::try_from(self.probes.len() + 1).ok().filter(|slot| u32::from(*slot) < MAX_PROBES)?;
            self.probes.push(ManagedProbe {
                role,
                symbol: symbol.to_owned(),
                module: module.map(str::to_owned),
                address: None,
                slot,
                links: Vec::new(),
                missed_before: Some(0),
                reason: None,
                by_pointer: false,
                load: None,
                step: None,
            });
        }
        let at = known.unwrap_or(self.probes.len() - 1);
        self.probes.get_mut(at)
    }

    fn attach(
        &mut self,
        targets: &[&ProbeTarget],
        load: &impl Fn(&str) -> Option<ModuleStamp>,
        changes: &mut ProbeChanges,
    ) {
        let (mut functions, mut loads): (Vec<(&ProbeTarget, u16)>, Vec<Option<ModuleStamp>>) =
            Default::default();
        let mut met = HashSet::new();
        for &target in targets {
            let Some(probe) = self.entry(target.role, &target.symbol, target.module.as_deref()) else {
                let reason = format!("more than {} functions to probe", MAX_PROBES - 1);
                changes.failed.push((target.into(), reason));
                continue;
            };
            let slot = probe.slot;
            if !probe.links.is_empty() {
                probe.address = target.address.or(probe.address);
                // If two drivers need the same step, the first one's description is used.
                if met.insert(slot)
                    && let Err(AttachError { reason, .. }) = self.prepare_step(target, slot)
                {
                    // Its records would be read with an outdated description.
                    self.detach(changes, |probe| (probe.slot == slot).then(|| reason.clone()));
                }
            } else if functions.iter().all(|(_, other)| *other != slot) {
                match self.prepare_step(target, slot) {
                    Ok(()) => {
                        functions.push((target, slot));
                        // Read before the probe is attached: if the module is loaded anew in between, that is noticed.
                        loads.push(target.module.as_deref().and_then(load));
                    },
                    Err(refusal) => self.keep(target, slot, None, Err(refusal), changes),
                }
            }
        }
        let results = self.backend.attach(&functions);
        for (((target, slot), load), result) in functions.into_iter().zip(loads).zip(results) {
            self.keep(target, slot, load, result, changes);
        }
    }

    /// Stores the result of attaching a function. `load`: the load of its module during which it was attached.
    fn keep(
        &mut self,
        target: &ProbeTarget,
        slot: u16,
        load: Option<ModuleStamp>,
        result: Result<Vec<B::Link>, AttachError>,
        changes: &mut ProbeChanges,
    ) {
        let found = |links: &Vec<B::Link>| links.first().and_then(|link| self.backend.address(link));
        let address = target.address.or_else(|| result.as_ref().ok().and_then(found));
        let Some(probe) = self.probes.iter_mut().find(|probe| probe.slot == slot) else { return };
        probe.address = address;
        match result {
            Ok(links) => {
                probe.links = links;
                probe.reason = None;
                probe.load = load;
                self.first_of.entry(target.role).or_insert(slot);
                changes.attached.push(target.into());
            },
            Err(AttachError { reason, denied }) => {
                changes.denied |= denied;
                if probe.reason.as_ref() != Some(&reason) {
                    changes.failed.push((target.into(), reason.clone()));
                }
                probe.reason = Some(reason);
            },
        }
    }

    /// Stores a step's description for the programs, before its first call and again if it has changed.
    fn prepare_step(&mut self, target: &ProbeTarget, slot: u16) -> Result<(), AttachError> {
        let Some(step) = &target.step else { return Ok(()) };
        let told = (step.spec, step.returns, step.params);
        let Some(probe) = self.probes.iter_mut().find(|probe| probe.slot == slot) else { return Ok(()) };
        if !probe.links.is_empty() && probe.step == Some(told) {
            return Ok(());
        }
        self.backend.set_step(slot, &step.spec)?;
        probe.step = Some(told);
        self.notes.push(RecordNote::Function(FunctionNote {
            probe: slot,
            function: target.symbol.clone(),
            module: target.module.clone(),
            returns: step.returns,
            params: step.params,
        }));
        Ok(())
    }

    /// Returns the number of functions that are probed now.
    pub fn attached(&self) -> usize {
        self.probes.iter().filter(|probe| !probe.links.is_empty()).count()
    }

    /// Returns the counts of the inventory if it has lost anything; `None` otherwise.
    fn inventory(&self) -> Option<ProbeReport> {
        let ProbeStats { hits, records, lost, unmatched, no_room } = self.backend.stats(INVENTORY_SLOT);
        (lost > 0 || no_room > 0).then(|| ProbeReport {
            name: "inventory and module notices".to_owned(),
            role: Role::Inventory,
            module: None,
            attached: true,
            reason: None,
            hits,
            records,
            lost,
            missed: Some(0),
            unmatched,
            no_room,
        })
    }

    /// Returns the state and the counts of each function, in the order of the plan.
    pub fn report(&self) -> Vec<ProbeReport> {
        self.probes
            .iter()
            .map(|probe| {
                let ProbeStats { hits, records, lost, unmatched, no_room } = self.backend.stats(probe.slot);
                // A program serves all functions of its role. The calls that it missed are reported with one of them,
                // always the same.
                let recursion = if self.first_of.get(&probe.role) == Some(&probe.slot) {
                    self.backend.recursion_misses(probe.role)
                } else {
                    Some(0)
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
                        .missed(|link| self.backend.missed(link))
                        .zip(recursion)
                        .map(|(missed, recursion)| missed.saturating_add(recursion)),
                    unmatched,
                    no_room,
                }
            })
            .chain(self.inventory())
            .collect()
    }
}

#[cfg(test)]
mod tests;
