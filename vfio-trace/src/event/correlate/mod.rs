//! Turns records, in the order of the ring buffer, into events: each arc gets its end, each request becomes one event.
//!
//! Pure: the same records give the same events. A record is made when the traced function returns, so a request comes
//! inside out: the arcs that begin, the driver's `set_state`, the ioctl around it, all on one thread. Any of them may
//! be missing; then the event says less, but all that it says is in the records that came.

mod data_fd;
mod driver;
mod ioctl;
mod lifecycle;
mod requests;
mod states;
mod thread;
mod threads;

use vfio_trace_common::wire::{self, Header, device_known};

use self::{
    driver::NoteTable,
    states::{StateReading, StateTable},
    thread::{DirtyDetail, DirtyIoctl, HeldCall, OpenArc, ReportedCall, ThreadState},
    threads::ThreadTable,
};
use super::{
    ArcStep, CallOutcome, DataSize, DesyncCause, DeviceRef, Errno, EventData, EventProcess, GetState,
    MigState, RecordBody, RecordNote, RequestOrigin, SetState, StateDesync, VfioEvent, WireRecord,
    devices::DeviceTable, kinds, record, sessions::OpenSessions,
};

/// Longest time that a driver's call waits for the record of the ioctl around it, in ns of the records' clock. Normally
/// it takes microseconds, unless the thread is preempted between two returns. A desync that a reset may explain waits
/// as long for the reset's own record.
pub const HOLD_NS: u64 = 250_000_000;

/// Most threads that may be within a request at once, more than on any host. Beyond it all of them are given up: their
/// arcs get the outcome `unknown`.
const MAX_THREADS: usize = 4096;

/// Turns records into events. Pure: no clock, no I/O. The pipeline owns it, pushes every record in the order of the
/// ring buffer, and calls [`Self::finish`] at the end.
#[derive(Debug, Default)]
pub struct EventAssembler {
    devices: DeviceTable,
    sessions: OpenSessions,
    states: StateTable,
    notes: NoteTable,
    threads: ThreadTable,
    /// Latest time seen, CLOCK_MONOTONIC in ns.
    now_ns: u64,
    /// Time at which the oldest wait ends; `None`: nothing waits.
    deadline_ns: Option<u64>,
    /// Number of threads that were given up because there were too many.
    given_up: u64,
}

impl EventAssembler {
    /// Makes an assembler that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in the next record; returns the events that it completes, in order.
    pub fn push(&mut self, record: &WireRecord) -> Vec<VfioEvent> {
        let mut out = Vec::new();
        let header = &record.header;
        // The time of a note is not that of an event: it may describe later records.
        if !matches!(record.body, RecordBody::Note(_)) {
            self.give_up(header.end_ns, &mut out);
        }
        // A Holder's header names a thread that did not make it; an Open uses the reading itself.
        if !matches!(
            record.body,
            RecordBody::Holder(_)
                | RecordBody::Open(_)
                | RecordBody::Capture(_)
                | RecordBody::Note(_)
                | RecordBody::Module(_)
        ) {
            for reading in self.states.take_readings(|reading| reading.header.tid == header.tid) {
                self.conclude(&reading, &mut out);
            }
        }
        if self.threads.get(header.tid).is_none() {
            self.limit_threads(&mut out);
        }
        kinds::assemble(self, record, &mut out);
        self.threads.leave_idle(header.tid);
        out
    }

    /// Advances the clock (CLOCK_MONOTONIC, ns) when there are no records; returns the events that have waited for
    /// [`HOLD_NS`]. All records up to then must have been pushed: it is not the clock of a reader that may be behind. A
    /// live source calls it when the ring buffer is empty; otherwise these events come with the next record, or with
    /// [`Self::finish`].
    pub fn expire(&mut self, now_ns: u64) -> Vec<VfioEvent> {
        let mut out = Vec::new();
        self.give_up(now_ns, &mut out);
        out
    }

    /// Ends the stream: returns the events still in flight. Arcs in progress get an unknown outcome.
    pub fn finish(&mut self) -> Vec<VfioEvent> {
        let mut out = self.states.take_held_desyncs(|_, _| true);
        for thread in self.threads.take_all() {
            out.extend(thread.held.map(|held| held.event));
            out.extend(thread.arc.map(|arc| arc.into_event(CallOutcome::Unknown, None, self.now_ns)));
        }
        self.deadline_ns = None;
        out
    }

