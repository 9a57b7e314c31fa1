//! Texts as the kernel's debugfs prints them, made from what the tracer knows.

mod debugfs;
mod files;

pub use self::{
    debugfs::{features, state},
    files::{DeviceFile, Look, Unknown, files},
};
