//! Writing to a pipe, a terminal or a device whose reader may stall, while signals do not end the process.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{FileType, fstat},
    io::Errno,
};

use crate::sys::stdout_was_closed;

/// Interval at which a reader that does not read is checked.
pub const TRY_AGAIN: Duration = Duration::from_millis(50);

/// `PIPE_BUF`: number of bytes that a pipe accepts without waiting if it is ready (pipe(7)).
pub const AT_ONCE: usize = 4096;

/// Maximum time without room once the flag is set: a reader that compresses, or is far away, reads only now and then. A
/// pipe has room again when a whole page was read.
const GRACE: Duration = Duration::from_secs(5);

/// Flag that ends the wait for a reader.
///
/// Commands make it from the flag that a signal sets, and give it to the outputs that may have to wait.
#[derive(Clone, Debug)]
pub struct StopFlag {
    flag: Arc<AtomicBool>,
    grace: Duration,
}

impl StopFlag {
    /// Makes a flag with patience: once `flag` is set, a reader that makes no room for [`GRACE`] is given up.
    pub fn new(flag: &Arc<AtomicBool>) -> Self {
        Self { flag: Arc::clone(flag), grace: GRACE }
    }

    /// Makes a flag without patience: once `flag` is set, no reader is waited for, because something else (a device)
    /// must not wait.
    pub fn at_once(flag: &Arc<AtomicBool>) -> Self {
        Self { grace: TRY_AGAIN, ..Self::new(flag) }
    }

    /// Returns true if the flag is set.
    pub fn is_set(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }
}

/// File that is written to. Once a flag is set, its reader is given up if it makes no more room. The file's status
/// flags are not changed: O_NONBLOCK would also apply to other processes that have it open.
#[derive(Debug)]
pub struct StoppableFile<F> {
    file: F,
    /// True if writing to it may have to wait.
    waits: bool,
    stop: Option<StopFlag>,
}

impl<F: Write + AsFd> StoppableFile<F> {
    /// Wraps a file. Without `stop`, writing waits as usual.
    pub fn new(file: F, stop: Option<StopFlag>) -> Self {
        let waits = may_wait(&file);
        Self { file, waits, stop }
    }

    /// Sets the flag that ends the waiting.
    pub fn stopped_by(&mut self, stop: StopFlag) {
        self.stop = Some(stop);
    }

    /// Returns the file.
    pub const fn file(&mut self) -> &mut F {
        &mut self.file
    }
}

/// Returns standard output without the library's buffer, which would be written when the process ends, even after an
/// error.
///
/// # Errors
///
/// There is no descriptor left, or it was closed when this process began.
pub fn stdout() -> io::Result<File> {
    if stdout_was_closed() {
        return Err(Errno::BADF.into());
    }
    io::stdout().as_fd().try_clone_to_owned().map(File::from)
}

impl<F: Write + AsFd> Write for StoppableFile<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(stop) = self.stop.as_ref().filter(|_| self.waits) else {
            return self.file.write(bytes);
        };
        // Every successful write starts a new time.
        let mut since = None;
        while !ready(&self.file, PollFlags::OUT, TRY_AGAIN)? {
            if stop.is_set() && since.get_or_insert_with(Instant::now).elapsed() >= stop.grace {
                let grace = stop.grace.as_secs_f64();
                return Err(io::Error::other(format!(
                    "it was to stop, and its reader has made no room for {grace} s"
                )));
            }
        }
        self.file.write(bytes.get(..AT_ONCE).unwrap_or(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Returns true if writing to a file may have to wait: if it is not a regular one.
pub fn may_wait(file: impl AsFd) -> bool {
    !fstat(file).is_ok_and(|there| FileType::from_raw_mode(there.st_mode) == FileType::RegularFile)
}

/// Waits at most `most` until a file can be read or written, or has an error. Returns true if so.
///
/// # Errors
///
/// The error of poll(2).
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

    fn set() -> Arc<AtomicBool> {
        Arc::new(AtomicBool::new(true))
    }

    #[test]
    fn a_reader_that_stalls_is_waited_for_until_the_flag_is_set() {
        let (reader, writer) = io::pipe().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let mut patient = StoppableFile::new(writer, None);
        patient.stopped_by(StopFlag::at_once(&stop));
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            let done = patient.write_all(&vec![0; 1 << 20]).unwrap_err().to_string();
            tell.send(done).unwrap();
        });
        told.recv_timeout(Duration::from_millis(300)).unwrap_err();
        stop.store(true, Ordering::Relaxed);
        let why = told.recv_timeout(Duration::from_secs(20)).unwrap();
        assert!(why.contains("its reader has made no room for 0.05 s"), "{why}");
        drop(reader);
    }

    #[test]
    fn one_that_takes_nothing_is_given_up_after_the_grace() {
        let (reader, writer) = io::pipe().unwrap();
        let grace = Duration::from_millis(700);
        let mut patient = StoppableFile::new(writer, Some(StopFlag { grace, ..StopFlag::new(&set()) }));
        let began = Instant::now();
        let why = patient.write_all(&vec![0; 1 << 20]).unwrap_err().to_string();
        assert!(why.contains("has made no room for 0.7 s"), "{why}");
        assert!(began.elapsed() >= grace);
        drop(reader);
    }

    /// A reader such as `zstd` or a connection: it reads long after the flag is set, at longer intervals than the
    /// checks.
    #[test]
    fn who_reads_slowly_gets_all_though_it_is_to_stop() {
        let (mut reader, writer) = io::pipe().unwrap();
        let all: Vec<u8> = (0..1_u32 << 17).map(|at| (at % 251) as u8).collect();
        let mut patient = StoppableFile::new(writer, Some(StopFlag::new(&set())));
        let expected = all.clone();
        let reading = thread::spawn(move || {
            let (mut read, mut page) = (Vec::new(), [0; AT_ONCE]);
            loop {
                match io::Read::read(&mut reader, &mut page).unwrap() {
                    0 => return read,
                    length => read.extend_from_slice(&page[..length]),
                }
                // The room of the pipe is filled without waiting; the rest is not.
                let full = read.len() <= AT_ONCE * 8;
                thread::sleep(if full { TRY_AGAIN * 4 } else { Duration::ZERO });
            }
        });
        patient.write_all(&all).unwrap();
        drop(patient);
        assert!(reading.join().unwrap() == expected);
    }
}