    /// Returns the number of devices, sessions, notes and threads that were forgotten because there were more of them
    /// than any host has: their later records give events with less in them, or without a link to the earlier ones.
    /// `elsewhere`: number of devices that the caller, or drivers' plug-ins, have forgotten. A device that is forgotten
    /// in several places counts once.
    pub fn forgotten(&self, elsewhere: u64) -> u64 {
        let Self { devices, sessions, states, notes, given_up, .. } = self;
        let devices = devices.forgotten().max(states.forgotten()).max(elsewhere);
        [devices, sessions.forgotten(), notes.forgotten(), *given_up].into_iter().fold(0, u64::saturating_add)
    }

    /// Gives up all threads if there are too many for another one.
    fn limit_threads(&mut self, out: &mut Vec<VfioEvent>) {
        if self.threads.len() < MAX_THREADS {
            return;
        }
        self.given_up = self.given_up.saturating_add(self.threads.len() as u64);
        for thread in self.threads.take_all() {
            out.extend(thread.held.map(|held| held.event));
            if let Some(arc) = thread.arc {
                self.end_arc(arc, CallOutcome::Unknown, None, out);
            }
        }
    }

    pub(super) fn device(&mut self, header: &Header, body: &wire::Device, out: &mut Vec<VfioEvent>) {
        let Some(binding) = self.devices.bind(header.device, body) else { return };
        if binding.replaced {
            self.sessions.forget_device(header.device);
            out.extend(self.states.take_held_desyncs(|pointer, _| pointer == header.device));
            self.states.forget(header.device);
            let arcs = self.threads.take_arcs_of(header.device).into_iter();
            out.extend(arcs.map(|arc| arc.into_event(CallOutcome::Unknown, None, header.end_ns)));
        }
        if let Some(news) = binding.news {
            out.push(event(header, Some(binding.device), None, EventData::Device(news)));
        }
        if body.known & device_known::STATE != 0 {
            let busy = self.is_busy(header.device)
                || self.states.was_just_reset(header.device, self.now_ns, HOLD_NS);
            let since_ns = self.now_ns;
            self.states.read(StateReading { header: *header, found: MigState(body.state), busy, since_ns });
            self.wait_from(since_ns);
        }
    }

    pub(super) fn next_state(&mut self, header: &Header, body: wire::NextState, out: &mut Vec<VfioEvent>) {
        self.release_held(header.tid, out);
        let [from, to, target] = [body.current, body.next, body.target].map(MigState);
        if let Some(arc) = self.threads.take_arc(header.tid) {
            // The driver's loop goes on only after a step that worked, and never changes the target; otherwise this is
            // another request, and how the arc ended was not seen.
            let goes_on = header.device != 0 && arc.is_of(0, target, header.device) && arc.to == from;
            if goes_on {
                self.end_arc(arc, CallOutcome::Ok, Some(header.start_ns), out);
            } else {
                self.end_arc(arc, CallOutcome::Unknown, None, out);
            }
        }
        // If another thread is in the middle of an arc, that arc's end has yet to come, and explains this state.
        let busy = self.is_busy(header.device);
        self.overtake(header);
        let expected = self.states.arc_began(header.device, from, header.end_ns);
        if let Some(expected) = expected.filter(|_| !busy) {
            self.desync(header, expected, from, DesyncCause::Arc, out);
        }
        let device = self.devices.get(header.device);
        if let Some(errno) = Errno::from_ret(body.ret.into()) {
            self.thread(header.tid).refuse(header.end_ns);
            let step = ArcStep { from, to: None, target, outcome: CallOutcome::Refused(errno) };
            out.push(event(header, device, None, EventData::Arc(step)));
        } else if to == states::UNREADABLE {
            // An arc has begun, and its target is not known.
            self.states.set(header.device, None, header.end_ns);
            let step = ArcStep { from, to: None, target, outcome: CallOutcome::Unknown };
            out.push(event(header, device, None, EventData::Arc(step)));
        } else if from != to {
            let arc = OpenArc {
                from,
                to,
                target,
                start_ns: header.end_ns,
                pointer: header.device,
                device,
                process: process(header),
                overtaken_ns: None,
            };
            self.threads.begin(header.tid, arc);
        }
    }

    pub(super) fn set_state(&mut self, header: &Header, body: &wire::SetState, out: &mut Vec<VfioEvent>) {
        self.release_held(header.tid, out);
        let target = MigState(body.target);
        let outcome = CallOutcome::from_ret(body.ret);
        self.end_request_arc(header, target, outcome, out);
        let (arcs, refused) = self.thread(header.tid).end_request(header.start_ns);
        self.request_ended(header, target, arcs, outcome);
        let device = self.devices.get(header.device);
        let session = (outcome.is_ok() && header.file != 0)
            .then(|| self.sessions.start(header.file, header.device, device.clone(), target, header.end_ns));
        let outcome = if refused { as_refused(outcome) } else { outcome };
        let via = RequestOrigin::Driver;
        let data =
            SetState { target, via, arcs, data_fd: None, session, outcome, driver_call: Some(outcome) };
        self.hold(header, device, EventData::SetState(data));
    }

