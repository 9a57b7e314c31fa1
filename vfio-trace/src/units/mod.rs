//! Text for people and programs: numbers with units, names made safe for terminals and JSON, and JSON Schemas.

pub mod human;
pub mod schema;
pub mod visible;
