//! The views as a file system with debugfs' layout, and everything that mounting one takes.

mod bearing;
mod debug;
mod dir;
mod folders;
mod guard;
mod handles;
mod inodes;
mod mount;
mod mounts;
mod serve;
mod timeline;
mod tree;
mod world;

pub use self::{
    debug::{Command, Exercise, Exercised},
    dir::{Claim, DirError, Target},
    guard::{Guard, GuardError, guard},
    mount::{MountError, Mounted, check_device, mount},
    serve::{Freshen, Serving, serve},
    timeline::{About, Losses, TIMELINE_SCHEMA},
    world::{Known, World},
};

#[cfg(test)]
mod tests;
