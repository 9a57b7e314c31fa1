//! Migration states, the effects of events on a device's state, and the state over time. All code that follows the
//! state of a device takes the events' effects from here and folds them into a [`StateTimeline`].

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};
use vfio_trace_common::uapi::mig_state;

use super::CallOutcome;

/// A migration state: `enum vfio_device_mig_state` (include/uapi/linux/vfio.h) as its number.
///
/// Kept as a number and not as an enum, so that a state of a newer kernel survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MigState(pub u32);

impl MigState {
    /// `VFIO_DEVICE_STATE_ERROR`: only a reset leaves it.
    pub const ERROR: Self = Self(mig_state::ERROR);
    /// `VFIO_DEVICE_STATE_STOP`.
    pub const STOP: Self = Self(mig_state::STOP);
    /// `VFIO_DEVICE_STATE_RUNNING`.
    pub const RUNNING: Self = Self(mig_state::RUNNING);
    /// `VFIO_DEVICE_STATE_STOP_COPY`.
    pub const STOP_COPY: Self = Self(mig_state::STOP_COPY);
    /// `VFIO_DEVICE_STATE_RESUMING`.
    pub const RESUMING: Self = Self(mig_state::RESUMING);
    /// `VFIO_DEVICE_STATE_RUNNING_P2P`.
    pub const RUNNING_P2P: Self = Self(mig_state::RUNNING_P2P);
    /// `VFIO_DEVICE_STATE_PRE_COPY`.
    pub const PRE_COPY: Self = Self(mig_state::PRE_COPY);
    /// `VFIO_DEVICE_STATE_PRE_COPY_P2P`.
    pub const PRE_COPY_P2P: Self = Self(mig_state::PRE_COPY_P2P);

    /// Returns the kernel's name, as its debugfs prints it (drivers/vfio/debugfs.c); `Invalid` for any other number.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ERROR => "ERROR",
            Self::STOP => "STOP",
            Self::RUNNING => "RUNNING",
            Self::STOP_COPY => "STOP_COPY",
            Self::RESUMING => "RESUMING",
            Self::RUNNING_P2P => "RUNNING_P2P",
            Self::PRE_COPY => "PRE_COPY",
            Self::PRE_COPY_P2P => "PRE_COPY_P2P",
            _ => "Invalid",
        }
    }

    /// Returns true if the number is a state that this version knows.
    pub const fn is_valid(self) -> bool {
        self.0 <= mig_state::PRE_COPY_P2P
    }

    /// Returns true if the arc from here ends the data sessions: where drivers disable the files they gave out (the
    /// `disable_fds` functions of mlx5, hisi_acc, ...).
    pub const fn ends_session(self, to: Self) -> bool {
        matches!(
            (self, to),
            (Self::STOP_COPY | Self::RESUMING, Self::STOP)
                | (Self::PRE_COPY, Self::RUNNING)
                | (Self::PRE_COPY_P2P, Self::RUNNING_P2P)
        )
    }
}

impl fmt::Display for MigState {
    /// Writes the name; for an unknown state the number is kept: `Invalid(9)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_valid() { f.pad(self.name()) } else { f.pad(&format!("{}({})", self.name(), self.0)) }
    }
}

impl Serialize for MigState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for MigState {
    fn schema_name() -> Cow<'static, str> {
        "State".into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        let known = (mig_state::ERROR..=mig_state::PRE_COPY_P2P).map(|state| Self(state).name());
        let (known, other) = (known.collect::<Vec<_>>().join("|"), Self(u32::MAX).name());
        json_schema!({
            "description": "A migration state; `Invalid(9)` for one that a newer kernel has.",
            "type": "string",
            "pattern": format!(r"^({known}|{other}\([0-9]+\))$"),
        })
    }
}

