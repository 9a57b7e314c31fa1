//! What the lab's scenario programs share, and the oracles their evidence is read with.

pub mod errno;
pub mod hisi;
pub mod migrate;
pub mod oracle;
pub mod schema;
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
