//! Sources of records: the kernel, a recording, or one inventory.

mod batches;
pub mod clock;
mod handed;
pub mod live;
mod loads;
mod notices;
pub mod recording;
pub mod snapshot;
mod taken;
