//! What one must know who exercises a VF.

use super::WANTED;
use crate::driver::manners::Manners;

/// Never run on hardware: see docs/drivers.md.
pub(super) static MANNERS: Manners = Manners {
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
