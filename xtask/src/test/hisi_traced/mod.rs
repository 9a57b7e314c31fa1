//! The tracer on hisi_acc_vfio_pci: its findings in every scenario, its mailbox steps and its images, against
//! witnesses.

mod golden;
mod mailbox;
mod run;
mod shown;
mod stream;

use anyhow::{Context as _, Result, ensure};

use self::{
    golden::Golden,
    run::{Boot, Scenario},
};
use super::{Check, Found, full, hisi, notes};
use crate::setup::kernel::Driver;

/// A kernel and a build of its driver.
#[derive(Clone, Copy)]
struct Variant {
    series: &'static str,
    /// True if the build keeps functions of the driver that are otherwise inlined.
    kept: bool,
}

impl Variant {
    /// Returns the name in the table of findings.
    fn name(self) -> String {
        format!("{}{}", self.series, if self.kept { "-noinline" } else { "" })
    }

    const fn driver(self) -> Driver {
        if self.kept { Driver::HisiNoinline } else { Driver::Hisi }
    }
}

const VARIANTS: [Variant; 4] = [
    Variant { series: "6.12", kept: false },
    Variant { series: "7.3", kept: false },
    Variant { series: "6.12", kept: true },
    Variant { series: "7.3", kept: true },
];

pub(super) fn checks() -> Vec<Check> {
    let mut variants = VARIANTS.to_vec();
    if !full() {
        // 6.12 is enough to test the additions of the build without inlining.
        variants.retain(|variant| !(variant.kept && variant.series == "7.3"));
    }
    variants
        .into_iter()
        .map(|variant| Check::new(format!("hisi: traced on {}", variant.name()), move |_| traced(variant)))
        .map(Check::alone)
        .collect()
}

/// Notes the scenarios that have to be tried again. An error if a failed scenario has no timeout as its reason.
fn note_lateness(scenarios: &[&Scenario], log: &str) -> Result<()> {
    for scenario in scenarios.iter().filter(|scenario| !scenario.as_expected) {
        let name = &scenario.name;
        let why = hisi::was_late(log, &scenario.steps.iter().collect::<Vec<_>>())
            .with_context(|| format!("{name} is not as it has to be, and no lateness explains it"))?;
        notes::retry(format!("{name}, {why}"));
    }
    Ok(())
}

fn traced(variant: Variant) -> Result<Found> {
    let golden = Golden::read()?;
    let boot = Boot::of(variant, "", &[])?;
    let mut scenarios = boot.scenarios;
    let failed: Vec<String> =
        scenarios.iter().filter(|scenario| !scenario.as_expected).map(|one| one.name.clone()).collect();
    ensure!(
        failed.len() <= 3,
        "{} scenarios did not come out as they have to: {}",
        failed.len(),
        failed.join(", ")
    );
    note_lateness(&scenarios.iter().collect::<Vec<_>>(), &boot.log)?;
    let mut left = failed;
    for suffix in ["-again", "-last"] {
        if left.is_empty() {
            break;
        }
        // These come first: code that an emulator runs for the first time is slow.
        let first = ["there-and-back", "reset"].map(str::to_owned);
        let first = first.into_iter().filter(|name| !left.contains(name));
        let names: Vec<String> = first.chain(left.iter().cloned()).collect();
        let next = Boot::of(variant, suffix, &names)?;
        let (again, log) = (next.scenarios, next.log);
        let tried: Vec<&Scenario> = again.iter().filter(|one| left.contains(&one.name)).collect();
        note_lateness(&tried, &log)?;
        for scenario in again.into_iter().filter(|scenario| scenario.as_expected) {
            let place = scenarios.iter_mut().find(|first| first.name == scenario.name);
            let place = place.context("another scenario ran")?;
            if left.contains(&scenario.name) {
                left.retain(|name| *name != scenario.name);
                *place = scenario;
            }
        }
    }
    ensure!(left.is_empty(), "failed in three boots: {}", left.join(", "));
    golden.has_all(&boot.list)?;
    let mut wrong = Vec::new();
    let (mut findings, mut commands, mut members, mut steps) = (0, 0, 0, 0);
    for scenario in &scenarios {
        let seen = scenario.findings();
        findings += seen.len();
        if let Err(error) = golden.compare(&variant.name(), &scenario.name, &seen) {
            wrong.push(error.to_string());
        }
        let named = || format!("scenario {}", scenario.name);
        commands += mailbox::compare(scenario).with_context(named)?;
        members += stream::compare(scenario).with_context(named)?;
        if variant.kept {
            steps += shown::compare(scenario).with_context(named)?;
        }
    }
    ensure!(wrong.is_empty(), "other findings than in the table:\n{}", wrong.join("\n"));
    ensure!(
        findings > 40 && commands > 60 && members > 500,
        "{findings} findings, {commands} commands, {members} members"
    );
    ensure!(!variant.kept || steps > 60, "only {steps} steps of functions that are kept");
    let kept =
        if variant.kept { format!(", {steps} steps of functions that are kept") } else { String::new() };
    Ok(Found::one(format!(
        "{} scenarios: {findings} findings, {commands} mailbox commands, {members} members of images{kept}",
        scenarios.len()
    )))
}
