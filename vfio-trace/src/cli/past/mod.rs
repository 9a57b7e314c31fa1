//! `--from FILE`: the state at a moment of a recording, for verbs that otherwise show the present one.

mod aim;
mod inventory;

use std::{path::PathBuf, time::Duration};

use bytes::Bytes;
use jiff::{
    SignedDuration, Timestamp, civil,
    tz::{AmbiguousOffset, TimeZone},
};
use vfio_trace_common::role::Role;

use self::{
    aim::{RequestedTime, soonest},
    inventory::{InventoryProgress, ReadExtent},
};
use super::{
    error::{CliError, INPUT, USAGE},
    events::too_many,
    host::HostArgs,
    output::note,
    parse,
    recording::{self, Demand, ProgressLine, ReadOutcome, RecordSink},
    zone,
};
use crate::{
    event::{HOLD_NS, ProbeReport, RecordBody, WallClock, WireRecord},
    output::RecordingFacts,
    recording::ClockSample,
    source::recording::RecordingSource,
    state::{DeviceStatus, HostState, TraceOrigin},
    units::human,
};

/// Options for a recording and a moment of it; to be flattened into a verb's arguments, which have `--btf`.
#[derive(Debug, Default, clap::Args)]
pub(super) struct FromArgs {
    /// Show what a recording has, on any machine, without root: how things were at its end. Give each part of one that
    /// has several with a --from of its own, or all through a pipe: - is standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "btf")]
    from: Vec<PathBuf>,
    /// With --from: how things were at this moment. 2.5s or 850ms: so long after the recording began, 0s its beginning;
    /// 2026-11-22T15:40:20.5Z; without Z or an offset it is local time, as replay shows it; 15:40:20.5 is the first
    /// such time after the recording began.
    #[arg(long, value_name = "TIME", requires = "from", value_parser = parse::moment)]
    at: Option<RecordingMoment>,
    /// With --from: of a merged recording, this host, by its name or its number from 1. Without it, the first.
    #[arg(long, value_name = "NAME|N", requires = "from")]
    host: Option<String>,
}

/// Moment of a recording, from `--at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordingMoment {
    /// Time since the recording began.
    After(Duration),
    /// Wall time with a zone or an offset.
    Wall(Timestamp),
    /// Date and time in the local zone.
    Local(civil::DateTime),
    /// Time of day in the local zone: the first such time after the recording began.
    Day(civil::Time),
}

/// State of a host at a moment of its recording. [`FromArgs::read`] makes it; `list`, `show` and `mount` show it.
pub(super) struct PastState {
    /// State of the host, as far as it is known.
    pub(super) host: HostState,
    /// Facts about the recording and the moment.
    pub(super) facts: RecordingFacts,
    clock: WallClock,
    /// Time from the beginning of the recording to the moment.
    after: Duration,
    through: ReadOutcome,
    /// Reason why devices may have been there that are not known.
    unknown: Option<String>,
    /// True if there are other hosts, of which nothing is shown.
    others: bool,
}

impl FromArgs {
    /// Returns true if there is a recording to read.
    pub(super) const fn is_given(&self) -> bool {
        !self.from.is_empty()
    }

    /// Returns the files to read.
    pub(super) fn files(&self) -> &[PathBuf] {
        &self.from
    }

    /// Reads the recording up to the moment. `keep`: number of events that are kept per device.
    pub(super) fn read(&self, keep: usize) -> Result<PastState, CliError> {
        let host = HostArgs { host: self.host.clone() };
        PastState::read(&mut host.open(&self.from)?, self.at, keep)
    }
}

/// Sink that follows a recording up to a moment.
struct PastBuilder {
    host: HostState,
    /// Wall times that were asked for, each with its moment by all clock samples so far.
    aims: Vec<RequestedTime>,
    until_ns: Option<u64>,
    inventory: InventoryProgress,
    clock: WallClock,
    /// Latest moment seen, CLOCK_MONOTONIC in ns.
    last_ns: u64,
    /// True if all records up to a tick come before it; those of older recorders may not.
    settled_ticks: bool,
    /// True once nothing that follows is of interest.
    over: bool,
}

impl RecordSink for PastBuilder {
    fn demand(&self) -> Demand {
        if self.over { Demand::Nothing } else { Demand::All }
    }

    fn record(&mut self, bytes: &Bytes) -> Result<(), CliError> {
        let record = match WireRecord::decode(bytes) {
            Ok(record) => record,
            Err(why) => {
                self.host.push(Err(why));
                return Ok(());
            },
        };
        // A note says what other records mean: it counts, whatever its time.
        if matches!(record.body, RecordBody::Note(_)) {
            self.host.push(Ok(&record));
            return Ok(());
        }
        let ns = record.header.end_ns;
        self.last_ns = self.last_ns.max(ns);
        self.inventory.record(&record);
        match self.until_ns {
            // Processors run side by side: an earlier record may come a little later.
            Some(until_ns) if ns > until_ns => {
                self.over |= ns - until_ns > HOLD_NS && self.inventory.is_over();
            },
            _ => self.host.push(Ok(&record)),
        }
        Ok(())
    }

