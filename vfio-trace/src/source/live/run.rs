//! The one loop of a live run: takes in records, looks for drivers, tells the time, until something ends it.

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

/// A consumer of a live run: it prints, stores or shows what the source gives, and says what is to be said of it. The
/// verbs have one each; a [`LiveLoop`] calls it, and [`LiveSource::pump`] and those around it do.
pub trait RunObserver {
    /// Why it can take no more, or why the source cannot go on.
    type Error: From<LiveError>;

    /// Takes the next record, as it came and decoded.
    fn record(&mut self, bytes: &Bytes, record: Result<&WireRecord, DecodeError>) -> Result<(), Self::Error>;

    /// Hears which probes have come and gone.
    fn changes(&mut self, changes: &ProbeChanges);

    /// Hears that there are no more records for the moment.
    fn pause(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }

    /// Does what is due every [`RESCAN`]. All records were given that there were at `settled_ns`.
    fn tick(&mut self, settled_ns: u64, live: &mut LiveSource) -> Result<(), Self::Error>;

    /// Returns true if it wants no more.
    fn is_full(&self) -> bool {
        false
    }

    /// Hears that probes are about to be switched off.
    fn ending(&mut self, _live: &mut LiveSource) {}
}

/// The end of a run all of whose records were taken.
#[derive(Debug)]
pub struct RunEnd<E> {
    /// When probes were off, CLOCK_MONOTONIC in ns.
    pub ended_ns: u64,
    /// What went wrong on the observer's side; then the rest of the records is lost.
    pub error: Option<E>,
}

/// The loop that keeps an observer up to date with a live source. It knows neither signals nor commands: what ends it is a
/// future of the caller's.
#[derive(Debug)]
pub struct LiveLoop {
    tick: tokio::time::Interval,
    /// There may be more than the batch that was taken last.
    more: bool,
    /// Set as soon as somebody has asked for the end.
    stop: Arc<AtomicBool>,
}

impl LiveLoop {
    /// Makes one that ticks at once. `stop`: set as soon as somebody has asked for the end, which the future that is waited
    /// for will tell of. Needs a tokio runtime.
    pub fn new(stop: Arc<AtomicBool>) -> Self {
        Self { tick: tokio::time::interval(RESCAN), more: false, stop }
    }

    /// Goes on until `interrupt` is ready, and gives what that gives; `None` if the observer wants no more.
    pub async fn run_until<O: RunObserver, T>(
        &mut self,
        live: &mut LiveSource,
        observer: &mut O,
        interrupt: impl Future<Output = T>,
    ) -> Result<Option<T>, O::Error> {
        let mut interrupt = pin!(interrupt);
        loop {
            // Output that was waited for is given up once somebody has asked for the end; then that is why all ends.
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
    /// Takes in a batch of what has arrived; gives the time of its latest record, `None` if there was none.
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

    /// Takes in all that has happened until now, but for no longer than `patience`: in a flood there is always more.
    pub fn catch_up<O: RunObserver>(&mut self, observer: &mut O, patience: Duration) -> Result<(), O::Error> {
        let (start, now_ns) = (Instant::now(), mono_ns());
        while self.pump(observer)?.is_some_and(|latest_ns| latest_ns < now_ns) && start.elapsed() < patience {
        }
        Ok(())
    }

    fn tick<O: RunObserver>(&mut self, observer: &mut O) -> Result<(), O::Error> {
        // The ring's wake-up is the rule, this the exception: nothing that has arrived stays unseen for long. Before the
        // look for drivers, which takes long: the kernel's own notice of one may have arrived.
        self.pump(observer)?;
        observer.changes(&self.rescan()?);
        observer.tick(self.settled_ns(), self)
    }

    /// Ends a run: switches all probes off, and takes in the rest. `error`: what has gone wrong before; then no more is
    /// taken.
    ///
    /// # Errors
    ///
    /// The probes cannot be switched off. What goes wrong on the observer's side is in what it gives.
    pub fn end_run<O: RunObserver>(
        &mut self,
        observer: &mut O,
        error: Option<O::Error>,
    ) -> Result<RunEnd<O::Error>, LiveError> {
        // A driver may just have come: what of it was not probed is told even now.
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
