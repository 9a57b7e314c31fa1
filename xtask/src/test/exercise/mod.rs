//! `exercise`: all plans on all drivers, and devices that are held, killed and left behind.

mod hisi;
mod outputs;
mod plans;
mod users;

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{
    Check, Found,
    boot::{Boot, Part},
    documented, full,
    guest::Left,
    traced::text,
};
use crate::setup::kernel;

pub(super) fn checks() -> Vec<Check> {
    let mut checks = Vec::new();
    // 7.3 is left out unless all is wanted: there all plans run on the accelerators' driver.
    let kernels: &[&str] = if full() { &["6.1", "6.12", "7.3"] } else { &["6.1", "6.12"] };
    for &series in kernels {
        let mut parts = vec![Part { name: "plans", script: |_| Ok(plans::script()) }];
        if series == "6.12" {
            parts.push(Part { name: "users", script: |_| Ok(users::script()) });
            parts.push(Part { name: "outputs", script: |_| Ok(outputs::script()) });
        }
        let boot = Boot::new(series, false, parts);
        checks.push(check("plans", &boot, plans::check));
        if series == "6.12" {
            checks.push(check("users", &boot, users::check));
            checks.push(check("outputs", &boot, outputs::check));
        }
    }
    // One kernel is enough: the newest kernel's driver has everything that the older one has.
    let accelerators: &[&str] = if full() { &["6.12", "7.3"] } else { &["7.3"] };
    checks.extend(accelerators.iter().map(|&series| {
        Check::new(format!("exercise: hisi on {series}"), move |_| hisi::check(series)).alone()
    }));
    checks
}

fn check(part: &'static str, boot: &Arc<Boot>, judge: fn(&Left, &str) -> Result<Found>) -> Check {
    let (wanted, boot) = (Arc::clone(boot), Arc::clone(boot));
    let name = format!("exercise: {part} on {}", boot.series);
    let seconds = if boot.series == kernel::DEFAULT { 65 } else { 40 };
    let run = move |_: &super::guest::Lab| judge(&boot.part(part)?, boot.series);
    Check::new(name, run).lasting(seconds).wanting(move || wanted.want(part))
}

/// The `--json` document of a run that was traced without losses and left its devices RUNNING.
struct Report(Value);

impl Report {
    fn parse(left: &Left, name: &str, code: i32) -> Result<Self> {
        let said = left.file(&format!("{name}.err")).unwrap_or_default();
        ended(left, name, code)?;
        let text = left.file(&format!("{name}.json"))?;
        documented::check_document("exercise-1", &text).with_context(|| format!("{name}: {said}"))?;
        let report = Self(serde_json::from_str(&text)?);
        ensure!(
            report.0.pointer("/tracing/on") == Some(&Value::Bool(true))
                && report.0.pointer("/tracing/lost").and_then(Value::as_u64) == Some(0),
            "{name} was not traced as it should be: {:?}",
            report.0.get("tracing")
        );
        for end in report.list("end")? {
            ensure!(text_of(end, "state") == "RUNNING", "{name}: {end}");
        }
        Ok(report)
    }

    fn list(&self, field: &str) -> Result<&Vec<Value>> {
        self.0.get(field).and_then(Value::as_array).with_context(|| format!("no {field}"))
    }

    /// Returns the worst verdict of each plan.
    fn verdicts(&self) -> Result<BTreeMap<&str, &str>> {
        const ORDER: [&str; 4] = ["skipped", "passed", "warned", "failed"];
        let rank = |verdict: &str| ORDER.iter().position(|known| *known == verdict);
        let mut all = BTreeMap::new();
        for stage in self.list("stages")? {
            let verdict = text_of(stage, "verdict");
            let worst = all.entry(text_of(stage, "plan")).or_insert(verdict);
            if rank(verdict) > rank(worst) {
                *worst = verdict;
            }
        }
        Ok(all)
    }

    /// Checks the verdicts, written as `plan verdict, plan verdict`, in the order of names.
    fn says(&self, name: &str, expected: &str) -> Result<()> {
        let verdicts = self.verdicts()?;
        let said: Vec<String> = verdicts.iter().map(|(plan, verdict)| format!("{plan} {verdict}")).collect();
        let why: Vec<&str> = self.list("stages")?.iter().filter_map(|stage| text(stage, "why")).collect();
        ensure!(said.join(", ") == expected, "{name} says {}; {}", said.join(", "), why.join("; "));
        Ok(())
    }

    /// Returns the stages of a plan with the codes of all their findings.
    fn found(&self, plan: &str) -> Result<Vec<(&str, &str, Vec<&str>)>> {
        let stages = self.list("stages")?.iter().filter(|stage| text_of(stage, "plan") == plan);
        let all = |stage| -> Vec<&str> {
            let own = items(stage, "findings");
            let steps = items(stage, "steps").iter().flat_map(|step| items(step, "findings"));
            own.iter().chain(steps).map(|finding| text_of(finding, "code")).collect()
        };
        Ok(stages.map(|stage| (text_of(stage, "name"), text_of(stage, "verdict"), all(stage))).collect())
    }

    /// Returns the number of arcs of all steps.
    fn arcs(&self) -> Result<usize> {
        let steps = self.list("stages")?.iter().flat_map(|stage| items(stage, "steps"));
        Ok(steps.map(|step| items(step, "arcs").len()).sum())
    }
}

fn text_of<'v>(value: &'v Value, field: &str) -> &'v str {
    text(value, field).unwrap_or("")
}

fn items<'v>(value: &'v Value, field: &str) -> &'v [Value] {
    value.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Checks a command's exit code.
fn ended(left: &Left, name: &str, code: i32) -> Result<()> {
    let seen = left.file(&format!("{name}.code"))?;
    let said = left.file(&format!("{name}.err")).unwrap_or_default();
    ensure!(seen.trim() == code.to_string(), "{name} exited with {} instead of {code}: {said}", seen.trim());
    Ok(())
}

/// Checks a command's exit code and its words on standard error.
fn refused(left: &Left, name: &str, code: i32, words: &[&str]) -> Result<()> {
    ended(left, name, code)?;
    let said = left.file(&format!("{name}.err"))?;
    for word in words {
        ensure!(said.contains(word), "{name} does not say {word:?}:\n{said}");
    }
    Ok(())
}

/// Shell function `ex NAME ARGUMENTS`: runs an exercise and keeps its output.
const EX: &str = "ex() { name=$1; shift; vfio-trace exercise \"$@\" --json >$name.json 2>$name.err </dev/null; \
                  echo $? >$name.code; }\n";
