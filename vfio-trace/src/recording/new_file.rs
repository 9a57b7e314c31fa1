//! New files: private from the beginning, complete or not there at all. Links are not followed, files of other users
//! not written.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    hash::{BuildHasher as _, Hasher as _, RandomState},
    io::{self, Write},
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{
        Access, AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, Stat, accessat, fcntl_getfl, fcntl_setfl,
        fstat, linkat, openat, renameat_with, stat, statat, unlinkat,
    },
    io::Errno,
    process::{getegid, geteuid},
};

use super::output_error::OutputError;

/// Permissions of output: for its owner only, because it has data about guests and from the kernel's memory.
const MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// Identity of a file, independent of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    const fn of(stat: &Stat) -> Self {
        Self { device: stat.st_dev, inode: stat.st_ino }
    }

    /// Returns the identity of an open file.
    pub(super) fn open(file: impl AsFd) -> Option<Self> {
        fstat(file).ok().map(|there| Self::of(&there))
    }
}

/// Result of looking for a name.
#[derive(Clone, Copy, Debug)]
enum FoundFile {
    Nothing,
    /// Regular file that may be replaced.
    File(FileId),
    /// FIFO or device; also one behind a link of the system, such as /dev/stdout.
    Special {
        id: FileId,
        fifo: bool,
        linked: bool,
    },
}

/// Operations that a file system does not have. It returns errors for them; tests simulate that.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FsLimits {
    pub(super) exchange: bool,
    pub(super) no_replace: bool,
    pub(super) link: bool,
    /// Duplicating a descriptor, which fails if there are too many.
    pub(super) copy: bool,
}

/// Name that may be written to. Nothing is made or opened yet.
///
/// [`OutputTarget::inspect`] makes it before any work begins; [`OutputTarget::open`] turns it into a [`NewFile`].
#[derive(Debug)]
pub struct OutputTarget {
    path: PathBuf,
    /// Folder, held open so that everything happens in the same one, even if it is renamed.
    folder: OwnedFd,
    name: OsString,
    found: FoundFile,
    force: bool,
    lacks: FsLimits,
}

/// Result of opening an output.
#[derive(Debug)]
pub enum OpenAttempt {
    /// Output that can be written to.
    Ready(NewFile),
    /// FIFO that is not open for reading yet: to be tried again.
    NoReader(OutputTarget),
}

impl OutputTarget {
    /// Checks whether `path` may be written to; changes nothing. With `force`, a file there will be replaced; without
    /// it, only an empty one of the same user (mktemp). It must not be one of `inputs`.
    ///
    /// # Errors
    ///
    /// See [`OutputError`].
    pub fn inspect(path: &Path, force: bool, inputs: &[PathBuf]) -> Result<Self, OutputError> {
        let wrong = |source: io::Error| OutputError::Io { path: path.to_owned(), source };
        let directory = || wrong(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory"));
        let name = path.file_name().filter(|_| !path.as_os_str().as_bytes().ends_with(b"/"));
        let name = name.ok_or_else(directory)?;
        let parent = folder_of(path);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = openat(CWD, parent, flags, Mode::empty()).map_err(|why| wrong(why.into()))?;
        let found = match statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => FoundFile::Nothing,
            Err(why) => return Err(wrong(why.into())),
            Ok(there) => match FileType::from_raw_mode(there.st_mode) {
                FileType::Directory => return Err(directory()),
                FileType::RegularFile => {
                    let id = FileId::of(&there);
                    if inputs.iter().any(|input| id_of(input) == Some(id)) {
                        return Err(OutputError::Input(path.to_owned()));
                    }
                    if !force && there.st_size > 0 {
                        return Err(OutputError::Exists(path.to_owned()));
                    }
                    if !force && there.st_uid != geteuid().as_raw() {
                        return Err(OutputError::Foreign(path.to_owned()));
                    }
                    FoundFile::File(id)
                },
                FileType::Symlink => {
                    let there = statat(&folder, name, AtFlags::empty()).ok();
                    let there = there.filter(|there| is_systems(parent) && !is_plain(there));
                    special(&there.ok_or_else(|| OutputError::Link(path.to_owned()))?, true)
                },
                _ if is_planted(&folder, &there) => return Err(OutputError::Foreign(path.to_owned())),
                _ => special(&there, false),
            },
        };
        if !matches!(found, FoundFile::Special { .. }) {
            accessat(&folder, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)
                .map_err(|why| wrong(why.into()))?;
        }
        let (path, name, lacks) = (path.to_owned(), name.to_owned(), FsLimits::default());
        Ok(Self { path, folder, name, found, force, lacks })
    }

