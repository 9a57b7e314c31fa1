//! Files of ground truth: one JSON object per line, or one JSON document.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Error, Result};
use serde::Serialize;

/// A file to which JSON objects are appended, one per line. Several threads may write.
#[derive(Debug)]
pub(crate) struct Lines {
    file: PathBuf,
    out: Mutex<Out>,
}

#[derive(Debug)]
struct Out {
    to: BufWriter<File>,
    /// The first failure. `write` has nowhere to report it; `finish` returns it.
    failed: Option<Error>,
}

impl Lines {
    pub(crate) fn create(file: &Path) -> Result<Self> {
        let to = File::create(file).with_context(|| format!("cannot create {}", file.display()))?;
        Ok(Self { file: file.to_owned(), out: Mutex::new(Out { to: BufWriter::new(to), failed: None }) })
    }

    /// Writes one object and flushes it, so that a run that is killed leaves all lines up to then.
    pub(crate) fn write(&self, object: &impl Serialize) {
        let mut out = self.lock();
        let written = serde_json::to_vec(object).map_err(Error::from).and_then(|mut line| {
            line.push(b'\n');
            out.to.write_all(&line)?;
            Ok(out.to.flush()?)
        });
        if let Err(error) = written {
            out.failed.get_or_insert(error);
        }
    }

    /// Returns the first error of all writes, if there was one.
    pub(crate) fn finish(&self) -> Result<()> {
        self.lock().failed.take().map_or(Ok(()), |error| {
            Err(error.context(format!("cannot write all of {}; is the disk full?", self.file.display())))
        })
    }

    fn lock(&self) -> MutexGuard<'_, Out> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes one pretty-printed JSON document.
pub(crate) fn write_document(file: &Path, document: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(document).context("cannot encode evidence")?;
    text.push(b'\n');
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_objects() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines");
        let lines = Lines::create(&path).unwrap();
        lines.write(&serde_json::json!({"step": 1}));
        lines.write(&serde_json::json!({"step": 2}));
        lines.finish().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, "{\"step\":1}\n{\"step\":2}\n");
    }

    #[test]
    fn a_full_disk_is_told_at_the_end() {
        let lines = Lines::create(Path::new("/dev/full")).unwrap();
        lines.write(&serde_json::json!({"step": 1}));
        assert!(lines.finish().unwrap_err().to_string().contains("/dev/full"));
    }
}
