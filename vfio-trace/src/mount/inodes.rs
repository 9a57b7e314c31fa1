//! Inode numbers: a path has the same one for as long as the mount lasts, also while its file is gone. Only those that
//! the kernel remembers take room.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
};

/// Number of the root, as FUSE requires it.
const ROOT: u64 = 1;

/// Numbers and paths, both ways. The kernel's FORGET requests say when an entry can go.
#[derive(Debug)]
pub(super) struct InodeTable {
    paths: HashMap<u64, InodeEntry>,
    hasher: RandomState,
}

/// A path, and the number of times that the kernel was given its number.
#[derive(Debug)]
struct InodeEntry {
    path: Arc<str>,
    lookups: u64,
}

impl InodeTable {
    pub(super) fn new() -> Self {
        let mut inodes = Self { paths: HashMap::new(), hasher: RandomState::new() };
        inodes.remember("");
        inodes
    }

    /// Returns the number of a path, which is made from the path.
    pub(super) fn number(&self, path: &str) -> u64 {
        if path.is_empty() {
            return ROOT;
        }
        let mut number = self.hasher.hash_one(path).max(ROOT + 1);
        // It is next to impossible that two paths have one number; then the later one gets the next free number.
        while self.paths.get(&number).is_some_and(|known| &*known.path != path) {
            number = number.wrapping_add(1).max(ROOT + 1);
        }
        number
    }

    /// Returns the number of a path for the kernel, and counts it until the kernel forgets it as often.
    pub(super) fn remember(&mut self, path: &str) -> u64 {
        let number = self.number(path);
        let known = self.paths.entry(number).or_insert_with(|| InodeEntry { path: path.into(), lookups: 0 });
        known.lookups = known.lookups.saturating_add(1);
        number
    }

    /// Takes back `lookups` of the times that the kernel was given a number.
    pub(super) fn forget(&mut self, number: u64, lookups: u64) {
        let Some(known) = self.paths.get_mut(&number).filter(|_| number != ROOT) else { return };
        known.lookups = known.lookups.saturating_sub(lookups);
        if known.lookups == 0 {
            self.paths.remove(&number);
        }
    }

    /// Returns the path of a number that the kernel knows.
    pub(super) fn path(&self, number: u64) -> Option<Arc<str>> {
        self.paths.get(&number).map(|known| Arc::clone(&known.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_has_forgotten_takes_no_room() {
        let mut inodes = InodeTable::new();
        assert_eq!(inodes.path(ROOT).as_deref(), Some(""));
        for round in 0..50_000 {
            let path = format!("vfio/device-{round}");
            let listed = inodes.number(&path);
            let number = inodes.remember(&path);
            assert_eq!(listed, number, "a folder's list and a look agree");
            assert_eq!(inodes.remember(&path), number, "the same as long as it is known");
            inodes.forget(number, 1);
            assert_eq!(inodes.path(number).as_deref(), Some(path.as_str()), "once of twice");
            inodes.forget(number, 1);
            assert_eq!(inodes.path(number), None);
        }
        inodes.forget(ROOT, u64::MAX);
        inodes.forget(12_345_678, 1);
        assert_eq!(inodes.paths.len(), 1, "only the root is left");
    }

    #[test]
    fn a_number_is_never_of_two_paths() {
        let mut inodes = InodeTable::new();
        let first = inodes.remember("a");
        assert_ne!(first, inodes.remember("b"));
        // As if both had the same hash.
        let number = inodes.number("c");
        inodes.paths.insert(number, InodeEntry { path: "d".into(), lookups: 1 });
        assert_ne!(inodes.remember("c"), number);
        assert_eq!(inodes.path(number).as_deref(), Some("d"));
    }
}
