//! Finds the sides of a device's migrations from the order of its arcs, resets and closes.

use super::details::ShiftedSession;
use crate::{
    event::{CallOutcome, MigState, StreamHash},
    report::{
        document::{ArcSpan, MarkKind, MigrationSide, MigrationVerdict, SourceRecovery, TracedDevice},
        history::is_pre_copy,
    },
};

/// Role of a side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum SideRole {
    Source,
    Destination,
}

/// A side as the document has it, with further facts. [`find`] makes it from a device's arcs; the session's data,
/// failures and findings are added later, and [`SideAnalysis::judge`] sets the verdict at the end. Times are those of
/// the document.
#[derive(Clone, Debug)]
pub(super) struct SideAnalysis {
    pub(super) role: SideRole,
    pub(super) host: u32,
    pub(super) pid: u32,
    pub(super) side: MigrationSide,
    /// Arcs of the side, failed ones too, and those that stopped the device before.
    pub(super) arcs: Vec<ArcSpan>,
    /// Start of the arc that stopped the device, if the device did not go back.
    pub(super) stop_ns: Option<u64>,
    /// True if that arc stopped the device. False if it is only the first that was seen of a device that stood still
    /// already.
    pub(super) stop_seen: bool,
    /// Time at which STOP_COPY was reached.
    pub(super) stop_copy_ns: Option<u64>,
    /// Time at which the device ran again, or for the first time.
    pub(super) ran_ns: Option<u64>,
    pub(super) pre_copy: bool,
    /// True if it has left STOP_COPY or RESUMING by an arc.
    pub(super) left_transfer: bool,
    /// Event that ended the side before it was over: the device's close or reset.
    pub(super) cut: Option<MarkKind>,
    pub(super) eof: bool,
    pub(super) bytes: u64,
    /// Hash of the stream, if it is known.
    pub(super) stream: Option<StreamHash>,
    /// True if the last call that moved its data failed.
    pub(super) data_failed: bool,
    /// True if not all of its data was seen.
    pub(super) data_incomplete: bool,
    /// True if bytes went over its data fd without a call that was seen.
    pub(super) bytes_missed: bool,
    /// True if bytes may have moved unseen.
    pub(super) bytes_unseen: bool,
    /// True if calls that moved nothing may have been missed, such as a `read()` at the end, because the kernel did not
    /// count missed calls.
    pub(super) misses_uncounted: bool,
    /// True if earlier attempts to stop the device failed, or if it ran again unseen: the length of that standstill is
    /// not known.
    pub(super) stopped_before: bool,
    /// True if it is not known that the device runs after the side's end: since an attempt to stop it failed, nothing
    /// started it.
    pub(super) state_uncertain: bool,
    /// Time at which the side was over: later events of the device do not belong to it. `None`: not over.
    pub(super) over_ns: Option<u64>,
    /// True if an arc began in another state than the one before had led to: one in between was not seen.
    pub(super) missed_arc: bool,
    /// True if functions that the device goes through were not probed for a part of the side's time.
    pub(super) unprobed: bool,
}

/// Returns true if an operation was tried and failed.
pub(super) const fn failed(outcome: CallOutcome) -> bool {
    outcome.is_failure()
}

/// Returns true if a device may start DMA in this state.
const fn runs(state: MigState) -> bool {
    matches!(state, MigState::RUNNING | MigState::PRE_COPY)
}

/// Event that the walk over a device's history meets, in order of time.
enum WalkItem<'a> {
    Arc(&'a ArcSpan),
    Mark(MarkKind, u64),
}

impl WalkItem<'_> {
    const fn at_ns(&self) -> u64 {
        match self {
            Self::Arc(arc) => arc.start_ns,
            Self::Mark(_, at) => *at,
        }
    }
}

/// Returns all sides of a device, in order.
pub(super) fn find(device: &TracedDevice) -> Vec<SideAnalysis> {
    let marks = device.marks.iter().filter(|mark| mark.outcome.is_ok() && mark.kind.ends_activity());
    let mut moves: Vec<WalkItem<'_>> = device.arcs.iter().map(WalkItem::Arc).collect();
    moves.extend(marks.map(|mark| WalkItem::Mark(mark.kind, mark.at_ns)));
    moves.sort_by_key(WalkItem::at_ns);
    let mut walk =
        SideFinder { device, found: Vec::new(), now: None, stopping: Vec::new(), stop_failed: false };
    for step in moves {
        match step {
            WalkItem::Arc(arc) => walk.arc(arc),
            WalkItem::Mark(kind, at_ns) => walk.cut(kind, at_ns),
        }
    }
    walk.end();
    walk.found
}

struct SideFinder<'a> {
    device: &'a TracedDevice,
    found: Vec<SideAnalysis>,
    now: Option<SideAnalysis>,
    /// Arcs that have stopped the device, while nothing shows yet for which purpose.
    stopping: Vec<ArcSpan>,
    /// True if an attempt to stop the device failed, and no event since then starts it. Some drivers leave the device
    /// stopped in that case.
    stop_failed: bool,
}

