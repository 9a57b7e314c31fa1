//! The views as a file system with debugfs' layout, and everything that mounting one takes.

mod attach;
mod bearing;
mod debug;
mod dir;
mod folders;
mod guard;
mod handles;
mod inodes;
mod mounts;
mod serve;
mod timeline;
mod tree;
mod world;

pub use self::{
    attach::{MountError, Mounted, check_device, mount},
    debug::{Command, Exercise, Exercised},
    dir::{Claim, DirError, Target},
    guard::{Guard, GuardError, guard},
    serve::{Freshen, Serving, serve},
    timeline::{About, Losses, TIMELINE_SCHEMA},
    world::{Known, World},
};

#[cfg(test)]
mod tests;
