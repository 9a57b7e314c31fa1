//! Files that can be read in one sitting, each with a line that says what it is for.

use crate::sources::{CRATES, all_of};

/// Lines of the longest file.
const MOST_LINES: usize = 600;

#[test]
fn no_file_is_too_long() {
    for file in CRATES.iter().flat_map(|folder| all_of(folder)) {
        let lines = file.text.lines().count();
        assert!(lines <= MOST_LINES, "{} has {lines} lines; more than {MOST_LINES} are too many", file.path);
    }
}

#[test]
fn every_file_says_what_it_is_for() {
    for file in CRATES.iter().flat_map(|folder| all_of(folder)) {
        assert!(
            file.text.starts_with("//! "),
            "{} does not begin with a line that says what it is for",
            file.path
        );
    }
}

#[test]
fn tests_examples_and_build_scripts_count_too() {
    let files: Vec<_> = CRATES.iter().flat_map(|folder| all_of(folder)).map(|file| file.path).collect();
    for path in [
        "vfio-trace/build.rs",
        "vfio-trace/examples/schemas.rs",
        "vfio-trace/src/lib.rs",
        "vfio-trace/tests/cli/main.rs",
        "xtask/tests/house/lengths.rs",
    ] {
        assert!(files.iter().any(|file| file == path), "{path}");
    }
}
