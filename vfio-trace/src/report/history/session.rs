//! History of one data session, built call by call.

use std::collections::VecDeque;

use super::{BusyIntervals, is_pre_copy, thinned::SampledSeries};
use crate::{
    event::{DataClose, DataDirection, DataIo, Errno, MigState, PrecopyInfo, ReadEnd, StreamHash, VfioEvent},
    report::document::{
        BytesSample, DataSession, Log2Histogram, PartName, PrecopySample, SessionEnd, SessionPart,
    },
};

/// Most points of bytes over time in a document.
const SERIES: usize = 1024;
/// Most calls that are kept to merge clocks by.
const CALLS: usize = 4096;
/// Most changes of the device's state that are kept, with the bytes moved by then.
const CHANGES: usize = 1024;
/// Number of recent calls that are searched for overlaps.
const RECENT: usize = 64;
/// Most threads that are listed.
const THREADS: usize = 64;

/// A call that moved bytes. Times are CLOCK_MONOTONIC in ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TransferCall {
    /// Bytes moved before the call.
    pub(crate) before: u64,
    /// Bytes moved including the call.
    pub(crate) after: u64,
    pub(crate) start_ns: u64,
    pub(crate) end_ns: u64,
}

/// Everything known about a session. [`HostHistory`](super::HostHistory) makes it at the session's first event and
/// passes every event of the session to it. Times are CLOCK_MONOTONIC in ns.
#[derive(Clone, Debug)]
pub(crate) struct SessionHistory {
    pub(crate) doc: DataSession,
    parts: Vec<(SessionPart, BusyIntervals)>,
    calls: SampledSeries<TransferCall>,
    series: SampledSeries<BytesSample>,
    /// Bytes moved before each change of the device's state: complete if there were fewer than [`CHANGES`] changes.
    changes: SampledSeries<BytesSample>,
    /// Bytes moved at the last change of the device's state; `u64::MAX` once it is known that more was moved.
    noted: u64,
    info: SampledSeries<PrecopySample>,
    last_info: Option<(PrecopySample, u64)>,
    /// Begin and end of the last calls, and the bytes moved before each.
    recent: VecDeque<(u64, u64, u64)>,
    first_failure: Option<(u64, u64)>,
    stream: Option<StreamHash>,
    eof: bool,
    last_failed: bool,
    /// True if the driver, or the end of the device, has ended the session.
    over: bool,
}

impl SessionHistory {
    pub(super) const fn new(session: u32, device: u32, start_ns: u64) -> Self {
        Self {
            doc: DataSession {
                nr: 0,
                device,
                session,
                direction: None,
                start_ns,
                end_ns: start_ns,
                partial: true,
                end: SessionEnd::Open,
                errno: None,
                bytes: 0,
                missed_bytes: None,
                parts: Vec::new(),
                threads: Vec::new(),
                concurrent_calls: 0,
                series: Vec::new(),
                precopy_info: Vec::new(),
                precopy_info_calls: 0,
                precopy_info_ns: 0,
                calls_after_end: 0,
            },
            parts: Vec::new(),
            calls: SampledSeries::new(CALLS),
            series: SampledSeries::new(SERIES),
            changes: SampledSeries::new(CHANGES),
            info: SampledSeries::new(SERIES),
            last_info: None,
            noted: 0,
            recent: VecDeque::new(),
            first_failure: None,
            stream: None,
            eof: false,
            last_failed: false,
            over: false,
        }
    }

    /// Notes that a request for this state started the session.
    pub(super) fn begin_session(&mut self, target: MigState, at_ns: u64) {
        self.doc.partial = false;
        self.doc.start_ns = at_ns;
        self.doc.end_ns = self.doc.end_ns.max(at_ns);
        let save = target != MigState::RESUMING;
        self.doc.direction = Some(if save { DataDirection::Save } else { DataDirection::Resume });
        self.series.push(BytesSample { at_ns, bytes: 0 });
    }

