//! Formats an exercise as TAP version 14: a test point per stage.

use std::fmt::Write as _;

use super::remarks;
use crate::{
    exercise::{ExerciseReport, ExerciseVerdict},
    units::{human::clean, visible},
};

/// Escapes a description: `#` and `\` have a meaning there; a line break would end it.
fn description(text: &str) -> String {
    clean(&text.replace('\n', " ")).replace('\\', "\\\\").replace('#', "\\#")
}

/// Formats the report as a TAP stream.
pub fn tap(report: &ExerciseReport) -> String {
    let blind = report.tracing.untraced_verdict();
    let points = report.stages.len() + usize::from(blind.is_some());
    let mut out = format!("TAP version 14\n1..{points}\n");
    for (number, stage) in (1..).zip(&report.stages) {
        let ok = if stage.verdict == ExerciseVerdict::Failed { "not ok" } else { "ok" };
        let skip = match (stage.verdict, &stage.why) {
            (ExerciseVerdict::Skipped, why) => {
                format!(" # SKIP {}", clean(&why.as_deref().unwrap_or("not tried").replace('\n', " ")))
            },
            _ => String::new(),
        };
        // Writing into a string does not fail.
        let _infallible = writeln!(out, "{ok} {number} - {}{skip}", description(&stage.title()));
        if let (ExerciseVerdict::Failed | ExerciseVerdict::Warned, Some(why)) = (stage.verdict, &stage.why) {
            let _infallible = writeln!(out, "  ---\n  severity: {}", severity(stage.verdict));
            let _infallible = writeln!(out, "  message: {}", quoted(why));
            let remarks: Vec<String> = remarks(stage).iter().map(|remark| quoted(remark)).collect();
            if !remarks.is_empty() {
                let _infallible = writeln!(out, "  remarks:\n    - {}", remarks.join("\n    - "));
            }
            out.push_str("  ...\n");
        }
    }
    if let Some((verdict, why)) = &blind {
        let (ok, severity) =
            if *verdict == ExerciseVerdict::Failed { ("not ok", "fail") } else { ("ok", "comment") };
        // Writing into a string does not fail.
        let _infallible = writeln!(
            out,
            "{ok} {points} - traced\n  ---\n  severity: {severity}\n  message: {}\n  ...",
            quoted(why)
        );
    }
    if let Some(why) = &report.stopped {
        let _infallible = writeln!(out, "Bail out! {}", description(why));
    }
    out
}

const fn severity(verdict: ExerciseVerdict) -> &'static str {
    if matches!(verdict, ExerciseVerdict::Warned) { "comment" } else { "fail" }
}

/// Quotes text for YAML: a JSON string is a YAML string, too.
fn quoted(text: &str) -> String {
    // A string can always be written.
    visible::json(&text).unwrap_or_default()
}
