//! The state that each device is known to be in, and what may show that it is in another one.
//!
//! Records come in the order in which functions return, so some that come late tell of an earlier time. Nothing is
//! concluded from those: a desync is never raised by the order of records alone.

use std::collections::BTreeMap;

use vfio_trace_common::wire::Header;

use crate::event::{CallOutcome, MigState, VfioEvent};

/// The states of all devices, by the address of their `struct vfio_device`.
#[derive(Debug, Default)]
pub(super) struct StateTable {
    known: BTreeMap<u64, TrackedState>,
    readings: BTreeMap<u64, StateReading>,
    pending_desyncs: Vec<PendingDesync>,
    /// How many were forgotten for want of room.
    forgotten: u64,
}

/// What is known of one device.
#[derive(Debug, Default)]
struct TrackedState {
    /// Its state; while an arc is in progress, the one that the arc left.
    state: Option<MigState>,
    /// When that was last changed. Who began to ask before may have got an older answer.
    since_ns: u64,
    /// Nobody has the device open. Its driver may set the state as it likes until somebody has.
    closed: bool,
    /// When the last reset that worked was over.
    reset_ns: Option<u64>,
}

/// A state that was read from the driver's memory without its lock. It counts once the thread that read it goes on, if
/// nothing else came about the device in between: then no arc began before it was read.
#[derive(Debug)]
pub(super) struct StateReading {
    /// Of the record that carried it.
    pub(super) header: Header,
    pub(super) found: MigState,
    /// Whether the state may have been about to change.
    pub(super) busy: bool,
    pub(super) since_ns: u64,
}

/// A desync that the end of a reset may still explain.
#[derive(Debug)]
struct PendingDesync {
    pointer: u64,
    event: VfioEvent,
    since_ns: u64,
}

/// More devices than any host has at once: beyond it the states of closed ones are forgotten, then those that have not
/// changed for longest.
const MAX_KNOWN: usize = 16_384;
/// What waits for another record at once: beyond it, it waits no more.
const MAX_WAITING: usize = 4096;

/// The wire's stand-in for a state that could not be read.
pub(super) const UNREADABLE: MigState = MigState(u32::MAX);

impl StateTable {
    /// A driver began an arc here, with its lock held: this is the state. Gives the one that was expected, if another.
    pub(super) fn arc_began(&mut self, pointer: u64, current: MigState, now_ns: u64) -> Option<MigState> {
        self.readings.remove(&pointer);
        let known = self.of(pointer)?;
        let expected = known.state.replace(current).filter(|&state| state != current && !known.closed);
        known.since_ns = known.since_ns.max(now_ns);
        known.closed = false;
        expected
    }

    /// The last arc that began on this device is over.
    pub(super) fn arc_ended(&mut self, pointer: u64, to: MigState, outcome: CallOutcome, now_ns: u64) {
        match outcome {
            CallOutcome::Ok => self.set(pointer, Some(to), now_ns),
            CallOutcome::Failed(_) | CallOutcome::Refused(_) => self.set(pointer, None, now_ns),
            // When that was is not known either.
            CallOutcome::Unknown => self.set(pointer, None, 0),
        }
    }

    /// A request to change the state is over, and no arc is in progress. `arcs`: those of it that were seen.
    pub(super) fn request_ended(
        &mut self,
        header: &Header,
        target: MigState,
        arcs: u32,
        outcome: CallOutcome,
    ) {
        self.readings.remove(&header.device);
        let Some(known) = self.of(header.device) else { return };
        if known.reset_ns.is_some_and(|reset| reset >= header.start_ns) {
            // A reset during a request comes into force before it or at its end.
            self.set(header.device, None, header.end_ns);
        } else if outcome.is_ok() && arcs == 0 && known.state != Some(target) {
            // Its arcs were not seen, or something else came after it.
            let state = (known.since_ns <= header.start_ns).then_some(target);
            self.set(header.device, state, header.end_ns);
        }
    }

    /// The device was in this state at some time since `start_ns`, and no arc is in progress. Gives the state that was
    /// expected, if another.
    pub(super) fn observe_state(
        &mut self,
        pointer: u64,
        found: MigState,
        start_ns: u64,
        now_ns: u64,
    ) -> Option<MigState> {
        let known = self.of(pointer)?;
        if found == UNREADABLE || known.since_ns > start_ns || known.state == Some(found) {
            return None;
        }
        known.since_ns = known.since_ns.max(now_ns);
        known.state.replace(found).filter(|_| !known.closed)
    }

    /// A reset worked. `busy`: while an arc was in progress. Gives the state that it has led to, if that is certain:
    /// drivers put off what a reset does to the state while a request is in progress.
    pub(super) fn reset(&mut self, header: &Header, busy: bool) -> Option<MigState> {
        self.readings.remove(&header.device);
        self.pending_desyncs
            .retain(|doubt| doubt.pointer != header.device || doubt.since_ns < header.start_ns);
        let known = self.of(header.device)?;
        let certain = !busy && (known.since_ns <= header.start_ns || known.state == Some(MigState::RUNNING));
        let state = certain.then_some(MigState::RUNNING);
        known.reset_ns = known.reset_ns.max(Some(header.end_ns));
        self.set(header.device, state, header.end_ns);
        state
    }

