//! Tests of the comparison of streams, and of the choice of their two ends.

use super::*;
use crate::driver::{PluginDevices as _, hisi_acc::HisiDevices};

/// Loads an image into the device from the current process, and returns the codes found.
fn arrives(fed: &mut PluginHarness, length: u64, other: &[(&str, u64)]) -> Vec<String> {
    fed.feed([arc(S::STOP, S::RESUMING, 0), EventData::Write(io(length, 0)), resuming(length, other)]);
    fed.feed([arc(S::RESUMING, S::STOP, 0)]);
    fed.codes()
}

/// Makes a harness in which device 1 was saved and process 7 has read it.
fn source(other: &[(&str, u64)]) -> PluginHarness {
    let mut fed = fed();
    fed.feed(saved(other)).feed([EventData::Read(io(176, 0))]);
    fed.codes();
    fed
}

const CHANGED: [(&str, u64); 1] = [("vf_data.cqc_dma", 3)];

#[test]
fn who_read_and_wrote_has_both_ends() {
    assert_eq!(arrives(source(&[]).on(2), 176, &[]), ["hisi_acc/images-equal"]);
    assert_eq!(arrives(source(&[]).on(2), 176, &CHANGED), ["hisi_acc/images-differ"]);
    assert_eq!(arrives(source(&[]).on(2), 100, &[]), ["hisi_acc/images-differ"]);
}

#[test]
fn what_another_process_sent_is_another_stream() {
    // A host that has sent one VM receives another one.
    assert_eq!(arrives(source(&[]).on(2).by(8), 176, &CHANGED), [""; 0]);
    // Equal bytes need no other proof.
    assert_eq!(arrives(source(&[]).on(2).by(8), 176, &[]), ["hisi_acc/images-equal"]);
    // No process has read it, or the process is not known.
    let mut fed = fed();
    fed.feed(saved(&[]));
    assert_eq!(arrives(fed.on(2), 176, &CHANGED), [""; 0]);
    assert_eq!(arrives(source(&[]).on(2).by(0), 176, &CHANGED), [""; 0]);
}

#[test]
fn a_number_of_a_process_is_used_again() {
    let mut fed = source(&[]);
    fed.feed([close(0)]);
    assert_eq!(arrives(fed.on(2), 176, &CHANGED), [""; 0]);
}

#[test]
fn a_device_is_not_compared_with_itself() {
    let mut fed = source(&[]);
    fed.feed([arc(S::STOP_COPY, S::STOP, 0)]);
    assert_eq!(arrives(&mut fed, 176, &CHANGED), [""; 0]);
    assert_eq!(arrives(&mut fed, 176, &[]), [""; 0]);
}

#[test]
fn match_data_is_not_compared_with_all() {
    assert_eq!(arrives(source(&[]).on(2), 40, &[]), ["hisi_acc/nothing-loaded"]);
    let mut fed = fed();
    fed.feed([arc(S::RUNNING, S::PRE_COPY, 0), saving(40, &[]), EventData::Read(io(40, 0))]);
    assert_eq!(arrives(fed.on(2), 176, &CHANGED), [""; 0]);
    assert_eq!(arrives(fed.on(2), 40, &[]), ["hisi_acc/nothing-loaded", "hisi_acc/images-equal"]);
    // From another process, it may be another VM's.
    assert_eq!(arrives(fed.on(3).by(8), 40, &[]), ["hisi_acc/nothing-loaded"]);
}

#[test]
fn match_data_has_no_hash() {
    // It is the same in every attempt of a VF, and for VFs of the same number on other hosts.
    let hash = |length| {
        let EventData::Image(image) = saving(length, &[]) else { panic!() };
        MigfImage::new(image, 0).stream().map(|hash| hash.bytes)
    };
    assert_eq!([8, 40, 41, 176].map(hash), [None, None, Some(41), Some(176)]);
}

#[test]
fn an_image_is_given_once() {
    let mut fed = source(&[]);
    assert_eq!(arrives(fed.on(2), 176, &[]), ["hisi_acc/images-equal"]);
    assert_eq!(arrives(fed.on(2), 176, &CHANGED), [""; 0]);
}

#[test]
fn of_several_that_were_read_none_must_be_it() {
    let mut fed = source(&[]);
    fed.on(3).feed(saved(&[("vf_data.sqc_dma", 9)])).feed([EventData::Read(io(176, 0))]);
    fed.codes();
    assert_eq!(arrives(fed.on(2), 176, &CHANGED), [""; 0]);
    assert_eq!(arrives(fed.on(4), 176, &[]), ["hisi_acc/images-equal"]);
}

