//! Text for people: numbers with units, and names made safe for terminals and JSON.

pub mod human;
pub mod visible;
