//! Tests of several devices, of several VMs, and of a way there and back.

use super::*;
use crate::report::document::{DeviceConcurrency, MigrationSide, PairingReason, StageOrder};

/// Makes two devices of one VM; the second does everything `later`, by other threads.
fn two_devices(later: u64) -> MigrationDocument {
    let (away, there) = (SOURCE + 50, DESTINATION + 50);
    traced(&[
        leave(device(0xd1, "a", SOURCE), 0, MIB),
        leave(device(0xd3, "c", SOURCE).thread(SOURCE, away), later, 4096).other_files(),
        arrive(device(0xd2, "b", DESTINATION), 0, MIB),
        arrive(device(0xd4, "d", DESTINATION).thread(DESTINATION, there), later, 4096).other_files(),
    ])
}

fn names(document: &MigrationDocument) -> Vec<[Option<&str>; 2]> {
    let name = |side: &Option<MigrationSide>| {
        side.as_ref().and_then(|side| document.devices[side.device as usize].name.as_deref())
    };
    let devices = document.migrations.iter().flat_map(|migration| &migration.devices);
    devices.map(|device| [name(&device.source), name(&device.destination)]).collect()
}

#[test]
fn in_series() {
    let document = two_devices(2 * MS);
    check(&document);
    let migration = one(&document);
    assert_eq!(names(&document), [[Some("a"), Some("b")], [Some("c"), Some("d")]]);
    assert!(migration.devices.iter().all(|device| device.paired_by == Some(PairingReason::StreamBytes)));
    // From the first that stops to the last that runs.
    assert_eq!(downtime(&document).total_ns, 52 * MS + ARC);
    for device in &migration.devices {
        assert_eq!(device.downtime.as_ref().unwrap().total_ns, 50 * MS + ARC);
    }
    assert_eq!(shares(downtime(&document))[0], (DowntimeStage::Stop, 2 * ARC));
    let order = |stage, one: u64| StageOrder {
        stage,
        devices: 2,
        sum_ns: 2 * one,
        union_ns: 2 * one,
        longest_ns: one,
        order: DeviceConcurrency::Series,
    };
    assert_eq!(
        migration.order,
        [
            order(DowntimeStage::Stop, ARC),
            order(DowntimeStage::Save, ARC),
            order(DowntimeStage::Read, 2 * READ),
            order(DowntimeStage::Write, WRITE),
            order(DowntimeStage::Load, ARC),
            order(DowntimeStage::Start, 2 * ARC)
        ]
    );
    // A tenth of a millisecond is not worth a warning.
    assert_eq!(codes(migration), [""; 0]);
}

#[test]
fn in_parallel() {
    let document = two_devices(0);
    check(&document);
    assert_eq!(downtime(&document).total_ns, 50 * MS + ARC);
    assert_eq!(shares(downtime(&document))[0], (DowntimeStage::Stop, ARC));
    let order = &one(&document).order;
    assert!(
        order.iter().all(|one| one.order == DeviceConcurrency::Parallel && one.union_ns == one.longest_ns),
        "{order:?}"
    );
    assert_eq!(order.len(), 6);
}

#[test]
fn partly_in_parallel() {
    // Half of an arc: only the arcs overlap, reads and writes are shorter.
    let document = two_devices(ARC / 2);
    check(&document);
    let order = one(&document).order.iter().map(|one| (one.stage, one.order)).collect::<Vec<_>>();
    assert_eq!(
        order[..3],
        [
            (DowntimeStage::Stop, DeviceConcurrency::Mixed),
            (DowntimeStage::Save, DeviceConcurrency::Mixed),
            (DowntimeStage::Read, DeviceConcurrency::Series)
        ]
    );
}

#[test]
fn two_vms_at_once() {
    let document = traced(&[
        leave(device(0xd1, "a", 100), 0, MIB),
        arrive(device(0xd2, "b", 200), 0, MIB),
        leave(device(0xd3, "c", 300), 3 * MS, 4096).other_files(),
        arrive(device(0xd4, "d", 400), 3 * MS, 4096).other_files(),
    ]);
    check(&document);
    assert_eq!(names(&document), [[Some("a"), Some("b")], [Some("c"), Some("d")]]);
    assert_eq!(document.migrations.len(), 2);
    for migration in &document.migrations {
        assert_eq!(migration.devices[0].paired_by, Some(PairingReason::StreamBytes));
        assert_eq!(migration.downtime.as_ref().unwrap().total_ns, 50 * MS + ARC);
    }
    let pids: Vec<_> = document.migrations.iter().map(|one| one.source.as_ref().unwrap().pid).collect();
    assert_eq!(pids, [100, 300]);
}

#[test]
fn two_vms_with_as_many_bytes() {
    let document = traced(&[
        leave(device(0xd1, "a", 100), 0, MIB),
        leave(device(0xd3, "c", 300), 3 * MS, MIB).other_files(),
        arrive(device(0xd4, "d", 400), 3 * MS, MIB).other_files(),
        arrive(device(0xd2, "b", 200), 0, MIB),
    ]);
    check(&document);
    // Devices that began together are paired; the document says that the bytes do not decide.
    assert_eq!(names(&document), [[Some("a"), Some("b")], [Some("c"), Some("d")]]);
    let by: Vec<_> = document.migrations.iter().map(|one| one.devices[0].paired_by).collect();
    assert_eq!(by, [Some(PairingReason::Order), Some(PairingReason::Order)]);
}

#[test]
fn one_device_fails_and_the_other_is_taken_back() {
    let failing = read_source().until(200 * MS).set(&[STOP_COPY, STOP, RUNNING_P2P, RUNNING], 0, -1);
    let fails = device(0xd3, "c", SOURCE)
        .thread(SOURCE, 413)
        .until(10 * MS)
        .set(&[RUNNING, PRE_COPY], FROM + 0x100, 32)
        .until(100 * MS)
        .set(&[PRE_COPY, PRE_COPY_P2P], 0, -1)
        .until(110 * MS)
        .set_fails(&[PRE_COPY_P2P, STOP_COPY], -5)
        .until(205 * MS)
        .set(&[PRE_COPY_P2P, RUNNING_P2P, RUNNING], 0, -1);
    let document = traced(&[failing, fails]);
    check(&document);
    let migration = one(&document);
    assert_eq!((migration.verdict, migration.recovered), (MigrationVerdict::Failed, Some(true)));
    let verdicts: Vec<_> = migration.devices.iter().map(|device| device.verdict).collect();
    assert_eq!(verdicts, [MigrationVerdict::Cancelled, MigrationVerdict::Failed]);
    assert_eq!(downtime(&document).total_ns, 105 * MS + 2 * ARC + 500);
}

#[test]
fn there_and_back_on_one_host() {
    let away = 1_000 * MS;
    let a = leave(device(0xd1, "a", 100), 0, MIB).close(1).thread(300, 300).open(1);
    let b = arrive(device(0xd2, "b", 200), 0, MIB);
    let a = arrive(a, away, MIB);
    let b = leave(b, away, MIB);
    let document = traced(&[a, b]);
    check(&document);
    assert_eq!(names(&document), [[Some("a"), Some("b")], [Some("b"), Some("a")]]);
    for migration in &document.migrations {
        assert_eq!(migration.verdict, MigrationVerdict::Completed);
        assert_eq!(migration.devices[0].paired_by, Some(PairingReason::StreamBytes));
        assert_eq!(migration.downtime.as_ref().unwrap().total_ns, 50 * MS + ARC);
        assert_eq!(codes(migration), [""; 0]);
    }
}
