//! Tests of the driver's files, byte for byte.

use super::*;
use crate::driver::ViewStyle;

/// Lines of a dump of [`GOOD`].
const DUMP: &str = "\
P00000000: de de ca de ed fe cc aa 40 00 00 00 51 a2 00 00
P00000010: 00 00 00 00 40 00 00 00 00 00 00 00 01 00 00 00
P00000020: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
P00000030: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
P00000040: 04 03 02 01 04 03 02 01 04 03 02 01 04 03 02 01
P00000050: 04 03 02 01 04 03 02 01 04 03 02 01 00 00 00 00
P00000060: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
P00000070: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
P00000080: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
";

fn dump(prefix: &str) -> String {
    DUMP.replace('P', prefix)
}

fn migrated() -> PluginHarness {
    let mut fed = fed();
    fed.feed(saved(&[])).feed([arc(S::STOP_COPY, S::STOP, 0)]);
    fed
}

#[test]
fn nothing_was_seen() {
    let fed = PluginHarness::new(&HisiAccPlugin);
    assert_eq!(fed.view("hisi_acc/attr"), "error: nothing of the driver was seen");
    let mut fed = fed;
    fed.feed([open()]);
    assert_eq!(fed.view("hisi_acc/nothing"), "error: there is no file hisi_acc/nothing");
    assert!(fed.view("hisi_acc/attr").starts_with("error: the driver's structure could not be read"));
    assert_eq!(fed.view("hisi_acc/migf_data"), "device not migrated!\n");
    assert_eq!(fed.view("hisi_acc/data"), "device not migrated!\n");
    assert!(fed.view("hisi_acc/cmd_state").starts_with("error: no mailbox command was seen"));
    assert_eq!(fed.view("hisi_acc/image"), "error: no migration file was seen");
}

#[test]
fn attr() {
    let mut fed = fed();
    let text = |state, ready, valid, size| {
        format!(
            "acc device:\ndevice  state: {state}\ndevice  ready: {ready}\ndata    valid: {valid}\ndata     size: {size}\n"
        )
    };
    assert_eq!(fed.view("hisi_acc/attr"), text(2, 0, 0, 0));
    fed.feed(saved(&[]));
    assert_eq!(fed.view("hisi_acc/attr"), text(3, 0, 0, 176));
    fed.feed([core(&[("mig_state", 1), ("vf_qm_state", 1)]), arc(S::STOP_COPY, S::STOP, 0)]);
    assert_eq!(fed.view("hisi_acc/attr"), text(1, 1, 0, 176));
    let annotated = fed.styled("hisi_acc/attr", ViewStyle::ByName, true);
    assert!(
        annotated.ends_with(&text(1, 1, 0, 176)) && annotated.starts_with("# device state"),
        "{annotated}"
    );
    let mainline = fed.styled("hisi_acc/attr", ViewStyle::Mainline, false);
    assert_eq!(mainline, "guest driver load: 1\ndata size: 176\n");
}

#[test]
fn data_of_the_last_migration() {
    let fed = migrated();
    let mainline = format!("{}migrate data length: 176\n", dump("Mig Data:"));
    assert_eq!(fed.view("hisi_acc/migf_data"), mainline);
    assert_eq!(fed.view("hisi_acc/data"), dump("Mig Data:"));
    assert_eq!(fed.styled("hisi_acc/data", ViewStyle::Mainline, false), mainline);
    assert_eq!(fed.styled("hisi_acc/migf_data", ViewStyle::V9, false), dump("Mig Data:"));
    let annotated = fed.styled("hisi_acc/migf_data", ViewStyle::ByName, true);
    assert_eq!(annotated, format!("# saved by session 1, at 5.007000 s (CLOCK_MONOTONIC)\n{mainline}"));
}

#[test]
fn a_migration_that_is_not_over_is_no_last_one() {
    let mut fed = fed();
    fed.feed(saved(&[]));
    assert_eq!(fed.view("hisi_acc/migf_data"), "device not migrated!\n");
    // Less than the match data does not count as a migration either.
    fed.feed([saving(20, &[]), arc(S::STOP_COPY, S::STOP, 0)]);
    assert_eq!(fed.view("hisi_acc/migf_data"), "device not migrated!\n");
    fed.feed([saving(40, &[]), reset()]);
    assert!(fed.view("hisi_acc/migf_data").ends_with("migrate data length: 40\n"));
}

#[test]
fn the_file_that_is_ended_last_is_the_last() {
    let mut fed = fed();
    fed.feed([resuming(176, &[("vf_data.qp_num", 7)]), saving(176, &[]), pci_reset()]);
    let annotated = fed.styled("hisi_acc/migf_data", ViewStyle::ByName, true);
    assert!(annotated.starts_with("# saved by"), "{annotated}");
    // Ended by the driver: the file that it still points to no longer has its data.
    fed.feed([saving(0, &[("disabled", 1)]), arc(S::STOP_COPY, S::STOP, 0)]);
    assert_eq!(fed.styled("hisi_acc/migf_data", ViewStyle::ByName, true), annotated);
    fed.feed([resuming(176, &[]), close(1)]);
    let annotated = fed.styled("hisi_acc/migf_data", ViewStyle::ByName, true);
    assert!(annotated.starts_with("# loaded by session 1, at 5."), "{annotated}");
}

