//! Texts as the kernel's debugfs prints them, made from what the tracer knows.

mod debugfs;

pub use debugfs::{features, state};