    pub(super) fn io(
        &mut self,
        event: &VfioEvent,
        io: &DataIo,
        direction: DataDirection,
        state: Option<MigState>,
    ) {
        if io.ended {
            self.doc.calls_after_end += 1;
            return;
        }
        let doc = &mut self.doc;
        doc.direction.get_or_insert(direction);
        if !self.over {
            doc.end_ns = doc.end_ns.max(event.end_ns);
        }
        let tid = event.process.tid;
        if !doc.threads.contains(&tid) && doc.threads.len() < THREADS {
            doc.threads.push(tid);
        }
        let bytes = io.bytes.unwrap_or(0);
        // Bytes moved unseen before have a place in the stream, but not in the sum.
        let before = if doc.partial { io.offset_bytes.unwrap_or(doc.bytes) } else { doc.bytes };
        doc.bytes = doc.bytes.saturating_add(bytes);
        let (start_ns, end_ns) = (event.start_ns, event.end_ns);
        if bytes > 0 {
            self.calls.push(TransferCall { before, after: before.saturating_add(bytes), start_ns, end_ns });
            self.series.push(BytesSample { at_ns: end_ns, bytes: doc.bytes });
        }
        let failed = io.fails();
        if failed && doc.errno.is_none() {
            doc.errno = io.outcome.errno().map(Errno::name).map(Into::into);
        }
        if failed {
            self.first_failure.get_or_insert((start_ns, end_ns));
        }
        // A call that a signal interrupted does not make up for an earlier failure.
        if io.dry != Some(ReadEnd::ForNow) {
            self.last_failed = failed;
        }
        let name = match (direction, state) {
            (DataDirection::Resume, _) => PartName::Resuming,
            (DataDirection::Save, Some(MigState::STOP_COPY)) => PartName::StopCopy,
            (DataDirection::Save, Some(state)) if is_pre_copy(state) => PartName::PreCopy,
            (DataDirection::Save, _) => PartName::Unknown,
        };
        self.eof |= io.dry == Some(ReadEnd::End) && name != PartName::PreCopy;
        self.concurrency(start_ns, end_ns, bytes);
        let (part, busy) = self.part(name, start_ns);
        busy.add(start_ns, end_ns);
        part.first_ns = part.first_ns.min(start_ns);
        part.last_ns = part.last_ns.max(end_ns);
        part.calls += 1;
        part.failed += u64::from(failed);
        part.empty += u64::from(io.dry == Some(ReadEnd::ForNow));
        part.eof += u64::from(io.dry == Some(ReadEnd::End));
        part.bytes = part.bytes.saturating_add(bytes);
        let took = event.duration_ns.unwrap_or(0);
        part.blocked_ns = part.blocked_ns.saturating_add(took);
        part.latency_ns.add(took);
        if bytes > 0 {
            part.size_bytes.add(bytes);
        }
    }

    fn part(&mut self, name: PartName, start_ns: u64) -> &mut (SessionPart, BusyIntervals) {
        let at = self.parts.iter().position(|(part, _)| part.part == name).unwrap_or_else(|| {
            let part = SessionPart {
                part: name,
                first_ns: start_ns,
                last_ns: start_ns,
                calls: 0,
                empty: 0,
                eof: 0,
                failed: 0,
                bytes: 0,
                blocked_ns: 0,
                busy_ns: 0,
                bytes_per_s: None,
                size_bytes: Log2Histogram::default(),
                latency_ns: Log2Histogram::default(),
            };
            self.parts.push((part, BusyIntervals::default()));
            self.parts.len() - 1
        });
        &mut self.parts[at]
    }

    /// Counts the calls in progress at the same time. Events come in order of their ends, so those that overlap with
    /// this call are among the last ones.
    fn concurrency(&mut self, start_ns: u64, end_ns: u64, bytes: u64) {
        let most = if self.recent.back().is_none_or(|(_, end, _)| *end <= start_ns) {
            1
        } else {
            let calls =
                || self.recent.iter().map(|(start, end, _)| (*start, *end)).chain([(start_ns, end_ns)]);
            let at = |now: u64| calls().filter(|(start, end)| *start <= now && now < *end).count();
            calls().filter(|(start, _)| *start >= start_ns).map(|(start, _)| at(start)).max().unwrap_or(1)
        };
        self.doc.concurrent_calls = self.doc.concurrent_calls.max(u32::try_from(most).unwrap_or(u32::MAX));
        if self.recent.len() >= RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((start_ns, end_ns, self.doc.bytes.saturating_sub(bytes)));
    }

    /// Returns true if data was moved since the last state change, once per change.
    pub(super) const fn take_moved(&mut self) -> bool {
        let news = self.noted < self.doc.bytes;
        self.noted = if news { u64::MAX } else { self.noted };
        news
    }

