//! Tests of the pairs: the source that belongs to each destination.

use super::*;
use crate::report::document::{MigrationSide, PairingReason};

fn two_alike() -> HostHistory {
    history(&[
        leave(device(0xd1, "a", SOURCE), 0, MIB),
        leave(device(0xd3, "c", SOURCE).thread(SOURCE, 450), 2 * MS, MIB).other_files(),
        arrive(device(0xd2, "b", DESTINATION), 0, MIB),
        arrive(device(0xd4, "d", DESTINATION).thread(DESTINATION, 850), 2 * MS, MIB).other_files(),
    ])
}

fn paired(pairs: &[(&str, &str)]) -> Vec<(String, String, PairingReason)> {
    let pairs = pairs.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect();
    let document = document(&[two_alike()], &DocumentOptions { pairs, ..DocumentOptions::default() });
    check(&document);
    let name = |side: &Option<MigrationSide>| {
        side.as_ref().and_then(|side| document.devices[side.device as usize].name.clone()).unwrap_or_default()
    };
    let devices = document.migrations.iter().flat_map(|migration| &migration.devices);
    devices
        .filter_map(|device| Some((name(&device.source), name(&device.destination), device.paired_by?)))
        .collect()
}

fn pair(from: &str, to: &str, by: PairingReason) -> (String, String, PairingReason) {
    (from.to_owned(), to.to_owned(), by)
}

#[test]
fn as_many_bytes_on_two_devices() {
    // The last pair is not more certain than the first, although nothing else is left for it.
    assert_eq!(paired(&[]), [pair("a", "b", PairingReason::Order), pair("c", "d", PairingReason::Order)]);
}

#[test]
fn the_user_knows_better() {
    let option = PairingReason::Option;
    assert_eq!(paired(&[("a", "d"), ("c", "b")]), [pair("a", "d", option), pair("c", "b", option)]);
    // Names that do not exist change nothing.
    assert_eq!(paired(&[("x", "y")]), paired(&[]));
    // The user's pair leaves the others to each other, and nothing else.
    assert_eq!(paired(&[("a", "d")]), [pair("a", "d", option), pair("c", "b", PairingReason::StreamBytes)]);
}

#[test]
fn what_is_known_of_one_device_is_known_of_its_vm() {
    let others = |script: RecordScript| script.other_files().other_files();
    let history = history(&[
        leave(device(0xd1, "a", SOURCE), 0, 8192),
        leave(device(0xd3, "c", SOURCE).thread(SOURCE, 450), 2 * MS, MIB).other_files(),
        arrive(device(0xd2, "b", DESTINATION), 0, 8192),
        arrive(device(0xd4, "d", DESTINATION).thread(DESTINATION, 850), 2 * MS, MIB).other_files(),
        // Another VM has as many bytes as its second device.
        others(leave(device(0xd5, "e", 500), 3 * MS, MIB)),
        others(arrive(device(0xd6, "f", 900), 3 * MS, MIB)),
    ]);
    let options = |pairs: &[(&str, &str)]| {
        let pairs = pairs.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect();
        DocumentOptions { pairs, ..DocumentOptions::default() }
    };
    let document = document(&[history], &options(&[("a", "b")]));
    check(&document);
    let vm = document.migrations.iter().find(|migration| migration.devices.len() == 2).unwrap();
    let by: Vec<_> = vm.devices.iter().map(|device| device.paired_by).collect();
    assert_eq!(by, [Some(PairingReason::Option), Some(PairingReason::StreamBytes)]);
    let downtime = vm.devices[1].downtime.as_ref().unwrap();
    assert_eq!((downtime.total_ns, downtime.bound), (50 * MS + ARC, DowntimeBound::Exact), "{downtime:?}");
}

#[test]
fn drivers_have_to_fit() {
    let other = RecordScript::new(0xd2).thread(DESTINATION, DESTINATION).device("b", "mlx5", 7).open(1);
    let document = traced(&[whole_source(), arrive(other, 0, MIB)]);
    check(&document);
    assert_eq!(document.migrations.len(), 2);
}

#[test]
fn cut_off_streams_are_paired_by_time() {
    let source = leaving(7)
        .until(10 * MS)
        .set(&[RUNNING, PRE_COPY], FROM, 31)
        .until(20 * MS)
        .read(FROM, 1 << 20, MIB, 0)
        .until(90 * MS)
        .set(&[PRE_COPY, RUNNING], 0, -1);
    let destination = arriving(7)
        .until(5 * MS)
        .set(&[RUNNING, RUNNING_P2P, STOP, RESUMING], TO, 40)
        .until(30 * MS)
        .write(TO, 32 << 10, 0)
        .until(92 * MS)
        .close(1);
    let document = traced(&[source, destination]);
    check(&document);
    assert_eq!(one_device(&document).paired_by, Some(PairingReason::Time));
    assert_eq!((one(&document).verdict, one(&document).recovered), (MigrationVerdict::Cancelled, Some(true)));
}

