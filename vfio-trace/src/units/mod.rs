//! Numbers with units, as people read and write them.

pub mod human;
pub mod visible;