    /// Notes that the device's state changed: data moved by calls that ended before belongs to the state before.
    pub(super) fn note_state_change(&mut self, at_ns: u64) {
        let later = self.recent.partition_point(|(_, end, _)| *end < at_ns);
        let bytes = self.recent.get(later).map_or(self.doc.bytes, |(_, _, before)| *before);
        self.changes.push(BytesSample { at_ns, bytes });
        self.noted = self.doc.bytes;
    }

    /// Returns the bytes moved at each change of the device's state, and in all.
    pub(crate) fn changes(&self) -> impl Iterator<Item = BytesSample> {
        let last = self
            .series
            .points()
            .last()
            .map(|last| BytesSample { at_ns: last.at_ns.saturating_add(1), ..*last });
        let last = last.filter(|last| self.changes.points().last().is_none_or(|one| one.bytes < last.bytes));
        self.changes.points().copied().chain(last)
    }

    pub(super) fn info(&mut self, event: &VfioEvent, info: &PrecopyInfo) {
        self.doc.direction.get_or_insert(DataDirection::Save);
        self.doc.precopy_info_calls += 1;
        self.doc.precopy_info_ns =
            self.doc.precopy_info_ns.saturating_add(event.duration_ns.unwrap_or_default());
        if info.outcome.is_ok() {
            let sample = PrecopySample {
                at_ns: event.end_ns,
                initial_bytes: info.initial_bytes,
                dirty_bytes: info.dirty_bytes,
            };
            self.info.push(sample);
            self.last_info = Some((sample, self.doc.bytes));
        }
    }

    pub(super) fn close_session(&mut self, event: &VfioEvent, close: &DataClose) {
        self.doc.missed_bytes = close.missed_bytes;
        self.doc.partial |= close.partial;
        if let Some(direction) = close.direction {
            self.doc.direction.get_or_insert(direction);
        }
        if !self.over {
            self.end_session(SessionEnd::Close, event.end_ns);
        }
    }

    /// Ends the session, unless it is over.
    pub(super) fn end_session(&mut self, end: SessionEnd, at_ns: u64) {
        if !self.over {
            self.over = true;
            self.doc.end = end;
            self.doc.end_ns = self.doc.end_ns.max(at_ns);
        }
    }

    /// Returns the last answer to VFIO_MIG_GET_PRECOPY_INFO, and the bytes moved before it.
    pub(crate) const fn last_info(&self) -> Option<(PrecopySample, u64)> {
        self.last_info
    }

    /// Returns the calls that moved bytes; a choice of them if there were many.
    pub(crate) fn calls(&self) -> impl Iterator<Item = &TransferCall> {
        self.calls.points()
    }

    /// Returns the times in which calls of a part were in progress.
    pub(crate) fn busy(&self, name: PartName) -> Option<&BusyIntervals> {
        self.parts.iter().find(|(part, _)| part.part == name).map(|(_, busy)| busy)
    }

    /// Returns true if a `read()` outside of PRE_COPY has given 0 bytes: all was read.
    pub(crate) const fn eof(&self) -> bool {
        self.eof
    }

    /// Sets the hash: a plug-in has seen the stream's beginning.
    pub(super) const fn set_stream_hash(&mut self, stream: StreamHash) {
        self.stream = Some(stream);
    }

    /// Returns the hash of all bytes that were moved, if it is known.
    pub(crate) fn stream(&self) -> Option<StreamHash> {
        self.stream.filter(|stream| stream.bytes == self.doc.bytes && !self.doc.partial)
    }

    /// Returns begin and end of the first call that failed.
    pub(crate) const fn first_failure(&self) -> Option<(u64, u64)> {
        self.first_failure
    }

    /// Returns the session for the document.
    pub(crate) fn document(&self) -> DataSession {
        let mut doc = self.doc.clone();
        doc.end = match doc.end {
            _ if self.last_failed => SessionEnd::Error,
            _ if self.eof => SessionEnd::Eof,
            end => end,
        };
        doc.parts = self
            .parts
            .iter()
            .map(|(part, busy)| {
                let mut part = part.clone();
                part.busy_ns = busy.busy_ns();
                let elapsed = part.last_ns.saturating_sub(part.first_ns);
                let rate = u128::from(part.bytes).saturating_mul(1_000_000_000).checked_div(elapsed.into());
                part.bytes_per_s = rate.map(|rate| u64::try_from(rate).unwrap_or(u64::MAX));
                part
            })
            .collect();
        doc.parts.sort_by_key(|part| part.part);
        doc.series = self.series.points().copied().collect();
        doc.precopy_info = self.info.points().copied().collect();
        doc
    }
}
