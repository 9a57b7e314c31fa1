//! A unix socket between source and destination that stops forwarding on purpose, so that a migration hangs there.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// Interval at which the thread looks for a request to stop.
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

#[derive(Debug, Default)]
struct Shared {
    forwarded: AtomicU64,
    stalled: AtomicBool,
    stop: AtomicBool,
}

/// A proxy for one connection. After a number of bytes it stops forwarding to the destination for good.
#[derive(Debug)]
pub(crate) struct Proxy {
    path: PathBuf,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Proxy {
    pub(crate) fn start(
        path: &Path,
        destination: &Path,
        stall_after: u64,
        timeout: Duration,
    ) -> Result<Self> {
        let listener =
            UnixListener::bind(path).with_context(|| format!("cannot listen on {}", path.display()))?;
        listener.set_nonblocking(true)?;
        let shared = Arc::new(Shared::default());
        let (seen, destination) = (Arc::clone(&shared), destination.to_owned());
        let thread = thread::Builder::new()
            .name("proxy".to_owned())
            .spawn(move || serve(&listener, &destination, stall_after, timeout, &seen))
            .context("cannot start the proxy's thread")?;
        Ok(Self { path: path.to_owned(), shared, thread: Some(thread) })
    }

    /// Returns the number of bytes of the migration stream that reached the destination.
    pub(crate) fn forwarded(&self) -> u64 {
        self.shared.forwarded.load(Ordering::Acquire)
    }

    /// Returns true once nothing more will be forwarded to the destination, and the source has more to send.
    pub(crate) fn stalled(&self) -> bool {
        self.shared.stalled.load(Ordering::Acquire)
    }

    /// Closes both connections and returns the result of the thread.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.end().unwrap_or(Ok(()))
    }

    fn end(&mut self) -> Option<Result<()>> {
        self.shared.stop.store(true, Ordering::Release);
        let thread = self.thread.take()?;
        let outcome = thread.join().unwrap_or_else(|_panic| Err(anyhow!("the proxy's thread panicked")));
        // A socket left behind would only be litter in the run's temporary folder.
        drop(std::fs::remove_file(&self.path));
        Some(outcome)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.end());
    }
}

fn serve(
    listener: &UnixListener,
    to: &Path,
    stall_after: u64,
    timeout: Duration,
    shared: &Shared,
) -> Result<()> {
    let Some(source) = accept(listener, shared)? else { return Ok(()) };
    let destination = UnixStream::connect(to)
        .with_context(|| format!("the proxy cannot connect to the destination at {}", to.display()))?;
    for stream in [&source, &destination] {
        stream.set_nonblocking(false)?;
        stream.set_write_timeout(Some(timeout))?;
    }
    let ended = forward(&source, &destination, stall_after, shared);
    // The side that did not end it must see the end, too; shutting down a side that has gone already does no harm.
    for stream in [&source, &destination] {
        drop(stream.shutdown(Shutdown::Both));
    }
    ended
}

fn accept(listener: &UnixListener, shared: &Shared) -> Result<Option<UnixStream>> {
    while !shared.stop.load(Ordering::Acquire) {
        match listener.accept() {
            Ok((stream, _)) => return Ok(Some(stream)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                wait(&mut [PollFd::new(listener, PollFlags::IN)])?;
            },
            Err(error) => return Err(error).context("the proxy cannot accept the source's connection"),
        }
    }
    Ok(None)
}

