//! The library behind `vfio-trace`: from what the kernel offers (layer 1) to the verbs of the command line (layer 9).
//!
//! A module imports only from the layers below it; `docs/design.md` has the map, and a test keeps it so.

pub mod cli;
pub mod doctor;
pub mod driver;
pub mod event;
pub mod exercise;
pub mod kernel;
pub mod mount;
pub mod output;
pub mod pipeline;
pub mod probe;
pub mod recording;
pub mod report;
pub mod source;
pub mod state;
pub mod sys;
pub mod units;