    fn tick(&mut self, ns: u64) -> Result<(), CliError> {
        self.last_ns = self.last_ns.max(ns);
        self.inventory.tick(ns);
        match self.until_ns {
            Some(until_ns) if ns > until_ns => self.over |= ns - until_ns > HOLD_NS && self.settled_ticks,
            _ => self.host.tick(ns),
        }
        Ok(())
    }

    fn clock(&mut self, sample: ClockSample) {
        let found = sample.anchor();
        // A moment that has passed is the first at which the clock showed this time, whatever it was set to later.
        let passed = self.until_ns.is_some_and(|until_ns| until_ns < found.mono_ns);
        if passed || !self.clock.sample(found, sample.error_ns) {
            return;
        }
        self.host.set_clock(&self.clock);
        if !self.aims.is_empty() {
            self.aims.iter_mut().for_each(|aim| aim.step(found));
            self.until_ns = Some(soonest(&self.aims));
        }
    }
}

impl PastState {
    pub(super) fn read(
        recording: &mut RecordingSource,
        at: Option<RecordingMoment>,
        keep: usize,
    ) -> Result<Self, CliError> {
        let header = recording.header().clone();
        let (start, part_began_ns) = recording.start();
        // Only a time without a zone is in the local one.
        let zone = match at {
            Some(RecordingMoment::Local(_) | RecordingMoment::Day(_)) => zone::input_zone()?,
            _ => TimeZone::UTC,
        };
        let mut clock = WallClock::from(start.clock);
        clock.sample(header.clock.anchor(), header.clock.error_ns);
        let mut span = RecordingSpan { clock: clock.clone(), began_ns: header.began_ns, zone };
        let walls = at.map(|at| span.walls(at)).transpose()?.unwrap_or_default();
        let aims: Vec<RequestedTime> =
            walls.into_iter().map(|wall| RequestedTime::new(wall, clock.last(), part_began_ns)).collect();
        let until_ns = match at {
            Some(at) if aims.is_empty() => {
                let until_ns = span.find(at)?;
                if until_ns < part_began_ns {
                    return Err(span.before(until_ns, part_began_ns));
                }
                Some(until_ns)
            },
            Some(_) => Some(soonest(&aims)),
            None => None,
        };
        let began = span.clock.clone();
        let origin = TraceOrigin {
            version: start.version.clone(),
            replayed_by: Some(env!("CARGO_PKG_VERSION").to_owned()),
            kernel: start.kernel.clone(),
            host: start.host.clone(),
            clock: clock.clone(),
        };
        let host = HostState::new(origin, keep, part_began_ns);
        let last_ns = part_began_ns;
        let inventory = InventoryProgress::of_part(header.part, header.began_ns);
        let mut builder = PastBuilder {
            host,
            aims,
            until_ns,
            inventory,
            clock,
            last_ns,
            settled_ticks: header.settled_ticks,
            over: false,
        };
        let through = recording::read(recording, &mut builder, ProgressLine::new("reading"))?;
        let others = recording.has_others();
        // Where nothing behind the moment was read, no other recording was met.
        if others && !through.others {
            note("this is the first host of a merged recording: --host chooses another one");
        }
        let PastBuilder { mut host, aims, inventory, last_ns, until_ns, clock, .. } = builder;
        span.clock = clock;
        let ended = recording.ended();
        let end_ns = ended.as_ref().map_or(last_ns, |ended| ended.mono_ns.max(last_ns));
        let at_ns = match until_ns {
            Some(until_ns) if until_ns > end_ns => {
                // Reading may have failed halfway.
                through.code()?;
                if let Some(at) = at.filter(|_| !aims.is_empty()) {
                    // No clock has shown it: by the first one it is before the beginning, or after the end.
                    let span =
                        RecordingSpan { clock: began, began_ns: span.began_ns, zone: span.zone.clone() };
                    let asked_ns = span.find(at)?;
                    if asked_ns < part_began_ns {
                        return Err(span.before(asked_ns, part_began_ns));
                    }
                }
                return Err(span.after(until_ns, end_ns, ended.is_some()));
            },
            Some(until_ns) => {
                host.tick(until_ns);
                until_ns
            },
            None => {
                // No more records come: nothing has to wait for one.
                host.tick(end_ns.saturating_add(HOLD_NS));
                if let Some(part) = ended.as_ref().and_then(|ended| ended.continued) {
                    note(&format!("the recording goes on in part {part}, which was not given"));
                }
                end_ns
            },
        };
        let whole = !through.is_damaged() && through.failed.is_none();
        let is_over = ended.is_some();
        let probes = ended.map_or_else(|| recording.last_probes(), |ended| Some(ended.probes));
        host.set_losses(probes.as_deref());
        // Of all losses, only these may hide a device that no other record names.
        let tells =
            |probe: &&ProbeReport| matches!(probe.role, Role::Inventory | Role::Register | Role::Unregister);
        let mut telling = probes.iter().flatten().filter(tells);
        let read = if !whole || host.undecoded() > 0 {
            ReadExtent::Part
        } else if telling.any(|probe| probe.lost > 0 || probe.no_room > 0) {
            ReadExtent::Lost
        } else {
            ReadExtent::All
        };
        let unknown = inventory.unknown(at_ns, is_over, read);
        if let Some(text) = too_many(host.forgotten()) {
            note(&text);
        }
        let facts = RecordingFacts {
            host: start.host,
            kernel: start.kernel,
            version: start.version,
            began: span.clock.rfc3339(header.began_ns),
            at: span.clock.rfc3339(at_ns),
            at_mono_ns: at_ns,
            complete: whole && unknown.is_none(),
        };
        let after = Duration::from_nanos(at_ns.saturating_sub(header.began_ns));
        Ok(Self { host, facts, clock: span.clock, after, through, unknown, others })
    }

