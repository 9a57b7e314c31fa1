//! Checks of the directory to mount on, and recovery from a dead mount of an earlier run.

use std::{
    borrow::Cow,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use rustix::{fs::FlockOperation, io::Errno};
use thiserror::Error;

use super::mounts::{self, MountEntry, shown};
use crate::{
    mount::attach::{FS_TYPE, unmount},
    units::advice::{ErrorAdvice, FAILED, USAGE},
};

/// Error for which a directory cannot be mounted on.
#[derive(Debug, Error)]
#[error("{why}")]
pub struct DirError {
    /// The directory, as it was given.
    pub dir: PathBuf,
    /// Reason.
    pub why: DirReason,
}

/// Reason for which a directory cannot be mounted on.
#[derive(Debug, Error)]
pub enum DirReason {
    /// It does not exist.
    #[error("there is no such directory")]
    Missing,
    /// It is not a directory.
    #[error("it is not a directory")]
    NotDirectory,
    /// Another vfio-trace has its mount there.
    #[error("another vfio-trace is mounted there")]
    Busy,
    /// Another process has locked it.
    #[error("another program has locked it, perhaps a vfio-trace that is about to mount there")]
    Locked,
    /// It has a dead mount that is not ours, or could not be removed.
    #[error("a dead mount is there ({kind}), whose server is gone: {why}")]
    Dead {
        /// File system type.
        kind: String,
        /// Reason why it is still there.
        why: String,
    },
    /// It cannot be looked at.
    #[error("{0}")]
    Other(io::Error),
}

/// A directory to mount on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountTarget {
    /// Absolute, links followed.
    pub path: PathBuf,
    /// Number of dead mounts of earlier runs that were removed from it.
    pub recovered: usize,
    /// True if the mount will hide files.
    pub hides: bool,
}

impl MountTarget {
    /// Checks a directory. A dead mount of an earlier vfio-trace is removed from it.
    ///
    /// # Errors
    ///
    /// [`DirError`] if it cannot be mounted on.
    pub fn look(dir: &Path) -> Result<Self, DirError> {
        Self::check(dir).map_err(|why| DirError { dir: dir.to_owned(), why })
    }

    fn check(dir: &Path) -> Result<Self, DirReason> {
        let mut recovered = 0;
        // A dead one may hide another.
        while let Err(error) = fs::metadata(dir) {
            match Errno::from_io_error(&error) {
                Some(Errno::NOTCONN) => recover(dir)?,
                Some(Errno::NOENT) => return Err(DirReason::Missing),
                Some(Errno::NOTDIR) => return Err(DirReason::NotDirectory),
                _ => return Err(DirReason::Other(error)),
            }
            recovered += 1;
        }
        if !fs::metadata(dir).map_err(DirReason::Other)?.is_dir() {
            return Err(DirReason::NotDirectory);
        }
        let path = fs::canonicalize(dir).map_err(DirReason::Other)?;
        if mount_at(&path)?.is_some_and(|entry| entry.kind == FS_TYPE) {
            return Err(DirReason::Busy);
        }
        let hides = fs::read_dir(&path).is_ok_and(|mut names| names.next().is_some());
        Ok(Self { path, recovered, hides })
    }
}

/// The exclusive right to mount on a directory, until it is dropped: if two processes have found the directory free,
/// one of them is refused.
#[derive(Debug)]
pub struct MountLock {
    _under: File,
}

impl MountTarget {
    /// Claims the directory itself, which stays below any later mount on it.
    ///
    /// # Errors
    ///
    /// [`DirReason::Busy`] if another vfio-trace is mounted there by now, [`DirReason::Locked`] if it may be about to be.
    pub fn claim(&self) -> Result<MountLock, DirError> {
        self.lock().map_err(|why| DirError { dir: self.path.clone(), why })
    }

    fn lock(&self) -> Result<MountLock, DirReason> {
        let under = File::open(&self.path).map_err(DirReason::Other)?;
        // On file systems without locks on directories, only the check below is left.
        let locked = rustix::fs::flock(&under, FlockOperation::NonBlockingLockExclusive);
        if locked == Err(Errno::WOULDBLOCK) {
            return Err(DirReason::Locked);
        }
        if mount_at(&self.path)?.is_some_and(|entry| entry.kind == FS_TYPE) {
            return Err(DirReason::Busy);
        }
        Ok(MountLock { _under: under })
    }
}

