//! Writing to a FIFO or a device whose reader may stall, where a signal does not end the process.

use std::{
    io::{self, Write},
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

use super::TRY_AGAIN;
use crate::store::NewFile;

/// A file that is written to; once `stop` is set, it is waited for no longer.
pub(super) struct Patient {
    pub(super) file: NewFile,
    pub(super) stop: Option<Arc<AtomicBool>>,
}

/// `PIPE_BUF`: a pipe that is ready takes as much without waiting (pipe(7)).
const AT_ONCE: usize = 4096;

impl Write for Patient {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(stop) = self.stop.as_ref().filter(|_| self.file.is_special()) else {
            return self.file.write(bytes);
        };
        while !ready(&self.file, PollFlags::OUT)? {
            if stop.load(Ordering::Relaxed) {
                return Err(io::Error::other("it was to stop, and its reader takes nothing more"));
            }
        }
        self.file.write(bytes.get(..AT_ONCE).unwrap_or(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Waits a moment until a file can be read or written, or has an error to tell.
pub(in crate::cli) fn ready(file: impl AsFd, what: PollFlags) -> io::Result<bool> {
    let moment = Timespec { tv_sec: 0, tv_nsec: TRY_AGAIN.subsec_nanos().into() };
    match poll(&mut [PollFd::new(&file, what)], Some(&moment)) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
        Err(why) => Err(why.into()),
    }
}
