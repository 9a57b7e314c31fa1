//! Outputs of a recording: new files, which replace existing ones only with `--force`.

use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    fmt,
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use super::{
    header::PartHeader,
    new_file::{FileId, NewFile, OpenAttempt, OutputTarget, folder_of, id_at},
    output_error::OutputError,
    patient::{StopFlag, StoppableFile, may_wait, stdout},
    reader::RecordingReader,
};

/// Output of a part.
///
/// [`RecordingOutput`] makes it for each part; the recorder writes it through a `PartWriter`.
pub trait PartOutput: Write + Send {
    /// Waits until the file system has stored everything: some notice only then that the disk is full.
    ///
    /// # Errors
    ///
    /// The error of the file system.
    fn sync(&mut self) -> io::Result<()>;
}

impl PartOutput for StoppableFile<File> {
    fn sync(&mut self) -> io::Result<()> {
        if may_wait(&*self.file()) { Ok(()) } else { self.file().sync_all() }
    }
}

/// Highest number with which a file that looks like a part prevents recording. A longer number may be a date.
const IN_THE_WAY: u32 = 9999;

/// Output of a recording: a file, several parts, or a stream.
///
/// The command line makes it before probes are attached, and takes each part from it when it is needed.
#[derive(Debug)]
pub struct RecordingOutput {
    /// Path as the user gave it; `None`: standard output.
    path: Option<PathBuf>,
    /// True if there are several parts (`rotate`), and the number of them that are kept.
    rotate: bool,
    keep: Option<usize>,
    /// Parts of an older recording, which this one replaces.
    old: Vec<(PathBuf, FileId)>,
    /// Place of the first part, until it is opened.
    target: Option<OutputTarget>,
    /// Part that is being written.
    current: Option<NewFile>,
    /// True if the first part has content.
    begun: bool,
    /// Flag that is set when the reader of a pipe is to be waited for no longer.
    stop: Option<StopFlag>,
    /// Parts that exist, oldest first.
    made: VecDeque<(PathBuf, Option<FileId>)>,
    /// Called if an output is undone and the replaced file could not be put back: its path, and its present path.
    lost: fn(&Path, &Path),
    #[cfg(test)]
    lacks: Option<super::new_file::FsLimits>,
}

impl RecordingOutput {
    /// Makes an output to standard output.
    pub const fn stdout() -> Self {
        Self {
            path: None,
            rotate: false,
            keep: None,
            old: Vec::new(),
            target: None,
            current: None,
            begun: false,
            stop: None,
            made: VecDeque::new(),
            lost: |_, _| {},
            #[cfg(test)]
            lacks: None,
        }
    }

    /// Lets a signal end the wait for the reader of a pipe or a device.
    #[must_use]
    pub fn stopped_by(mut self, stop: StopFlag) -> Self {
        self.stop = Some(stop);
        self
    }

    /// Makes an output to a file at `path`; with `rotate` to several, with a number before the extension, of which
    /// `keep` are kept. Checks the existing files, and changes nothing. With `force`, they will be replaced.
    ///
    /// # Errors
    ///
    /// See [`OutputError`].
    pub fn create(path: &Path, rotate: bool, keep: Option<usize>, force: bool) -> Result<Self, OutputError> {
        let old = if rotate { old_parts(path)? } else { Vec::new() };
        if let Some((old, _)) = old.first().filter(|_| !force) {
            return Err(OutputError::Exists(old.clone()));
        }
        let first = if rotate { numbered(path, 1) } else { path.to_owned() };
        let target = Some(OutputTarget::inspect(&first, force, &[])?);
        Ok(Self {
            path: Some(path.to_owned()),
            rotate,
            keep,
            old,
            target,
            begun: false,
            current: None,
            stop: None,
            made: VecDeque::new(),
            lost: |_, _| {},
            #[cfg(test)]
            lacks: None,
        })
    }

    /// Sets the function that is called if a replaced file could not be put back: its path, and its present path.
    #[must_use]
    pub fn on_unrestored(mut self, lost: fn(&Path, &Path)) -> Self {
        self.lost = lost;
        self
    }

    /// Simulates a file system with fewer operations.
    #[cfg(test)]
    pub(super) fn lacking(mut self, lacks: super::new_file::FsLimits) -> Self {
        self.target = self.target.take().map(|target| target.lacking(lacks));
        self.lacks = Some(lacks);
        self
    }

