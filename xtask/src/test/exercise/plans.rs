//! All plans on mtty and quayside, with the matrix compared arc by arc with the golden path tables.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{EX, Found, Report, ended, items, text_of};
use crate::test::{
    compat::device,
    guest::Left,
    paths::{Cell, STATES, Table},
};

/// Returns the script. The tool knows nothing of quayside: the script says which bytes tell its devices apart (the
/// type's flags, at byte 12).
pub(super) fn script() -> String {
    let [mtty, other, quay, quay2] = [1, 2, 3, 4].map(device);
    format!(
        "{EX}\
         modprobe -a vfio_iommu_type1 mtty quayside && mdevs mtty-2 1 2 && mdevs quayside-full 3 4 || return 1\n\
         ex mtty {mtty} --yes --plan all --to {other} --count 4 --junit junit.xml\n\
         lab-step --device {quay} set=STOP_COPY read-all=/run/part/right >/dev/null || return 1\n\
         cp /run/part/right /run/part/wrong && printf '\\377' | dd of=/run/part/wrong bs=1 seek=12 conv=notrunc 2>dd.err || return 1\n\
         ex quayside {quay} --yes --plan all --to {quay2} --count 4 --wrong /run/part/wrong\n\
         echo 'RUNNING_P2P STOP EIO' >/sys/bus/mdev/devices/{quay}/quayside/fail || return 1\n\
         ex fails {quay} --yes --plan save,io-test\n"
    )
}

/// Returns the flags of both drivers' full types.
fn flags(series: &str) -> u32 {
    if series == "6.1" { 3 } else { 7 }
}

pub(super) fn check(left: &Left, series: &str) -> Result<Found> {
    let precopy = if flags(series) & 4 == 0 { "skipped" } else { "passed" };
    let rest = format!(
        "full passed, io-test skipped, matrix passed, precopy {precopy}, resume passed, save passed, stress passed"
    );
    // mtty forgets that it has refused an image: see docs/exercise.md.
    let mtty = Report::parse(left, "mtty", 1)?;
    mtty.says("mtty", &format!("faults failed, {rest}"))?;
    for (name, verdict, codes) in mtty.found("faults")? {
        let bad = matches!(name, "bit flipped in the first byte" | "wrong device");
        ensure!((verdict == "failed") == bad, "mtty, {name}: {verdict}");
        ensure!(codes.contains(&"exercise/loaded-after-refusal") == bad, "mtty, {name}: {codes:?}");
    }
    let quay = Report::parse(left, "quayside", 0)?;
    quay.says("quayside", &format!("faults passed, {rest}"))?;
    let mut cells = 0;
    for report in [&mtty, &quay] {
        cells += matrix(report, flags(series))?;
    }
    fails(left)?;
    let junit = left.file("junit.xml")?;
    let cases = junit.matches("<testcase ").count();
    ensure!(cases == mtty.list("stages")?.len(), "junit.xml has {cases} test cases");
    ensure!(junit.matches("<failure ").count() == 2, "junit.xml has other failures:\n{junit}");
    Ok(Found::one(format!(
        "all plans, {cells} cells of the matrix by their arcs, {} arcs, mtty's two defects named",
        mtty.arcs()? + quay.arcs()?
    )))
}

/// Compares each request with the golden table. Returns the number of requests.
fn matrix(report: &Report, flags: u32) -> Result<usize> {
    let table = Table::of(flags)?;
    let stages = || {
        report.list("stages").map(|stages| stages.iter().filter(|stage| text_of(stage, "plan") == "matrix"))
    };
    for from in &table.states {
        for to in STATES {
            let name = format!("{from} to {to}");
            let stage = stages()?
                .find(|stage| text_of(stage, "name") == name)
                .with_context(|| format!("no {name}"))?;
            let asked = format!("set {to}");
            let mut steps = items(stage, "steps").iter().filter(|step| text_of(step, "asked") == asked);
            let step = steps.next_back().with_context(|| format!("{name} has no step {asked}"))?;
            let ended = (text_of(step, "errno"), text_of(step, "state"));
            match table.cell(from, to).with_context(|| name.clone())? {
                Cell::Refused => ensure!(ended == ("EINVAL", *from), "{name}: {step}"),
                Cell::Arcs(path) => {
                    let arcs: Vec<&str> = items(step, "arcs").iter().map(|arc| text_of(arc, "to")).collect();
                    ensure!(arcs == path && ended == ("", to), "{name}: {step}");
                },
            }
        }
    }
    let cells = stages()?.count() - 1;
    ensure!(cells == table.states.len() * STATES.len(), "the matrix has {cells} cells");
    Ok(cells)
}

/// Checks an arc that is made to fail.
fn fails(left: &Left) -> Result<()> {
    let report = Report::parse(left, "fails", 1)?;
    report.says("fails", "io-test skipped, save failed")?;
    let failure = report.0.get("first_failure").context("no first failure")?;
    ensure!(
        text_of(failure, "asked") == "set STOP_COPY" && text_of(failure, "why").contains("EIO"),
        "the first failure is {failure}"
    );
    let stage = report.list("stages")?.first().context("no stage")?;
    let step = items(stage, "steps").iter().find(|step| step.get("as_expected") == Some(&Value::Bool(false)));
    let arcs = items(step.context("no bad step")?, "arcs");
    let last = arcs.last().context("the arcs were not seen")?;
    let arc = ["from", "to", "errno"].map(|field| text_of(last, field));
    ensure!(arc == ["RUNNING_P2P", "STOP", "EIO"], "the failed arc is {last}");
    let end = report.list("end")?.first().context("no end")?;
    // After the failed arc the device was no longer RUNNING.
    let reset = items(stage, "steps").iter().any(|step| text_of(step, "asked") == "reset");
    ensure!(reset, "no reset brought it back: {end}");
    ended(left, "fails", 1)
}
