//! Formats an exercise as JUnit XML for CI systems: a test case per stage, a suite per plan.

use std::{fmt::Write as _, time::Duration};

use super::remarks;
use crate::{
    exercise::{ExerciseReport, ExerciseStage, ExerciseVerdict},
    units::visible::clean_lines,
};

/// Escapes text for attributes and elements. The only line breaks are ours; XML does not allow control characters at
/// all.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in clean_lines(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            c => out.push(c),
        }
    }
    out
}

fn seconds(ns: u64) -> f64 {
    Duration::from_nanos(ns).as_secs_f64()
}

fn case(out: &mut String, device: &str, stage: &ExerciseStage) {
    let (name, plan, time) = (escape(&stage.name), stage.plan, seconds(stage.duration_ns));
    // Writing into a string does not fail.
    let _infallible = write!(
        out,
        "    <testcase classname=\"vfio-trace.{device}.{plan}\" name=\"{name}\" time=\"{time:.6}\""
    );
    let why = escape(stage.why.as_deref().unwrap_or_default());
    let remarks = escape(&remarks(stage).join("\n"));
    let _infallible = match stage.verdict {
        ExerciseVerdict::Passed => writeln!(out, "/>"),
        ExerciseVerdict::Skipped => writeln!(out, "><skipped message=\"{why}\"/></testcase>"),
        ExerciseVerdict::Warned => {
            writeln!(out, "><system-out>warning: {why}&#10;{remarks}</system-out></testcase>")
        },
        ExerciseVerdict::Failed => {
            writeln!(out, "><failure message=\"{why}\">{remarks}</failure></testcase>")
        },
    };
}

/// Formats the report as a document.
pub fn junit(report: &ExerciseReport) -> String {
    let device = escape(report.devices.first().map_or("", |subject| subject.device.as_str()));
    let mut plans: Vec<&str> = Vec::new();
    for stage in &report.stages {
        if plans.last() != Some(&stage.plan) {
            plans.push(stage.plan);
        }
    }
    let mut out = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n".to_owned();
    for plan in plans {
        let stages = || report.stages.iter().filter(move |stage| stage.plan == plan);
        let count = |verdict| stages().filter(|stage| stage.verdict == verdict).count();
        let time: f64 = stages().map(|stage| seconds(stage.duration_ns)).sum();
        let _infallible = writeln!(
            out,
            "  <testsuite name=\"vfio-trace.{device}.{plan}\" tests=\"{}\" failures=\"{}\" errors=\"0\" skipped=\"{}\" \
             time=\"{time:.6}\">",
            stages().count(),
            count(ExerciseVerdict::Failed),
            count(ExerciseVerdict::Skipped)
        );
        for stage in stages() {
            case(&mut out, &device, stage);
        }
        out.push_str("  </testsuite>\n");
    }
    // JUnit has no place for a mere warning, as of a stage that has passed with one.
    let blind = report
        .tracing
        .untraced_verdict()
        .filter(|(verdict, _)| *verdict == ExerciseVerdict::Failed)
        .map(|(_, why)| why);
    let errors = [("to the end", &report.stopped), ("traced", &blind)];
    for (name, why) in errors.into_iter().filter_map(|(name, why)| Some((name, escape(why.as_ref()?)))) {
        let _infallible = writeln!(
            out,
            "  <testsuite name=\"vfio-trace.{device}\" tests=\"1\" failures=\"0\" errors=\"1\" skipped=\"0\">\n    <testcase \
             classname=\"vfio-trace.{device}\" name=\"{name}\"><error message=\"{why}\"/></testcase>\n  </testsuite>"
        );
    }
    out.push_str("</testsuites>\n");
    out
}
