//! Formats events for people and programs: text, ndjson, the tables at the end. Everything here returns strings or
//! writes into an `io::Write` of the caller.

mod devices;
mod doctor;
pub mod exercise;
pub mod export;
mod html;
mod layout;
mod line;
mod ndjson;
mod report;
mod summary;
mod table;
mod text;

pub use self::{
    devices::{DeviceRow, HolderRow, ListLosses, RecordingFacts, device_table, devices_json, list_schema},
    doctor::{doctor_json, doctor_text},
    html::html,
    ndjson::Ndjson,
    report::report_text,
    summary::{probe_table, summary_text},
    table::{closing_json, closing_table},
    text::{TextFormatter, TextOptions, TimeFormat},
};

#[cfg(test)]
mod terminal;
#[cfg(test)]
mod tests;
