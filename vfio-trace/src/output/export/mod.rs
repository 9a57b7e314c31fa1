//! Exports of a document for other programs, written into any [`io::Write`](std::io::Write). docs/exports.md describes
//! all of them.

mod chrome;
mod csv;
mod json;
mod lanes;
mod perfetto;
mod protos;
mod tracks;
mod words;

pub use self::{
    chrome::write_chrome,
    csv::{CsvTable, write_csv},
    json::write_json,
    perfetto::write_perfetto,
};

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
pub(crate) use self::perfetto::perfetto_strings;
#[cfg(test)]
mod tests;
