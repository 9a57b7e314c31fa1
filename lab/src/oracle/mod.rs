//! Reads the evidence back: what mtty's debug messages and QEMU's events say happened. Pure, for tests to compare with.

mod mtty;
mod qmp;

pub use mtty::{At, MttyArc, MttyDevice, MttyEvent, MttyLog, MttyRead, MttyWrite};
pub use qmp::{QmpEvent, QmpLog};
