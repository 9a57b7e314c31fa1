//! Where records come from.

pub mod live;
pub mod snapshot;