    /// Makes the first part's file, which has no name yet. Returns false for a FIFO that is not open for reading yet:
    /// then it has to be called again.
    ///
    /// # Errors
    ///
    /// See [`OutputError`].
    pub fn open(&mut self) -> Result<bool, OutputError> {
        match self.target.take().map(OutputTarget::open).transpose()? {
            None => Ok(true),
            Some(OpenAttempt::Ready(file)) => {
                self.current = Some(file);
                Ok(true)
            },
            Some(OpenAttempt::NoReader(target)) => {
                self.target = Some(target);
                Ok(false)
            },
        }
    }

    /// Puts the first part in its place and returns it. Dropping the output undoes this until `keep_first_part()`.
    ///
    /// # Errors
    ///
    /// See [`OutputError`].
    pub fn first(&mut self) -> Result<Box<dyn PartOutput>, OutputError> {
        let Some(mut file) = self.current.take() else { return self.standard() };
        if let Err(why) = file.place_for_now() {
            // Dropping it puts the replaced file back.
            self.current = Some(file);
            return Err(why);
        }
        self.placed(file)
    }

    /// Returns true if the first part is a file: no pipe, device or stream, whose data may be read already.
    pub fn is_file(&self) -> bool {
        self.current.as_ref().is_some_and(|file| !file.is_special())
    }

    /// Makes the part with this number, from 2, and removes those that are not kept, but not the one before it: that is
    /// all there is until something stands in the new one.
    ///
    /// # Errors
    ///
    /// See [`OutputError`].
    pub fn next(&mut self, number: u32) -> Result<Box<dyn PartOutput>, OutputError> {
        let Some(path) = &self.path else { return self.standard() };
        let path = numbered(path, number);
        let target = OutputTarget::inspect(&path, false, &[])?;
        #[cfg(test)]
        let target = if let Some(lacks) = self.lacks { target.lacking(lacks) } else { target };
        let out = match target.open()? {
            OpenAttempt::Ready(mut file) => {
                file.place()?;
                self.placed(file).inspect_err(|_| self.take_away())?
            },
            OpenAttempt::NoReader(_) => return Err(OutputError::Exists(path)),
        };
        self.remove_beyond(self.keep.map(|keep| keep.max(2)));
        Ok(out)
    }

    /// Removes parts that are not kept, once something stands in the newest one.
    pub fn prune(&mut self) {
        self.remove_beyond(self.keep.map(|keep| keep.max(1)));
    }

    fn remove_beyond(&mut self, most: Option<usize>) {
        while most.is_some_and(|most| self.made.len() > most) {
            let Some((oldest, id)) = self.made.pop_front() else { break };
            // Another process may have removed or replaced it.
            let _gone = id_at(&oldest) == id && fs::remove_file(oldest).is_err();
        }
    }

    /// Checks whether further parts can be made with the privileges that are left.
    ///
    /// # Errors
    ///
    /// See [`OutputError`].
    pub fn try_next(&self) -> Result<(), OutputError> {
        let Some(path) = self.path.as_ref().filter(|_| self.rotate) else { return Ok(()) };
        let second = numbered(path, 2);
        // The older part will be gone by then.
        let force = self.old.iter().any(|(old, _)| *old == second);
        OutputTarget::inspect(&second, force, &[])?.open().map(drop)
    }

    /// Makes the first part final; without this call, dropping the output undoes it. Removes the file that it replaces,
    /// and the parts of an older recording, which would be taken for parts of this one. Returns the files that could
    /// not be removed, with the error: that is no reason not to record.
    #[must_use]
    pub fn keep_first_part(&mut self) -> Vec<(PathBuf, io::Error)> {
        self.begun = true;
        let mut left = Vec::new();
        left.extend(self.current.as_mut().and_then(|file| file.settle().err()));
        for (old, id) in self.old.drain(..) {
            // Another process may have removed or replaced it, or this one has.
            if id_at(&old) == Some(id)
                && let Err(why) = fs::remove_file(&old)
                && why.kind() != io::ErrorKind::NotFound
            {
                left.push((old, why));
            }
        }
        left
    }

    /// Returns the path of a part: with a number before the extension, so that the names sort in the order of the
    /// parts.
    pub fn part_name(path: &Path, number: u32) -> PathBuf {
        numbered(path, number)
    }

    /// Returns the paths of the parts that exist, as a user would write them.
    pub fn parts(&self) -> impl Iterator<Item = &Path> {
        self.made.iter().map(|(path, _)| path.as_path())
    }

    fn placed(&mut self, file: NewFile) -> Result<Box<dyn PartOutput>, OutputError> {
        // Stored first: if the rest fails, the replaced file is put back.
        let file = self.current.insert(file);
        let path = file.path().to_owned();
        let out = file.writer().map_err(|source| OutputError::Io { path: path.clone(), source })?;
        self.made.push_back((path, file.id()));
        Ok(Box::new(StoppableFile::new(out, self.stop.clone())))
    }

