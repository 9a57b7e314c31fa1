//! Where a recording is written to: new files, never over what is there, unless that was asked for.

use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use thiserror::Error;

/// A recording tells addresses of kernel memory, and what guests have given to devices: for its owner only.
const MODE: u32 = 0o600;

/// Why there is no output.
#[derive(Debug, Error)]
pub enum OutputError {
    /// A file is in the way.
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
    /// It cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Io {
        /// What.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// A file, several parts, or a stream.
#[derive(Debug)]
pub struct Output {
    /// As the user gave it; `None`: standard output.
    path: Option<PathBuf>,
    /// Several parts, and how many of them are kept.
    rotate: bool,
    keep: Option<usize>,
    force: bool,
    /// Parts that are there.
    made: VecDeque<PathBuf>,
    /// The first part, until it is the recording: where it is, and where it will be.
    pending: Option<(File, PathBuf, PathBuf)>,
}

impl Output {
    /// Standard output.
    pub const fn stdout() -> Self {
        Self { path: None, rotate: false, keep: None, force: false, made: VecDeque::new(), pending: None }
    }

    /// A file at `path`; with `rotate` several, with a number before the extension, of which `keep` are kept. Makes the
    /// first at once, so that what is wrong with it shows; until [`Self::first`] all that was there is as it was.
    ///
    /// # Errors
    ///
    /// See [`OutputError`]. With `force`, files that are in the way are replaced.
    pub fn create(path: &Path, rotate: bool, keep: Option<usize>, force: bool) -> Result<Self, OutputError> {
        let made = VecDeque::new();
        let mut output = Self { path: Some(path.to_owned()), rotate, keep, force, made, pending: None };
        let first = if rotate { numbered(path, 1) } else { path.to_owned() };
        let in_the_way = |old: &PathBuf| fs::metadata(old).is_ok_and(|old| old.len() > 0);
        if rotate
            && !force
            && let Some(old) = output.old_parts().into_iter().find(in_the_way)
        {
            return Err(OutputError::Exists(old));
        }
        let (file, temporary) = output.make(&first)?;
        output.pending = Some((file, temporary, first));
        Ok(output)
    }

    /// The first part, now that there is something to record.
    ///
    /// # Errors
    ///
    /// See [`OutputError`].
    pub fn first(&mut self) -> Result<Box<dyn Write>, OutputError> {
        let Some((file, temporary, path)) = self.pending.take() else { return Ok(Box::new(io::stdout())) };
        if self.rotate {
            // Parts of an older recording would be taken for this one's.
            for old in self.old_parts().into_iter().filter(|old| *old != temporary) {
                fs::remove_file(&old).map_err(|source| OutputError::Io { path: old, source })?;
            }
        }
        self.place(&temporary, &path)?;
        Ok(Box::new(file))
    }

    /// The part with this number, from 2; and removes those that are not kept.
    ///
    /// # Errors
    ///
    /// See [`OutputError`].
    pub fn next(&mut self, number: u32) -> Result<Box<dyn Write>, OutputError> {
        let Some(path) = &self.path else { return Ok(Box::new(io::stdout())) };
        let path = numbered(path, number);
        let (file, temporary) = self.make(&path)?;
        self.place(&temporary, &path)?;
        while self.keep.is_some_and(|keep| self.made.len() > keep.max(1)) {
            let Some(oldest) = self.made.pop_front() else { break };
            // Somebody may have taken it away.
            let _gone = fs::remove_file(oldest).is_err();
        }
        Ok(Box::new(file))
    }

    /// Whether further parts can be made with the rights that are left.
    ///
    /// # Errors
    ///
    /// See [`OutputError`].
    pub fn try_next(&self) -> Result<(), OutputError> {
        let Some(path) = self.path.as_ref().filter(|_| self.rotate) else { return Ok(()) };
        let path = hidden(&numbered(path, 2));
        let wrong = |source| OutputError::Io { path: path.clone(), source };
        create_new(&path).map_err(wrong)?;
        fs::remove_file(&path).map_err(wrong)
    }