    /// Returns one line that names the recording's host, its kernel and the moment.
    pub(super) fn describe(&self) -> String {
        let RecordingFacts { host, kernel, at, .. } = &self.facts;
        let host = host.as_deref().unwrap_or("a host without a name");
        format!(
            "recorded on {host}, kernel {kernel}; as of {at}, {:.3} s after the recording began",
            self.after.as_secs_f64()
        )
    }

    /// Returns the wall time of a moment, RFC 3339 in UTC.
    pub(super) fn time(&self, mono_ns: u64) -> String {
        self.clock.rfc3339(mono_ns)
    }

    /// Returns the reason why devices may have been there that are not known; `None` if all are known.
    pub(super) fn unknown(&self) -> Option<&str> {
        self.unknown.as_deref()
    }

    /// Returns true if there are other hosts in what was given, of which nothing is shown.
    pub(super) const fn has_others(&self) -> bool {
        self.others
    }

    /// Returns the devices that were there at the moment, by name.
    pub(super) fn present(&self) -> impl Iterator<Item = (&str, DeviceStatus)> {
        self.host.devices().filter(|(_, known)| known.present)
    }

    /// Returns the devices that had gone before the moment, by name.
    pub(super) fn gone(&self) -> impl Iterator<Item = (&str, DeviceStatus)> {
        self.host.devices().filter(|(_, known)| !known.present)
    }

    /// Says how many devices cannot be shown, because nothing tells their names.
    pub(super) fn say_unnamed(&self) {
        say_unnamed(self.host.unnamed_devices());
    }

    /// Splits it for a verb that shows it for long: into the host's state and the outcome of reading.
    pub(super) fn into_parts(self) -> (HostState, ReadOutcome) {
        (self.host, self.through)
    }

    /// Returns the exit code; call it after everything was shown.
    pub(super) fn code(self) -> Result<u8, CliError> {
        self.through.code()
    }
}

/// Says how many devices have no name, see [`PastState::say_unnamed`]; nothing if there are none.
pub(super) fn say_unnamed(count: usize) {
    if count > 0 {
        let devices = human::count(count as u64, "device");
        note(&format!(
            "{devices} whose name was not recorded: not shown here; `vfio-trace replay` shows what happened"
        ));
    }
}

/// Returns the refusal of a time that the clocks of the zone do not show.
fn never(time: &impl std::fmt::Display) -> CliError {
    let why = "the clocks of this time zone do not show it";
    CliError::with_code(USAGE, format!("there is no {time}"), why, "give it in UTC, with date and Z")
}

/// Beginning and clock of a recording, and the zone of `--at`: finds moments in it.
struct RecordingSpan {
    clock: WallClock,
    began_ns: u64,
    zone: TimeZone,
}

impl RecordingSpan {
    /// Returns a moment as CLOCK_MONOTONIC in ns.
    fn find(&self, at: RecordingMoment) -> Result<u64, CliError> {
        if let RecordingMoment::After(after) = at {
            let ns = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
            return Ok(self.began_ns.saturating_add(ns));
        }
        let Some(wall) = self.wall(at)? else { return Ok(self.began_ns) };
        let ns = wall.as_nanosecond() - self.clock.last().distance_ns();
        u64::try_from(ns).map_err(|_outside| self.outside(wall))
    }

