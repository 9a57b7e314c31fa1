//! vfio-trace's library: from what the kernel offers (floor 1) to the verbs of the command line (floor 7).
//!
//! A room imports only from the floors below it; `docs/design.md` has the map.

pub mod event;
pub mod kernel;
pub mod sink;