fn mount_at(path: &Path) -> Result<Option<MountEntry>, DirReason> {
    mounts::at(path).map_err(DirReason::Other)
}

/// Removes the dead mount at `dir`, if it was a vfio-trace's.
fn recover(dir: &Path) -> Result<(), DirReason> {
    let path = dead_path(dir).map_err(DirReason::Other)?;
    let Some(entry) = mount_at(&path)? else {
        // A dead mount further up, or one of another namespace.
        return Err(DirReason::Other(Errno::NOTCONN.into()));
    };
    let dead = |why: String| DirReason::Dead { kind: entry.kind.clone(), why };
    if entry.kind != FS_TYPE {
        return Err(dead("it is not vfio-trace's to take away".to_owned()));
    }
    unmount(&path).map_err(|why| dead(why.to_string()))
}

/// Returns the absolute path of a dead mount, from its parent: the mount itself cannot be asked anything.
fn dead_path(dir: &Path) -> io::Result<PathBuf> {
    if let Ok(target) = fs::read_link(dir) {
        let base = dir.parent().unwrap_or_else(|| Path::new("/"));
        return dead_path(&base.join(target));
    }
    let absolute = std::path::absolute(dir)?;
    match (absolute.parent(), absolute.file_name()) {
        (Some(parent), Some(name)) => Ok(fs::canonicalize(parent)?.join(name)),
        _ => Ok(absolute),
    }
}

impl ErrorAdvice for DirError {
    fn exit_code(&self) -> u8 {
        match self.why {
            DirReason::Missing | DirReason::NotDirectory => USAGE,
            DirReason::Busy | DirReason::Locked | DirReason::Dead { .. } | DirReason::Other(_) => FAILED,
        }
    }

    fn advice(&self) -> Cow<'static, str> {
        let dir = shown(&self.dir);
        match self.why {
            DirReason::Missing => format!("make it first: mkdir -p {dir}").into(),
            DirReason::NotDirectory => "give an empty directory".into(),
            DirReason::Busy => format!("use that one, or unmount it first: umount {dir}").into(),
            DirReason::Locked => {
                format!("try again, or give another directory; `fuser {dir}` tells who has it open").into()
            },
            DirReason::Dead { .. } => format!("take it away first: umount -l {dir}").into(),
            DirReason::Other(_) => "give a directory that can be looked into".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::source::testing::TestRoot;

    #[test]
    fn of_two_that_found_it_free_one_is_refused() {
        let root = TestRoot::new();
        root.write("dir/file", "x");
        let [first, second] = [(); 2].map(|()| MountTarget::look(&root.path().join("dir")).unwrap());
        let claim = first.claim().unwrap();
        let refused = second.claim().unwrap_err();
        assert!(matches!(refused.why, DirReason::Locked) && !refused.advice().contains("umount"));
        assert!(refused.exit_code() == FAILED && refused.advice().contains(&shown(&second.path)));
        drop(claim);
        second.claim().unwrap();
    }

    #[test]
    fn only_a_directory_will_do() {
        let root = TestRoot::new();
        root.write("full/file", "x").write("empty/x", "");
        fs::remove_file(root.path().join("empty/x")).unwrap();
        root.link("link", "empty");
        let look = |name: &str| MountTarget::look(&root.path().join(name));
        let empty = fs::canonicalize(root.path().join("empty")).unwrap();
        for name in ["empty", "link", "full/../empty/."] {
            assert_eq!(look(name).unwrap(), MountTarget { path: empty.clone(), recovered: 0, hides: false });
        }
        assert!(look("full").unwrap().hides);
        for (name, advice) in [
            ("full/file", "empty directory"),
            ("full/file/below", "empty directory"),
            ("nothing", "mkdir -p "),
        ] {
            let refused = look(name).unwrap_err();
            assert!(refused.exit_code() == USAGE && refused.advice().contains(advice), "{name}: {refused:?}");
        }
        assert_eq!(dead_path(&root.path().join("link")).unwrap(), empty);
    }
}