#[test]
fn only_the_last_close_ends_a_file() {
    let mut fed = fed();
    let copied = |layout: &Arc<CaptureNote>| EventData::Image(file(layout, CaptureMoment::Close, 176, &[]));
    fed.feed([copied(&FILE), close(2), copied(&FILE)]);
    assert_eq!(fed.view("hisi_acc/data"), "device not migrated!\n");
    // Copied before or after the event of the close.
    fed.feed([close(1), copied(&FILE)]);
    assert_eq!(fed.view("hisi_acc/data"), dump("Mig Data:"));
    assert_eq!(fed.view("hisi_acc/dev_data"), "device not opened!\n");
    assert_eq!(fed.view("hisi_acc/cmd_state"), "device not opened!\n");
}

#[test]
fn the_drivers_own_copy_counts() {
    let mut fed = fed();
    let copy =
        |length, other: &[(&str, u64)]| EventData::Image(file(&DEBUG, CaptureMoment::Seen, length, other));
    fed.feed([copy(0, &[])]);
    assert_eq!(fed.view("hisi_acc/data"), "device not migrated!\n");
    fed.feed([copy(176, &[])]);
    assert_eq!(fed.view("hisi_acc/data"), dump("Mig Data:"));
    // The same data as was seen: the provenance of the seen image is better.
    let mut fed = migrated();
    let before = fed.styled("hisi_acc/data", ViewStyle::ByName, true);
    fed.feed([copy(176, &[])]);
    assert_eq!(fed.styled("hisi_acc/data", ViewStyle::ByName, true), before);
    fed.feed([copy(176, &[("vf_data.qp_num", 0x41)])]);
    assert_eq!(fed.view("hisi_acc/data"), dump("Mig Data:").replacen(" 40 ", " 41 ", 1));
}

#[test]
fn registers_as_they_were_saved() {
    let mut fed = fed();
    assert!(fed.view("hisi_acc/dev_data").starts_with("error: the registers were not seen"));
    fed.feed(saved(&[]));
    // The match data does not come from registers, and mainline leaves it out.
    let zeros = |at: u32| format!("Dev Data:{at:08x}: {}\n", ["00"; 16].join(" "));
    let rows = dump("Dev Data:");
    let rest: Vec<&str> = rows.lines().skip(2).collect();
    let wanted =
        format!("{}{}{}\nguest driver load: 0\ndata size: 176\n", zeros(0), zeros(16), rest.join("\n"));
    assert_eq!(fed.view("hisi_acc/dev_data"), wanted);
    let annotated = fed.styled("hisi_acc/dev_data", ViewStyle::ByName, true);
    assert_eq!(
        annotated,
        format!(
            "# registers as the driver read them at STOP_COPY, not as they are now\n\
             # saved by session 1, at 5.007000 s (CLOCK_MONOTONIC)\n{wanted}"
        )
    );
}

#[test]
fn the_last_mailbox_command() {
    let mut fed = fed();
    fed.feed([mailbox(0xe, 0, 0)]);
    assert_eq!(fed.view("hisi_acc/cmd_state"), "mailbox cmd channel ready!\n");
    fed.feed([mailbox(4, 1, ETIMEDOUT)]);
    assert_eq!(fed.view("hisi_acc/cmd_state"), "mailbox cmd channel not ready!\n");
    assert_eq!(
        fed.styled("hisi_acc/cmd_state", ViewStyle::ByName, true),
        "# last command seen: save SQC address (mailbox 0x4 SQC_BT read): ETIMEDOUT, at 5.005000 s (CLOCK_MONOTONIC)\n\
         mailbox cmd channel not ready!\n"
    );
}

#[test]
fn an_image_for_people() {
    let fed = migrated();
    assert_eq!(
        fed.view("hisi_acc/image"),
        "\
image           of the last migration  session 1, save, made at set_state
total_length    176                    complete
disabled        0
acc_magic       0xaaccfeeddecadede     version 2: drivers since 6.16
qp_num          0x40                   64 queue pairs of the VF
dev_id          0xa251                 ZIP VF
que_iso_cfg     0x0                    queue isolation, must be equal on both hosts
qp_base         0x40                   first queue of the VF
vf_qm_state     0x0                    0 = guest driver loaded
major_ver       0x1                    must be 1
minor_ver       0x0
qm_rsv_state    0x0 0x0
aeq_int_mask    0x0
eq_int_mask     0x0
ifc_int_source  0x0
ifc_int_mask    0x0
ifc_int_set     0x0
page_size       0x0
qm_eqc_dw       0x1020304 0x1020304 0x1020304 0x1020304 0x1020304 0x1020304 0x1020304
qm_aeqc_dw      0x0 0x0 0x0 0x0 0x0 0x0 0x0
qm_rsv_regs     0x0 0x0 0x0 0x0 0x0
padding         0x0
eqe_dma         redacted               event queue
aeqe_dma        redacted               asynchronous event queue
sqc_dma         redacted               send queue contexts
cqc_dma         redacted               completion queue contexts
"
    );
}

#[test]
fn addresses_are_shown_when_asked_for() {
    let mut fed = fed();
    let mut shown = file(&FILE, CaptureMoment::SetState, 176, &[("vf_data.sqc_dma", 0)]);
    shown.reveal = true;
    fed.feed([EventData::Image(shown)]);
    let text = fed.view("hisi_acc/image");
    assert!(text.starts_with("image           of the file in use"), "{text}");
    assert!(text.contains("eqe_dma         0x700010000 "), "{text}");
    assert!(text.contains("null: the destination will not start the VF"), "{text}");
    fed.feed([saving(40, &[])]);
    let text = fed.view("hisi_acc/image");
    assert!(!text.contains("0x70001"), "{text}");
    assert!(text.contains("cqc_dma         redacted             not saved"), "{text}");
}
