//! Files that facts about the kernel are read from: `/proc` and `/sys`, or a copy of them.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use thiserror::Error;

use super::btf_dir;

/// Greatest length of a file that is read, in bytes: a longer one in /proc or /sys is not what it seems. The largest,
/// vmlinux's BTF, has 5 MB.
pub(super) const MAX_LEN: u64 = 256 << 20;

/// A file that could not be read.
#[derive(Debug, Error)]
#[error("cannot read {}: {cause}{}", path.display(), hint(cause))]
pub struct FileError {
    /// Path of the file.
    pub path: PathBuf,
    /// The error.
    #[source]
    pub cause: io::Error,
}

fn hint(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::PermissionDenied => {
            "; run as root, or with the capabilities that `vfio-trace doctor` lists"
        },
        _ => "",
    }
}

/// The files that this part of the program reads, under any root directory. Commands make it from their options
/// (`--btf`), tests for a directory of their own.
#[derive(Clone, Debug)]
pub struct KernelFiles {
    root: PathBuf,
    btf_dir: Option<PathBuf>,
}

impl Default for KernelFiles {
    fn default() -> Self {
        Self::at("/")
    }
}

impl KernelFiles {
    /// Makes it for `proc/…` and `sys/…` below `root`: `/` for the running kernel, a copy for tests.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), btf_dir: None }
    }

    /// Returns true if these are the running kernel's own files, and not a copy.
    pub fn are_own(&self) -> bool {
        self.root == Path::new("/")
    }

    /// Takes BTF that /sys/kernel/btf does not have from `dir`: a file `vmlinux` and one per module, raw BTF or ELF.
    #[must_use]
    pub fn with_btf_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.btf_dir = Some(dir.into());
        self
    }

    /// Returns the path that the BTF of a module, or of `vmlinux`, is read from.
    pub fn btf_path(&self, name: &str) -> PathBuf {
        let own = self.own_btf_path(name);
        let given = self.btf_dir.as_ref().filter(|_| !own.exists());
        given.map_or(own, |dir| btf_dir::find(dir, name).unwrap_or_else(|| dir.join(name)))
    }

    /// Checks that the directory given for BTF can be read and is not known to be of another kernel.
    ///
    /// # Errors
    ///
    /// [`FileError`] if not.
    pub fn check_btf_dir(&self) -> Result<(), FileError> {
        self.btf_dir.as_ref().map_or(Ok(()), |dir| btf_dir::check(self, dir))
    }

    fn own_btf_path(&self, name: &str) -> PathBuf {
        self.path("sys/kernel/btf").join(name)
    }

    /// Reads raw BTF as the running kernel shows it.
    pub(super) fn own_btf(&self, name: &str) -> Result<Vec<u8>, FileError> {
        read(&self.own_btf_path(name))
    }

    /// Returns a file's path below the root.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name.trim_start_matches('/'))
    }

    /// Reads raw BTF of a module, or of `vmlinux`.
    ///
    /// # Errors
    ///
    /// [`FileError`] if it cannot be read; a module that was built without BTF has no file.
    pub fn btf(&self, name: &str) -> Result<Vec<u8>, FileError> {
        match (self.own_btf(name), &self.btf_dir) {
            (Err(_), Some(dir)) => btf_dir::load(self, dir, name),
            (own, _) => own,
        }
    }

    /// Reads a small text file, such as `/proc/modules`; bytes that are not UTF-8 are replaced.
    ///
    /// # Errors
    ///
    /// [`FileError`] if it cannot be read.
    pub fn text(&self, name: &str) -> Result<String, FileError> {
        let bytes = read(&self.path(name))?;
        Ok(String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    /// Reads the first line of a file without blanks around it, if the file can be read.
    pub fn line(&self, name: &str) -> Option<String> {
        Some(self.text(name).ok()?.lines().next().unwrap_or_default().trim().to_owned())
    }

    /// Opens a file to be read piece by piece.
    ///
    /// # Errors
    ///
    /// [`FileError`] if it cannot be opened.
    pub fn open(&self, name: &str) -> Result<File, FileError> {
        let path = self.path(name);
        File::open(&path).map_err(|cause| FileError { path, cause })
    }

    /// Lists the names in a directory, sorted; empty if it cannot be read.
    pub fn list(&self, name: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(name)).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort_unstable();
        names
    }

    /// Returns true if there is such a file, directory or link.
    pub fn exists(&self, name: &str) -> bool {
        self.path(name).symlink_metadata().is_ok()
    }

    /// Returns the path with all links in it followed. In sysfs that tells a device's driver, module and group.
    pub fn follow(&self, name: &str) -> Option<PathBuf> {
        fs::canonicalize(self.path(name)).ok()
    }

    /// Reads the text of a link, such as `pid:[4026531836]` of a namespace, which leads to no path.
    pub fn link(&self, name: &str) -> Option<String> {
        fs::read_link(self.path(name)).ok()?.into_os_string().into_string().ok()
    }

    /// Returns a number that changes when a directory of sysfs is removed and made again, as when a module is reloaded.
    pub fn inode(&self, name: &str) -> Option<u64> {
        fs::metadata(self.path(name)).ok().map(|metadata| metadata.ino())
    }
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    let file = File::open(path).map_err(|cause| FileError { path: path.to_owned(), cause })?;
    read_open(file, path)
}

/// Reads all of an open file.
pub(super) fn read_open(file: File, path: &Path) -> Result<Vec<u8>, FileError> {
    let failed = |cause| FileError { path: path.to_owned(), cause };
    // sysfs tells the right size for BTF, procfs tells 0: then reading grows the buffer as it goes.
    let len = file.metadata().map_or(0, |metadata| metadata.len()).min(MAX_LEN);
    let mut bytes = Vec::with_capacity(len as usize + 1);
    file.take(MAX_LEN + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_LEN {
        return Err(failed(io::Error::new(io::ErrorKind::FileTooLarge, "it has more than 256 MiB")));
    }
    Ok(bytes)
}

#[cfg(test)]
pub(crate) mod testing {
    //! A root directory that lives as long as a test.

    use std::{fs, path::Path};

    use tempfile::TempDir;

    use super::KernelFiles;

    /// A temporary directory, removed on drop.
    pub(crate) struct TestRoot(TempDir);

    impl TestRoot {
        pub(crate) fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> &Self {
            let path = self.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
            self
        }

        /// Makes a symbolic link; `to` is relative to the link, as in sysfs.
        pub(crate) fn link(&self, name: &str, to: &str) -> &Self {
            let path = self.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(to, path).unwrap();
            self
        }

        pub(crate) fn remove(&self, name: &str) -> &Self {
            fs::remove_file(self.path().join(name)).unwrap();
            self
        }

        pub(crate) fn path(&self) -> &Path {
            self.0.path()
        }

        pub(crate) fn files(&self) -> KernelFiles {
            KernelFiles::at(self.path())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::TestRoot;

    #[test]
    fn files_come_from_below_the_root() {
        let root = TestRoot::new();
        root.write("proc/sys/kernel/kptr_restrict", "1\n").write("sys/kernel/btf/vfio", "a");
        let files = root.files();
        assert_eq!(files.line("/proc/sys/kernel/kptr_restrict").as_deref(), Some("1"));
        assert_eq!(files.line("/proc/none"), None);
        assert_eq!(files.btf("vfio").unwrap(), b"a");
        let error = root.files().btf("mtty").unwrap_err().to_string();
        assert!(error.contains("sys/kernel/btf/mtty"), "{error}");
    }
}
