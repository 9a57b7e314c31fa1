//! Text for people and programs: numbers with units, names made safe for terminals and JSON, and JSON Schemas.

pub mod advice;
pub mod human;
pub mod schema;
#[cfg(test)]
pub(crate) mod schema_check;
#[cfg(test)]
pub(crate) mod test_folder;
pub mod visible;
pub mod width;
