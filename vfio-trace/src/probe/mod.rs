//! Probes: the plan made from kernel facts, the programs, attaching, and what became of each.

mod diagnose;
mod kprobes;
mod manager;
mod plan;
mod programs;

pub use manager::{Changes, Function, Manager};
pub use plan::{Planned, Target, plan};
pub use programs::{LoadError, LoadOptions, Programs};
