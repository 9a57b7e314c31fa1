//! Runs scenarios one after the other, each on devices without faults, and expects what this kernel's driver has to do.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use clap::Parser as _;
use serde_json::json;

use super::scenarios::{SCENARIOS, Scenario};
use super::{Args, Kind, print};
use crate::clock::monotonic_ns;
use crate::evidence::Lines;
use crate::kernel;
use crate::mdev;
use crate::step::record::{Done, Expected, Outcome, Recorder, in_line};
use crate::step::{cli, run};

const DRIVER: &str = "/sys/bus/pci/drivers/hisi_acc_vfio_pci";
const KNOBS: &str = "/sys/kernel/debug/hisi_sim";

pub(super) fn run(args: &Args) -> Result<()> {
    let chosen = choose(&args.scenarios)?;
    let newer = is_newer(&kernel::release());
    let mut recorder = Recorder::new(args.json.as_deref().map(Lines::create).transpose()?);
    let mut failed = Vec::new();
    clear_knobs()?;
    for scenario in chosen {
        print(&format!("{}: {}\n", scenario.name, scenario.what));
        recorder.scenario(scenario.name);
        let mut devices = Vec::new();
        let done = one(scenario, newer, &mut recorder, &mut devices);
        for (index, device) in devices.iter().enumerate() {
            witness(index, device, &mut recorder)?;
        }
        // The next scenario begins without this one's faults, however this one ended.
        clear_knobs()?;
        if let Err(error) = done {
            print(&format!("FAILED: {error:#}\n"));
            failed.push(scenario.name);
        }
    }
    recorder.finish()?;
    if !failed.is_empty() {
        bail!("not as it has to be: {}", failed.join(", "));
    }
    Ok(())
}

fn choose(names: &[String]) -> Result<Vec<&'static Scenario>> {
    if names.is_empty() {
        return Ok(SCENARIOS.iter().collect());
    }
    names
        .iter()
        .map(|name| {
            SCENARIOS
                .iter()
                .find(|scenario| scenario.name == name)
                .with_context(|| format!("there is no scenario \"{name}\"; see lab-hisi --list"))
        })
        .collect()
}

/// Returns true for Linux 7 and later, whose driver returns other errnos.
fn is_newer(release: &str) -> bool {
    release.split('.').next().and_then(|major| major.parse::<u32>().ok()).is_some_and(|major| major >= 7)
}

/// Records the mailbox commands that a device's hardware saw, as a step of its own, for tests to compare with.
fn witness(index: usize, device: &str, recorder: &mut Recorder) -> Result<()> {
    let knob = Path::new(KNOBS).join(device).join("commands");
    let start_ns = monotonic_ns();
    let text = mdev::read_attribute(&knob).with_context(|| format!("cannot read {}", knob.display()))?;
    let text = text.trim_end();
    let outcome =
        Outcome { errno: None, values: json!({"knob": "commands", "value": text}), told: in_line(text) };
    recorder.record(&Done {
        step: "commands",
        position: index + 1,
        device,
        start_ns,
        end_ns: monotonic_ns(),
        implicit: true,
        expected: Expected::Anything,
        value: None,
        outcome: &outcome,
    });
    Ok(())
}

/// Runs one scenario. `taken` receives the devices that were chosen, also if the run fails.
fn one(scenario: &Scenario, newer: bool, recorder: &mut Recorder, taken: &mut Vec<String>) -> Result<()> {
    let mut words = vec!["lab-step".to_owned(), "--knobs".to_owned(), format!("{KNOBS}/{{}}")];
    for kind in scenario.devices {
        let name = find(*kind, taken)?;
        words.extend(["--device".to_owned(), name.clone()]);
        taken.push(name);
    }
    words.extend(scenario.steps.iter().map(|step| of_kernel(step, newer)));
    run::drive(&cli::Args::try_parse_from(words)?, recorder)
}

/// Returns the step for this kernel's driver: `set=STOP!EINVAL|EIO` has the older driver's errno, then the newer one's;
/// where the errno is empty the step succeeds.
fn of_kernel(step: &str, newer: bool) -> String {
    let choose = |text: &str| match text.split_once('|') {
        Some((older, _)) if !newer => older.to_owned(),
        Some((_, newer)) => newer.to_owned(),
        None => text.to_owned(),
    };
    let (step, value) =
        step.split_once(" -> ").map_or((step, None), |(step, value)| (step, Some(choose(value))));
    let step = step.split_once('!').map_or_else(
        || step.to_owned(),
        |(step, errno)| match choose(errno) {
            errno if errno.is_empty() => step.to_owned(),
            errno => format!("{step}!{errno}"),
        },
    );
    match value {
        Some(value) => format!("{step} -> {value}"),
        None => step,
    }
}

/// Returns a VF of this kind that is bound to the driver and is not one of `taken`.
fn find(kind: Kind, taken: &[String]) -> Result<String> {
    let id = match kind {
        Kind::Zip => "0xa251",
        Kind::Sec => "0xa256",
        Kind::Hpre => "0xa259",
    };
    let entries = fs::read_dir(DRIVER)
        .with_context(|| format!("{DRIVER} is not there; boot the lab with --driver hisi"))?;
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
        .into_iter()
        .filter(|name| !taken.contains(name))
        .find(|name| {
            fs::read_to_string(mdev::pci_sysfs(name).join("device")).is_ok_and(|text| text.trim() == id)
        })
        .with_context(|| format!("hisi_acc_vfio_pci has too few VFs with device id {id}; see {DRIVER}"))
}

/// Clears all faults and all remembered mailbox commands.
fn clear_knobs() -> Result<()> {
    let functions = fs::read_dir(KNOBS)
        .with_context(|| format!("{KNOBS} is not there; boot the lab with --driver hisi"))?;
    for function in functions.flatten() {
        for name in ["fault", "commands"] {
            let knob = function.path().join(name);
            mdev::write_attribute(&knob, "clear")
                .with_context(|| format!("cannot write {}", knob.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_is_steps_for_its_devices() {
        for scenario in SCENARIOS {
            for newer in [false, true] {
                let devices = scenario.devices.iter().flat_map(|_| ["--device", "x"]);
                let steps: Vec<String> = scenario.steps.iter().map(|step| of_kernel(step, newer)).collect();
                let words = std::iter::once("lab-step").chain(devices).map(str::to_owned).chain(steps);
                let args = cli::Args::try_parse_from(words)
                    .unwrap_or_else(|error| panic!("{}: {error}", scenario.name));
                assert_eq!(args.conflict(), None, "{}", scenario.name);
            }
            let same = SCENARIOS.iter().filter(|other| other.name == scenario.name).count();
            assert_eq!(same, 1, "{}", scenario.name);
        }
    }

    #[test]
    fn kernels_differ_where_a_step_says_so() {
        assert_eq!(of_kernel("set=STOP!EINVAL|EIO", false), "set=STOP!EINVAL");
        assert_eq!(of_kernel("set=STOP!EINVAL|EIO", true), "set=STOP!EIO");
        assert_eq!(of_kernel("write=/i!|EFAULT -> 176|0", false), "write=/i -> 176");
        assert_eq!(of_kernel("write=/i!|EFAULT -> 176|0", true), "write=/i!EFAULT -> 0");
        assert_eq!(of_kernel("get -> RUNNING", true), "get -> RUNNING");
        assert!(is_newer("7.3.4+deb13-amd64") && !is_newer("6.12.117+deb12-amd64") && !is_newer("odd"));
    }
}
