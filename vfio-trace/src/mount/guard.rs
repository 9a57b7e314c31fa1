//! The guard: a child process that unmounts when the server process ends, for any reason.
//!
//! Only the guard keeps the privileges for unmounting; the server gives them up. The end of the guard's standard input
//! shows that its parent is gone.

use std::{
    ffi::OsStr,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
};

use rustix::io::Errno;
use thiserror::Error;

use super::mounts::{self, MountEntry};
use crate::mount::attach::{FS_TYPE, unmount};

/// The guard's message that it is ready.
const READY: &str = "ready";

/// Error of starting the guard, or of its work.
#[derive(Debug, Error)]
pub enum GuardError {
    /// It did not start.
    #[error("the process that is to unmount in the end cannot be started: {0}")]
    Start(io::Error),
    /// The pipe to it is broken.
    #[error("the process that is to unmount in the end has gone: {0}")]
    Gone(io::Error),
    /// The mount is still there.
    #[error("{0}")]
    Unmount(io::Error),
}

/// The server's end of the guard. The guard unmounts when it is dropped, or its process dies.
#[derive(Debug)]
pub struct UnmountGuard {
    child: Child,
    line: Option<ChildStdin>,
}

impl UnmountGuard {
    /// Starts a guard for a mount on `dir`: this program with the arguments `verb` and `dir`, which must call
    /// [`guard`].
    ///
    /// # Errors
    ///
    /// [`GuardError::Start`].
    pub fn start(verb: &str, dir: &Path) -> Result<Self, GuardError> {
        let program = std::env::current_exe().map_err(GuardError::Start)?;
        let mut child = Command::new(program)
            .args([OsStr::new(verb), dir.as_os_str()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(GuardError::Start)?;
        let line = child.stdin.take();
        let mut guard = Self { child, line };
        let mut said = String::new();
        if let Some(stdout) = guard.child.stdout.take() {
            BufReader::new(stdout).read_line(&mut said).map_err(GuardError::Start)?;
        }
        if said.trim() == READY {
            Ok(guard)
        } else {
            Err(GuardError::Start(io::ErrorKind::BrokenPipe.into()))
        }
    }

    /// Tells the guard the mount, by its device number.
    ///
    /// # Errors
    ///
    /// [`GuardError::Gone`].
    pub fn watch(&mut self, device: &str) -> Result<(), GuardError> {
        let line = self.line.as_mut().ok_or_else(|| GuardError::Gone(io::ErrorKind::BrokenPipe.into()))?;
        writeln!(line, "{device}").map_err(GuardError::Gone)
    }

    /// Makes the guard unmount, and waits until it has.
    ///
    /// # Errors
    ///
    /// [`GuardError::Gone`] if it has not: it has said why.
    pub fn unmount(mut self) -> Result<(), GuardError> {
        self.line = None;
        let status = self.child.wait().map_err(GuardError::Gone)?;
        if status.success() { Ok(()) } else { Err(GuardError::Gone(io::Error::other(status.to_string()))) }
    }
}

/// Runs the guard's own part: returns when its parent is gone and the mount is, too.
///
/// # Errors
///
/// [`GuardError::Unmount`] if it still is there.
pub fn guard(dir: &Path) -> Result<(), GuardError> {
    // A signal from the terminal that ends its parent must not end it. The call fails for a process that leads a group
    // already, which is as good.
    let _led_already = rustix::process::setsid().is_err();
    {
        let mut out = io::stdout().lock();
        writeln!(out, "{READY}").and_then(|()| out.flush()).map_err(GuardError::Start)?;
    }
    let mut said = String::new();
    // A read error is the end of its parent, too.
    drop(io::stdin().lock().read_to_string(&mut said));
    let device = said.lines().next();
    let ours = |entry: &MountEntry| {
        entry.kind == FS_TYPE
            && match device {
                Some(device) => entry.device == device,
                // Its parent died in between. If there is a mount, no server answers for it.
                None => entry.point == dir && is_dead(dir),
            }
    };
    let entry = mounts::all().map_err(GuardError::Unmount)?.into_iter().rfind(ours);
    let Some(MountEntry { device, point, .. }) = entry else { return Ok(()) };
    // Mounts of others on top of it must not be removed.
    match mounts::at(&point).map_err(GuardError::Unmount)? {
        Some(top) if top.device == device => unmount(&point).map_err(GuardError::Unmount),
        _ => Err(GuardError::Unmount(Errno::BUSY.into())),
    }
}

fn is_dead(dir: &Path) -> bool {
    // Aborted: the server was ending when it was asked.
    let dead =
        |error: io::Error| matches!(Errno::from_io_error(&error), Some(Errno::NOTCONN | Errno::CONNABORTED));
    std::fs::metadata(dir).is_err_and(dead)
}
