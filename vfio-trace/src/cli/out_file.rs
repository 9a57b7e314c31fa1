//! Where `-o` leads to: a file that appears whole or not at all, or standard output.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, BufWriter, IsTerminal as _, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use super::error::{CliError, USAGE};

/// An output. Bytes go to a file beside the wanted one until [`Self::finish`].
pub(super) struct OutFile {
    name: String,
    out: Option<BufWriter<Box<dyn Write>>>,
    /// The file for the time being, and the wanted one.
    renamed: Option<(PathBuf, PathBuf)>,
    /// What has gone wrong first: not everybody who writes here looks.
    failed: Option<io::Error>,
}

impl OutFile {
    /// `None` and `-` are standard output. A file that is there is replaced with `force` only; a pipe or a device is written
    /// to as it is.
    pub(super) fn create(path: Option<&Path>, force: bool) -> Result<Self, CliError> {
        Self::with_mode(path, force, 0o666)
    }

    /// The same, readable for its owner only: what a recording tells.
    pub(super) fn create_private(path: &Path, force: bool) -> Result<Self, CliError> {
        Self::with_mode(Some(path), force, 0o600)
    }

    fn with_mode(path: Option<&Path>, force: bool, mode: u32) -> Result<Self, CliError> {
        let Some(path) = path.filter(|path| path.as_os_str() != "-") else {
            return Ok(Self::new("standard output", Box::new(io::stdout()), None));
        };
        let name = path.display().to_string();
        let wrong = |why: io::Error| {
            CliError::failed(format!("cannot write {name}"), why, "choose another place with -o")
        };
        let there = fs::metadata(path).ok();
        if there.as_ref().is_some_and(fs::Metadata::is_dir) {
            return Err(wrong(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory")));
        }
        if there.as_ref().is_some_and(|there| !there.is_file()) {
            let file = File::options().write(true).open(path).map_err(wrong)?;
            return Ok(Self::new(&name, Box::new(file), None));
        }
        if there.is_some_and(|there| there.len() > 0) && !force {
            return Err(CliError::failed(
                format!("cannot write {name}"),
                "it exists already",
                "choose another name, or replace it with --force",
            ));
        }
        // What a link points to is replaced, not the link.
        let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let temporary = hidden(&target);
        // Left by one that was killed.
        let _none = fs::remove_file(&temporary).is_err();
        let file = File::options().write(true).create_new(true).mode(mode).open(&temporary).map_err(wrong)?;
        Ok(Self::new(&name, Box::new(file), Some((temporary, target))))
    }

    fn new(name: &str, out: Box<dyn Write>, renamed: Option<(PathBuf, PathBuf)>) -> Self {
        let out = Some(BufWriter::with_capacity(1 << 16, out));
        Self { name: name.to_owned(), out, renamed, failed: None }
    }

    /// An error if a person would look at the bytes. `what`: what they are.
    pub(super) fn refuse_terminal(&self, what: &str) -> Result<(), CliError> {
        if self.renamed.is_some() || self.name != "standard output" || !io::stdout().is_terminal() {
            return Ok(());
        }
        Err(CliError::with_code(
            USAGE,
            format!("cannot show {what} on a terminal"),
            "it is binary",
            "choose a file with -o, or pass it on through a pipe",
        ))
    }

    /// Whether bytes were lost.
    pub(super) const fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// All is written: the file is put in its place. A reader of standard output that went away is a normal end.
    pub(super) fn finish(mut self) -> Result<(), CliError> {
        let flushed = self.flush();
        let done = match self.failed.take() {
            Some(why) => Err(why),
            None => flushed,
        };
        self.out = None;
        let done = done.and_then(|()| match &self.renamed {
            Some((temporary, target)) => fs::rename(temporary, target),
            None => Ok(()),
        });
        match done {
            Ok(()) => self.renamed = None,
            Err(why) if why.kind() == io::ErrorKind::BrokenPipe => {},
            Err(why) => {
                let todo = match why.kind() {
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                        "make room, or choose another place with -o"
                    },
                    _ => "choose another place with -o",
                };
                return Err(CliError::failed(format!("cannot write {}", self.name), why, todo));
            },
        }
        Ok(())
    }

    fn noting<T>(
        &mut self,
        act: impl FnOnce(&mut BufWriter<Box<dyn Write>>) -> io::Result<T>,
    ) -> io::Result<T> {
        let Some(out) = &mut self.out else { return Err(io::ErrorKind::BrokenPipe.into()) };
        act(out).inspect_err(|why| {
            if why.kind() != io::ErrorKind::Interrupted {
                let copy = why.raw_os_error().map_or_else(|| why.kind().into(), io::Error::from_raw_os_error);
                self.failed.get_or_insert(copy);
            }
        })
    }
}

impl Write for OutFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.noting(|out| out.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.noting(Write::flush)
    }
}

impl Drop for OutFile {
    fn drop(&mut self) {
        if let Some((temporary, _)) = self.renamed.take() {
            self.out = None;
            let _gone = fs::remove_file(temporary).is_err();
        }
    }
}

fn hidden(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of this test's own.
    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("vfio-trace-{name}-{}", std::process::id()));
        drop(fs::remove_dir_all(&folder));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn names(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let folder = folder("out-file");
        let path = folder.join("a.json");
        let mut out = OutFile::create(Some(&path), false).unwrap();
        out.write_all(b"half").unwrap();
        out.flush().unwrap();
        assert_eq!(names(&folder), [".a.json.new"]);
        drop(out);
        assert!(names(&folder).is_empty(), "what was given up is gone");

        let mut out = OutFile::create(Some(&path), false).unwrap();
        out.write_all(b"whole").unwrap();
        out.finish().unwrap();
        assert_eq!(
            (names(&folder), fs::read(&path).unwrap()),
            (vec!["a.json".to_owned()], b"whole".to_vec())
        );

        assert!(OutFile::create(Some(&path), false).is_err(), "it would have been replaced");
        let mut out = OutFile::create(Some(&path), true).unwrap();
        out.write_all(b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole", "the old one stays until the new one is whole");
        out.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");

        let link = folder.join("link.json");
        std::os::unix::fs::symlink("a.json", &link).unwrap();
        let mut out = OutFile::create(Some(&link), true).unwrap();
        out.write_all(b"linked").unwrap();
        out.finish().unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read(&path).unwrap(), b"linked");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_cannot_be_written_is_told_at_the_end_too() {
        assert!(OutFile::create(Some(Path::new("/proc/no/such")), false).is_err());
        assert!(OutFile::create(Some(&std::env::temp_dir()), true).is_err());
        // Always full, and no file that could be replaced.
        let mut out = OutFile::create(Some(Path::new("/dev/full")), false).unwrap();
        let _unheard = out.write_all(&vec![0; 1 << 17]).is_err();
        assert!(out.has_failed());
        assert!(out.finish().is_err());
    }
}
