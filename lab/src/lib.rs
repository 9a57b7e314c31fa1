//! Library of the lab's scenario programs, and the oracles that read their evidence.

pub mod errno;
pub mod hisi;
pub mod migrate;
pub mod oracle;
pub mod states;
pub mod step;

mod clock;
mod evidence;
mod kernel;
mod kmsg;
mod mdev;
mod proxy;
mod qemu;
mod qmp;
mod report;
mod uapi;
mod wait;
