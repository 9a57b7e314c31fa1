//! Waiting for the ring buffer with tokio.

use std::io;

use aya::maps::{MapData, RingBuf};
use tokio::io::{Interest, unix::AsyncFd};

/// Registers a ring buffer with the current tokio runtime.
pub fn readable(ring: RingBuf<MapData>) -> io::Result<AsyncFd<RingBuf<MapData>>> {
    // SAFETY: the map owns its descriptor, gives the same one every time, and closes it only when it is dropped, which
    // is after the `AsyncFd` that owns it.
    Ok(unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }?)
}