    /// Takes in a note that explains later records.
    pub(super) fn take_note(&mut self, note: &RecordNote) {
        self.notes.take(note);
    }

    pub(super) fn log_ranges(&mut self, header: &Header, body: &wire::LogRanges) {
        self.log(header, DirtyDetail::Ranges(Box::new(*body)));
    }

    pub(super) fn log_dirty(&mut self, header: &Header, body: wire::LogDirty) {
        self.log(header, DirtyDetail::Dirty(body.pages));
    }

    /// Keeps a detail for the ioctl whose record should come next.
    fn log(&mut self, header: &Header, log: DirtyDetail) {
        let (start_ns, since_ns) = (header.start_ns, header.end_ns);
        self.wait_from(since_ns);
        self.thread(header.tid).log = Some(DirtyIoctl { start_ns, since_ns, log });
    }

    pub(super) fn get_state(&mut self, header: &Header, body: wire::GetState, out: &mut Vec<VfioEvent>) {
        self.release_held(header.tid, out);
        let outcome = CallOutcome::from_ret(body.ret);
        let state =
            outcome.is_ok().then_some(MigState(body.state)).filter(|&state| state != states::UNREADABLE);
        self.shown(header, state, out);
        let data = GetState { state, via: RequestOrigin::Driver, outcome, driver_call: Some(outcome) };
        let device = self.devices.get(header.device);
        self.hold(header, device, EventData::GetState(data));
    }

    pub(super) fn data_size(&mut self, header: &Header, body: wire::DataSize, out: &mut Vec<VfioEvent>) {
        self.release_held(header.tid, out);
        let outcome = CallOutcome::from_ret(body.ret);
        let stop_copy_bytes = (outcome.is_ok() && body.unread == 0).then_some(body.stop_copy_length);
        let data =
            DataSize { stop_copy_bytes, via: RequestOrigin::Driver, outcome, driver_call: Some(outcome) };
        let device = self.devices.get(header.device);
        self.hold(header, device, EventData::DataSize(data));
    }

    /// Makes the event of a call that this one record describes completely.
    pub(super) fn call_event(&mut self, header: &Header, data: EventData) -> VfioEvent {
        event(header, self.devices.get(header.device), Some(took(header)), data)
    }

    fn thread(&mut self, tid: u32) -> &mut ThreadState {
        self.threads.enter(tid)
    }

    /// Keeps a driver's call until it is clear whether an ioctl is around it.
    fn hold(&mut self, header: &Header, device: Option<DeviceRef>, data: EventData) {
        let event = event(header, device, Some(took(header)), data);
        self.wait_from(header.end_ns);
        self.thread(header.tid).held = Some(HeldCall { event, pointer: header.device });
    }

    /// Ends the wait of a held call, because its thread does something else: no ioctl is around it.
    fn release_held(&mut self, tid: u32, out: &mut Vec<VfioEvent>) {
        if let Some(thread) = self.threads.get_mut(tid) {
            thread.reported = None;
            out.extend(thread.held.take().map(|held| held.event));
        }
    }

    /// Ends the thread's request, because it does something that is not possible within a request to change the state.
    fn left_request(&mut self, header: &Header, out: &mut Vec<VfioEvent>) {
        if let Some(thread) = self.threads.get_mut(header.tid) {
            thread.end_request(0);
        }
        if let Some(arc) = self.threads.take_arc(header.tid) {
            self.end_arc(arc, CallOutcome::Unknown, None, out);
        }
    }

    /// Ends the arc in progress, if it is one of the request that has returned.
    fn end_request_arc(
        &mut self,
        header: &Header,
        target: MigState,
        outcome: CallOutcome,
        out: &mut Vec<VfioEvent>,
    ) {
        let Some(arc) = self.threads.take_arc(header.tid) else { return };
        if !arc.is_of(header.start_ns, target, header.device) {
            return self.end_arc(arc, CallOutcome::Unknown, None, out);
        }
        // Success means that every arc worked. But if this is not the last one, records were lost behind it, and with
        // them its end.
        let last = arc.to == target;
        let end_ns = match outcome {
            CallOutcome::Ok => last.then_some(header.end_ns),
            CallOutcome::Failed(_) | CallOutcome::Refused(_) => Some(header.end_ns),
            CallOutcome::Unknown => None,
        };
        let past = arc.overtaken_ns.is_some();
        self.end_arc(arc, outcome, end_ns, out);
        if outcome.is_ok() && !last && !past {
            self.states.set(header.device, Some(target), header.end_ns);
        }
    }

