//! The state that each device is known to be in, and readings that may show another one.
//!
//! Records come in the order in which functions return, so some that come late describe an earlier time. No state is
//! concluded from those: a desync is never raised by the order of records alone.

use std::collections::BTreeMap;

use vfio_trace_common::wire::Header;

use crate::event::{CallOutcome, MigState, VfioEvent};

/// States of all devices, by the address of their `struct vfio_device`.
#[derive(Debug, Default)]
pub(super) struct StateTable {
    known: BTreeMap<u64, TrackedState>,
    readings: BTreeMap<u64, StateReading>,
    pending_desyncs: Vec<PendingDesync>,
    /// Number of devices that were forgotten because the table was full.
    forgotten: u64,
}

/// State of one device, with the times that tell older records from newer ones.
#[derive(Debug, Default)]
struct TrackedState {
    /// The device's state; while an arc is in progress, the one that the arc left.
    state: Option<MigState>,
    /// Time of the last change. A request that began before may have got an older answer.
    since_ns: u64,
    /// True if no process has the device open. Its driver may set the state as it likes until the next open.
    closed: bool,
    /// Time at which the last successful reset was over.
    reset_ns: Option<u64>,
}

/// A state that was read from the driver's memory without its lock. It counts once the thread that read it goes on, if
/// nothing else came about the device in between: then no arc began before it was read.
#[derive(Debug)]
pub(super) struct StateReading {
    /// Header of the record that carried it.
    pub(super) header: Header,
    pub(super) found: MigState,
    /// True if the state may have been about to change.
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

/// Most devices that are kept, more than any host has at once. Beyond it the states of closed ones are forgotten, then
/// those that have not changed for longest.
const MAX_KNOWN: usize = 16_384;
/// Most readings, and most desyncs, that wait for another record at once. Further ones do not wait.
const MAX_WAITING: usize = 4096;

/// The wire's stand-in for a state that could not be read.
pub(super) const UNREADABLE: MigState = MigState(u32::MAX);

impl StateTable {
    /// Takes in the start of an arc: the driver's lock is held, so its current state is certain. Returns the expected
    /// state if it differs.
    pub(super) fn arc_began(&mut self, pointer: u64, current: MigState, now_ns: u64) -> Option<MigState> {
        self.readings.remove(&pointer);
        let known = self.of(pointer)?;
        let expected = known.state.replace(current).filter(|&state| state != current && !known.closed);
        known.since_ns = known.since_ns.max(now_ns);
        known.closed = false;
        expected
    }

    /// Takes in the end of the last arc that began on this device.
    pub(super) fn arc_ended(&mut self, pointer: u64, to: MigState, outcome: CallOutcome, now_ns: u64) {
        match outcome {
            CallOutcome::Ok => self.set(pointer, Some(to), now_ns),
            CallOutcome::Failed(_) | CallOutcome::Refused(_) => self.set(pointer, None, now_ns),
            // The time of the change is not known either.
            CallOutcome::Unknown => self.set(pointer, None, 0),
        }
    }

    /// Takes in the end of a request to change the state, with no arc in progress. `arcs`: number of its arcs that were
    /// seen.
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
            // Its arcs were not seen, or another change came after it.
            let state = (known.since_ns <= header.start_ns).then_some(target);
            self.set(header.device, state, header.end_ns);
        }
    }

    /// Takes in a state that the device had at some time since `start_ns`, with no arc in progress. Returns the
    /// expected state if it differs.
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

    /// Takes in a successful reset. `busy`: an arc was in progress. Returns the state that the reset has led to, if
    /// that is certain: drivers defer the reset's change of state while a request is in progress.
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

    /// Returns true if a reset was over less than `hold_ns` ago.
    pub(super) fn was_just_reset(&self, pointer: u64, now_ns: u64, hold_ns: u64) -> bool {
        let reset = self.known.get(&pointer).and_then(|known| known.reset_ns);
        reset.is_some_and(|reset| now_ns < reset.saturating_add(hold_ns))
    }

    /// Takes in a first open of the device, and the state that it was found in.
    pub(super) fn opened(&mut self, pointer: u64, state: Option<MigState>, now_ns: u64) {
        self.set(pointer, state, now_ns);
        if let Some(known) = self.of(pointer) {
            known.closed = false;
        }
    }

    /// Takes in the last close of the device. Its state stays as it is, as far as is known.
    pub(super) fn closed(&mut self, pointer: u64) {
        self.readings.remove(&pointer);
        if let Some(known) = self.of(pointer) {
            known.closed = true;
        }
    }

    /// Sets the state from `now_ns` on; `None`: it may be any.
    pub(super) fn set(&mut self, pointer: u64, state: Option<MigState>, now_ns: u64) {
        if let Some(known) = self.of(pointer) {
            known.state = state.filter(|&state| state != UNREADABLE);
            known.since_ns = known.since_ns.max(now_ns);
        }
    }

    /// Forgets the device: its address no longer stands for it.
    pub(super) fn forget(&mut self, pointer: u64) {
        self.known.remove(&pointer);
        self.readings.remove(&pointer);
    }

    /// Keeps a reading of a state, made without the driver's lock.
    pub(super) fn read(&mut self, reading: StateReading) {
        let room = self.readings.len() < MAX_WAITING || self.readings.contains_key(&reading.header.device);
        self.forgotten += u64::from(!room);
        if reading.header.device != 0 && reading.found != UNREADABLE && room {
            self.readings.insert(reading.header.device, reading);
        }
    }

    /// Takes the reading that this thread made of a device and that has not been used yet.
    pub(super) fn take_reading(&mut self, pointer: u64, tid: u32) -> Option<StateReading> {
        if self.readings.get(&pointer)?.header.tid == tid { self.readings.remove(&pointer) } else { None }
    }

    /// Takes all readings of which `over` holds: they count from now on.
    pub(super) fn take_readings(&mut self, over: impl Fn(&StateReading) -> bool) -> Vec<StateReading> {
        if self.readings.is_empty() {
            return Vec::new();
        }
        self.readings.extract_if(.., |_, reading| over(reading)).map(|(_, reading)| reading).collect()
    }

    /// Keeps a desync back; returns it if too many are kept.
    pub(super) fn hold_desync(&mut self, pointer: u64, event: VfioEvent, since_ns: u64) -> Option<VfioEvent> {
        if self.pending_desyncs.len() >= MAX_WAITING {
            return Some(event);
        }
        self.pending_desyncs.push(PendingDesync { pointer, event, since_ns });
        None
    }

    /// Returns the number of devices that were forgotten because the table was full.
    pub(super) const fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Takes the desyncs that are kept back and of which `over` (address, time) holds.
    pub(super) fn take_held_desyncs(&mut self, over: impl Fn(u64, u64) -> bool) -> Vec<VfioEvent> {
        if self.pending_desyncs.is_empty() {
            return Vec::new();
        }
        self.pending_desyncs
            .extract_if(.., |doubt| over(doubt.pointer, doubt.since_ns))
            .map(|doubt| doubt.event)
            .collect()
    }

    /// Returns the time since which the oldest desync has been waiting.
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
