//! Driver steps that only the driver with its functions kept shows: they must be where the driver runs the functions.

use anyhow::{Result, ensure};
use serde_json::Value;

use super::{Scenario, run::number};
use crate::test::traced::{data, text};

/// Checks a scenario. Returns the number of steps.
pub(super) fn compare(scenario: &Scenario) -> Result<usize> {
    let mut found = 0;
    for device in scenario.devices() {
        for event in scenario.of("arc", device) {
            let arc = data(event);
            if matches!(text(arc, "result"), Some("refused") | None) {
                continue;
            }
            let within = during(scenario, device, event);
            let named = |name: &str| within.iter().find(|step| text(step, "step") == Some(name));
            let ok = |name: &str| named(name).is_some_and(|step| text(step, "result") == Some("ok"));
            let mut wanted = Vec::new();
            match (text(arc, "from"), text(arc, "to")) {
                // hisi_acc_vf_stop_device() ends at the first call that fails.
                (Some("RUNNING"), Some("STOP")) | (Some("PRE_COPY"), Some("STOP_COPY")) => {
                    wanted.extend(["stop", "stop queues"]);
                    // Two steps have that name: the function, and its mailbox command.
                    let mut stopped = within.iter().filter(|step| text(step, "step") == Some("stop queues"));
                    if stopped.all(|step| text(step, "result") == Some("ok")) {
                        wanted.push("check interrupts");
                        if ok("check interrupts") {
                            wanted.push("write cache back");
                        }
                    }
                },
                (Some("RESUMING"), Some("STOP")) => wanted.push("load"),
                (Some("STOP"), Some("RUNNING")) => wanted.push("start"),
                _ => {},
            }
            for name in &wanted {
                ensure!(named(name).is_some(), "{device}: no step {name} in {arc}");
            }
            found += wanted.len();
        }
        // The driver checks each piece that it has copied.
        for event in scenario.of("write", device) {
            if matches!(text(data(event), "errno"), None | Some("EFAULT")) {
                let within = during(scenario, device, event);
                ensure!(
                    within.iter().any(|step| text(step, "step") == Some("match")),
                    "{device}: no step match in a write"
                );
                found += 1;
            }
        }
    }
    Ok(found)
}

/// Returns the steps of a thread within the time of its event.
fn during<'s>(scenario: &'s Scenario, device: &'s str, event: &Value) -> Vec<&'s Value> {
    let (start, end) = (number(event, "start_mono_ns"), number(event, "mono_ns"));
    let tid = number(event, "tid");
    scenario
        .of("step", device)
        .filter(|step| number(step, "tid") == tid)
        .filter(|step| number(step, "start_mono_ns") >= start && number(step, "mono_ns") <= end)
        .map(data)
        .collect()
}
