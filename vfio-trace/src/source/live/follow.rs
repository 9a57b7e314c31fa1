//! Drivers that come and go while tracing: scans for modules, and the probes attached then.

use std::time::{Duration, Instant};

use vfio_trace_common::role::Role;

use super::{LiveError, LiveSource};
use crate::{
    event::{RecordBody, RecordNote, WireRecord},
    kernel::Kallsyms,
    probe::{PlannedProbe, ProbeChanges, ProbeTarget, plan},
    source::{clock::mono_ns, handed::HandoverNotes, notices::OrderedScan},
};

/// Interval between two scans of the list of modules for drivers that came or went.
pub const RESCAN: Duration = Duration::from_millis(500);

/// Arrival times of modules of which nothing but names is known yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct PendingRescan {
    first: Instant,
    last: Instant,
}

/// Longest time that a complete scan waits, however many modules still come.
const HURRY: Duration = Duration::from_secs(2);

impl PendingRescan {
    /// Returns the wait after one more module has come.
    fn goes_on(before: Option<Self>, now: Instant) -> Self {
        Self { first: before.map_or(now, |before| before.first), last: now }
    }

    /// Returns true if the complete scan is due.
    fn is_over(self, now: Instant) -> bool {
        now.duration_since(self.last) >= RESCAN || now.duration_since(self.first) >= HURRY
    }
}

impl LiveSource {
    /// Probes the functions of modules that the kernel has just loaded, at once and by name. All else waits until the
    /// next scan.
    pub(super) fn modules_came(&mut self) {
        let OrderedScan { scan, listed_ns } = self.scan();
        let changed = self.facts.add_modules(&self.files, scan);
        let (facts, files) = (&self.facts, &self.files);
        self.loads.keep(|name| facts.load_of(files, name), listed_ns, mono_ns());
        if !changed {
            return;
        }
        self.hurried = Some(PendingRescan::goes_on(self.hurried, Instant::now()));
        self.forget_old_vfio();
        // Probes of a new vfio read nothing before they have its places, and no entry may stay of a driver that is
        // gone. If this fails, the next scan reports the reason.
        self.hand_over();
        self.attach_at_once();
        // The driver itself first: functions that plug-ins want take longer to find.
        if self.facts.add_plugins() {
            self.attach_at_once();
        }
        let manager = &self.manager;
        self.facts.set_addresses(|role, symbol, module| manager.address(role, symbol, module));
        self.hand_over();
    }

    fn hand_over(&mut self) {
        if let Ok(HandoverNotes { notes, unread }) =
            self.handed.hand_over(self.manager.programs_mut(), &self.facts)
        {
            self.notes.extend(notes);
            self.pending.unread.extend(unread);
        }
    }

    /// Attaches the probes that are known for new modules, and reports the gap before that.
    fn attach_at_once(&mut self) {
        let (facts, files) = (&self.facts, &self.files);
        let mut plan = plan(facts);
        // Each takes the kernel its time, and the first requests are the most valuable ones.
        plan.sort_by_key(PlannedProbe::urgency);
        let mut changes = self.manager.attach_at_once(&plan, |name| facts.load_of(files, name));
        self.tell_gaps(&mut changes);
        self.pending.extend(changes);
    }

    /// Forgets the devices of a vfio that was unloaded, even if their end was not seen: their addresses are used by
    /// others now.
    fn forget_old_vfio(&mut self) {
        let now = self.facts.load_of(&self.files, "vfio");
        let is_new = now.is_some_and(|now| self.vfio.is_some_and(|before| !before.is_same(&now)));
        if is_new {
            // At worst one of them is taken for a new device at its address, until that is opened.
            let _kept = self.manager.programs_mut().forget_devices().is_err();
        }
        self.vfio = now.or(self.vfio);
    }

    /// Puts notes into the stream for functions that could be called before they were probed.
    fn tell_gaps(&mut self, changes: &mut ProbeChanges) {
        self.notes.extend(self.manager.take_notes());
        let (facts, files) = (&self.facts, &self.files);
        let load = |name: &str| facts.load_of(files, name);
        let gaps = self.loads.gaps(&changes.attached, &changes.failed, load, mono_ns());
        self.notes.extend(gaps.iter().cloned().map(RecordNote::ProbeGap));
        changes.gaps.extend(gaps);
    }

    /// Looks for drivers that came or went, if the last scan is long enough ago.
    pub fn rescan(&mut self) -> Result<ProbeChanges, LiveError> {
        let mut changes = std::mem::take(&mut self.pending);
        // More may come: a driver's module follows those that it uses, and must not wait for the long scan.
        let calm = self.hurried.is_none_or(|hurry| hurry.is_over(Instant::now()));
        if self.rescanned.elapsed() < RESCAN || !calm {
            return Ok(changes);
        }
        if self.hurried.is_none() {
            // By name first, here too: symbols take seconds on a slow machine, and the kernel may not have reported the
            // module.
            self.modules_came();
            if self.hurried.is_some() {
                self.rescanned = Instant::now();
                changes.extend(std::mem::take(&mut self.pending));
                return Ok(changes);
            }
        }
        changes.extend(self.look()?);
        Ok(changes)
    }