fn forward(
    mut source: &UnixStream,
    mut destination: &UnixStream,
    stall_after: u64,
    shared: &Shared,
) -> Result<()> {
    let mut buffer = [0; 16 * 1024];
    let mut left = stall_after;
    while !shared.stop.load(Ordering::Acquire) {
        // Once stalled, the source's data stays in the socket's buffer; only the end of the connection still matters.
        let from_source =
            if shared.stalled.load(Ordering::Acquire) { PollFlags::RDHUP } else { PollFlags::IN };
        let mut fds = [PollFd::new(source, from_source), PollFd::new(destination, PollFlags::IN)];
        wait(&mut fds)?;
        let [source_has, destination_has] = fds.map(|fd| fd.revents());
        if source_has.intersects(PollFlags::RDHUP | PollFlags::HUP) && shared.stalled.load(Ordering::Acquire)
        {
            return Ok(());
        }
        if source_has.intersects(PollFlags::IN) {
            if left == 0 {
                shared.stalled.store(true, Ordering::Release);
            } else {
                let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                let Some(length) = some(source.read(&mut buffer[..most])) else { return Ok(()) };
                if destination.write_all(&buffer[..length]).is_err() {
                    return Ok(());
                }
                left -= length as u64;
                shared.forwarded.fetch_add(length as u64, Ordering::AcqRel);
            }
        } else if source_has.intersects(PollFlags::HUP | PollFlags::ERR) {
            return Ok(());
        }
        if destination_has.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            // The return path, or the end of the destination.
            let Some(length) = some(destination.read(&mut buffer)) else { return Ok(()) };
            if source.write_all(&buffer[..length]).is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Returns the number of bytes read; none at the end of the stream and on a broken one, which is an end, too.
fn some(result: std::io::Result<usize>) -> Option<usize> {
    result.ok().filter(|length| *length > 0)
}

fn wait(fds: &mut [PollFd<'_>]) -> Result<()> {
    match poll(fds, Some(&TICK)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error).context("the proxy cannot wait for its sockets"),
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::wait::until;

    const TIMEOUT: Duration = Duration::from_secs(10);

    fn connected(stall_after: u64) -> (TempDir, Proxy, UnixStream, UnixStream) {
        let folder = tempfile::tempdir().unwrap();
        let (front, back) = (folder.path().join("front"), folder.path().join("back"));
        let listener = UnixListener::bind(&back).unwrap();
        let proxy = Proxy::start(&front, &back, stall_after, TIMEOUT).unwrap();
        let source = UnixStream::connect(&front).unwrap();
        let (destination, _) = listener.accept().unwrap();
        for stream in [&source, &destination] {
            stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        }
        (folder, proxy, source, destination)
    }

    #[test]
    fn it_forwards_exactly_so_many_bytes_and_stalls() {
        let (_folder, proxy, mut source, mut destination) = connected(5);
        source.write_all(b"hello world").unwrap();
        let mut heard = [0; 5];
        destination.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"hello");
        until("the stall", TIMEOUT, || Ok(proxy.stalled().then_some(()))).unwrap();
        assert_eq!(proxy.forwarded(), 5);
        // The return path stays open.
        destination.write_all(b"ack").unwrap();
        let mut ack = [0; 3];
        source.read_exact(&mut ack).unwrap();
        assert_eq!(&ack, b"ack");
        proxy.finish().unwrap();
    }

    #[test]
    fn the_end_of_a_stalled_destination_reaches_the_source() {
        let (_folder, proxy, mut source, destination) = connected(1);
        source.write_all(b"hello").unwrap();
        until("the stall", TIMEOUT, || Ok(proxy.stalled().then_some(()))).unwrap();
        drop(destination);
        assert!(matches!(source.read(&mut [0; 1]), Ok(0) | Err(_)));
        assert!(source.write_all(b"more").is_err());
        proxy.finish().unwrap();
    }

    #[test]
    fn a_cancelling_source_ends_the_destination() {
        let (_folder, proxy, mut source, mut destination) = connected(1);
        source.write_all(b"hello").unwrap();
        until("the stall", TIMEOUT, || Ok(proxy.stalled().then_some(()))).unwrap();
        source.shutdown(Shutdown::Both).unwrap();
        let mut rest = Vec::new();
        destination.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"h");
        proxy.finish().unwrap();
    }

    #[test]
    fn nobody_has_to_connect() {
        let folder = tempfile::tempdir().unwrap();
        let [front, back] = ["front", "back"].map(|name| folder.path().join(name));
        let proxy = Proxy::start(&front, &back, 1, TIMEOUT).unwrap();
        proxy.finish().unwrap();
    }
}
