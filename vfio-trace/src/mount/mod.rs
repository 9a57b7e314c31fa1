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
    attach::{FuseMount, MountError, check_device, mount},
    debug::{DebugCommand, DeviceExerciser, ExerciseOutcome},
    dir::{DirError, MountLock, MountTarget},
    guard::{GuardError, UnmountGuard, guard},
    serve::{FuseServer, Refresh, serve},
    timeline::{TIMELINE_SCHEMA, TimelineLosses, TraceOrigin},
    world::{DeviceStatus, HostState},
};

#[cfg(test)]
mod tests;
