//! The only list of checks and tests that may be left out although all has to be tested (`--strict`, and where
//! `CI=true`).

/// Checks that this machine may be unable to make, each with the reason. Empty: a fresh machine can make all.
pub(super) const CHECKS: &[(&str, &str)] = &[];

/// Unit tests that `cargo test` leaves out or that test nothing on their own, each with the check that runs them.
pub(super) const COVERED: &[(&str, &str)] = &[
    ("output::export::tests::files_for_others", "export: every kind of thing"),
    ("kernel::tests::real::real_kernel", "lab: facts of a real kernel"),
];

/// Unit tests that may test nothing here, each with the reason.
pub(super) const UNIT_TESTS: &[(&str, &str)] = &[];
