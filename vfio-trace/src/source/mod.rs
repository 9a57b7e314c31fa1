//! Where records come from.

pub mod clock;
pub mod live;
pub mod recording;
pub mod snapshot;