impl SideFinder<'_> {
    fn end(&mut self) {
        if let Some(now) = &mut self.now {
            now.state_uncertain = self.stop_failed;
        }
        self.found.extend(self.now.take());
    }

    fn begin(&mut self, role: SideRole, arc: &ArcSpan, partial: bool) {
        self.end();
        let before = std::mem::take(&mut self.stopping);
        let start_ns = before.first().map_or(arc.start_ns, |first| first.start_ns);
        let stop_ns = (role == SideRole::Source && !before.is_empty()).then_some(start_ns);
        let stop_seen = before.first().is_some_and(|first| runs(first.from));
        self.now = Some(SideAnalysis {
            role,
            host: self.device.host,
            pid: arc.pid,
            side: MigrationSide {
                device: self.device.nr,
                sessions: Vec::new(),
                start_ns,
                end_ns: arc.end_ns,
                verdict: MigrationVerdict::Unfinished,
                recovery: None,
                partial,
                phases: Vec::new(),
                failures: Vec::new(),
                findings: Vec::new(),
            },
            arcs: before,
            stop_ns,
            stop_seen,
            stop_copy_ns: None,
            ran_ns: None,
            pre_copy: false,
            left_transfer: false,
            cut: None,
            eof: false,
            bytes: 0,
            stream: None,
            data_failed: false,
            data_incomplete: false,
            bytes_missed: false,
            bytes_unseen: false,
            misses_uncounted: false,
            stopped_before: role == SideRole::Source && self.stop_failed,
            state_uncertain: false,
            over_ns: None,
            missed_arc: false,
            unprobed: false,
        });
    }

    fn arc(&mut self, arc: &ArcSpan) {
        let wanted = |states: &[MigState]| arc.to.is_some_and(|to| states.contains(&to));
        let begins = match (arc.from, arc.to) {
            (_, Some(MigState::RESUMING)) => Some((SideRole::Destination, false)),
            (MigState::RUNNING, Some(MigState::PRE_COPY))
            | (MigState::RUNNING_P2P, Some(MigState::PRE_COPY_P2P))
            | (MigState::STOP, Some(MigState::STOP_COPY)) => Some((SideRole::Source, false)),
            // The beginning of the destination was not seen.
            (MigState::RESUMING, _) if !self.is(SideRole::Destination) => Some((SideRole::Destination, true)),
            (from, _) if (is_pre_copy(from) || from == MigState::STOP_COPY) && !self.is(SideRole::Source) => {
                Some((SideRole::Source, true))
            },
            // The arc fails before the migration has begun: only the target shows its purpose.
            _ if self.now.is_none() && matches!(arc.outcome, CallOutcome::Failed(_)) => match arc.target {
                MigState::RESUMING => Some((SideRole::Destination, false)),
                MigState::STOP_COPY | MigState::PRE_COPY | MigState::PRE_COPY_P2P => {
                    Some((SideRole::Source, false))
                },
                _ => None,
            },
            _ => None,
        };
        if let Some((role, partial)) = begins {
            self.begin(role, arc, partial);
        }
        let stops = runs(arc.from) && !wanted(&[MigState::RUNNING, MigState::PRE_COPY]);
        // An arc that the core refuses does not reach the driver.
        let stop_fails = stops && matches!(arc.outcome, CallOutcome::Failed(_));
        if stop_fails {
            self.stop_failed = true;
        } else if !runs(arc.from) && wanted(&[MigState::RUNNING]) && arc.outcome.is_ok() {
            self.stop_failed = false;
        }
        let Some(now) = &mut self.now else {
            // A device that stops may be about to migrate; if it runs again, it was not.
            if wanted(&[MigState::RUNNING]) || !arc.outcome.is_ok() {
                self.stopping.clear();
            } else {
                self.stopping.push(*arc);
            }
            return;
        };
        let before = now.arcs.last().filter(|before| before.outcome.is_ok());
        now.missed_arc |= before.is_some_and(|before| before.to != Some(arc.from));
        now.arcs.push(*arc);
        now.side.end_ns = now.side.end_ns.max(arc.end_ns);
        if failed(arc.outcome) && arc.from == MigState::RUNNING {
            // The device goes on as before: later events do not belong to this side.
            now.over_ns = Some(arc.end_ns);
            self.end();
            return;
        }
        let still = !runs(arc.from) && arc.from != MigState::ERROR;
        if runs(arc.from) && now.stop_ns.take().is_some() {
            // The device runs now, whatever its state was before.
            now.stopped_before = true;
        }
        if now.role == SideRole::Source && now.stop_ns.is_none() {
            if stop_fails {
                // Most drivers stay in the state in which they were, but not all: the next event shows the state.
                now.stopped_before = true;
            } else if still || stops && !failed(arc.outcome) {
                now.stop_ns = Some(arc.start_ns);
                now.stop_seen = stops;
            }
        }
        if failed(arc.outcome) {
            return;
        }
        match (arc.from, arc.to) {
            (_, Some(MigState::STOP_COPY)) => now.stop_copy_ns = Some(arc.end_ns),
            (MigState::STOP_COPY | MigState::RESUMING, Some(MigState::STOP)) => now.left_transfer = true,
            (_, Some(MigState::PRE_COPY)) => {
                now.pre_copy = true;
                now.stop_ns = None;
            },
            (_, Some(MigState::PRE_COPY_P2P)) => now.pre_copy = true,
            (_, Some(MigState::RUNNING)) => now.ran_ns = Some(arc.end_ns),
            _ => {},
        }
        if is_pre_copy(arc.from) {
            now.pre_copy = true;
        }
        // A reset or close after this does not belong to the side.
        if now.ran_ns.is_some() {
            now.over_ns = Some(arc.end_ns);
            self.end();
        }
    }

    fn is(&self, role: SideRole) -> bool {
        self.now.as_ref().is_some_and(|now| now.role == role)
    }

    fn cut(&mut self, kind: MarkKind, at_ns: u64) {
        self.stopping.clear();
        self.stop_failed = false;
        let Some(now) = &mut self.now else { return };
        let source = now.role == SideRole::Source;
        now.over_ns = Some(at_ns);
        // A source that has left STOP_COPY is done, unless its way back failed. A destination has yet to run.
        let way_back = now.arcs.last().is_some_and(|last| failed(last.outcome));
        if !now.left_transfer || !source || way_back {
            now.cut = Some(kind);
            now.side.end_ns = now.side.end_ns.max(at_ns);
            if source && matches!(kind, MarkKind::Reset | MarkKind::PciReset) {
                now.side.recovery = Some(SourceRecovery::Reset);
                now.ran_ns = Some(at_ns);
            }
        }
        self.end();
    }
}

