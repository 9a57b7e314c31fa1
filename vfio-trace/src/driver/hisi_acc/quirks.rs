//! Facts about the driver that `exercise` needs.

use super::WANTED;
use crate::driver::quirks::{CommandChannel, DriverQuirks, ImageIdentity};

/// Facts from drivers/vfio/pci/hisilicon/hisi_acc_vfio_pci.c and drivers/crypto/hisilicon/qm.c, 6.12 and 7.3.
pub(super) static QUIRKS: DriverQuirks = DriverQuirks {
    driver: WANTED.module,
    channel: Some(CommandChannel {
        name: "mailbox (QM_MB_CMD_SEND_BASE)",
        region: 2,
        offset: 0x300,
        busy: 1 << 13,
        absent: u32::MAX,
    }),
    identity: Some(ImageIdentity { name: "dev_id", offset: 12, length: 4 }),
    dangers: &[(
        "faults",
        "the driver may load another device's image into the VF: it does so when it has refused the image (EFAULT) and is \
         then asked to leave RESUMING, and it checks no image after it has once accepted one since the device was opened \
         (before Linux 7.0, since the module was loaded)",
    )],
    debug: Some("hisi_acc/debug"),
    closed_in_resuming: None,
};
