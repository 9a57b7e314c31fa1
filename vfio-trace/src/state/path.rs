//! The states a device went through, in order, up to a length that fits into a report.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::event::MigState;

/// One entry of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathEntry {
    /// The device was in this state.
    State(MigState),
    /// Unseen events: the next state does not follow from the one before.
    Gap,
    /// The device was reset.
    Reset,
}

impl fmt::Display for PathEntry {
    /// Writes the state's name, `?` or `reset`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State(state) => state.fmt(f),
            Self::Gap => f.pad("?"),
            Self::Reset => f.pad("reset"),
        }
    }
}

impl Serialize for PathEntry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// States that a device went through.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StatePath {
    /// The first [`Self::MAX`] entries.
    pub steps: Vec<PathEntry>,
    /// Number of further entries that are not kept.
    pub more: u64,
}

impl StatePath {
    /// Number of entries that are kept. A migration has about 8.
    pub const MAX: usize = 64;

    pub(super) fn push(&mut self, step: PathEntry) {
        if self.steps.len() < Self::MAX {
            self.steps.push(step);
        } else {
            self.more = self.more.saturating_add(1);
        }
    }

    /// Returns `RUNNING → PRE_COPY → … (+3 more)`, with at most `most` entries.
    pub fn text(&self, most: usize) -> String {
        let mut shown: Vec<String> = self.steps.iter().take(most).map(PathEntry::to_string).collect();
        let hidden = self.more.saturating_add((self.steps.len() - shown.len()) as u64);
        if hidden > 0 {
            shown.push(format!("… (+{hidden} more)"));
        }
        shown.join(" → ")
    }
}
