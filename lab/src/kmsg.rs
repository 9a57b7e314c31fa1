//! Copies the kernel log from a moment on, as it grows: records that the ring buffer overwrites are counted.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, ErrorKind, Read as _, Seek as _, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result, anyhow};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;

/// Bytes of the read buffer. It must hold one record (the kernel's limit is 8 KiB), or read() fails with EINVAL.
const RECORD: usize = 8192;

/// A thread that copies `/dev/kmsg` into a file in `dmesg`'s format.
#[derive(Debug)]
pub(crate) struct KernelLog {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Totals>>>,
}

/// Counts of a finished copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Records written.
    pub(crate) records: u64,
    /// Records that the ring buffer overwrote before they were read.
    pub(crate) lost: u64,
}

impl KernelLog {
    pub(crate) fn start(file: &Path) -> Result<Self> {
        let mut kmsg = OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::NONBLOCK.bits() as i32)
            .open("/dev/kmsg")
            .context("cannot open /dev/kmsg for the kernel log; run as root")?;
        kmsg.seek(SeekFrom::End(0)).context("cannot seek to the end of /dev/kmsg")?;
        let out = File::create(file).with_context(|| format!("cannot create {}", file.display()))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("kmsg".to_owned())
            .spawn(move || copy(kmsg, BufWriter::new(out), &stopped))
            .context("cannot start the thread that reads /dev/kmsg")?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Reads the records that are still there, then ends the thread.
    pub(crate) fn finish(mut self) -> Result<Totals> {
        self.stop.store(true, Ordering::Release);
        let thread = self.thread.take().context("the kernel log was finished twice")?;
        thread.join().map_err(|_panic| anyhow!("the thread that reads /dev/kmsg panicked"))?
    }
}

impl Drop for KernelLog {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // An error of the log is returned by `finish`; here another one is already being returned.
            drop(thread.join());
        }
    }
}

fn copy(mut kmsg: File, mut out: impl Write, stop: &AtomicBool) -> Result<Totals> {
    let mut totals = Totals::default();
    let mut expected = None;
    let mut buffer = [0; RECORD];
    loop {
        // Read before the records: what is logged before the stop is still copied.
        let last_round = stop.load(Ordering::Acquire);
        match kmsg.read(&mut buffer) {
            Ok(length) => {
                let Some(record) = Record::parse(&buffer[..length]) else { continue };
                let lost = expected.map_or(0, |next: u64| record.sequence.saturating_sub(next));
                if lost > 0 {
                    totals.lost += lost;
                    writeln!(out, "# lost {lost} records before this one")?;
                }
                expected = Some(record.sequence + 1);
                totals.records += 1;
                writeln!(out, "{}", record.as_dmesg())?;
            },
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if last_round {
                    break;
                }
                wait_for_more(&kmsg)?;
            },
            // Overwritten while we were behind: the next read continues with the oldest record there is.
            Err(error) if error.raw_os_error() == Some(Errno::PIPE.raw_os_error()) => {},
            Err(error) if error.kind() == ErrorKind::Interrupted => {},
            Err(error) => return Err(error).context("cannot read /dev/kmsg"),
        }
    }
    writeln!(out, "# end: {} records, {} lost", totals.records, totals.lost)?;
    out.flush().context("cannot write the kernel log's copy")?;
    Ok(totals)
}

fn wait_for_more(kmsg: &File) -> Result<()> {
    let timeout = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
    match poll(&mut [PollFd::new(kmsg, PollFlags::IN)], Some(&timeout)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error).context("cannot wait for /dev/kmsg"),
    }
}

/// One record: `6,1234,56789012,-;text`, then lines of properties that start with a space.
#[derive(Debug, PartialEq, Eq)]
struct Record {
    sequence: u64,
    microseconds: u64,
    text: String,
}

impl Record {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(bytes);
        let (prefix, rest) = text.split_once(';')?;
        let mut fields = prefix.split(',').skip(1);
        let sequence = fields.next()?.parse().ok()?;
        let microseconds = fields.next()?.parse().ok()?;
        let text = rest.lines().next().unwrap_or_default().to_owned();
        Some(Self { sequence, microseconds, text })
    }

    fn as_dmesg(&self) -> String {
        format!("[{:5}.{:06}] {}", self.microseconds / 1_000_000, self.microseconds % 1_000_000, self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_becomes_a_line_of_dmesg() {
        let raw = b"7,812,14203117,-;mtty 11111111-1111-1111-1111-111111111111: mtty_set_state -> 6\n \
                    SUBSYSTEM=mdev\n DEVICE=+mdev:11111111-1111-1111-1111-111111111111\n";
        let record = Record::parse(raw).unwrap();
        assert_eq!(record.sequence, 812);
        assert_eq!(
            record.as_dmesg(),
            "[   14.203117] mtty 11111111-1111-1111-1111-111111111111: mtty_set_state -> 6"
        );
    }

    #[test]
    fn what_is_no_record_is_skipped() {
        assert_eq!(Record::parse(b"no semicolon"), None);
        assert_eq!(Record::parse(b"6,x,1,-;text"), None);
    }
}