    /// Does the complete scan for modules that came last, before the run ends, so that refused probes are reported.
    pub(super) fn settle(&mut self) -> Result<ProbeChanges, LiveError> {
        let mut changes = std::mem::take(&mut self.pending);
        if self.hurried.is_some() {
            changes.extend(self.look()?);
        }
        Ok(changes)
    }

    /// Takes in all that is loaded now, slow steps included.
    fn look(&mut self) -> Result<ProbeChanges, LiveError> {
        let mut changes = ProbeChanges::default();
        (self.rescanned, self.hurried) = (Instant::now(), None);
        let OrderedScan { scan, listed_ns } = self.scan();
        if self.facts.refresh(&self.files, scan) {
            let HandoverNotes { notes, unread } =
                self.handed.hand_over(self.manager.programs_mut(), &self.facts)?;
            self.notes.extend(notes);
            changes.unread.extend(unread);
            let (facts, files) = (&self.facts, &self.files);
            self.loads.keep(|name| facts.load_of(files, name), listed_ns, mono_ns());
            let mut later = self.manager.reconcile(&plan(facts), |name| facts.load_of(files, name));
            self.tell_gaps(&mut later);
            changes.extend(later);
        }
        self.loads.note_scan(listed_ns);
        let deferred = std::mem::take(&mut self.deferred);
        changes.extend(self.resolve(&deferred));
        Ok(changes)
    }

    /// Follows the pointers that a record shows: a driver whose functions could not be found by type is probed from
    /// its first operation on.
    pub(super) fn follow(&mut self, record: &WireRecord) -> ProbeChanges {
        let pointers = match &record.body {
            RecordBody::Device(device) => [
                (Role::SetState, device.set_state),
                (Role::GetState, device.get_state),
                (Role::DataSize, device.get_data_size),
                // The core's own function is better: it also sees the second and later opens.
                (Role::Open, if self.manager.has(Role::Open) { 0 } else { device.open_device }),
            ],
            RecordBody::SetState(state) => [
                (Role::Read, state.read),
                (Role::Write, state.write),
                (Role::DataIoctl, state.unlocked_ioctl),
                (Role::Release, state.release),
            ],
            _ => return ProbeChanges::default(),
        };
        let mut now = Vec::new();
        for (role, address) in pointers {
            if !self.manager.is_new_pointer(role, address) {
                continue;
            }
            // Addresses of functions that were probed by name may not be known yet.
            if self.hurried.is_none() || !self.manager.has_unplaced(role) {
                now.push((role, address));
            } else if !self.deferred.contains(&(role, address)) {
                self.deferred.push((role, address));
            }
        }
        self.resolve(&now)
    }

    /// Probes the functions at these addresses.
    fn resolve(&mut self, pointers: &[(Role, u64)]) -> ProbeChanges {
        let mut all = ProbeChanges::default();
        for &(role, address) in pointers {
            if !self.manager.is_new_pointer(role, address) {
                continue;
            }
            let known = self.facts.kallsyms.as_ref().ok().and_then(|symbols| symbols.resolve(address));
            let symbol = known.or_else(|| {
                Kallsyms::resolve_many(&self.files, &[address])
                    .ok()
                    .and_then(|found| found.into_iter().next().flatten())
            });
            let target = symbol.map(|symbol| ProbeTarget::from_pointer(role, symbol));
            let (facts, files) = (&self.facts, &self.files);
            let load = |name: &str| facts.load_of(files, name);
            all.extend(self.manager.attach_pointer(role, address, target, load));
        }
        if !all.attached.is_empty() || !all.failed.is_empty() {
            self.notes.extend(self.manager.take_notes());
            let (facts, files) = (&self.facts, &self.files);
            let load = |name: &str| facts.load_of(files, name);
            let gaps = self.loads.by_pointer(&all.attached, &all.failed, load, mono_ns());
            self.notes.extend(gaps.iter().cloned().map(RecordNote::ProbeGap));
            all.gaps.extend(gaps);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_that_keep_coming_do_not_put_off_the_look_for_ever() {
        let start = Instant::now();
        let mut hurry = PendingRescan::goes_on(None, start);
        let mut waited = Duration::ZERO;
        while !hurry.is_over(start + waited) {
            assert!(waited < Duration::from_mins(1), "starved");
            waited += Duration::from_millis(100);
            hurry = PendingRescan::goes_on(Some(hurry), start + waited);
        }
        assert_eq!(waited, HURRY);
        let one = PendingRescan::goes_on(None, start);
        assert!(
            !one.is_over(start) && one.is_over(start + RESCAN),
            "a single one waits for those that follow it"
        );
    }
}