    /// Makes the file in the folder of its name, without that name, or opens the FIFO or device there. Does not wait.
    ///
    /// # Errors
    ///
    /// See [`OutputError`].
    pub fn open(self) -> Result<OpenAttempt, OutputError> {
        let FoundFile::Special { id, fifo, linked } = self.found else {
            // If the file system has files without a name, nothing is left behind if the process is killed.
            let file = match self.nameless() {
                Some(file) => NewFile { file, name: NewFileName::None, old: None, target: self },
                None => self.named()?,
            };
            return Ok(OpenAttempt::Ready(file));
        };
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let flags = if linked { flags } else { flags | OFlags::NOFOLLOW };
        let file = match openat(&self.folder, &self.name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NXIO) if fifo => return Ok(OpenAttempt::NoReader(self)),
            Err(why) => return Err(self.wrong(why.into())),
        };
        let waits = |file: &OwnedFd| {
            let there = fstat(file)?;
            fcntl_setfl(file, fcntl_getfl(file)? - OFlags::NONBLOCK)?;
            Ok(FileId::of(&there))
        };
        match waits(&file).map_err(|why: Errno| self.wrong(why.into()))? {
            there if there == id => {
                let name = NewFileName::There;
                Ok(OpenAttempt::Ready(NewFile { file: file.into(), name, old: None, target: self }))
            },
            _ => Err(self.wrong(io::Error::other("it has become another file meanwhile"))),
        }
    }

    /// Makes the file in the folder of its name, with a temporary name.
    pub(super) fn named(self) -> Result<NewFile, OutputError> {
        let name = hidden("new");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&self.folder, &name, flags, MODE).map_err(|why| self.wrong(why.into()))?;
        Ok(NewFile { file: file.into(), name: NewFileName::Temporary(name), old: None, target: self })
    }

    /// Returns true for a FIFO or a device, which are written to directly.
    pub const fn is_special(&self) -> bool {
        matches!(self.found, FoundFile::Special { .. })
    }

    /// Simulates a file system with fewer operations.
    #[cfg(test)]
    pub(super) const fn lacking(mut self, lacks: FsLimits) -> Self {
        self.lacks = lacks;
        self
    }

    /// Makes a file in the folder that has no name; `None` if that is not possible. Some file systems have such files
    /// but cannot give them a name: that is found out before anything is written.
    fn nameless(&self) -> Option<File> {
        let flags = OFlags::WRONLY | OFlags::TMPFILE | OFlags::CLOEXEC;
        let make = || openat(&self.folder, ".", flags, MODE).ok().map(File::from);
        let (tried, name) = (make()?, hidden("try"));
        self.link(&tried, &name).ok()?;
        unlinkat(&self.folder, &name, AtFlags::empty()).ok()?;
        make()
    }

    /// Gives a file without a name a name that is free.
    fn link(&self, file: &File, name: &OsStr) -> Result<(), Errno> {
        if self.lacks.link {
            return Err(Errno::OPNOTSUPP);
        }
        linkat(CWD, by_descriptor(file), &self.folder, name, AtFlags::SYMLINK_FOLLOW)
    }

    fn rename(&self, from: &OsStr, to: &OsStr, flags: RenameFlags) -> Result<(), Errno> {
        let lacking = (self.lacks.exchange && flags == RenameFlags::EXCHANGE)
            || (self.lacks.no_replace && flags == RenameFlags::NOREPLACE);
        if lacking { Err(Errno::INVAL) } else { renameat_with(&self.folder, from, &self.folder, to, flags) }
    }

    /// Renames a file in the folder to the target's name, if that is free.
    fn rename_to_free(&self, from: &OsStr) -> Result<(), Errno> {
        match self.rename(from, &self.name, RenameFlags::NOREPLACE) {
            // Some file systems cannot do it. An own empty file at the name keeps others from using it.
            Err(why) if cannot(why) => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                openat(&self.folder, &self.name, flags, MODE)?;
                let done = self.rename(from, &self.name, RenameFlags::empty());
                if done.is_err() {
                    let _left = unlinkat(&self.folder, &self.name, AtFlags::empty()).is_err();
                }
                done
            },
            done => done,
        }
    }

    fn there(&self, name: &OsStr) -> Result<Stat, Errno> {
        statat(&self.folder, name, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Returns true if a file may be replaced: with `force` any regular file, otherwise only the empty one that was
    /// found.
    fn replaces(&self, there: &Stat) -> bool {
        match self.found {
            FoundFile::Special { .. } => false,
            _ if self.force => is_file(there),
            FoundFile::File(id) => FileId::of(there) == id && is_file(there) && there.st_size == 0,
            FoundFile::Nothing => false,
        }
    }

    fn wrong(&self, source: io::Error) -> OutputError {
        OutputError::Io { path: self.path.clone(), source }
    }
}

/// File that is being written. If it is dropped before [`place`](Self::place), it leaves nothing behind.
///
/// [`OutputTarget::open`] makes it. A recording writes its parts to it, the command line its other outputs.
#[derive(Debug)]
pub struct NewFile {
    file: File,
    name: NewFileName,
    /// Name of the replaced file, as long as it may be put back.
    old: Option<OsString>,
    target: OutputTarget,
}

/// Name of a new file.
#[derive(Debug)]
enum NewFileName {
    /// No name yet: the file goes away with its last descriptor.
    None,
    /// Temporary name in the same folder.
    Temporary(OsString),
    /// Final name.
    There,
}

impl NewFile {
    /// Puts the file in its place like [`place`](Self::place), but keeps the file that it replaces until
    /// [`settle`](Self::settle). It does so only if the folder will stay writable after privileges are dropped.
    pub(super) fn place_for_now(&mut self) -> Result<(), OutputError> {
        let old = self.target.there(&self.target.name).ok().filter(|old| self.target.replaces(old));
        if !old.is_some_and(|old| stays_writable(&self.target.folder, &old)) {
            return self.place();
        }
        let new = self.make_named()?;
        let target = &self.target;
        let old = match target.rename(&new, &target.name, RenameFlags::EXCHANGE) {
            Ok(()) => {
                self.name = NewFileName::There;
                new.clone()
            },
            // The old file has gone in the meantime.
            Err(Errno::NOENT) => return self.place(),
            Err(why) if !cannot(why) => return Err(target.wrong(why.into())),
            Err(_) => {
                let aside = hidden("old");
                let moved = target.rename(&target.name, &aside, RenameFlags::empty());
                moved.map_err(|why| target.wrong(why.into()))?;
                aside
            },
        };
        // Another process may have put its own file there in the meantime.
        let right = target.there(&old).is_ok_and(|old| target.replaces(&old));
        self.old = Some(old);
        if !right {
            return Err(OutputError::Exists(target.path.clone()));
        }
        if !matches!(self.name, NewFileName::There) {
            let placed = target.rename_to_free(&new);
            self.placed(placed)?;
        }
        Ok(())
    }

    /// Makes the placement final: removes the replaced file. On an error, returns the path of that file.
    pub(super) fn settle(&mut self) -> Result<(), (PathBuf, io::Error)> {
        let Some(old) = self.old.take() else { return Ok(()) };
        let path = self.target.path.with_file_name(&old);
        unlinkat(&self.target.folder, &old, AtFlags::empty()).map_err(|why| (path, why.into()))
    }

    /// Gives the file a temporary name if it does not have one yet, and returns it.
    fn make_named(&mut self) -> Result<OsString, OutputError> {
        match &self.name {
            NewFileName::Temporary(name) => Ok(name.clone()),
            NewFileName::None | NewFileName::There => {
                let name = hidden("new");
                self.target.link(&self.file, &name).map_err(|why| self.target.wrong(why.into()))?;
                self.name = NewFileName::Temporary(name.clone());
                Ok(name)
            },
        }
    }

    /// Puts the file in its place. Without `force`, it replaces only the empty file that was there before.
    ///
    /// # Errors
    ///
    /// See [`OutputError`].
    pub fn place(&mut self) -> Result<(), OutputError> {
        if matches!(self.name, NewFileName::There) {
            return Ok(());
        }
        let temporary = self.make_named()?;
        let target = &self.target;
        let over = || target.rename(&temporary, &target.name, RenameFlags::empty());
        let placed = match target.found {
            _ if target.force => over(),
            FoundFile::Nothing | FoundFile::Special { .. } => target.rename_to_free(&temporary),
            FoundFile::File(_) => match target.there(&target.name) {
                Ok(there) if target.replaces(&there) => over(),
                Err(Errno::NOENT) => target.rename_to_free(&temporary),
                Ok(_) => Err(Errno::EXIST),
                Err(why) => Err(why),
            },
        };
        self.placed(placed)
    }

    /// Stores the result of the placement.
    fn placed(&mut self, placed: Result<(), Errno>) -> Result<(), OutputError> {
        match placed {
            Ok(()) => {
                self.name = NewFileName::There;
                Ok(())
            },
            Err(Errno::EXIST) => Err(OutputError::Exists(self.target.path.clone())),
            Err(why) => Err(self.target.wrong(why.into())),
        }
    }

    /// Returns true for a FIFO or a device, whose reader may be slow.
    pub const fn is_special(&self) -> bool {
        self.target.is_special()
    }

    /// Waits until the file system has stored the file: some notice only then that the disk is full.
    ///
    /// # Errors
    ///
    /// The error of the file system.
    pub fn sync(&self) -> io::Result<()> {
        if self.target.is_special() { Ok(()) } else { self.file.sync_all() }
    }

    /// Undoes the placement: puts the replaced file back, or removes the new one, or empties it if its folder is not
    /// writable any more. Returns the path of the replaced file if it could not be put back.
    pub(super) fn discard(&mut self) -> Option<PathBuf> {
        let target = &self.target;
        if target.is_special() {
            return None;
        }
        let placed = matches!(self.name, NewFileName::There);
        let there = target.there(&target.name).ok().map(|there| FileId::of(&there));
        let ours = placed && there.is_some() && there == self.id();
        let old = self.old.take();
        let done = match &old {
            Some(old) if ours => target.rename(old, &target.name, RenameFlags::empty()),
            // There is no file, or one of another process.
            Some(old) => target.rename_to_free(old),
            None if ours => unlinkat(&target.folder, &target.name, AtFlags::empty()),
            None => Ok(()),
        };
        if placed && (!ours || done.is_err()) {
            let _left = self.file.set_len(0).is_err();
        }
        old.filter(|_| done.is_err()).map(|old| target.path.with_file_name(old))
    }

    /// Returns the identity of the file.
    pub(super) fn id(&self) -> Option<FileId> {
        FileId::open(&self.file)
    }

    /// Returns another descriptor of the file, to write to it.
    pub(super) fn writer(&self) -> io::Result<File> {
        if self.target.lacks.copy { Err(Errno::MFILE.into()) } else { self.file.try_clone() }
    }

    /// Returns the path of the file, even before it is there.
    pub(super) fn path(&self) -> &Path {
        &self.target.path
    }
}

impl AsFd for NewFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let NewFileName::Temporary(temporary) = &self.name {
            let _gone = unlinkat(&self.target.folder, temporary, AtFlags::empty()).is_err();
        }
    }
}

