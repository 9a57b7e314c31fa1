//! Stores the finished parts of a recording (fsync), each in a thread, while recording goes on.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
};

use crate::recording::{PartEnd, PartOutput, PartWriter};

/// Largest number of parts that are stored at the same time: beyond it recording waits.
const MOST: usize = 8;

/// Work of a thread for one part.
type StoreJob = Box<dyn FnOnce() -> io::Result<()> + Send>;

/// Finished parts that the file system may not have stored completely yet. `record` has one.
#[derive(Debug, Default)]
pub(super) struct PendingParts(VecDeque<JoinHandle<io::Result<()>>>);

impl PendingParts {
    /// Begins to store one more part. Returns an error if an earlier one could not be stored.
    pub(super) fn begin(&mut self, part: Box<dyn PartOutput>) -> io::Result<()> {
        self.begin_on(part, |store| thread::Builder::new().name("store".to_owned()).spawn(store))
    }

    fn begin_on(
        &mut self,
        part: Box<dyn PartOutput>,
        spawn: impl FnOnce(StoreJob) -> io::Result<JoinHandle<io::Result<()>>>,
    ) -> io::Result<()> {
        let part = Arc::new(Mutex::new(part));
        let sync =
            |part: &Mutex<Box<dyn PartOutput>>| part.lock().unwrap_or_else(PoisonError::into_inner).sync();
        let its = Arc::clone(&part);
        match spawn(Box::new(move || sync(&its))) {
            Ok(thread) => self.0.push_back(thread),
            // There may be no more threads (a cgroup's limit): recording waits here instead.
            Err(_) => sync(&part)?,
        }
        self.look()
    }

    /// Returns an error if a part is known by now not to have been stored; waits while there are more than [`MOST`].
    pub(super) fn look(&mut self) -> io::Result<()> {
        self.wait(MOST)
    }

    /// Ends the last part, and only then waits for the file system: a program that reads along sees the end at once,
    /// and if this process is killed meanwhile, the recording is whole. Returns the last part's size in bytes if all
    /// parts could be stored.
    pub(super) fn end(self, last: PartWriter<Box<dyn PartOutput>>, end: PartEnd) -> io::Result<u64> {
        let ended = last.finish(end);
        let stored = self.finish();
        let (mut last, bytes) = ended?;
        // Some file systems report only now that there was no room.
        last.sync()?;
        stored?;
        Ok(bytes)
    }

    /// Waits for all parts; returns an error if one could not be stored.
    fn finish(mut self) -> io::Result<()> {
        self.wait(0)
    }

    fn wait(&mut self, most: usize) -> io::Result<()> {
        while self.0.len() > most || self.0.front().is_some_and(JoinHandle::is_finished) {
            let Some(stored) = self.0.pop_front() else { break };
            stored.join().unwrap_or_else(|_panic| Err(io::Error::other("its thread has panicked")))?;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::{
        io::Write,
        time::{Duration, Instant},
    };

    use super::*;
    use crate::recording::{BlockItem, EndReason, ReaderEntry, RecordingReader, fixture::header};

    /// File on a file system that takes all bytes, and may find later that it has no room for them: NFS, FUSE.
    pub(in crate::cli) struct LatePart {
        pub(in crate::cli) full: bool,
    }

    impl Write for LatePart {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl PartOutput for LatePart {
        fn sync(&mut self) -> io::Result<()> {
            if self.full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        }
    }

    #[test]
    fn what_cannot_be_stored_is_told_as_soon_as_it_is_known_and_at_the_end() {
        let begun = || {
            let mut storing = PendingParts::default();
            storing.0.push_back(thread::spawn(|| LatePart { full: true }.sync()));
            storing
        };
        assert_eq!(begun().finish().unwrap_err().kind(), io::ErrorKind::StorageFull);
        let mut storing = begun();
        while !storing.0.front().is_none_or(JoinHandle::is_finished) {
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(storing.look().unwrap_err().kind(), io::ErrorKind::StorageFull);
        let mut many = PendingParts::default();
        for _ in 0..100 {
            many.begin(Box::new(LatePart { full: false })).unwrap();
            assert!(many.0.len() <= MOST);
        }
        many.finish().unwrap();
    }

    #[test]
    fn where_no_thread_can_be_had_a_part_is_stored_all_the_same() {
        let stored = |full| {
            let mut storing = PendingParts::default();
            let begun = storing
                .begin_on(Box::new(LatePart { full }), |_| Err(io::Error::from(io::ErrorKind::WouldBlock)));
            begun.and_then(|()| storing.finish()).map_err(|why| why.kind())
        };
        assert_eq!(stored(false), Ok(()));
        assert_eq!(stored(true), Err(io::ErrorKind::StorageFull), "not that there was no thread");
    }

    /// File that other code reads along.
    struct SharedPart(Arc<Mutex<Vec<u8>>>);

    impl Write for SharedPart {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl PartOutput for SharedPart {
        fn sync(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn is_ended(bytes: &[u8]) -> bool {
        let mut reader = RecordingReader::open(bytes).unwrap();
        std::iter::from_fn(|| reader.next().unwrap())
            .any(|entry| matches!(entry, ReaderEntry::Item(BlockItem::End(_))))
    }

    #[test]
    fn the_end_mark_waits_for_no_part() {
        let bytes = Arc::<Mutex<Vec<u8>>>::default();
        let last: Box<dyn PartOutput> = Box::new(SharedPart(Arc::clone(&bytes)));
        let last = PartWriter::new(last, &header()).unwrap();
        let mut storing = PendingParts::default();
        storing.0.push_back(thread::spawn(move || {
            let began = Instant::now();
            while !is_ended(&bytes.lock().unwrap()) {
                if began.elapsed() > Duration::from_secs(10) {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                thread::sleep(Duration::from_millis(1));
            }
            Ok(())
        }));
        let end = PartEnd { mono_ns: 9, reason: EndReason::Signal, records: 0, probes: Vec::new() };
        assert!(storing.end(last, end).unwrap() > 0);
    }
}