    fn end_arc(&mut self, arc: OpenArc, outcome: CallOutcome, end_ns: Option<u64>, out: &mut Vec<VfioEvent>) {
        if arc.overtaken_ns.is_none() {
            self.states.arc_ended(arc.pointer, arc.to, outcome, end_ns.unwrap_or(self.now_ns));
        }
        let pointer = arc.pointer;
        self.end_with(pointer, arc.into_event(outcome, end_ns, self.now_ns), out);
    }

    /// Puts out an event that may end the data sessions of the device at this address; the event says if it does.
    fn end_with(&mut self, pointer: u64, event: VfioEvent, out: &mut Vec<VfioEvent>) {
        if event.data.session_ending().is_some() {
            self.sessions.end(pointer);
        }
        out.push(event);
    }

    /// Returns true if an arc of the device is in progress, as far as is known.
    fn is_busy(&self, pointer: u64) -> bool {
        self.threads.is_busy(pointer)
    }

    fn request_ended(&mut self, header: &Header, target: MigState, arcs: u32, outcome: CallOutcome) {
        if !self.is_busy(header.device) {
            self.states.request_ended(header, target, arcs, outcome);
        }
    }

    /// Takes in a state that the driver returned. It held its lock, so this was before or after an arc that is in
    /// progress.
    fn shown(&mut self, header: &Header, state: Option<MigState>, out: &mut Vec<VfioEvent>) {
        let Some(found) = state.filter(|_| !self.is_busy(header.device)) else { return };
        if let Some(expected) =
            self.states.observe_state(header.device, found, header.start_ns, header.end_ns)
        {
            self.desync(header, expected, found, DesyncCause::GetState, out);
        }
    }

    /// Uses a reading of a state, once its thread has gone on and nothing else has happened to the device.
    fn conclude(&mut self, reading: &StateReading, out: &mut Vec<VfioEvent>) {
        let StateReading { header, found, busy, .. } = reading;
        if *busy {
            return;
        }
        // Its place among the records counts here, not its time, which is that of the call around it.
        if let Some(expected) = self.states.observe_state(header.device, *found, u64::MAX, header.end_ns) {
            self.desync(header, expected, *found, DesyncCause::Device, out);
        }
    }

    fn desync(
        &mut self,
        header: &Header,
        expected: MigState,
        found: MigState,
        cause: DesyncCause,
        out: &mut Vec<VfioEvent>,
    ) {
        let device = self.devices.get(header.device);
        let event = event(header, device, None, EventData::Desync(StateDesync { expected, found, cause }));
        if found == MigState::RUNNING {
            // Another thread's reset may be the cause, and not have returned yet.
            out.extend(self.states.hold_desync(header.device, event, self.now_ns));
            self.wait_from(self.now_ns);
        } else {
            out.push(event);
        }
    }

    /// Marks arcs that other threads had begun as overtaken: the device is seen to be past them.
    fn overtake(&mut self, header: &Header) {
        let waits = header.device != 0 && self.threads.overtake(header.device, header.tid, header.end_ns);
        if waits {
            self.wait_from(header.end_ns);
        }
    }

    fn wait_from(&mut self, now_ns: u64) {
        let deadline = now_ns.saturating_add(HOLD_NS);
        self.deadline_ns = Some(self.deadline_ns.map_or(deadline, |other| other.min(deadline)));
    }

