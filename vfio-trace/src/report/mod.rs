//! Turns events into a document: histories of hosts, the migrations in them, and the document that describes them.
//! Pure: no clock, no I/O; the same events give the same document on any machine.

pub mod document;
mod history;
mod limits;
mod migrations;
pub(crate) mod windows;

pub use self::{
    history::HostHistory,
    limits::ModelLimits,
    migrations::{ClockShift, DocumentOptions, document, document_and_shifts, host_label},
};
