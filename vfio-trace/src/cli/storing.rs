//! Waits until the file system has the parts of a recording that are over, while recording goes on.

use std::{
    collections::VecDeque,
    io,
    thread::{self, JoinHandle},
};

use crate::store::Part;

/// Parts that are stored at once: beyond it recording waits.
const MOST: usize = 8;

/// Parts that the file system may not have whole yet.
#[derive(Debug, Default)]
pub(super) struct Storing(VecDeque<JoinHandle<io::Result<()>>>);

impl Storing {
    /// Begins with one more. Gives an error if an earlier one could not be stored.
    pub(super) fn begin(&mut self, mut part: Box<dyn Part>) -> io::Result<()> {
        self.0.push_back(thread::Builder::new().name("store".to_owned()).spawn(move || part.sync())?);
        self.look()
    }

    /// Whether all could be stored of which that is known.
    pub(super) fn look(&mut self) -> io::Result<()> {
        self.wait(MOST)
    }

    /// Whether all could be stored.
    pub(super) fn finish(mut self) -> io::Result<()> {
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
    use std::{io::Write, time::Duration};

    use super::*;

    /// A file on a file system that takes everything, and may find later that it has no room for it: NFS, FUSE.
    pub(in crate::cli) struct Later {
        pub(in crate::cli) full: bool,
    }

    impl Write for Later {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Part for Later {
        fn sync(&mut self) -> io::Result<()> {
            if self.full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        }
    }

    #[test]
    fn what_cannot_be_stored_is_told_as_soon_as_it_is_known_and_at_the_end() {
        let begun = || {
            let mut storing = Storing::default();
            storing.0.push_back(thread::spawn(|| Later { full: true }.sync()));
            storing
        };
        assert_eq!(begun().finish().unwrap_err().kind(), io::ErrorKind::StorageFull);
        let mut storing = begun();
        while !storing.0.front().is_none_or(JoinHandle::is_finished) {
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(storing.look().unwrap_err().kind(), io::ErrorKind::StorageFull);
        let mut many = Storing::default();
        for _ in 0..100 {
            many.begin(Box::new(Later { full: false })).unwrap();
            assert!(many.0.len() <= MOST);
        }
        many.finish().unwrap();
    }
}