    /// Advances the clock, and ends the waits that took too long.
    fn give_up(&mut self, now_ns: u64, out: &mut Vec<VfioEvent>) {
        self.now_ns = self.now_ns.max(now_ns);
        if self.deadline_ns.is_none_or(|deadline| self.now_ns < deadline) {
            return;
        }
        let now_ns = self.now_ns;
        let over = |since: u64| since.saturating_add(HOLD_NS) <= now_ns;
        for reading in self.states.take_readings(|reading| over(reading.since_ns)) {
            self.conclude(&reading, out);
        }
        out.extend(self.states.take_held_desyncs(|_, since| over(since)));
        let mut next: Option<u64> = self.states.waiting_since();
        let mut late = Vec::new();
        for (tid, thread) in self.threads.iter_mut() {
            thread.reported.take_if(|reported| over(reported.since_ns));
            thread.log.take_if(|log| over(log.since_ns));
            if let Some(held) = thread.held.take_if(|held| over(held.event.end_ns)) {
                let VfioEvent { start_ns, data, .. } = &held.event;
                let (kind, outcome) = (data.kind(), data.outcome());
                thread.reported = Some(ReportedCall { kind, start_ns: *start_ns, outcome, since_ns: now_ns });
                out.push(held.event);
            }
            let held = thread.held.as_ref().map(|held| held.event.end_ns);
            let reported = thread.reported.as_ref().map(|reported| reported.since_ns);
            let arc = thread.arc.as_ref().and_then(|arc| arc.overtaken_ns);
            late.extend(arc.filter(|since| over(*since)).map(|_| tid));
            let arc = arc.filter(|since| !over(*since));
            let log = thread.log.as_ref().map(|log| log.since_ns);
            next = [next, held, reported, arc, log].into_iter().flatten().min();
        }
        let arcs: Vec<OpenArc> = late.into_iter().filter_map(|tid| self.threads.take_arc(tid)).collect();
        self.threads.leave_all_idle();
        for arc in arcs {
            self.end_arc(arc, CallOutcome::Unknown, None, out);
        }
        self.deadline_ns = next.map(|since| since.saturating_add(HOLD_NS));
    }
}

fn process(header: &Header) -> EventProcess {
    EventProcess { pid: header.tgid, tid: header.tid, comm: record::text(&header.comm) }
}

fn took(header: &Header) -> u64 {
    header.end_ns.saturating_sub(header.start_ns)
}

fn event(header: &Header, device: Option<DeviceRef>, duration_ns: Option<u64>, data: EventData) -> VfioEvent {
    let Header { start_ns, end_ns, .. } = *header;
    VfioEvent { start_ns, end_ns, duration_ns, device, process: process(header), data }
}

fn as_refused(outcome: CallOutcome) -> CallOutcome {
    outcome.errno().map_or(outcome, CallOutcome::Refused)
}

/// Returns the count, or `None` for `u32::MAX`, which stands for "not known" on the wire.
fn known_count(count: u32) -> Option<u32> {
    (count != u32::MAX).then_some(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::fixture::{RUNNING, RecordScript, STOP};

    #[test]
    fn threads_that_never_come_back_take_no_more_room() {
        let mut assembler = EventAssembler::new();
        let mut unknown = 0;
        for n in 1..9_000u64 {
            let tid = u32::try_from(n).unwrap();
            let script = RecordScript::new(n).thread(tid, tid).next(RUNNING, STOP, STOP, 0);
            for event in script.records().iter().flat_map(|record| assembler.push(record)) {
                unknown += usize::from(event.data.outcome() == Some(CallOutcome::Unknown));
            }
            assert!(assembler.threads.len() <= MAX_THREADS);
        }
        assert_eq!((unknown, assembler.given_up), (2 * MAX_THREADS, 2 * MAX_THREADS as u64));
        assert_eq!(assembler.finish().len(), 8_999 - 2 * MAX_THREADS, "every arc is told");
        assert_eq!(assembler.forgotten(0), assembler.given_up);
    }

    #[test]
    fn notes_without_end_are_forgotten_and_counted() {
        let mut assembler = EventAssembler::new();
        for driver in 0..10_000 {
            let note = crate::event::CaptureNote {
                driver,
                id: 1,
                module: driver.to_string(),
                name: String::new(),
                structure: String::new(),
                fields: Vec::new(),
            };
            let script = RecordScript::new(0).note(RecordNote::Capture(note));
            script.records().iter().for_each(|record| drop(assembler.push(record)));
        }
        assert_eq!(assembler.forgotten(0), 10_000 - 512);
    }

    #[test]
    fn threads_that_are_gone_are_forgotten() {
        // As with a script that reads debugfs' state every second: a new thread each time, and never an ioctl.
        let mut assembler = EventAssembler::new();
        let mut events = 0;
        for n in 0..100u64 {
            let tid = u32::try_from(n).unwrap();
            let script =
                RecordScript::new(1).wait(n * 1_000_000_000).thread(tid, tid).driver_get_state(RUNNING);
            events += script.records().iter().map(|record| assembler.push(record).len()).sum::<usize>();
            assert!(assembler.threads.len() <= 2, "{}", assembler.threads.len());
        }
        events += assembler.expire(101 * 1_000_000_000).len();
        assembler.expire(102 * 1_000_000_000);
        assert_eq!((events, assembler.threads.len(), assembler.deadline_ns), (100, 0, None));

        for record in RecordScript::new(1).set(&[RUNNING, STOP], 0, -1).records() {
            assembler.push(&record);
        }
        assert!(assembler.threads.len() == 0, "nothing is left of a whole request");
    }
}
