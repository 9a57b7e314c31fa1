//! Where records come from.

mod batches;
pub mod clock;
pub mod live;
pub mod recording;
pub mod snapshot;
