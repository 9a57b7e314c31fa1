//! Tests of whole migrations: scripted records -> document. Figures are worked out by hand from the script's times.

mod boots;
mod clocks;
mod drift;
mod evidence;
mod failures;
mod flows;
mod losses;
mod many;
mod outside;
mod pairs;
mod promises;
mod props;
mod several;
mod unseen;

use super::{DocumentOptions, document};
use crate::{
    driver::PluginDispatcher,
    event::{ClockAnchor, EventAssembler, WireRecord, fixture::*},
    report::{
        HostHistory,
        document::{
            DeviceMigration, DowntimeBound, DowntimeBreakdown, DowntimeStage, HostLosses, MigrationDocument,
            MigrationVerdict, TracedHost, VmMigration,
        },
    },
};

/// One millisecond.
const MS: u64 = 1_000_000;
/// Time from the start of [`RecordScript::set`] to its first arc, and duration of each arc; 500 ns are between two
/// arcs.
const LEAD: u64 = 2_500;
const ARC: u64 = 101_000;
/// Duration of a read and of a write of a script.
const READ: u64 = 9_100;
const WRITE: u64 = 12_000;

/// Addresses of the data sessions' struct file.
const FROM: u64 = 0xf1;
const TO: u64 = 0xf2;
/// Bytes of a stream: more than those of PRE_COPY.
const MIB: i64 = 1 << 20;

/// PIDs of QEMU on the source and on the destination.
const SOURCE: u32 = 412;
const DESTINATION: u32 = 777;

fn leaving(flags: u64) -> RecordScript {
    RecordScript::new(0xd1).device("a", "mtty", flags).open(1)
}

fn arriving(flags: u64) -> RecordScript {
    RecordScript::new(0xd2).thread(DESTINATION, DESTINATION).device("b", "mtty", flags).open(1)
}

/// Makes the source up to STOP_COPY, which is reached at 110 ms.
fn stopped_source() -> RecordScript {
    stop(leaving(7), 0)
}

/// Makes the source up to the end of its data.
fn read_source() -> RecordScript {
    read_all(stopped_source(), 0, MIB)
}

/// Makes the whole source, as QEMU drives it.
fn whole_source() -> RecordScript {
    leave(leaving(7), 0, MIB)
}

/// Makes the destination up to the last write.
fn written_destination() -> RecordScript {
    write_all(arriving(7), 0, MIB)
}

/// Makes the whole destination.
fn whole_destination() -> RecordScript {
    arrive(arriving(7), 0, MIB)
}

fn stop(script: RecordScript, at: u64) -> RecordScript {
    script
        .until(at + 10 * MS)
        .set(&[RUNNING, PRE_COPY], FROM, 31)
        .until(at + 20 * MS)
        .read(FROM, 1 << 20, 24, 0)
        .until(at + 100 * MS)
        .set(&[PRE_COPY, PRE_COPY_P2P], 0, -1)
        .until(at + 110 * MS)
        .set(&[PRE_COPY_P2P, STOP_COPY], 0, -1)
}

fn read_all(script: RecordScript, at: u64, bytes: i64) -> RecordScript {
    script.until(at + 120 * MS).read(FROM, 1 << 20, bytes, 24).until(at + 130 * MS).read(
        FROM,
        1 << 20,
        0,
        24 + bytes,
    )
}

/// Makes a whole source; its times are 100, 110, 120, 130 and 200 ms after `at`.
fn leave(script: RecordScript, at: u64, bytes: i64) -> RecordScript {
    read_all(stop(script, at), at, bytes)
        .until(at + 200 * MS)
        .set(&[STOP_COPY, STOP], 0, -1)
        .release(FROM, 24 + bytes)
}

fn write_all(script: RecordScript, at: u64, bytes: i64) -> RecordScript {
    script
        .until(at + 5 * MS)
        .set(&[RUNNING, RUNNING_P2P, STOP, RESUMING], TO, 40)
        .until(at + 30 * MS)
        .write(TO, 24, 0)
        .until(at + 125 * MS)
        .write(TO, bytes, 24)
}

/// Makes a whole destination; its times are 5, 125, 140 and 150 ms after `at`.
fn arrive(script: RecordScript, at: u64, bytes: i64) -> RecordScript {
    write_all(script, at, bytes)
        .until(at + 140 * MS)
        .set(&[RESUMING, STOP, RUNNING_P2P], 0, -1)
        .release(TO, 24 + bytes)
        .until(at + 150 * MS)
        .set(&[RUNNING_P2P, RUNNING], 0, -1)
}

