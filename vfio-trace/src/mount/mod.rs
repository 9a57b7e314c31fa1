//! The views as a file system with debugfs' layout, with mounting, serving and unmounting.

mod attach;
mod content;
mod debug;
mod dir;
mod folders;
mod guard;
mod handles;
mod inodes;
mod mounts;
mod serve;
mod tree;

pub use self::{
    attach::{FuseMount, MountError, check_device, mount},
    content::{MountTree, without_folder},
    debug::{DebugCommand, DeviceExerciser, ExerciseOutcome},
    dir::{DirError, DirReason, MountLock, MountTarget},
    guard::{GuardError, UnmountGuard, guard},
    serve::{FuseServer, Refresh, serve},
};

#[cfg(test)]
mod tests;