    /// Takes away the part that was made last: nothing could be written to it.
    pub fn withdraw(&mut self) {
        if self.current.is_some() {
            self.take_away();
            self.made.pop_back();
        }
    }

    /// Undoes the placement of the current part.
    fn take_away(&mut self) {
        if let Some(mut file) = self.current.take()
            && let Some(now) = file.discard()
        {
            (self.lost)(file.path(), &now);
        }
    }

    fn standard(&self) -> Result<Box<dyn PartOutput>, OutputError> {
        let out = stdout().map_err(|source| OutputError::Io { path: "standard output".into(), source })?;
        Ok(Box::new(StoppableFile::new(out, self.stop.clone())))
    }
}

impl Drop for RecordingOutput {
    fn drop(&mut self) {
        if !self.begun {
            self.take_away();
        }
    }
}

/// Returns the parts of an older recording with this name.
///
/// The name alone proves nothing. A file counts as a part if its header says so, it was made with `--rotate`, belongs
/// to the same user, and is of the same recording as the others. A file that only looks like a part is an error, or is
/// left alone if its number is too long.
fn old_parts(path: &Path) -> Result<Vec<(PathBuf, FileId)>, OutputError> {
    let (stem, extension) = split(path);
    let Ok(entries) = fs::read_dir(folder_of(path)) else { return Ok(Vec::new()) };
    let number = |name: &OsStr| {
        let digits = name.as_encoded_bytes().strip_prefix(stem.as_encoded_bytes())?.strip_prefix(b".")?;
        let digits = digits.strip_suffix(extension.as_encoded_bytes())?;
        let number: u32 = std::str::from_utf8(digits).ok()?.parse().ok()?;
        (number > 0 && path.with_file_name(name) == numbered(path, number)).then_some(number)
    };
    let mut numbers: Vec<u32> = entries.flatten().filter_map(|entry| number(&entry.file_name())).collect();
    numbers.sort_unstable();
    let (mut recording, mut old) = (None, Vec::new());
    for number in numbers {
        let part = numbered(path, number);
        // Gone, or an empty file made for this recording (mktemp).
        if fs::symlink_metadata(&part).map_or(true, |there| there.is_file() && there.len() == 0) {
            continue;
        }
        let why = match part_of(&part, number) {
            Ok((of, id)) if recording.as_ref().is_none_or(|recording| *recording == of) => {
                recording = Some(of);
                old.push((part, id));
                continue;
            },
            Ok(_) => "it is of another recording than the parts before it".to_owned(),
            Err(why) => why,
        };
        if number <= IN_THE_WAY {
            return Err(OutputError::NoPart { path: part, why });
        }
    }
    Ok(old)
}

/// Returns the recording that a file is part `number` of, and the file's identity. An error, in words, if the file is
/// of another user or was not made as that part, or if it cannot be read.
fn part_of(path: &Path, number: u32) -> Result<(String, FileId), String> {
    let unread = |why: &dyn fmt::Display| format!("it cannot be read: {why}");
    if !fs::symlink_metadata(path).map_err(|why| unread(&why))?.is_file() {
        return Err("it is not a file".to_owned());
    }
    let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits();
    let file = File::options().read(true).custom_flags(flags.cast_signed()).open(path);
    let file = file.map_err(|why| unread(&why))?;
    let there = file.metadata().map_err(|why| unread(&why))?;
    if there.uid() != rustix::process::geteuid().as_raw() {
        return Err("it belongs to another user".to_owned());
    }
    let id = FileId::open(&file).filter(|_| there.is_file()).ok_or("it is not a file")?;
    let reader = RecordingReader::open(file).map_err(|why| why.to_string())?;
    let PartHeader { part, recording, start, .. } = reader.header();
    let rotated = |word: &String| word == "--rotate" || word.starts_with("--rotate=");
    if *part != number {
        return Err(format!("it is part {part} of a recording"));
    }
    if !start.command.iter().any(rotated) {
        return Err("it was recorded without --rotate".to_owned());
    }
    Ok((recording.clone(), id))
}

/// Returns the name without extension, and the extension with its dot.
fn split(path: &Path) -> (OsString, OsString) {
    let stem = path.file_stem().unwrap_or_default().to_owned();
    let mut extension = OsString::new();
    if let Some(text) = path.extension() {
        extension.push(".");
        extension.push(text);
    }
    (stem, extension)
}

/// Returns the path of a part: `trace.vft` → `trace.0001.vft`. The names sort in the order of the parts.
fn numbered(path: &Path, number: u32) -> PathBuf {
    let (mut name, extension) = split(path);
    name.push(format!(".{number:04}"));
    name.push(extension);
    path.with_file_name(name)
}
