//! Real QEMU migrations under `tail`, compared with mtty's messages, QEMU's events and the kernel's last answer.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use lab::oracle::{MttyLog, QmpLog};

use super::{
    Check, Found, any_kernel,
    boot::{Boot, Part},
    compare::{vm_pids, with_final_states, with_mtty, with_qmp},
    guest::Left,
    steps,
    traced::{Traced, data, text},
};

/// A run of lab-migrate, and the additional check of its trace.
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
    Scenario { name: "ping-pong-10", arguments: "--count 10 --ping-pong", also: many_sessions },
];

/// Returns the boot in which all of them run, and lab-step's after them.
pub(super) fn boot() -> Arc<Boot> {
    let mut parts = vec![
        Part { name: "ok", script: |_| script("ok") },
        Part { name: "cancel", script: |_| script("cancel") },
        Part { name: "kill-destination", script: |_| script("kill-destination") },
        Part { name: "mismatch", script: |_| script("mismatch") },
        Part { name: "pause-cancel", script: |_| script("pause-cancel") },
        Part { name: "ping-pong-10", script: |_| script("ping-pong-10") },
    ];
    parts.extend(steps::parts());
    Boot::new(any_kernel(), false, parts)
}

pub(super) fn checks(boot: &Arc<Boot>) -> Vec<Check> {
    let check = |scenario: &'static Scenario| {
        let (wanted, boot) = (Arc::clone(boot), Arc::clone(boot));
        let run = move |_: &_| judge(&boot.part(scenario.name)?, scenario);
        Check::new(format!("migration: {}", scenario.name), run).wanting(move || wanted.want(scenario.name))
    };
    SCENARIOS.iter().map(check).collect()
}

fn script(name: &str) -> Result<String> {
    let scenario = SCENARIOS.iter().find(|scenario| scenario.name == name).context("no such scenario")?;
    // mtty is loaded first, as on a real host: the probes are there before the first migration.
    Ok(format!(
        "modprobe mtty && vfio-trace tail --format ndjson -- lab-migrate {} --evidence . >tail.ndjson",
        scenario.arguments
    ))
}

fn judge(guest: &Left, scenario: &Scenario) -> Result<Found> {
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

/// Checks the size of the stream: mtty-2 has 24 bytes of header and 36 per port.
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
    ensure!(closed == 20, "10 migrations have 20 data fds, {closed} were closed");
    let bytes =
        [SOURCE, DESTINATION].map(|device| sum(traced, "read", device) + sum(traced, "write", device));
    ensure!(bytes.iter().sum::<u64>() == 10 * 2 * 96, "moved {bytes:?} bytes instead of 1920 in all");
    Ok(())
}
