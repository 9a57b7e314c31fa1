//! Facts about the driver that `exercise` needs.

use super::WANTED;
use crate::driver::quirks::DriverQuirks;

/// Facts from the source only. Never run on hardware: see docs/drivers.md.
pub(super) static QUIRKS: DriverQuirks = DriverQuirks {
    driver: WANTED.module,
    channel: None,
    identity: None,
    dangers: &[(
        "faults",
        "what the firmware makes of a damaged image is not known, and loading is its work: it may need the device's reset",
    )],
    debug: None,
    closed_in_resuming: None,
};
