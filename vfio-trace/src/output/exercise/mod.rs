//! Formats an exercise as text for people, and as TAP and JUnit for a lab's CI.

mod junit;
mod tap;
pub mod text;

pub use self::{junit::junit, tap::tap};

use std::collections::BTreeSet;

use crate::exercise::ExerciseStage;

/// Returns the remarks on a stage besides its verdict, one line each.
fn remarks(stage: &ExerciseStage) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(step) = stage.first_unexpected() {
        lines.push(format!("step {}, {} ({})", step.nr, step.asked, step.device));
    }
    let mut known = BTreeSet::new();
    for finding in stage.all_findings().filter(|finding| known.insert(finding.code.as_ref())) {
        lines.push(format!("{}: {} Check: {}", finding.code, finding.text, finding.check));
    }
    lines.extend(stage.notes.iter().cloned());
    lines
}

#[cfg(test)]
mod tests;