/// Returns a path to an open file that needs no permission.
fn by_descriptor(file: impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_fd().as_raw_fd()))
}

/// Returns true if the file system does not have the operation.
const fn cannot(why: Errno) -> bool {
    matches!(why, Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP)
}

/// Returns true if a file in a folder can be renamed and removed without root's right to write anywhere.
fn stays_writable(folder: &OwnedFd, there: &Stat) -> bool {
    let Ok(folder) = fstat(folder) else { return false };
    let (me, mode) = (geteuid().as_raw(), Mode::from_raw_mode(folder.st_mode));
    let needed = if folder.st_uid == me {
        Mode::WUSR | Mode::XUSR
    } else if folder.st_gid == getegid().as_raw() {
        Mode::WGRP | Mode::XGRP
    } else {
        Mode::WOTH | Mode::XOTH
    };
    let not_kept = !mode.contains(Mode::SVTX) || folder.st_uid == me || there.st_uid == me;
    mode.contains(needed) && not_kept
}

fn is_file(there: &Stat) -> bool {
    FileType::from_raw_mode(there.st_mode) == FileType::RegularFile
}

/// Returns a temporary name that no other process has.
fn hidden(what: &str) -> OsString {
    OsString::from(format!(".vfio-trace.{:016x}.{what}", random()))
}

