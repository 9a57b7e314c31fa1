//! Inode numbers: a path has one for as long as the mount lasts, also while what it names is away.

use std::{collections::HashMap, sync::Arc};

/// Numbers and paths, both ways.
#[derive(Debug)]
pub(super) struct Inodes {
    paths: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, u64>,
}

impl Inodes {
    /// The root has number 1, as FUSE wants it.
    pub(super) fn new() -> Self {
        let mut inodes = Self { paths: Vec::new(), numbers: HashMap::new() };
        inodes.number("");
        inodes
    }

    /// The number of a path, a new one if it has none yet. Ask only for what exists: numbers are never given back.
    pub(super) fn number(&mut self, path: &str) -> u64 {
        if let Some(number) = self.numbers.get(path) {
            return *number;
        }
        let path: Arc<str> = path.into();
        self.paths.push(Arc::clone(&path));
        let number = self.paths.len() as u64;
        self.numbers.insert(path, number);
        number
    }

    /// The path of a number that was given out.
    pub(super) fn path(&self, number: u64) -> Option<Arc<str>> {
        let at = usize::try_from(number.checked_sub(1)?).ok()?;
        self.paths.get(at).cloned()
    }
}
