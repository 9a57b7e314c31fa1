//! A boot in which lab-hisi runs under `tail`, cut into scenarios.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{Variant, golden::Line};
use crate::test::{
    hisi,
    traced::{Traced, data, text},
};

/// One boot of lab-hisi under `tail`. The comparisons of this folder use its scenarios.
pub(super) struct Boot {
    /// Names of all scenarios of lab-hisi.
    pub(super) list: Vec<String>,
    /// The scenarios that ran.
    pub(super) scenarios: Vec<Scenario>,
    /// Log of the guest kernel.
    pub(super) log: String,
}

/// A scenario: lab-hisi's steps, and the tracer's events.
pub(super) struct Scenario {
    pub(super) name: String,
    /// True if all steps came out as expected.
    pub(super) as_expected: bool,
    /// Steps, as lab-hisi recorded them.
    pub(super) steps: Vec<Value>,
    /// Events of the tracer from the first step until the next scenario's.
    pub(super) events: Vec<Value>,
}

pub(super) fn number(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_u64).unwrap_or(0)
}

impl Boot {
    /// Runs these scenarios, or all if none is named.
    pub(super) fn of(variant: Variant, suffix: &str, names: &[String]) -> Result<Self> {
        let name = format!("hisi-traced-{}{suffix}", variant.name());
        let script = format!(
            "lab-hisi --list >list && vfio-trace tail --reveal --format ndjson -- \
             lab-hisi --json steps.ndjson {} >tail.ndjson 2>tail.err; echo $? >code",
            names.join(" ")
        );
        let guest = hisi::boot(variant.series, false, variant.driver(), &name, &script)?;
        let ndjson = guest.file("tail.ndjson")?;
        let traced = Traced::parse(&ndjson).context("tail.ndjson")?;
        traced.is_complete()?;
        let list: Vec<String> = guest
            .file("list")?
            .lines()
            .filter_map(|line| line.split_whitespace().next())
            .map(str::to_owned)
            .collect();
        let scenarios = cut(&guest.file("steps.ndjson")?, traced)?;
        let ran: Vec<&str> = scenarios.iter().map(|scenario| scenario.name.as_str()).collect();
        let wanted = if names.is_empty() { &list } else { names };
        ensure!(ran.iter().eq(wanted), "these ran: {}", ran.join(", "));
        let good = scenarios.iter().all(|scenario| scenario.as_expected);
        let code = guest.file("code")?;
        let said = guest.file("tail.err")?;
        ensure!(
            (code.trim() == "0") == good,
            "tail exited with {}: {}",
            code.trim(),
            said.lines().last().unwrap_or_default()
        );
        Ok(Self { list, scenarios, log: guest.file("dmesg.txt")? })
    }
}

fn cut(steps: &str, traced: Traced) -> Result<Vec<Scenario>> {
    let mut scenarios: Vec<Scenario> = Vec::new();
    for line in steps.lines() {
        let step: Value = serde_json::from_str(line).context("a step is not JSON")?;
        let name = text(&step, "scenario").context("a step of no scenario")?;
        if scenarios.last().is_none_or(|last| last.name != name) {
            let name = name.to_owned();
            scenarios.push(Scenario { name, as_expected: true, steps: Vec::new(), events: Vec::new() });
        }
        let scenario = scenarios.last_mut().context("no scenario")?;
        scenario.as_expected &= step.get("as_expected") == Some(&Value::Bool(true));
        scenario.steps.push(step);
    }
    let starts: Vec<u64> = scenarios.iter().map(Scenario::start_ns).collect();
    for event in traced.events {
        // Events before the first scenario belong to none.
        let after = starts.partition_point(|start| *start <= number(&event, "mono_ns"));
        if let Some(scenario) = after.checked_sub(1).and_then(|index| scenarios.get_mut(index)) {
            scenario.events.push(event);
        }
    }
    Ok(scenarios)
}

impl Scenario {
    fn start_ns(&self) -> u64 {
        self.steps.first().map_or(0, |step| number(step, "start_ns"))
    }

    /// Returns the events of one kind and device.
    pub(super) fn of<'s>(&'s self, kind: &'s str, device: &'s str) -> impl Iterator<Item = &'s Value> {
        self.events
            .iter()
            .filter(move |event| text(event, "kind") == Some(kind) && text(event, "device") == Some(device))
    }

    /// Returns the names of its devices.
    pub(super) fn devices(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.steps.iter().filter_map(|step| text(step, "device")).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Returns the tracer's findings, in order.
    pub(super) fn findings(&self) -> Vec<Line> {
        let findings = self.events.iter().filter(|event| text(event, "kind") == Some("finding")).map(data);
        let word = |finding: &Value, name| text(finding, name).unwrap_or("-").to_owned();
        findings
            .map(|finding| ["severity", "code", "step", "errno"].map(|name| word(finding, name)))
            .collect()
    }
}
