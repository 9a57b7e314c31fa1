//! A document for tests: two hosts, a migration that worked, one that failed, and everything that can be unknown.
