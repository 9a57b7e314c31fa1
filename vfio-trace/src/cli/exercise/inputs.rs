//! Input images (`--in`, `--wrong`): files, or pipes, which are waited for until a signal comes.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use rustix::{
    event::PollFlags,
    fs::{CWD, Mode, OFlags, openat},
};

use crate::{
    cli::error::{CliError, INPUT},
    exercise::MOST_BYTES,
    recording::{TRY_AGAIN, ready},
};

/// Input image, open.
#[derive(Debug)]
pub(super) struct ImageInput {
    path: PathBuf,
    file: File,
}

impl ImageInput {
    /// Opens the image, and checks its length if it has one already; does not wait.
    pub(super) fn open(path: &Path) -> Result<Self, CliError> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file =
            openat(CWD, path, flags, Mode::empty()).map_err(|why| failed(path, &io::Error::from(why)))?;
        let input = Self { path: path.to_owned(), file: file.into() };
        let there = input.file.metadata().map_err(|why| failed(path, &why))?;
        if there.is_dir() {
            return Err(failed(path, &io::ErrorKind::IsADirectory.into()));
        }
        // Files of /proc and the like have a length of 0, and yet something in them.
        let has_some = || rustix::io::pread(&input.file, &mut [0], 0).is_ok_and(|length| length > 0);
        if there.is_file() && (there.len() > 0 || !has_some()) {
            input.check(there.len())?;
        }
        Ok(input)
    }

    /// Reads the image to its end; an error if `stop` is set before.
    pub(super) fn read(mut self, stop: &AtomicBool) -> Result<Vec<u8>, CliError> {
        let mut image = Vec::new();
        let mut buffer = vec![0; 1 << 16];
        loop {
            if stop.load(Ordering::Relaxed) {
                let why = "it was to stop, and this has not come to its end";
                return Err(CliError::failed(
                    cannot(&self.path),
                    why,
                    "let something write the image into it",
                ));
            }
            // A pipe that had no writer yet is not ready; one that its writer has closed is.
            if !ready(&self.file, PollFlags::IN, TRY_AGAIN).map_err(|why| failed(&self.path, &why))? {
                continue;
            }
            match self.file.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => image.extend_from_slice(buffer.get(..length).unwrap_or_default()),
                Err(why) if matches!(why.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                },
                Err(why) => return Err(failed(&self.path, &why)),
            }
            if image.len() > MOST_BYTES {
                break;
            }
        }
        self.check(image.len() as u64)?;
        Ok(image)
    }

    fn check(&self, length: u64) -> Result<(), CliError> {
        let why = match length {
            0 => "it is empty",
            _ if length > MOST_BYTES as u64 => "it is longer than 1 GiB",
            _ => return Ok(()),
        };
        let todo = "give an image of at least one byte and at most 1 GiB";
        Err(CliError::with_code(INPUT, cannot(&self.path), why, todo))
    }
}

fn cannot(path: &Path) -> String {
    format!("cannot read {}", path.display())
}

fn failed(path: &Path, why: &io::Error) -> CliError {
    CliError::with_code(INPUT, cannot(path), why, "give a file that `--out` has written")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_length_is_read() {
        let never = AtomicBool::new(false);
        let read = |path: &str| ImageInput::open(Path::new(path)).unwrap().read(&never);
        assert!(read("/proc/version").unwrap().starts_with(b"Linux"));
        assert!(read("/dev/null").unwrap_err().sentence().ends_with("it is empty"));
    }
}