/// Makes a VM's device before it leaves or arrives: address, name, process.
fn device(address: u64, name: &str, pid: u32) -> RecordScript {
    RecordScript::new(address).thread(pid, pid).device(name, "mtty", 7).open(1)
}

/// Returns the records of several scripts in the order in which their calls return.
fn together(scripts: &[RecordScript]) -> Vec<WireRecord> {
    let mut records: Vec<WireRecord> = scripts.iter().flat_map(RecordScript::records).collect();
    records.sort_by_key(|record| record.header.end_ns);
    records
}

/// Makes a host that was traced without a loss.
fn host(name: &str) -> TracedHost {
    TracedHost {
        name: Some(name.to_owned()),
        boot_id: Some(format!("boot of {name}")),
        losses: HostLosses {
            complete: true,
            lost: Some(0),
            missed: Some(0),
            unmatched: Some(0),
            ..HostLosses::default()
        },
        ..TracedHost::default()
    }
}

fn history_on(
    host: TracedHost,
    anchor: ClockAnchor,
    error_ns: Option<u64>,
    records: &[WireRecord],
) -> HostHistory {
    let mut history = HostHistory::new(host, anchor, error_ns);
    let (mut assembler, mut interpreter) = (EventAssembler::new(), PluginDispatcher::new(false));
    let mut take = |events| interpreter.apply(events).iter().for_each(|event| history.apply(event));
    for record in records {
        take(assembler.push(record));
    }
    take(assembler.finish());
    history
}

fn history(scripts: &[RecordScript]) -> HostHistory {
    history_on(host("h"), ANCHOR, Some(0), &together(scripts))
}

fn documented(histories: &[HostHistory]) -> MigrationDocument {
    document(histories, &DocumentOptions::default())
}

/// Makes the document of scripts on one host.
fn traced(scripts: &[RecordScript]) -> MigrationDocument {
    documented(&[history(scripts)])
}

/// Returns the only migration.
fn one(document: &MigrationDocument) -> &VmMigration {
    assert_eq!(document.migrations.len(), 1, "{:#?}", document.migrations);
    &document.migrations[0]
}

/// Returns the only device of the only migration.
fn one_device(document: &MigrationDocument) -> &DeviceMigration {
    let migration = one(document);
    assert_eq!(migration.devices.len(), 1, "{:#?}", migration.devices);
    &migration.devices[0]
}

fn downtime(document: &MigrationDocument) -> &DowntimeBreakdown {
    one(document).downtime.as_ref().expect("a downtime")
}

/// Returns the shares by stage, without the gap.
fn shares(downtime: &DowntimeBreakdown) -> Vec<(DowntimeStage, u64)> {
    let busy = downtime.stages.iter().filter(|time| time.stage != DowntimeStage::Gap);
    busy.map(|time| (time.stage, time.share_ns)).collect()
}

/// Returns the codes of a migration's warnings.
fn codes(migration: &VmMigration) -> Vec<&'static str> {
    migration.warnings.iter().map(|warning| warning.code).collect()
}

/// Checks properties of every document.
fn check(document: &MigrationDocument) {
    for migration in &document.migrations {
        let all = migration.devices.iter().filter_map(|device| device.downtime.as_ref());
        for downtime in all.chain(&migration.downtime) {
            assert_eq!(downtime.end_ns - downtime.start_ns, downtime.total_ns);
            assert_eq!(downtime.stages.iter().map(|time| time.share_ns).sum::<u64>(), downtime.total_ns);
            assert!(downtime.stages.iter().all(|time| time.share_ns <= time.busy_ns));
            assert!(downtime.stages.iter().all(|time| time.blurred_ns <= time.share_ns));
            assert_eq!(downtime.bound == DowntimeBound::Exact, downtime.why.is_none(), "{downtime:?}");
        }
        assert!(migration.start_ns <= migration.end_ns);
        for (at, device) in migration.devices.iter().enumerate() {
            for side in device.source.iter().chain(&device.destination) {
                assert!(side.start_ns <= side.end_ns, "device {at}: {side:?}");
                assert!(side.sessions.iter().all(|nr| document.sessions[*nr as usize].device == side.device));
            }
        }
    }
    // Every session belongs to at most one side.
    let sides = document.migrations.iter().flat_map(|migration| &migration.devices);
    let mut sessions: Vec<u32> = sides
        .flat_map(|device| device.source.iter().chain(&device.destination))
        .flat_map(|side| side.sessions.iter().copied())
        .collect();
    let all = sessions.len();
    sessions.sort_unstable();
    sessions.dedup();
    assert_eq!(sessions.len(), all);
}
