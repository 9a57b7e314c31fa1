//! Output files of a run: the image that `save` reads, and JUnit's. Nothing is made before the device is open.

use std::{
    ffi::OsString,
    io::Write as _,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
};

use super::ExerciseArgs;
use crate::{
    cli::{
        error::{CliError, USAGE},
        out_file::OutFile,
        output::note,
    },
    exercise::ImageSink,
    recording::StopFlag,
};

/// Files that a run writes besides its report.
pub(super) struct ExerciseOutputs {
    image: Option<ImageFile>,
    junit: Option<OutFile>,
}

/// File for the image that `save` reads (`--out`).
struct ImageFile {
    name: String,
    /// `None` once the image is in its place, or has failed.
    file: Option<OutFile>,
    failed: Option<CliError>,
}

impl ExerciseOutputs {
    /// Checks that all files may be written to; changes nothing. Setting `stop` ends every wait for a reader.
    pub(super) fn look(args: &ExerciseArgs, stop: &Arc<AtomicBool>) -> Result<Self, CliError> {
        let named =
            [("--out", &args.out), ("--junit", &args.junit), ("--in", &args.image), ("--wrong", &args.wrong)];
        for (index, (option, path)) in named.iter().enumerate().take(2) {
            let Some(path) = path else { continue };
            let others = named.iter().skip(index + 1).filter_map(|(name, path)| Some((name, path.as_ref()?)));
            for (other, second) in others {
                if is_same(path, second) {
                    let what = format!("cannot write {}", path.display());
                    let why = format!("{option} and {other} are the same file");
                    return Err(CliError::with_code(USAGE, what, why, "give each a file of its own"));
                }
            }
        }
        let inputs: Vec<PathBuf> = [&args.image, &args.wrong].into_iter().flatten().cloned().collect();
        // The report goes to standard output.
        OutFile::stdout_beside(&inputs).map_err(|mut error| {
            error.code = USAGE;
            error
        })?;
        // The image is written while its device stands still; JUnit's file when all is over.
        let image = args.out.as_deref().map(|path| {
            let name = path.display().to_string();
            plan("--out", path, StopFlag::at_once(stop)).map(|file| ImageFile {
                name,
                file: Some(file),
                failed: None,
            })
        });
        let junit = args.junit.as_deref().map(|path| plan("--junit", path, StopFlag::new(stop)));
        Ok(Self { image: image.transpose()?, junit: junit.transpose()? })
    }

    /// Returns the sink of the image, if `--out` was given.
    pub(super) fn keeper(&mut self) -> Option<&mut dyn ImageSink> {
        self.image.as_mut().map(|image| image as &mut dyn ImageSink)
    }

    /// Takes the error for which the image was not kept, if there is one.
    pub(super) fn take_error(&mut self) -> Option<CliError> {
        self.image.as_mut()?.failed.take()
    }

    /// Writes what is left at the end of the run; returns the first error, the image's before JUnit's.
    pub(super) fn finish(mut self, junit: impl FnOnce() -> String) -> Result<(), CliError> {
        let image = self.take_error().map_or(Ok(()), Err);
        if let Some(ImageFile { name, file: Some(file), .. }) = &mut self.image {
            // Bytes that a pipe or a device was given stay there: part of an image may be.
            let what = if file.is_special() { "did not get a whole image" } else { "was not written" };
            note(&format!("{name} {what}: none was read to its end"));
        }
        let junit = self.junit.map_or(Ok(()), |mut file| {
            // `finish` reports errors; a reader that went away has what it wanted.
            let _noted = file.write_all(junit().as_bytes()).is_err();
            file.finish().map(drop)
        });
        image.and(junit)
    }
}

fn plan(option: &str, path: &Path, stop: StopFlag) -> Result<OutFile, CliError> {
    if path.as_os_str() == "-" {
        let todo = "give a file; one of this name is ./-";
        let what = format!("cannot write {option} to standard output");
        return Err(CliError::with_code(USAGE, what, "the report goes there", todo));
    }
    let file = OutFile::create_new(path).map_err(|mut error| {
        error.code = USAGE;
        error
    })?;
    Ok(file.stopped_by(stop))
}

impl ImageFile {
    fn end(&mut self) -> Result<(), String> {
        let Some(file) = self.file.take() else { return Ok(()) };
        let error = match file.finish() {
            Ok(true) => return Ok(()),
            Ok(false) => CliError::failed(
                format!("cannot write {}", self.name),
                "what read it went away before the end of the image",
                "let it read to the end, or give a file",
            ),
            Err(error) => error,
        };
        let why = error.sentence();
        self.failed = Some(error);
        Err(why)
    }
}

impl ImageSink for ImageFile {
    fn begin(&mut self) -> Result<(), String> {
        let opened = self.file.as_mut().map_or(Ok(()), OutFile::flush);
        opened.or_else(|_told| self.end())
    }

    fn put(&mut self, bytes: &[u8]) {
        if let Some(file) = &mut self.file {
            // `OutFile::finish` reports errors.
            let _noted = file.write_all(bytes).is_err();
        }
    }

    fn finish(&mut self) -> Result<(), String> {
        self.end()
    }
}

/// Returns true if two names are of one file, present or yet to be made. A character device never counts: it keeps
/// nothing of what is written, so both outputs may go there.
fn is_same(one: &Path, other: &Path) -> bool {
    let which = |path: &Path| -> Option<(u64, u64, Option<OsString>)> {
        if let Ok(there) = path.metadata() {
            return (!there.file_type().is_char_device()).then(|| (there.dev(), there.ino(), None));
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let there = folder.unwrap_or_else(|| Path::new(".")).metadata().ok()?;
        Some((there.dev(), there.ino(), Some(path.file_name()?.to_owned())))
    };
    which(one).is_some_and(|one| which(other) == Some(one))
}

#[cfg(test)]
mod tests;
