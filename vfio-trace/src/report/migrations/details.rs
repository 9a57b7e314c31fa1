//! Adds sessions, failures and phases to the sides that were found from arcs.

use std::collections::HashMap;

use super::{
    index::{DeviceIndex, FailedCall},
    shift::ClockShift,
    side::{SideAnalysis, SideRole, failed},
};
use crate::{
    event::{DataDirection, Errno},
    report::{
        document::{ArcSpan, DataSession, DeviceFailure, DirtyLog, MigrationPhase, SessionEnd, StateRequest},
        history::SessionHistory,
        windows::SpanIndex,
    },
};

/// A session on the document's clock, with its history on its host's clock. [`DocumentBuilder`](super::DocumentBuilder)
/// makes one per session of each host; everything that compares sessions with sides uses it.
pub(super) struct ShiftedSession<'a> {
    pub(super) doc: &'a DataSession,
    pub(super) history: &'a SessionHistory,
    /// Shift from the host's times to the document's.
    pub(super) shift: &'a ClockShift,
}

impl ShiftedSession<'_> {
    pub(super) fn at(&self, mono_ns: u64) -> u64 {
        self.shift.of(mono_ns)
    }
}

/// Gives each session of a device to one of the device's sides.
pub(super) fn attach(sides: &mut [SideAnalysis], streams: &[ShiftedSession<'_>]) {
    let span = |found: &SideAnalysis| (found.side.start_ns, found.side.end_ns);
    // Sides of one device and role, in order, to be found by time.
    let mut places: HashMap<(u32, SideRole), Vec<usize>> = HashMap::new();
    for (at, found) in sides.iter().enumerate() {
        places.entry((found.side.device, found.role)).or_default().push(at);
    }
    let mut windows: HashMap<(u32, SideRole), SpanIndex> = places
        .iter()
        .map(|(key, places)| (*key, SpanIndex::new(places.iter().map(|at| span(&sides[*at])))))
        .collect();
    for stream in streams {
        let doc = stream.doc;
        let role = match doc.direction {
            Some(DataDirection::Resume) => SideRole::Destination,
            _ => SideRole::Source,
        };
        let key = (doc.device, role);
        let (Some(places), Some(windows)) = (places.get(&key), windows.get_mut(&key)) else { continue };
        // A session whose start was seen belongs to the last side that had begun by then.
        let (from, to) = if doc.partial { (doc.start_ns, doc.end_ns) } else { (0, doc.start_ns) };
        let last = windows.overlapping_backwards(from, to).next();
        let Some(last) = last else { continue };
        let found = &mut sides[places[last]];
        found.side.sessions.push(doc.nr);
        found.bytes = found.bytes.saturating_add(doc.bytes);
        found.eof |= stream.history.eof();
        // Only a side with one session has one stream.
        found.stream = stream.history.stream().filter(|_| found.side.sessions.len() == 1);
        found.bytes_missed |= doc.missed_bytes.is_some_and(|missed| missed > 0);
        found.data_failed |= doc.end == SessionEnd::Error;
        if doc.partial && found.side.partial {
            found.side.start_ns = found.side.start_ns.min(doc.start_ns);
        }
        found.side.partial |= doc.partial;
        if !found.left_transfer && found.cut.is_none() {
            found.side.end_ns = found.side.end_ns.max(doc.end_ns);
        }
        windows.set(last, span(found));
    }
}

/// Makes a failure, with the step of the driver that caused it.
fn failure(line: &DeviceIndex<'_>, what: &str, errno: Option<Errno>, call: &FailedCall) -> DeviceFailure {
    let (step, step_errno) = line.first_failed(call).unzip();
    let errno = errno.map(|errno| errno.name().into_owned());
    DeviceFailure { at_ns: call.end_ns, what: what.to_owned(), errno, step, step_errno: step_errno.flatten() }
}

/// Returns the failure of an arc.
pub(super) fn of_arc(line: &DeviceIndex<'_>, arc: &ArcSpan) -> DeviceFailure {
    let what = format!("{} → {}", arc.from, arc.to.unwrap_or(arc.target));
    let call = FailedCall {
        start_ns: arc.start_ns,
        end_ns: arc.end_ns,
        tid: Some(arc.tid),
        ..FailedCall::default()
    };
    failure(line, &what, arc.outcome.errno(), &call)
}

/// Returns the failure of a request.
pub(super) fn of_request(line: &DeviceIndex<'_>, request: &StateRequest) -> DeviceFailure {
    let what = format!("request for {}", request.target);
    let (start_ns, end_ns) = (request.start_ns, request.end_ns);
    let call = FailedCall { start_ns, end_ns, tid: Some(request.tid), ..FailedCall::default() };
    failure(line, &what, request.outcome.errno(), &call)
}

/// Returns the failure of a start of dirty page tracking.
pub(super) fn of_log(line: &DeviceIndex<'_>, log: &DirtyLog) -> DeviceFailure {
    let end_ns = log.start_ns.saturating_add(log.start_duration_ns);
    let call = FailedCall { start_ns: log.start_ns, end_ns, ..FailedCall::default() };
    failure(line, "DMA_LOGGING_START", log.outcome.errno(), &call)
}

/// Returns the failure of the first call on a data fd that failed, if one did.
pub(super) fn of_stream(
    line: &DeviceIndex<'_>,
    stream: &ShiftedSession<'_>,
    role: SideRole,
) -> Option<DeviceFailure> {
    let (start, end) = stream.history.first_failure()?;
    let what = if role == SideRole::Source { "read()" } else { "write()" };
    // The copy of the driver's file is made when the call returns; a finding may be about that copy.
    let (start_ns, end_ns) = (stream.at(start), stream.at(end));
    let session = Some(stream.doc.nr);
    let call = FailedCall { start_ns, end_ns, session, copied_ns: COPIED_NS, ..FailedCall::default() };
    Some(DeviceFailure { errno: stream.doc.errno.clone(), ..failure(line, what, None, &call) })
}

/// Time after a call in which a copy of its file may have been made, in ns.
const COPIED_NS: u64 = 1_000_000;

/// Returns the failures on a side.
pub(super) fn failures(
    found: &SideAnalysis,
    line: &DeviceIndex<'_>,
    streams: &[ShiftedSession<'_>],
) -> Vec<DeviceFailure> {
    let mut failures: Vec<DeviceFailure> =
        found.arcs.iter().filter(|arc| failed(arc.outcome)).map(|arc| of_arc(line, arc)).collect();
    // A request begins before its first arc, and ends after its last.
    let (start, end) = (found.side.start_ns, found.side.end_ns);
    let requests = line.requests(start, end).filter(|request| failed(request.outcome));
    failures.extend(
        requests.filter(|request| !line.has_failed_arc(request)).map(|request| of_request(line, request)),
    );
    failures.extend(found.streams(streams).filter_map(|stream| of_stream(line, stream, found.role)));
    if found.role == SideRole::Source {
        let logs = line.logs(start, end).filter(|log| failed(log.outcome));
        failures.extend(logs.map(|log| of_log(line, log)));
    }
    failures.sort_by_key(|failure| failure.at_ns);
    failures
}

/// Returns the states and arcs of a side, in order, with the bytes that moved in each.
pub(super) fn phases(
    found: &SideAnalysis,
    line: &DeviceIndex<'_>,
    streams: &[ShiftedSession<'_>],
) -> Vec<MigrationPhase> {
    let (start, end) = (found.side.start_ns, found.side.end_ns);
    let mut phases: Vec<MigrationPhase> = found
        .arcs
        .iter()
        .map(|arc| MigrationPhase {
            name: format!("{} → {}", arc.from, arc.to.unwrap_or(arc.target)),
            arc: true,
            start_ns: arc.start_ns,
            end_ns: arc.end_ns,
            bytes: 0,
        })
        .collect();
    let spans = line.states(start, end).filter(|span| span.start_ns >= start && span.start_ns < end);
    phases.extend(spans.filter(|span| span.end_ns > span.start_ns).map(|span| MigrationPhase {
        name: span.state.map_or_else(|| "unknown".to_owned(), |state| state.to_string()),
        arc: false,
        start_ns: span.start_ns,
        end_ns: span.end_ns.min(end),
        bytes: 0,
    }));
    phases.sort_by_key(|phase| (phase.start_ns, phase.end_ns));
    for stream in found.streams(streams) {
        // Bytes moved up to a change of the state belong to the phase that this change ended.
        let mut before = 0;
        for change in stream.history.changes() {
            let at_ns = stream.at(change.at_ns);
            let begun = phases.partition_point(|phase| phase.start_ns < at_ns);
            if let Some(phase) = begun.checked_sub(1).and_then(|at| phases.get_mut(at)) {
                phase.bytes = phase.bytes.saturating_add(change.bytes.saturating_sub(before));
            }
            before = before.max(change.bytes);
        }
    }
    phases
}