#[test]
fn a_later_one_has_to_be_whole() {
    // 20 s later, and not all of it: another stream.
    let late = 20_000 * MS;
    let document = traced(&[whole_source(), arrive(arriving(7), late, MIB - 1)]);
    check(&document);
    assert_eq!(document.migrations.len(), 2);
    // Minutes later: not known.
    let document = traced(&[whole_source(), arrive(arriving(7), 20 * late, MIB)]);
    assert_eq!(document.migrations.len(), 2);
}

/// Makes a device that wrote all data before it was read.
fn stranger(nr: u32, at: u64) -> RecordScript {
    let script = device(0x1000 + u64::from(nr), &format!("s{nr}"), 5_000 + nr);
    let file = 0x2000 + u64::from(nr);
    script
        .until(at)
        .set(&[RUNNING, RUNNING_P2P, STOP, RESUMING], file, 40)
        .until(at + 3 * MS)
        .write(file, 24, 0)
        .until(at + 4 * MS)
        .write(file, MIB, 24)
        .until(140 * MS)
        .set(&[RESUMING, STOP, RUNNING_P2P, RUNNING], 0, -1)
}

#[test]
fn nothing_is_written_before_it_is_read() {
    // With many of them, none is left over as half of a migration.
    let strangers: Vec<RecordScript> =
        (0..30).map(|nr| stranger(nr, 9 * MS + u64::from(nr) * MS / 100)).collect();
    let mut scripts = vec![whole_source()];
    scripts.extend(strangers.iter().take(30).cloned());
    let document = traced(&scripts);
    check(&document);
    assert_eq!(document.migrations.len(), 31);
    assert!(document.migrations.iter().all(|one| one.source.is_none() || one.destination.is_none()));
    // Sides that are no pair take no place of others, in any number.
    let mut scripts = vec![whole_source(), whole_destination()];
    scripts.extend(strangers);
    let document = traced(&scripts);
    check(&document);
    assert_eq!(document.migrations.len(), 31);
    let whole = document.migrations.iter().find(|one| one.source.is_some() && one.destination.is_some());
    assert_eq!(whole.unwrap().destination.as_ref().unwrap().pid, DESTINATION);
}

#[test]
fn one_of_several_that_fit_is_no_exact_one() {
    let document = traced(&[
        leave(device(0xd1, "a", SOURCE), 0, MIB),
        leave(device(0xd3, "c", 500), 2 * MS, MIB).other_files(),
        arrive(device(0xd2, "b", DESTINATION), 0, MIB),
        arrive(device(0xd4, "d", 900), 2 * MS, MIB).other_files(),
    ]);
    check(&document);
    assert_eq!(document.migrations.len(), 2);
    for migration in &document.migrations {
        assert_eq!(migration.devices[0].paired_by, Some(PairingReason::Order));
        let downtime = migration.downtime.as_ref().unwrap();
        assert_eq!((downtime.bound, downtime.uncertainty_ns), (DowntimeBound::About, None));
        assert!(downtime.why.as_ref().unwrap().contains("another one fits as well"));
    }
}

#[test]
fn a_device_by_order_has_no_exact_downtime_and_its_vm_has() {
    let document = documented(&[two_alike()]);
    check(&document);
    for device in &one(&document).devices {
        assert_eq!(device.paired_by, Some(PairingReason::Order));
        let downtime = device.downtime.as_ref().unwrap();
        assert_eq!((downtime.bound, downtime.uncertainty_ns), (DowntimeBound::About, None));
        assert!(downtime.why.as_ref().unwrap().contains("another device fits as well"), "{downtime:?}");
    }
    // From the first that stops to the last that runs, for any pairing.
    let downtime = downtime(&document);
    assert_eq!((downtime.total_ns, downtime.bound), (52 * MS + ARC, DowntimeBound::Exact));
}

#[test]
fn a_stream_with_bytes_unseen_is_not_whole() {
    // 100 bytes went over each fd unseen: a different number of bytes shows nothing.
    let source = read_source().until(200 * MS).set(&[STOP_COPY, STOP], 0, -1).release(FROM, 24 + MIB + 100);
    let document = traced(&[source, arrive(arriving(7), 0, MIB + 100)]);
    check(&document);
    assert_eq!(one_device(&document).paired_by, Some(PairingReason::Time));
}
