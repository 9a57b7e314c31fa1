//! Keeps the house in order: layers, names, lengths and first words, read from the sources themselves.
//!
//! `cargo test -p xtask --test house` takes a second or two; `cargo xtask test` runs it among the unit tests.

#![expect(clippy::tests_outside_test_module, reason = "an integration test is nothing but tests")]

mod dependencies;
mod docs;
mod events;
mod imports;
mod layers;
mod lengths;
mod names;
mod sources;
