//! A device's path of states and the time in each, around the [`StateTimeline`] that tells where it is.

use std::collections::BTreeMap;

use super::{PathEntry, StatePath};
use crate::event::{CallOutcome, MigState, StateEffect, StateTimeline, VfioEvent};

/// Where the device was, for how long, and where it is.
///
/// Where it is, and if that is certain, the timeline says. Time is counted once it is clear what it belongs to: a device that
/// may have been in another state, and is then found in the same one, has been there all the time, for all that is known.
#[derive(Clone, Debug, Default)]
pub(super) struct StateTracker {
    timeline: StateTimeline,
    path: StatePath,
    /// The state it is in, or was in when last seen.
    last: Option<MigState>,
    /// Until when time is counted; before the first state: when the device was first seen.
    counted_ns: Option<u64>,
    /// Per state: time and visits.
    times: BTreeMap<MigState, (u64, u64)>,
    arcs_ns: u64,
    uncertain_ns: u64,
}

/// What a tracker has counted.
#[derive(Clone, Debug)]
pub(super) struct TrackedTimes {
    pub(super) path: StatePath,
    /// Per state: time and visits.
    pub(super) states: BTreeMap<MigState, (u64, u64)>,
    pub(super) arcs_ns: u64,
    pub(super) uncertain_ns: u64,
}

impl StateTracker {
    /// Notes that the device was seen.
    pub(super) fn seen(&mut self, now_ns: u64) {
        self.counted_ns.get_or_insert(now_ns);
    }

    /// Returns the state that it is in for sure.
    pub(super) const fn present(&self) -> Option<MigState> {
        self.timeline.state()
    }

    /// Counts up to a time.
    pub(super) fn times(&self, until_ns: u64) -> TrackedTimes {
        let mut until = self.clone();
        until.count(until_ns, until.timeline.state());
        let Self { path, times, arcs_ns, uncertain_ns, .. } = until;
        TrackedTimes { path, states: times, arcs_ns, uncertain_ns }
    }

    /// Takes in what an event does to the state.
    pub(super) fn apply(&mut self, effect: StateEffect, event: &VfioEvent) {
        let &VfioEvent { start_ns, end_ns, duration_ns, .. } = event;
        let before = self.timeline;
        match effect {
            // What was reset was known before.
            StateEffect::Read(_) if !self.path.steps.is_empty() => return,
            // It was in it since it was first seen itself.
            StateEffect::Read(state) => {
                let since_ns = self.counted_ns.unwrap_or(end_ns);
                self.timeline.apply(effect, since_ns, since_ns, |_| {});
                if self.timeline != before {
                    self.enter(state, since_ns);
                }
                return;
            },
            StateEffect::Moved { .. } if before.is_past(start_ns) => return,
            StateEffect::Shown(_) | StateEffect::Found(_) | StateEffect::Entered(_)
                if before.is_past(end_ns) =>
            {
                return;
            },
            _ => self.timeline.apply(effect, start_ns, end_ns, |_| {}),
        }
        match effect {
            StateEffect::Shown(state) | StateEffect::Found(state) => {
                self.arrive(state, end_ns, before.state().is_some());
            },
            StateEffect::Entered(state) => self.arrive(state, end_ns, false),
            StateEffect::Moved { from, to, outcome } => {
                self.arrive(from, start_ns, before.state().is_some());
                let Some(to) = to else { return };
                self.count(start_ns, Some(from));
                match (outcome, duration_ns) {
                    (CallOutcome::Ok, Some(took_ns)) => {
                        self.arcs_ns = self.arcs_ns.saturating_add(took_ns);
                        self.enter(to, end_ns);
                    },
                    // It got there, but when is not known.
                    (CallOutcome::Ok, None) => {
                        self.count(end_ns, None);
                        self.enter(to, end_ns);
                    },
                    _ => {},
                }
            },
            StateEffect::None
            | StateEffect::Doubted
            | StateEffect::Read(_)
            | StateEffect::Glimpsed(_)
            | StateEffect::Lost => {},
        }
    }

    /// Takes in that a reset began: what was before does not count any more.
    pub(super) fn reset(&mut self, event: &VfioEvent) {
        let start_ns = event.start_ns;
        if self.timeline.is_past(event.end_ns) {
            return;
        }
        self.count(start_ns, self.timeline.state());
        self.timeline.apply(StateEffect::Lost, start_ns, start_ns, |_| {});
        self.path.push(PathEntry::Reset);
        self.last = None;
    }

    /// It is in this state. `certain`: where it was before was certain, so that something between the two was not seen.
    fn arrive(&mut self, state: MigState, now_ns: u64, certain: bool) {
        match self.last {
            Some(last) if last == state => {},
            // The first state seen: it was in it since it was first seen itself.
            None if self.path.steps.is_empty() => self.enter(state, self.counted_ns.unwrap_or(now_ns)),
            last => {
                if last.is_some() && certain {
                    self.path.push(PathEntry::Gap);
                }
                self.count(now_ns, None);
                self.enter(state, now_ns);
            },
        }
    }

    /// The time up to now was spent in a state, or it is not known in which.
    fn count(&mut self, now_ns: u64, state: Option<MigState>) {
        let passed = now_ns.saturating_sub(self.counted_ns.unwrap_or(now_ns));
        let sum = match state {
            Some(state) => &mut self.times.entry(state).or_default().0,
            None => &mut self.uncertain_ns,
        };
        *sum = sum.saturating_add(passed);
        self.counted_ns = Some(self.counted_ns.map_or(now_ns, |counted| counted.max(now_ns)));
    }

    fn enter(&mut self, state: MigState, now_ns: u64) {
        self.path.push(PathEntry::State(state));
        self.times.entry(state).or_default().1 += 1;
        self.last = Some(state);
        self.counted_ns = Some(now_ns);
    }
}
