//! Recordings: raw records in the order in which they came, and everything that is needed to read them anywhere.
//!
//! docs/formats.md describes the file. A recording is a sequence of blocks. Each has its own checksum and number, so
//! that a damaged or cut block does not affect the others.

mod block;
mod damage;
mod header;
mod index;
mod input;
mod item;
mod merge;
mod new_file;
mod open_error;
mod output;
mod output_error;
mod patient;
mod reader;
mod writer;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;

pub use self::{
    damage::RecordingDamage,
    header::{ClockSample, DriverFacts, LayoutMember, PartHeader, SCHEMA},
    index::{IndexEntry, IndexError, read_index},
    item::{BlockItem, EndReason, PartEnd},
    merge::{MERGE_SCHEMA, MergeNote},
    new_file::{NewFile, OpenAttempt, OutputTarget, refuse_input},
    open_error::PartOpenError,
    output::{PartOutput, RecordingOutput},
    output_error::{OutputError, room_advice},
    patient::{AT_ONCE, StopFlag, StoppableFile, TRY_AGAIN, may_wait, ready, stdout},
    reader::{ReaderEntry, RecordingReader},
    writer::{PartPreamble, PartWriter},
};