impl SideAnalysis {
    /// Returns the data sessions of the side.
    pub(super) fn streams<'a>(
        &'a self,
        all: &'a [ShiftedSession<'a>],
    ) -> impl Iterator<Item = &'a ShiftedSession<'a>> {
        self.side.sessions.iter().filter_map(|nr| all.get(*nr as usize))
    }

    /// Returns true if the source runs again although the destination had run before: that is no recovery.
    pub(super) fn resumes_after_handover(&self, to: &Self) -> bool {
        let ran = self.ran_ns.zip(to.ran_ns);
        self.eof
            && to.side.verdict == MigrationVerdict::Completed
            && ran.is_some_and(|(back, there)| there <= back)
    }

    /// Returns true if the source seems to have been given up, but may have been read to its end, because the kernel
    /// did not count the calls that it missed.
    pub(super) fn may_be_read(&self) -> bool {
        let given_up = self.role == SideRole::Source && self.side.verdict == MigrationVerdict::Cancelled;
        given_up && self.misses_uncounted && self.left_transfer && self.ran_ns.is_none()
    }

    /// Sets the verdict, once failures and data are known. `data_lost`: reads or writes are missing, or the counters
    /// show that some may be; `data_suffers`: that, or nothing shows that none is missing.
    pub(super) fn judge(&mut self, data_lost: bool, data_suffers: bool) {
        let failed = !self.side.failures.is_empty();
        let blind = self.side.partial || data_suffers;
        let lost = self.side.partial || self.bytes_missed || data_lost;
        self.data_incomplete = blind;
        self.side.verdict = match self.role {
            SideRole::Source => {
                if self.ran_ns.is_some() && self.side.recovery.is_none() {
                    self.side.recovery = Some(SourceRecovery::Arcs);
                }
                match (self.ran_ns.is_some(), self.left_transfer || self.cut.is_some()) {
                    (false, true) if self.eof => MigrationVerdict::Completed,
                    (_, true) | (true, _) if failed => MigrationVerdict::Failed,
                    // The `read()` that gave 0 bytes may be among those that are missing. Uncounted misses alone are
                    // no such loss: see `may_be_read`.
                    (false, true) if self.left_transfer && lost => MigrationVerdict::Completed,
                    (_, true) | (true, _) => MigrationVerdict::Cancelled,
                    (false, false) => {
                        if failed {
                            MigrationVerdict::Failed
                        } else {
                            MigrationVerdict::Unfinished
                        }
                    },
                }
            },
            SideRole::Destination => {
                let loaded = self.bytes > 0 || blind;
                match (self.ran_ns.is_some(), self.left_transfer) {
                    (true, _) if loaded && !self.data_failed => MigrationVerdict::Completed,
                    _ if failed => MigrationVerdict::Failed,
                    (_, true) if loaded && self.cut.is_none() => MigrationVerdict::Completed,
                    (true, _) => MigrationVerdict::Cancelled,
                    _ if self.left_transfer || self.cut.is_some() => MigrationVerdict::Cancelled,
                    _ => MigrationVerdict::Unfinished,
                }
            },
        };
    }
}
