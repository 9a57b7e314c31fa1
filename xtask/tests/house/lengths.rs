//! Files that can be read in one sitting, each with a line that says what it is for.

use crate::sources::{CRATES, below};

/// Lines of the longest file.
const MOST_LINES: usize = 600;

#[test]
fn no_file_is_too_long() {
    for file in CRATES.iter().flat_map(|folder| below(folder)) {
        let lines = file.text.lines().count();
        assert!(lines <= MOST_LINES, "{} has {lines} lines; more than {MOST_LINES} are too many", file.path);
    }
}

#[test]
fn every_file_says_what_it_is_for() {
    for file in CRATES.iter().flat_map(|folder| below(folder)) {
        assert!(
            file.text.starts_with("//! "),
            "{} does not begin with a line that says what it is for",
            file.path
        );
    }
}
