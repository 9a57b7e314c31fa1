//! hisi_acc's faults: every finding of an error is in a side that has failed, and is the one in the table.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{Found, list, number, report, word};
use crate::{setup::kernel::Driver, test::hisi};

/// A fault, how its migration has to end, and the first failure: what, errno; code and errno of the first finding.
struct Fault {
    scenario: &'static str,
    verdict: &'static str,
    failure: Option<(&'static str, &'static str)>,
    finding: Option<(&'static str, &'static str)>,
}

const FAULTS: &[Fault] = &[
    Fault { scenario: "there-and-back", verdict: "completed", failure: None, finding: None },
    Fault {
        scenario: "cache-wb",
        verdict: "failed",
        failure: Some(("RUNNING → STOP", "EINVAL")),
        finding: Some(("hisi_acc/cache-writeback", "EINVAL")),
    },
    Fault {
        scenario: "ras",
        verdict: "failed",
        failure: Some(("RUNNING → STOP", "EBUSY")),
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
    let names: Vec<&str> = FAULTS.iter().map(|fault| fault.scenario).collect();
    let script: String = names
        .iter()
        .map(|name| {
            format!("vfio-trace record -o {name}.vft -- lab-hisi {name} >{name}.out 2>{name}.err; chmod a+r {name}.vft\n")
        })
        .collect();
    let guest = hisi::boot("6.12", false, Driver::Hisi, "report-hisi", &script)?;
    let mut told = Vec::new();
    for fault in FAULTS {
        let (document, code) = report(&guest.results.join(format!("{}.vft", fault.scenario)))?;
        let named = || format!("scenario {}", fault.scenario);
        let texts: Vec<&str> = document.migrations().iter().map(|one| word(one, "text")).collect();
        let wanted: Vec<&Value> =
            document.migrations().iter().filter(|one| word(one, "verdict") == fault.verdict).collect();
        ensure!(!wanted.is_empty(), "{}: no migration has {}: {texts:?}", named(), fault.verdict);
        ensure!(code == Some(i32::from(fault.verdict == "failed")), "{}: exit code {code:?}", named());
        let sides = || {
            let devices = wanted.iter().flat_map(|migration| list(migration, "devices"));
            devices.flat_map(|device| ["source", "destination"].map(|role| device.get(role))).flatten()
        };
        let mut failures: Vec<&Value> = sides().flat_map(|side| list(side, "failures")).collect();
        failures.sort_by_key(|failure| number(failure, "at_ns"));
        let first = failures.first().map(|failure| (word(failure, "what"), word(failure, "errno")));
        ensure!(first == fault.failure, "{}: failures {failures:?}; {texts:?}", named());
        let mut errors: Vec<&Value> = sides()
            .flat_map(|side| list(side, "findings"))
            .filter(|one| word(one, "severity") == "error")
            .collect();
        errors.sort_by_key(|finding| number(finding, "at_ns"));
        let first = errors.first().map(|finding| (word(finding, "code"), word(finding, "errno")));
        ensure!(first == fault.finding, "{}: findings {errors:?}", named());
        if let Some((what, errno)) = fault.failure {
            let text = texts.iter().find(|text| text.contains("failed")).copied().unwrap_or_default();
            ensure!(text.contains(what) && text.contains(errno), "{}: {text}", named());
            told.push(format!("{}: {what} {errno}", fault.scenario));
        }
    }
    told.first().context("nothing was compared")?;
    Ok(Found::one(told.join("; ")))
}
