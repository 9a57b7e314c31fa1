//! A device's path of states and the time in each, around the [`StateTimeline`] that has its present state.

use std::collections::BTreeMap;

use super::{PathEntry, StatePath};
use crate::event::{CallOutcome, MigState, StateEffect, StateTimeline, VfioEvent};

/// Path and times of a device's states.
///
/// The timeline has the present state, and its certainty. Time is counted once its state is clear. After a failed arc a
/// device that is found where the arc began has been there all the time: from any other state an arc or a reset had to
/// lead back. A device whose state was lost may have been in any, wherever it is found. While it is gone no time is
/// counted.
#[derive(Clone, Debug, Default)]
pub(super) struct StateTracker {
    timeline: StateTimeline,
    path: StatePath,
    /// The present state, or the last one seen.
    last: Option<MigState>,
    /// True if it may have been in any state since the time up to which times are counted.
    lost: bool,
    /// Time up to which times are counted; before the first state: time at which the device was first seen.
    counted_ns: Option<u64>,
    /// Time and visits of each state.
    times: BTreeMap<MigState, (u64, u64)>,
    arcs_ns: u64,
    uncertain_ns: u64,
}

/// Times that a tracker has counted.
#[derive(Clone, Debug)]
pub(super) struct TrackedTimes {
    pub(super) path: StatePath,
    /// Time and visits of each state.
    pub(super) states: BTreeMap<MigState, (u64, u64)>,
    pub(super) arcs_ns: u64,
    pub(super) uncertain_ns: u64,
}

impl StateTracker {
    /// Notes that the device was seen.
    pub(super) fn seen(&mut self, now_ns: u64) {
        self.counted_ns.get_or_insert(now_ns);
    }

    /// Notes that the device went: what follows is no time of its own.
    pub(super) fn leave(&mut self, now_ns: u64) {
        self.count(now_ns, self.timeline.state());
    }

    /// Notes that a device of this name came again: the time between is in no sum.
    pub(super) fn come_again(&mut self, now_ns: u64) {
        self.counted_ns = self.counted_ns.max(Some(now_ns));
    }

    /// Returns the present state if it is certain.
    pub(super) const fn present(&self) -> Option<MigState> {
        self.timeline.state()
    }

    /// Returns the times up to a moment; `None`: as they are counted, because the device is gone.
    pub(super) fn times(&self, until_ns: Option<u64>) -> TrackedTimes {
        let mut until = self.clone();
        if let Some(until_ns) = until_ns {
            until.count(until_ns, until.timeline.state());
        }
        let Self { path, times, arcs_ns, uncertain_ns, .. } = until;
        TrackedTimes { path, states: times, arcs_ns, uncertain_ns }
    }

    /// Takes in an event's effect on the state.
    pub(super) fn apply(&mut self, effect: StateEffect, event: &VfioEvent) {
        let &VfioEvent { start_ns, end_ns, duration_ns, .. } = event;
        let before = self.timeline;
        match effect {
            // A device that was reset was known before.
            StateEffect::Read(_) if !self.path.steps.is_empty() => return,
            // It was in this state since it was first seen itself.
            StateEffect::Read(state) => {
                let since_ns = self.counted_ns.unwrap_or(end_ns);
                self.timeline.apply(effect, since_ns, since_ns, |_| {});
                if self.timeline != before {
                    self.enter(state, since_ns);
                }
                return;
            },
            StateEffect::Moved { .. } if before.is_past(start_ns) => return,
            StateEffect::Shown(_) | StateEffect::Found(_) | StateEffect::Entered(_) | StateEffect::Lost
                if before.is_past(end_ns) =>
            {
                return;
            },
            _ => self.timeline.apply(effect, start_ns, end_ns, |_| {}),
        }
        match effect {
            StateEffect::Shown(state) | StateEffect::Found(state) => {
                self.arrive(state, start_ns, end_ns, before.state().is_some());
            },
            StateEffect::Entered(state) => self.arrive(state, start_ns, end_ns, false),
            StateEffect::Moved { from, to, outcome } => {
                self.arrive(from, start_ns, start_ns, before.state().is_some());
                let Some(to) = to else { return };
                self.count(start_ns, Some(from));
                match (outcome, duration_ns) {
                    (CallOutcome::Ok, Some(took_ns)) => {
                        self.arcs_ns = self.arcs_ns.saturating_add(took_ns);
                        self.enter(to, end_ns);
                    },
                    // It got there at an unknown time.
                    (CallOutcome::Ok, None) => {
                        self.count(end_ns, None);
                        self.enter(to, end_ns);
                    },
                    _ => {},
                }
            },
            // It was there until then, and may be anywhere from now on.
            StateEffect::Lost if self.last.is_some() => {
                self.count(start_ns, before.state());
                self.lost = true;
            },
            StateEffect::None
            | StateEffect::Doubted
            | StateEffect::Read(_)
            | StateEffect::Glimpsed(_)
            | StateEffect::Lost => {},
        }
    }

    /// Takes in the start of a reset: what was before does not count any more.
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

    /// Takes in that the device was in this state at some time of a call, and is so at the call's end. `certain`: its
    /// state before was certain, so an event between the two was not seen.
    fn arrive(&mut self, state: MigState, start_ns: u64, now_ns: u64, certain: bool) {
        match self.last {
            Some(last) if last == state && self.lost => {
                self.count(now_ns, None);
                self.lost = false;
            },
            // It is still there, or was all the time. It may leave before the call has returned.
            Some(last) if last == state => self.count(start_ns, Some(state)),
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

    /// Counts the time up to now for a state, or as uncertain (`None`).
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
        self.lost = false;
        self.counted_ns = self.counted_ns.max(Some(now_ns));
    }
}