    /// What a part is called: with a number before the extension, so that names sort as parts follow each other.
    pub fn part_name(path: &Path, number: u32) -> PathBuf {
        numbered(path, number)
    }

    /// The parts that are there, as a user would name them.
    pub fn parts(&self) -> impl Iterator<Item = &Path> {
        self.made.iter().map(PathBuf::as_path)
    }

    fn place(&mut self, temporary: &Path, path: &Path) -> Result<(), OutputError> {
        if temporary != path {
            fs::rename(temporary, path)
                .map_err(|source| OutputError::Io { path: path.to_owned(), source })?;
        }
        self.made.push_back(path.to_owned());
        Ok(())
    }

    /// A new file that is to be at `path`, and where it is for the time being.
    fn make(&self, path: &Path) -> Result<(File, PathBuf), OutputError> {
        let wrong = |path: &Path| {
            let path = path.to_owned();
            move |source| OutputError::Io { path, source }
        };
        match fs::metadata(path) {
            Ok(there) if there.is_dir() => {
                Err(wrong(path)(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory")))
            },
            // A pipe or a device is written to as it is; so is a file that somebody made empty for us (mktemp).
            Ok(there) if !there.is_file() || there.len() == 0 => {
                let file = OpenOptions::new().write(true).open(path).map_err(wrong(path))?;
                Ok((file, path.to_owned()))
            },
            Ok(_) if !self.force => Err(OutputError::Exists(path.to_owned())),
            Ok(_) => {
                let temporary = hidden(path);
                // Left by one that was killed.
                let _none = fs::remove_file(&temporary).is_err();
                Ok((create_new(&temporary).map_err(wrong(&temporary))?, temporary))
            },
            Err(_) => Ok((create_new(path).map_err(wrong(path))?, path.to_owned())),
        }
    }

    /// Files that are named as parts of this recording.
    fn old_parts(&self) -> Vec<PathBuf> {
        let Some(path) = &self.path else { return Vec::new() };
        let (stem, extension) = split(path);
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let Ok(entries) = fs::read_dir(folder.unwrap_or_else(|| Path::new("."))) else { return Vec::new() };
        let is_part = |name: &OsStr| {
            let middle = name.as_encoded_bytes().strip_prefix(stem.as_encoded_bytes());
            let middle = middle.and_then(|rest| rest.strip_prefix(b"."));
            let middle = middle.and_then(|rest| rest.strip_suffix(extension.as_encoded_bytes()));
            middle.is_some_and(|digits| digits.len() >= 4 && digits.iter().all(u8::is_ascii_digit))
        };
        let names = entries.flatten().map(|entry| entry.file_name()).filter(|name| is_part(name));
        let mut parts: Vec<PathBuf> = names.map(|name| path.with_file_name(name)).collect();
        parts.sort();
        parts
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some((file, temporary, path)) = self.pending.take() {
            // Nothing was recorded: as if nothing had been. What was there before, empty, is not ours.
            let ours =
                temporary != path || file.metadata().is_ok_and(|file| file.is_file() && file.len() == 0);
            let _gone = ours && fs::remove_file(temporary).is_err();
        }
    }
}

fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(MODE).open(path)
}

/// Name without extension, and extension with its dot.
fn split(path: &Path) -> (OsString, OsString) {
    let stem = path.file_stem().unwrap_or_default().to_owned();
    let mut extension = OsString::new();
    if let Some(text) = path.extension() {
        extension.push(".");
        extension.push(text);
    }
    (stem, extension)
}

/// `trace.vft` → `trace.0001.vft`: names that sort as they follow each other.
fn numbered(path: &Path, number: u32) -> PathBuf {
    let (mut name, extension) = split(path);
    name.push(format!(".{number:04}"));
    name.push(extension);
    path.with_file_name(name)
}

fn hidden(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    path.with_file_name(name)
}