    /// Returns all wall times that may be meant: clocks that are put back show the same again, and may come to an
    /// earlier day.
    fn walls(&self, at: RecordingMoment) -> Result<Vec<Timestamp>, CliError> {
        let Some(wall) = self.wall(at)? else { return Ok(Vec::new()) };
        Ok(match at {
            RecordingMoment::After(_) | RecordingMoment::Wall(_) => vec![wall],
            RecordingMoment::Local(time) => self.shown(time).collect(),
            RecordingMoment::Day(time) => {
                let day = self.zone.to_datetime(self.clock.wall(self.began_ns)).date();
                let days = [day.yesterday().ok(), Some(day), day.tomorrow().ok()].into_iter().flatten();
                days.flat_map(|day| self.shown(day.to_datetime(time))).collect()
            },
        })
    }

    /// Returns the wall time that was asked for; `None` if it was not asked for by wall time.
    fn wall(&self, at: RecordingMoment) -> Result<Option<Timestamp>, CliError> {
        Ok(match at {
            RecordingMoment::After(_) => None,
            RecordingMoment::Wall(wall) => Some(wall),
            RecordingMoment::Local(time) => Some(self.local(time).ok_or_else(|| never(&time))?),
            RecordingMoment::Day(time) => Some(self.first(time).ok_or_else(|| never(&time))?),
        })
    }

    /// Returns the time at which clocks showed this: the first of two; `None` where they were put forward over it.
    fn local(&self, time: civil::DateTime) -> Option<Timestamp> {
        self.shown(time).next()
    }

    /// Returns all times at which clocks showed this, in order.
    fn shown(&self, time: civil::DateTime) -> impl Iterator<Item = Timestamp> + use<> {
        let ambiguous = self.zone.to_ambiguous_timestamp(time);
        let (earlier, later) = match ambiguous.offset() {
            AmbiguousOffset::Gap { .. } => (None, None),
            AmbiguousOffset::Unambiguous { .. } => (ambiguous.earlier().ok(), None),
            AmbiguousOffset::Fold { .. } => (ambiguous.earlier().ok(), ambiguous.later().ok()),
        };
        earlier.into_iter().chain(later)
    }

    /// Returns the refusal of a moment that no clock of that host has shown since boot, or will not for centuries.
    fn outside(&self, wall: Timestamp) -> CliError {
        CliError::with_code(
            USAGE,
            format!("the recording does not tell how things were at {wall}"),
            format!("it begins at {}", self.clock.rfc3339(self.began_ns)),
            "give another --at, or none for its end",
        )
    }

    /// Returns the first time at which clocks showed this, from 1 s before the recording began: the fraction of the
    /// second in which it began may have been left out.
    fn first(&self, time: civil::Time) -> Option<Timestamp> {
        let began = self.clock.wall(self.began_ns);
        let from = began.checked_sub(SignedDuration::from_secs(1)).ok()?;
        let day = self.zone.to_datetime(began).date();
        let days = [Some(day), day.tomorrow().ok()].into_iter().flatten();
        let mut times = days.flat_map(|day| self.shown(day.to_datetime(time)));
        times.find(|wall| *wall >= from)
    }

    /// Returns the refusal of a moment before the beginning of what was given.
    fn before(&self, at_ns: u64, from_ns: u64) -> CliError {
        let from = self.clock.rfc3339(from_ns);
        let (why, todo) = if from_ns > self.began_ns {
            let after = self.seconds(from_ns);
            let why = format!("what is given of it begins {after:.3} s after its beginning, at {from}");
            (why, "give the parts before it too, or a later --at")
        } else {
            (format!("it begins at {from}"), "give a later --at")
        };
        CliError::with_code(USAGE, self.refusal(at_ns), why, todo)
    }

    /// Returns the refusal of a moment after the end. `whole`: the recording ends there; otherwise what can be read of
    /// it does.
    fn after(&self, at_ns: u64, end_ns: u64, whole: bool) -> CliError {
        let (code, what) = if whole { (USAGE, "it") } else { (INPUT, "what can be read of it") };
        let (after, end) = (self.seconds(end_ns), self.clock.rfc3339(end_ns));
        let why = format!("{what} ends {after:.3} s after its beginning, at {end}");
        CliError::with_code(code, self.refusal(at_ns), why, "give an earlier --at, or none for its end")
    }

    fn seconds(&self, ns: u64) -> f64 {
        Duration::from_nanos(ns.saturating_sub(self.began_ns)).as_secs_f64()
    }

    fn refusal(&self, at_ns: u64) -> String {
        format!("the recording does not tell how things were at {}", self.clock.rfc3339(at_ns))
    }
}

#[cfg(test)]
pub(super) mod tests;
