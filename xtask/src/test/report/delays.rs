//! A driver that sleeps for a known time in each arc and call: each delay must be in the stage to which it belongs.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, bail, ensure};

use super::{Found, busy, list, number, report, word};
use crate::test::guest::Lab;

const MS: u64 = 1_000_000;
/// Additional time that anything may take on a busy host.
const SLACK: u64 = 1_500 * MS;

/// Delayed arcs: device, from, to, ms, stage.
const ARCS: [(u32, &str, &str, u64, &str); 5] = [
    (1, "PRE_COPY", "PRE_COPY_P2P", 60, "stop"),
    (1, "PRE_COPY_P2P", "STOP_COPY", 90, "save"),
    (2, "RESUMING", "STOP", 70, "load"),
    (2, "STOP", "RUNNING_P2P", 40, "start"),
    (2, "RUNNING_P2P", "RUNNING", 50, "start"),
];
/// Delay of every read() in ms.
const READ: u64 = 20;
const WRITE: u64 = 30;

pub(super) fn check(lab: &Lab) -> Result<Found> {
    // The request for RESUMING comes before the delays of the destination's arcs: it uses none of them.
    let mut steps =
        format!("2:set=RESUMING knob=read_delay_us:{} 2:knob=write_delay_us:{}", READ * 1000, WRITE * 1000);
    for (device, from, to, ms, _) in ARCS {
        write!(steps, " {device}:knob=delay_us:'{from} {to} {}'", ms * 1000)?;
    }
    steps += " set=PRE_COPY set=PRE_COPY_P2P set=STOP_COPY read-all=/run/image 2:write=/run/image 2:set=RUNNING set=STOP";
    let script = format!(
        "cd $LAB_RESULTS; modprobe quayside; vfio-trace record -o rec.vft -- \
         lab-step --json steps.ndjson --create quayside-full --create quayside-full {steps} >steps.out; \
         code=$?; chmod a+r rec.vft; exit $code"
    );
    let guest = lab.run("report-delays", &script)?;
    let (document, code) = report(&guest.results.join("rec.vft"))?;
    ensure!(code == Some(0), "exit code {code:?}");
    let [migration] = document.migrations() else { bail!("{} migrations", document.migrations().len()) };
    ensure!(word(migration, "verdict") == "completed", "{}", word(migration, "text"));
    let downtime = migration.get("downtime").context("no downtime")?;
    let calls = |part: &str| -> u64 {
        let parts = list(&document.0, "sessions").iter().flat_map(|session| list(session, "parts"));
        parts.filter(|one| word(one, "part") == part).filter_map(|one| number(one, "calls")).sum()
    };
    let mut wanted = vec![("read", calls("stop_copy") * READ), ("write", calls("resuming") * WRITE)];
    for (_, _, _, ms, stage) in ARCS {
        match wanted.iter_mut().find(|(name, _)| *name == stage) {
            Some((_, sum)) => *sum += ms,
            None => wanted.push((stage, ms)),
        }
    }
    let mut told = Vec::new();
    let mut sum = 0;
    for (stage, ms) in wanted {
        let time = busy(downtime, stage).with_context(|| format!("no stage {stage}: {downtime}"))?;
        ensure!(ms > 0, "no call in stage {stage}");
        ensure!((ms * MS..ms * MS + SLACK).contains(&time), "{stage} took {time} ns, asked for were {ms} ms");
        told.push(format!("{stage} {} of {ms}", time / MS));
        sum += ms * MS;
    }
    let total = number(downtime, "total_ns").unwrap_or(0);
    ensure!((sum..sum + 7 * SLACK).contains(&total), "{total} ns in all, asked for were {sum}");
    Ok(Found::one(format!("ms of each stage, at least those asked for: {}", told.join(", "))))
}