#[test]
fn what_has_not_arrived_yet_is_not_missing() {
    let mut fed = source(&[]);
    fed.on(2).feed([pci(0xa251), arc(S::STOP, S::RESUMING, 0), EventData::Write(io(100, 14)), core(&[])]);
    fed.feed([resuming(100, &[])]);
    assert!(!fed.codes().iter().any(|code| code.starts_with("hisi_acc/images")));
}

#[test]
fn differences_keep_secrets() {
    let mut fed = source(&[]);
    let other = [("vf_data.cqc_dma", 3), ("vf_data.eqe_dma", 0), ("vf_data.qp_base", 65)];
    fed.on(2).feed([arc(S::STOP, S::RESUMING, 0), EventData::Write(io(176, 0)), resuming(176, &other)]);
    fed.texts();
    fed.feed([arc(S::RESUMING, S::STOP, 0)]);
    assert_eq!(
        fed.texts().last().unwrap(),
        "What arrived is not what 0000:75:00.1 has saved, from which the same process had read: qp_base (0x40 there, \
         0x41 here), eqe_dma (redacted there, null here), cqc_dma (redacted there, redacted here)."
    );
}

#[test]
fn what_the_writer_has_not_read_is_not_what_it_wrote() {
    // VFs that are set up alike differ in few bytes: an image that was changed on the way easily equals another VF's.
    let mut fed = source(&[]);
    fed.on(3).feed(saved(&CHANGED));
    fed.codes();
    assert_eq!(arrives(fed.on(2), 176, &CHANGED), ["hisi_acc/images-differ"]);
    // The same after the image that the process has read was assigned.
    assert_eq!(arrives(&mut fed, 176, &CHANGED), [""; 0]);
}

#[test]
fn what_a_reader_has_of_another_file_is_not_the_image() {
    // The second image was lost, and the process has read that one.
    let mut fed = source(&[]);
    fed.feed([arc(S::STOP_COPY, S::STOP, 0), arc(S::STOP, S::STOP_COPY, 0), EventData::Read(io(176, 0))]);
    fed.codes();
    assert_eq!(arrives(fed.on(2), 176, &CHANGED), [""; 0]);
}

#[test]
fn a_copy_that_the_driver_changes_is_not_what_arrived() {
    let v1 = ("vf_data.acc_magic", MAGIC_V1);
    let hashed = |fed: &mut PluginHarness, data: EventData| {
        let EventData::Image(image) = fed.take(data).data else { panic!() };
        image.stream.map(|stream| stream.bytes)
    };
    let mut fed = source(&[v1]);
    assert_eq!(hashed(&mut fed, saving(176, &[v1])), Some(176));
    fed.on(2).feed([core(&[]), arc(S::STOP, S::RESUMING, 0)]);
    assert_eq!(hashed(&mut fed, resuming(176, &[])), Some(176));
    // For version 1 the driver computes two addresses anew.
    let anew = [v1, ("vf_data.eqe_dma", 5), ("vf_data.aeqe_dma", 6)];
    assert_eq!(hashed(&mut fed, resuming(176, &anew)), None);
    assert_eq!(arrives(&mut fed, 176, &anew), ["hisi_acc/images-equal"]);
    // Linux 6.1 puts the second write where the first one was.
    fed.on(3).feed([old_core(0), arc(S::STOP, S::RESUMING, 0), EventData::Write(io(100, 0)), old_core(0)]);
    assert_eq!(hashed(&mut fed, resuming(100, &[])), Some(100));
    fed.feed([EventData::Write(io(76, 0)), old_core(0)]);
    assert_eq!(hashed(&mut fed, resuming(176, &[])), None);
}

#[test]
fn an_image_stays_given_when_other_devices_are_forgotten() {
    let given = |devices: &HisiDevices| devices.given.keys().copied().collect::<Vec<_>>();
    let mut devices = HisiDevices::default();
    // Device 1 saved its second file, which went into device 3; device 4 its ninth, into device 2.
    devices.given.insert(1, (2, (3, 1)));
    devices.given.insert(4, (9, (2, 1)));
    devices.forget(2);
    assert_eq!(given(&devices), [1, 4]);
    devices.forget(4);
    assert_eq!(given(&devices), [1]);
}
