//! vfio-trace's library: from what the kernel offers (floor 1) to the verbs of the command line (floor 7).
//!
//! A room imports only from the floors below it; `docs/design.md` has the map.

pub mod cli;
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