    /// Whether a reset was over less than `hold_ns` ago.
    pub(super) fn was_just_reset(&self, pointer: u64, now_ns: u64, hold_ns: u64) -> bool {
        let reset = self.known.get(&pointer).and_then(|known| known.reset_ns);
        reset.is_some_and(|reset| now_ns < reset.saturating_add(hold_ns))
    }

    /// The device was opened for the first time, and found in this state.
    pub(super) fn opened(&mut self, pointer: u64, state: Option<MigState>, now_ns: u64) {
        self.set(pointer, state, now_ns);
        if let Some(known) = self.of(pointer) {
            known.closed = false;
        }
    }

    /// The device was closed for the last time. Its state stays as it is, for all that is known.
    pub(super) fn closed(&mut self, pointer: u64) {
        self.readings.remove(&pointer);
        if let Some(known) = self.of(pointer) {
            known.closed = true;
        }
    }

    /// The state is this from `now_ns` on; `None`: it may be any.
    pub(super) fn set(&mut self, pointer: u64, state: Option<MigState>, now_ns: u64) {
        if let Some(known) = self.of(pointer) {
            known.state = state.filter(|&state| state != UNREADABLE);
            known.since_ns = known.since_ns.max(now_ns);
        }
    }

    /// The address no longer stands for this device.
    pub(super) fn forget(&mut self, pointer: u64) {
        self.known.remove(&pointer);
        self.readings.remove(&pointer);
    }

    /// A state was read without the driver's lock.
    pub(super) fn read(&mut self, reading: StateReading) {
        let room = self.readings.len() < MAX_WAITING || self.readings.contains_key(&reading.header.device);
        self.forgotten += u64::from(!room);
        if reading.header.device != 0 && reading.found != UNREADABLE && room {
            self.readings.insert(reading.header.device, reading);
        }
    }

    /// What this thread has read of a device and not yet made use of.
    pub(super) fn take_reading(&mut self, pointer: u64, tid: u32) -> Option<StateReading> {
        if self.readings.get(&pointer)?.header.tid == tid { self.readings.remove(&pointer) } else { None }
    }

    /// All that `over` says of: readings that count from now on.
    pub(super) fn take_readings(&mut self, over: impl Fn(&StateReading) -> bool) -> Vec<StateReading> {
        if self.readings.is_empty() {
            return Vec::new();
        }
        self.readings.extract_if(.., |_, reading| over(reading)).map(|(_, reading)| reading).collect()
    }

    /// Keeps a desync back; gives it back if there is no room for it.
    pub(super) fn hold_desync(&mut self, pointer: u64, event: VfioEvent, since_ns: u64) -> Option<VfioEvent> {
        if self.pending_desyncs.len() >= MAX_WAITING {
            return Some(event);
        }
        self.pending_desyncs.push(PendingDesync { pointer, event, since_ns });
        None
    }

    /// How many were forgotten for want of room.
    pub(super) const fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// The desyncs kept back of a device, or since a time, of which `over` holds.
    pub(super) fn take_held_desyncs(&mut self, over: impl Fn(u64, u64) -> bool) -> Vec<VfioEvent> {
        if self.pending_desyncs.is_empty() {
            return Vec::new();
        }
        self.pending_desyncs
            .extract_if(.., |doubt| over(doubt.pointer, doubt.since_ns))
            .map(|doubt| doubt.event)
            .collect()
    }

    /// Since when something has been waiting.
    pub(super) fn waiting_since(&self) -> Option<u64> {
        let readings = self.readings.values().map(|reading| reading.since_ns);
        readings.chain(self.pending_desyncs.iter().map(|doubt| doubt.since_ns)).min()
    }

    fn of(&mut self, pointer: u64) -> Option<&mut TrackedState> {
        if pointer == 0 {
            return None;
        }
        if self.known.len() >= MAX_KNOWN && !self.known.contains_key(&pointer) {
            self.make_room();
        }
        Some(self.known.entry(pointer).or_default())
    }

    fn make_room(&mut self) {
        let before = self.known.len();
        self.known.retain(|_, known| !known.closed);
        if self.known.len() > MAX_KNOWN / 2 {
            let mut times: Vec<(u64, u64)> =
                self.known.iter().map(|(&pointer, known)| (known.since_ns, pointer)).collect();
            let (_, median, _) = times.select_nth_unstable(self.known.len() / 2);
            let median = *median;
            self.known.retain(|&pointer, known| (known.since_ns, pointer) >= median);
        }
        self.forgotten = self.forgotten.saturating_add((before - self.known.len()) as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_of_no_device_takes_no_room() {
        let mut states = StateTable::default();
        for pointer in 1..=MAX_KNOWN as u64 {
            states.arc_began(pointer, MigState::RUNNING, pointer);
        }
        states.arc_began(0, MigState::RUNNING, 5);
        assert_eq!((states.known.len(), states.forgotten()), (MAX_KNOWN, 0));
        states.arc_began(u64::MAX, MigState::RUNNING, 5);
        assert!(states.known.len() < MAX_KNOWN && states.forgotten() > 0);
    }
}
