//! The one loop of a live run: takes in records, looks for drivers and passes on the time, until the run ends.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{LiveError, LiveSource, RESCAN};
use crate::{
    event::{DecodeError, WireRecord},
    probe::ProbeChanges,
    source::clock::mono_ns,
};

/// A consumer of a live run: it prints, stores or shows records, and reports on the run. Each verb has one;
/// [`LiveLoop`], [`LiveSource::pump`] and [`LiveSource::end_run`] call it.
pub trait RunObserver {
    /// Error of the consumer or of the source that ends the run.
    type Error: From<LiveError>;

    /// Takes the next record, raw and decoded.
    fn record(&mut self, bytes: &Bytes, record: Result<&WireRecord, DecodeError>) -> Result<(), Self::Error>;

    /// Takes in that probes have come or gone.
    fn changes(&mut self, changes: &ProbeChanges);

    /// Takes in that there are no more records for the moment.
    fn pause(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }

    /// Does the work that is due every [`RESCAN`]. All records up to `settled_ns` were given.
    fn tick(&mut self, settled_ns: u64, live: &mut LiveSource) -> Result<(), Self::Error>;

    /// Returns true if the observer wants no more records.
    fn is_full(&self) -> bool {
        false
    }

    /// Takes in that probes are about to be switched off.
    fn ending(&mut self, _live: &mut LiveSource) {}
}

/// End of a run, with all its records taken.
#[derive(Debug)]
pub struct RunEnd<E> {
    /// Time at which the probes were off, CLOCK_MONOTONIC in ns.
    pub ended_ns: u64,
    /// Error of the observer; the rest of the records is lost then.
    pub error: Option<E>,
}

/// Loop that keeps an observer up to date with a live source. It does not handle signals or commands: the caller passes
/// a future that ends it.
#[derive(Debug)]
pub struct LiveLoop {
    tick: tokio::time::Interval,
    /// True if there may be more records than the batch that was taken last.
    more: bool,
    /// Set as soon as the end is asked for.
    stop: Arc<AtomicBool>,
}

impl LiveLoop {
    /// Makes a loop that ticks at once. `stop`: set as soon as the end is asked for; the future passed to
    /// [`Self::run_until`] must become ready then, too. Needs a tokio runtime.
    pub fn new(stop: Arc<AtomicBool>) -> Self {
        Self { tick: tokio::time::interval(RESCAN), more: false, stop }
    }

    /// Runs until `interrupt` is ready, and returns its result; `None` if the observer wants no more.
    pub async fn run_until<O: RunObserver, T>(
        &mut self,
        live: &mut LiveSource,
        observer: &mut O,
        interrupt: impl Future<Output = T>,
    ) -> Result<Option<T>, O::Error> {
        let mut interrupt = pin!(interrupt);
        loop {
            // Output that was waited for is given up once the end is asked for; then that is the reason for the end.
            if observer.is_full() && !self.stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            tokio::select! {
                // One batch, then round again: a flood must not starve the other branches.
                ready = live.ready(), if !self.more => {
                    ready?;
                    self.more = live.pump(observer)?.is_some();
                },
                () = std::future::ready(()), if self.more => self.more = live.pump(observer)?.is_some(),
                _ = self.tick.tick() => live.tick(observer)?,
                done = &mut interrupt => return Ok(Some(done)),
            }
        }
    }
}

impl LiveSource {
    /// Takes in a batch of records; returns the time of the latest, `None` if there was none.
    pub fn pump<O: RunObserver>(&mut self, observer: &mut O) -> Result<Option<u64>, O::Error> {
        let records = self.take();
        let mut latest_ns = records.first().map(|_| 0);
        for bytes in &records {
            let record = WireRecord::decode(bytes);
            if let Ok(record) = &record {
                observer.changes(&self.follow(record));
                latest_ns = latest_ns.max(Some(record.header.end_ns));
            }
            observer.record(bytes, record.as_ref().map_err(|error| *error))?;
        }
        if !records.is_empty() {
            observer.pause()?;
        }
        Ok(latest_ns)
    }

    /// Takes in all records up to now, but for no longer than `patience`: in a flood there is always more.
    pub fn catch_up<O: RunObserver>(&mut self, observer: &mut O, patience: Duration) -> Result<(), O::Error> {
        let (start, now_ns) = (Instant::now(), mono_ns());
        while self.pump(observer)?.is_some_and(|latest_ns| latest_ns < now_ns) && start.elapsed() < patience {
        }
        Ok(())
    }

    fn tick<O: RunObserver>(&mut self, observer: &mut O) -> Result<(), O::Error> {
        // Normally the ring's wake-up triggers this; this call makes sure that no record stays unseen for long. It
        // comes before the scan for drivers, which takes long: the kernel's own notice of a driver may have arrived.
        self.pump(observer)?;
        observer.changes(&self.rescan()?);
        observer.tick(self.settled_ns(), self)
    }

    /// Ends a run: switches all probes off, and takes in the rest. `error`: an earlier error of the observer; then no
    /// more is taken.
    ///
    /// # Errors
    ///
    /// The probes cannot be switched off. An error of the observer is in [`RunEnd::error`].
    pub fn end_run<O: RunObserver>(
        &mut self,
        observer: &mut O,
        error: Option<O::Error>,
    ) -> Result<RunEnd<O::Error>, LiveError> {
        // A driver may just have come: the gap before its probes is reported even now.
        let error = error.or_else(|| self.take_changes(observer).err());
        observer.ending(self);
        self.disable()?;
        let ended_ns = mono_ns();
        let error = error.or_else(|| self.drain(observer).err());
        Ok(RunEnd { ended_ns, error })
    }

    fn take_changes<O: RunObserver>(&mut self, observer: &mut O) -> Result<(), O::Error> {
        self.pump(observer)?;
        observer.changes(&self.settle()?);
        Ok(())
    }

    fn drain<O: RunObserver>(&mut self, observer: &mut O) -> Result<(), O::Error> {
        while self.pump(observer)?.is_some() {}
        Ok(())
    }
}
