//! The folder in which set-up keeps its downloads and builds. All clones share it.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use rustix::fs::{FlockOperation, flock};

use crate::progress::say;

/// Environment variable that overrides the cache's folder.
pub(crate) const VARIABLE: &str = "VFIO_TRACE_CACHE";

/// The cache, with the lock that keeps two set-ups from building the same thing at once. Opened by `setup` and by the
/// checks that need something prepared; the lock ends when it is dropped.
pub(crate) struct Cache {
    root: PathBuf,
    _lock: File,
}

/// Returns the cache's folder: `$VFIO_TRACE_CACHE`, else `vfio-trace` in the user's cache folder.
pub(crate) fn root() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os(VARIABLE).filter(|dir| !dir.is_empty()) {
        return std::path::absolute(dir).with_context(|| format!("{VARIABLE} is not a usable path"));
    }
    let base = std::env::var_os("XDG_CACHE_HOME")
        .filter(|dir| !dir.is_empty())
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")))
        .with_context(|| {
            format!("neither HOME nor {VARIABLE} is set: set one, set-up needs a folder to keep things in")
        })?;
    Ok(base.join("vfio-trace"))
}

impl Cache {
    /// Opens the cache and waits until no other set-up uses it.
    pub(crate) fn lock() -> Result<Self> {
        let root = root()?;
        fs::create_dir_all(&root).with_context(|| {
            format!("cannot create the cache {} (set {VARIABLE} to another folder)", root.display())
        })?;
        let path = root.join("lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            say(&format!("waiting for another set-up that uses {}", root.display()));
            flock(&lock, FlockOperation::LockExclusive)
                .with_context(|| format!("cannot lock {}", path.display()))?;
        }
        Ok(Self { root, _lock: lock })
    }

    /// Returns a path in the cache.
    pub(crate) fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }

    /// Makes the folder `relative` with `fill` unless it is there already. It appears whole or not at all, so that an
    /// interrupted set-up is resumed, not trusted.
    pub(crate) fn folder(&self, relative: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let done = self.path(relative);
        if done.is_dir() {
            return Ok(done);
        }
        let partial = self.path(format!("{relative}.partial"));
        if partial.exists() {
            fs::remove_dir_all(&partial).with_context(|| format!("cannot remove {}", partial.display()))?;
        }
        fs::create_dir_all(&partial).with_context(|| format!("cannot create {}", partial.display()))?;
        fill(&partial)?;
        fs::rename(&partial, &done)
            .with_context(|| format!("cannot rename {} into place", partial.display()))?;
        Ok(done)
    }
}
