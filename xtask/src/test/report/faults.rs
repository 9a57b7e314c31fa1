//! The faults of hisi_acc: every finding of an error is in a side that has failed, and is the one in the table.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{Found, list, number, report, word};
use crate::{
    setup::kernel::Driver,
    test::{guest::Guest, hisi, notes},
};

/// A fault, the verdict of its migration, and the first failure: text, errno; code and errno of the first finding.
struct Fault {
    scenario: &'static str,
    verdict: &'static str,
    failure: Option<(&'static str, &'static str)>,
    finding: Option<(&'static str, &'static str)>,
}

const FAULTS: &[Fault] = &[
    Fault { scenario: "there-and-back", verdict: "completed", failure: None, finding: None },
    Fault {
        scenario: "vft",
        verdict: "failed",
        failure: Some(("RUNNING → PRE_COPY", "EINVAL")),
        finding: Some(("hisi_acc/match-data", "EINVAL")),
    },
    Fault {
        scenario: "sqc-read",
        verdict: "failed",
        failure: Some(("PRE_COPY → STOP_COPY", "EINVAL")),
        // User space got another errno.
        finding: Some(("hisi_acc/save-mailbox", "EIO")),
    },
    Fault {
        scenario: "ras",
        verdict: "failed",
        failure: Some(("PRE_COPY → STOP_COPY", "EBUSY")),
        finding: Some(("hisi_acc/interrupt-pending", "EBUSY")),
    },
    Fault {
        scenario: "dev-id",
        verdict: "failed",
        failure: Some(("write()", "EFAULT")),
        finding: Some(("hisi_acc/match-device", "EINVAL")),
    },
];

pub(super) fn check() -> Result<Found> {
    if let Some(guest) = once("report-hisi")? {
        return judge(&guest);
    }
    let guest =
        once("report-hisi-again")?.context("scenarios did not come out as they have to, in two boots")?;
    judge(&guest)
}

/// Boots and runs all scenarios. Returns none if one failed for a timeout, which is noted.
fn once(name: &str) -> Result<Option<Guest>> {
    let names: Vec<&str> = FAULTS.iter().map(|fault| fault.scenario).collect();
    let script = format!(
        "vfio-trace record -o rec.vft -- lab-hisi --json steps.ndjson {} >steps.out; chmod a+r rec.vft",
        names.join(" ")
    );
    let guest = hisi::boot("6.12", false, Driver::Hisi, name, &script)?;
    let steps = guest.left("").records("steps.ndjson")?;
    let log = guest.file("dmesg.txt")?;
    let mut fine = true;
    for fault in FAULTS {
        let mine: Vec<&Value> =
            steps.iter().filter(|step| word(step, "scenario") == fault.scenario).collect();
        if mine.iter().any(|step| step.get("as_expected") != Some(&Value::Bool(true))) {
            let why = hisi::was_late(&log, &mine).with_context(|| {
                format!("{} is not as it has to be, and no lateness explains it", fault.scenario)
            })?;
            notes::retry(format!("{}, {why}", fault.scenario));
            fine = false;
        }
    }
    Ok(fine.then_some(guest))
}

fn judge(guest: &Guest) -> Result<Found> {
    let (document, code) = report(&guest.results.join("rec.vft"))?;
    ensure!(code == Some(1), "exit code {code:?}");
    let mut steps = guest.left("").records("steps.ndjson")?;
    steps.retain(|step| number(step, "start_ns").is_some());
    let began = |name: &str| {
        let first = steps.iter().find(|step| word(step, "scenario") == name);
        first.and_then(|step| number(step, "start_ns")).with_context(|| format!("{name} did not run"))
    };
    let mut told = Vec::new();
    for (at, fault) in FAULTS.iter().enumerate() {
        let from = began(fault.scenario)?;
        let to = FAULTS.get(at + 1).map(|next| began(next.scenario)).transpose()?.unwrap_or(u64::MAX);
        let mine = document.started_within(from, to)?;
        told.extend(compare(fault, &mine).with_context(|| format!("scenario {}", fault.scenario))?);
    }
    ensure!(told.len() + 1 == FAULTS.len(), "only these were compared: {told:?}");
    Ok(Found::one(format!("{} migrations; {}", document.migrations().len(), told.join("; "))))
}

/// Compares a scenario with its migrations. Returns its failure, if it was to fail.
fn compare(fault: &Fault, migrations: &[&Value]) -> Result<Option<String>> {
    let texts: Vec<&str> = migrations.iter().map(|one| word(one, "text")).collect();
    let wanted: Vec<&Value> =
        migrations.iter().copied().filter(|one| word(one, "verdict") == fault.verdict).collect();
    ensure!(!wanted.is_empty(), "no migration has {}: {texts:?}", fault.verdict);
    let sides = || {
        let devices = wanted.iter().flat_map(|migration| list(migration, "devices"));
        devices.flat_map(|device| ["source", "destination"].map(|role| device.get(role))).flatten()
    };
    let first = |name: &str| {
        let of = |side| list(side, name).iter();
        sides()
            .flat_map(of)
            .filter(|one| name == "failures" || word(one, "severity") == "error")
            .min_by_key(|one| number(one, "at_ns"))
    };
    let failure = first("failures").map(|one| (word(one, "what"), word(one, "errno")));
    ensure!(failure == fault.failure, "it failed with {failure:?}: {texts:?}");
    let finding = first("findings").map(|one| (word(one, "code"), word(one, "errno")));
    ensure!(finding == fault.finding, "the first finding is {finding:?}: {texts:?}");
    let Some((what, errno)) = failure else { return Ok(None) };
    ensure!(texts.iter().any(|text| text.contains(&format!("failed: {what} {errno}"))), "{texts:?}");
    Ok(Some(format!("{}: {what} {errno}", fault.scenario)))
}