/// Refuses an open output that is one of `inputs`: its own output would be read again, endlessly.
///
/// # Errors
///
/// [`OutputError::Input`] with `name`.
pub fn refuse_input(output: impl AsFd, name: &str, inputs: &[PathBuf]) -> Result<(), OutputError> {
    let id = fstat(output).ok().filter(is_file).map(|there| FileId::of(&there));
    if id.is_some() && inputs.iter().any(|input| id_of(input) == id) {
        return Err(OutputError::Input(PathBuf::from(name)));
    }
    Ok(())
}

/// Returns the folder of a path.
pub(super) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

/// Returns the identity of the file at a path; links are not followed.
pub(super) fn id_at(path: &Path) -> Option<FileId> {
    statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).ok().map(|there| FileId::of(&there))
}

/// Returns the identity of an input.
fn id_of(input: &Path) -> Option<FileId> {
    let there = if input == OsStr::new("-") { fstat(io::stdin()) } else { stat(input) };
    there.ok().map(|there| FileId::of(&there))
}

fn is_plain(there: &Stat) -> bool {
    matches!(FileType::from_raw_mode(there.st_mode), FileType::RegularFile | FileType::Directory)
}

fn special(there: &Stat, linked: bool) -> FoundFile {
    let fifo = FileType::from_raw_mode(there.st_mode) == FileType::Fifo;
    FoundFile::Special { id: FileId::of(there), fifo, linked }
}

/// Returns true if links in a folder are made by the system: /dev/stdout, /dev/fd/63.
fn is_systems(folder: &Path) -> bool {
    fs::canonicalize(folder).is_ok_and(|folder| folder == Path::new("/dev") || folder.starts_with("/proc"))
}

/// Returns true if another user may have put this FIFO here as a trap: the kernel's rule of fs.protected_fifos, which
/// holds for sticky folders only. In other folders it is even easier.
fn is_planted(folder: &OwnedFd, there: &Stat) -> bool {
    FileType::from_raw_mode(there.st_mode) == FileType::Fifo
        && there.st_uid != geteuid().as_raw()
        && fstat(folder).is_ok_and(|folder| {
            folder.st_uid != there.st_uid && Mode::from_raw_mode(folder.st_mode).contains(Mode::WOTH)
        })
}

/// Returns a number that cannot be predicted: the keys of a hash table are made for that.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
