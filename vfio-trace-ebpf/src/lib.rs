//! Exists so that the crate can be a build-dependency of vfio-trace; the programs are in main.rs.
#![no_std]
