//! Writing to a pipe, a terminal or a device whose reader may stall, where a signal does not end the process.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{FileType, fstat},
    io::Errno,
};

/// How often a reader is looked for who does not take anything yet.
pub const TRY_AGAIN: Duration = Duration::from_millis(50);

/// `PIPE_BUF`: a pipe that is ready takes as much without waiting (pipe(7)).
pub const AT_ONCE: usize = 4096;

/// A file that is written to; once a flag is set, its reader is waited for no longer. It stays as others have it open too:
/// O_NONBLOCK would be theirs as well.
#[derive(Debug)]
pub struct Patient<F> {
    file: F,
    /// Writing to it may have to wait for somebody.
    waits: bool,
    stop: Option<Arc<AtomicBool>>,
}

impl<F: Write + AsFd> Patient<F> {
    /// Without `stop` it is waited for as ever.
    pub fn new(file: F, stop: Option<Arc<AtomicBool>>) -> Self {
        let waits = may_wait(&file);
        Self { file, waits, stop }
    }

    /// From here on this flag ends the waiting.
    pub fn stopped_by(&mut self, stop: &Arc<AtomicBool>) {
        self.stop = Some(Arc::clone(stop));
    }

    /// What is written to.
    pub const fn file(&mut self) -> &mut F {
        &mut self.file
    }
}

/// Standard output, without a buffer of the library's, which would be written when the process ends, whatever happened
/// before.
///
/// # Errors
///
/// There is no descriptor left.
pub fn stdout() -> io::Result<File> {
    io::stdout().as_fd().try_clone_to_owned().map(File::from)
}

impl<F: Write + AsFd> Write for Patient<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(stop) = self.stop.as_ref().filter(|_| self.waits) else {
            return self.file.write(bytes);
        };
        while !ready(&self.file, PollFlags::OUT, TRY_AGAIN)? {
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

/// Whether writing to a file may have to wait for somebody: it is not a regular one.
pub fn may_wait(file: impl AsFd) -> bool {
    !fstat(file).is_ok_and(|there| FileType::from_raw_mode(there.st_mode) == FileType::RegularFile)
}

/// Waits a while until a file can be read or written, or has an error to tell.
///
/// # Errors
///
/// What poll(2) says.
pub fn ready(file: impl AsFd, what: PollFlags, most: Duration) -> io::Result<bool> {
    let tv_sec = most.as_secs().try_into().unwrap_or(0);
    let most = Timespec { tv_sec, tv_nsec: most.subsec_nanos().into() };
    match poll(&mut [PollFd::new(&file, what)], Some(&most)) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
        Err(why) => Err(why.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use super::*;

    #[test]
    fn a_reader_that_stalls_is_waited_for_until_the_flag_is_set() {
        let (reader, writer) = io::pipe().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let mut patient = Patient::new(writer, None);
        patient.stopped_by(&stop);
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            let done = patient.write_all(&vec![0; 1 << 20]).unwrap_err().to_string();
            tell.send(done).unwrap();
        });
        told.recv_timeout(Duration::from_millis(300)).unwrap_err();
        stop.store(true, Ordering::Relaxed);
        let why = told.recv_timeout(Duration::from_secs(20)).unwrap();
        assert!(why.contains("its reader takes nothing more"), "{why}");
        drop(reader);
    }

    #[test]
    fn who_reads_gets_all_though_it_is_to_stop() {
        let (mut reader, writer) = io::pipe().unwrap();
        let all: Vec<u8> = (0..1_u32 << 18).map(|at| (at % 251) as u8).collect();
        let mut patient = Patient::new(writer, Some(Arc::new(AtomicBool::new(true))));
        let expected = all.clone();
        let reading = thread::spawn(move || {
            let mut read = Vec::new();
            io::Read::read_to_end(&mut reader, &mut read).map(|_| read)
        });
        patient.write_all(&all).unwrap();
        drop(patient);
        assert!(reading.join().unwrap().unwrap() == expected);
    }
}
