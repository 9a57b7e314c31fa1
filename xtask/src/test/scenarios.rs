//! Real QEMU migrations under `tail`, compared with mtty's messages, QEMU's events and the kernel's last answer.

use anyhow::{Context as _, Result, ensure};
use lab::oracle::{MttyLog, QmpLog};

use super::{
    Check, Found,
    compare::{vm_pids, with_final_states, with_mtty, with_qmp},
    guest::Lab,
    traced::{Traced, data, text},
};

/// A run of lab-migrate, and what else must be in its trace.
struct Scenario {
    name: &'static str,
    arguments: &'static str,
    also: fn(&Traced) -> Result<()>,
}

const SOURCE: &str = "11111111-1111-1111-1111-111111111111";
const DESTINATION: &str = "22222222-2222-2222-2222-222222222222";

const SCENARIOS: &[Scenario] = &[
    Scenario { name: "ok", arguments: "--scenario ok", also: moved_everything },
    Scenario { name: "cancel", arguments: "--scenario cancel", also: |traced| ends_pre_copy(traced) },
    Scenario {
        name: "kill-destination",
        arguments: "--scenario kill-destination",
        also: |traced| ends_pre_copy(traced),
    },
    Scenario { name: "mismatch", arguments: "--scenario mismatch", also: write_refused },
    Scenario { name: "pause-cancel", arguments: "--scenario pause --then-cancel", also: |_| Ok(()) },
    Scenario { name: "ping-pong-20", arguments: "--count 20 --ping-pong", also: many_sessions },
];

pub(super) fn checks() -> Vec<Check> {
    SCENARIOS
        .iter()
        .map(|scenario| Check::new(format!("migration: {}", scenario.name), move |lab| run(lab, scenario)))
        .collect()
}

fn run(lab: &Lab, scenario: &Scenario) -> Result<Found> {
    // mtty is loaded first, as on a real host: probes then are there before the first migration.
    let script = format!(
        "modprobe mtty && vfio-trace tail --format ndjson -- \
         lab-migrate {} --evidence $LAB_RESULTS >$LAB_RESULTS/tail.ndjson",
        scenario.arguments
    );
    let guest = lab.run(&format!("migration-{}", scenario.name), &script)?;
    let traced = Traced::parse(&guest.file("tail.ndjson")?).context("tail.ndjson")?;
    traced.is_complete()?;
    let mut counts = with_mtty(&traced, &MttyLog::parse(&guest.file("dmesg.txt")?))?;
    let pids = vm_pids(&guest.file("migrate.json")?)?;
    counts.states = with_qmp(&traced, &QmpLog::parse(&guest.file("qmp.ndjson")?)?, &pids)?;
    counts.finals = with_final_states(&traced, &guest.file("final-states.json")?)?;
    ensure!(counts.arcs > 0 && counts.requests > 0, "nothing was compared");
    (scenario.also)(&traced)?;
    Ok(Found::one(counts.to_string()))
}

fn sum(traced: &Traced, kind: &str, device: &str) -> u64 {
    traced.of(kind, device).filter_map(|event| data(event).get("bytes")?.as_u64()).sum()
}

/// mtty-2 has 24 bytes of header and 36 per port.
fn moved_everything(traced: &Traced) -> Result<()> {
    let (read, written) = (sum(traced, "read", SOURCE), sum(traced, "write", DESTINATION));
    ensure!(read == 96 && written == 96, "read {read} and written {written} bytes instead of 96");
    let sizes: Vec<u64> = traced
        .of("data_size", SOURCE)
        .filter_map(|event| data(event).get("stop_copy_bytes")?.as_u64())
        .collect();
    ensure!(!sizes.is_empty() && sizes.iter().all(|size| *size == 96), "announced sizes: {sizes:?}");
    let initial =
        traced.of("precopy_info", SOURCE).find_map(|event| data(event).get("initial_bytes")?.as_u64());
    ensure!(initial == Some(24), "the first PRECOPY_INFO says {initial:?} initial bytes instead of 24");
    for device in [SOURCE, DESTINATION] {
        ensure!(
            traced.of("open", device).count() > 0 && traced.of("close", device).count() > 0,
            "no open or close of {device}"
        );
        ensure!(
            traced.of("data_close", device).count() == 1,
            "{device} closed another number of data fds than one"
        );
    }
    Ok(())
}

fn ends_pre_copy(traced: &Traced) -> Result<()> {
    let back = traced.of("arc", SOURCE).map(data).any(|arc| {
        text(arc, "from") == Some("PRE_COPY")
            && text(arc, "to") == Some("RUNNING")
            && text(arc, "result") == Some("ok")
    });
    ensure!(back, "the source never went back from PRE_COPY to RUNNING");
    Ok(())
}

fn write_refused(traced: &Traced) -> Result<()> {
    let refused =
        traced.of("write", DESTINATION).map(data).any(|write| text(write, "errno") == Some("EFAULT"));
    ensure!(refused, "no write of the destination failed with EFAULT");
    Ok(())
}

fn many_sessions(traced: &Traced) -> Result<()> {
    let closed = traced.of("data_close", SOURCE).count() + traced.of("data_close", DESTINATION).count();
    ensure!(closed == 40, "20 migrations have 40 data fds, {closed} were closed");
    let bytes =
        [SOURCE, DESTINATION].map(|device| sum(traced, "read", device) + sum(traced, "write", device));
    ensure!(bytes.iter().sum::<u64>() == 20 * 2 * 96, "moved {bytes:?} bytes instead of 3840 in all");
    Ok(())
}
