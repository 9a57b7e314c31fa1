//! Where records come from.

mod batches;
pub mod clock;
pub mod live;
mod loads;
pub mod recording;
pub mod snapshot;