/// Effect of an event on its device's migration state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateEffect {
    /// No effect.
    None,
    /// It may have changed the state, or failed to report it: only another reading shows.
    Doubted,
    /// It was read from the driver's memory, along with the device and without a lock: good for a first state only.
    Read(MigState),
    /// It was read while other processes had the device open. An event of its own comes from that.
    Glimpsed(MigState),
    /// A request shows it.
    Shown(MigState),
    /// It is this one and not the one that was known: it changed unseen, at an unknown time.
    Found(MigState),
    /// An arc led from one to the other, or failed; `None`: the target is not known.
    Moved {
        /// State in which it started.
        from: MigState,
        /// State to which it leads.
        to: Option<MigState>,
        /// Outcome of the arc.
        outcome: CallOutcome,
    },
    /// The device entered it without an arc: a reset, the first open.
    Entered(MigState),
    /// It may be any from now on.
    Lost,
}

impl StateEffect {
    /// Returns the effect of a reset that leads to this state; `None` for a state that is not certain.
    pub(super) fn of_reset(state: Option<MigState>, outcome: CallOutcome) -> Self {
        match state {
            Some(state) => Self::Entered(state),
            None if outcome.is_ok() => Self::Lost,
            None => Self::Doubted,
        }
    }

    /// Returns true if the state is certain after it, false if only another reading shows it; `None`: it is as certain
    /// as before.
    pub const fn certainty(self) -> Option<bool> {
        match self {
            Self::None => None,
            Self::Glimpsed(_) | Self::Shown(_) | Self::Found(_) | Self::Entered(_) => Some(true),
            Self::Moved { outcome, .. } => Some(outcome.is_ok()),
            // It is also open if this is still the device that was known before.
            Self::Doubted | Self::Read(_) | Self::Lost => Some(false),
        }
    }
}

/// The way in which an event ended its device's data sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEnding {
    /// By an arc: see [`MigState::ends_session`].
    Arc,
    /// By a reset.
    Reset,
    /// By the device's last close.
    LastClose,
}

/// A time in which a device was in one state; `None`: in an unknown one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownSpan {
    /// The state.
    pub state: Option<MigState>,
    /// Start, CLOCK_MONOTONIC in ns.
    pub start_ns: u64,
    /// End, CLOCK_MONOTONIC in ns.
    pub end_ns: u64,
}

/// One device's state over time, folded from the effects of its events. Pure: the same events give the same spans.
///
/// Made empty when a device is first met; [`Self::apply`] is told every event of the device, in order, and hands out
/// the spans that are over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateTimeline {
    state: Option<MigState>,
    since_ns: u64,
    /// True if a state was known before.
    begun: bool,
}

impl StateTimeline {
    /// Returns the state it is in; `None` if that is not certain.
    pub const fn state(&self) -> Option<MigState> {
        self.state
    }

    /// Returns the time since which it has been in this state, or has not been certain.
    pub const fn since_ns(&self) -> u64 {
        self.since_ns
    }

    /// Returns the span that is not over, up to a time; `None` if no state was ever known.
    pub fn present(&self, until_ns: u64) -> Option<KnownSpan> {
        let (state, start_ns) = (self.state, self.since_ns);
        self.begun.then(|| KnownSpan { state, start_ns, end_ns: until_ns.max(start_ns) })
    }

    /// Returns true if an event that began at `start_ns` comes too late to change the state: some events wait for a
    /// record that may not come, and a later event has shown the state by then.
    pub const fn is_past(&self, start_ns: u64) -> bool {
        self.begun && start_ns < self.since_ns
    }

