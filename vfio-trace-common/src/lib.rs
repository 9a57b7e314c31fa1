//! Definitions shared by the eBPF programs and user space: wire records, the layout table, probe roles, VFIO's uAPI
//! numbers.
//!
//! `no_std`, and nothing here allocates or fails. Every structure that crosses the boundary is `repr(C)` without
//! implicit padding and has its size asserted at compile time; all integers are in host byte order.
#![no_std]

#[cfg(feature = "user")]
extern crate alloc;

pub mod call;
pub mod capture;
pub mod defects;
pub mod layout;
#[cfg(feature = "user")]
pub mod record;
pub mod role;
pub mod stats;
pub mod uapi;
pub mod wire;