    /// Applies an event's effect; `over` gets the spans that it ends, in order.
    pub fn apply(
        &mut self,
        effect: StateEffect,
        start_ns: u64,
        end_ns: u64,
        mut over: impl FnMut(KnownSpan),
    ) {
        match effect {
            StateEffect::None | StateEffect::Doubted | StateEffect::Glimpsed(_) => {},
            StateEffect::Read(state) => {
                if !self.begun {
                    self.enter(Some(state), end_ns);
                }
            },
            StateEffect::Shown(state) | StateEffect::Entered(state) => self.observe(state, end_ns, &mut over),
            StateEffect::Found(state) => {
                // The time of the change is not known.
                self.leave(self.since_ns, &mut over);
                self.state = None;
                self.observe(state, end_ns, &mut over);
            },
            StateEffect::Moved { .. } if self.is_past(start_ns) => {},
            StateEffect::Moved { from, to, outcome } => {
                self.observe(from, start_ns, &mut over);
                if to.is_some() {
                    self.leave(start_ns, &mut over);
                    // Drivers mostly stay where they were if it fails, but not all.
                    self.enter(to.filter(|_| outcome.is_ok()), end_ns);
                }
            },
            StateEffect::Lost => {
                if self.state.is_some() && !self.is_past(end_ns) {
                    self.leave(end_ns, &mut over);
                    self.enter(None, end_ns);
                }
            },
        }
    }

    /// Takes in that the device is in this state now.
    fn observe(&mut self, state: MigState, at_ns: u64, over: &mut impl FnMut(KnownSpan)) {
        if self.begun && (self.state == Some(state) || at_ns < self.since_ns) {
            return;
        }
        self.leave(at_ns, over);
        self.enter(Some(state), at_ns);
    }

    /// Ends the present span; the next one begins with `enter`.
    fn leave(&self, at_ns: u64, over: &mut impl FnMut(KnownSpan)) {
        if self.begun && at_ns >= self.since_ns {
            over(KnownSpan { state: self.state, start_ns: self.since_ns, end_ns: at_ns });
        }
    }

    const fn enter(&mut self, state: Option<MigState>, at_ns: u64) {
        self.state = state;
        self.since_ns = at_ns;
        self.begun = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_have_the_kernels_names() {
        let names: Vec<String> = (0..9).map(|n| MigState(n).to_string()).collect();
        let kernel = "ERROR STOP RUNNING STOP_COPY RESUMING RUNNING_P2P PRE_COPY PRE_COPY_P2P Invalid(8)";
        assert_eq!(names.join(" "), kernel);
        assert_eq!(MigState(8).name(), "Invalid");
        assert_eq!(format!("{:>10}|", MigState::STOP), "      STOP|");
    }

    #[test]
    fn a_timeline_is_what_the_effects_make_of_it() {
        const STOP: MigState = MigState::STOP;
        const RUNNING: MigState = MigState::RUNNING;
        let mut timeline = StateTimeline::default();
        let mut spans = Vec::new();
        let moved = |from, to, outcome| StateEffect::Moved { from, to: Some(to), outcome };
        for (effect, start_ns, end_ns) in [
            (StateEffect::Doubted, 5, 5),
            (StateEffect::Read(RUNNING), 10, 10),
            (StateEffect::Read(STOP), 15, 15),
            (moved(RUNNING, STOP, CallOutcome::Ok), 20, 25),
            (moved(RUNNING, STOP, CallOutcome::Ok), 24, 26),
            (StateEffect::Lost, 30, 30),
            (StateEffect::Shown(STOP), 35, 40),
            (StateEffect::Found(RUNNING), 50, 50),
            (moved(RUNNING, STOP, CallOutcome::Unknown), 60, 65),
        ] {
            timeline.apply(effect, start_ns, end_ns, |span| {
                spans.push((span.state.map(MigState::name), span.start_ns, span.end_ns));
            });
        }
        let expected = [
            (Some("RUNNING"), 10, 20),
            (Some("STOP"), 25, 30),
            (None, 30, 40),
            (Some("STOP"), 40, 40),
            (None, 40, 50),
            (Some("RUNNING"), 50, 60),
        ];
        assert_eq!(spans, expected);
        assert_eq!(timeline.present(70), Some(KnownSpan { state: None, start_ns: 65, end_ns: 70 }));
    }
}
