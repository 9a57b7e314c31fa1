//! `timeline.json`: the last events of one device as one JSON document; docs/mount.md describes it.

use std::{collections::VecDeque, sync::Arc};

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    event::{DriverModules, LossTotals, ProbeGap, ProbeReport, VfioEvent, WallClock, event_line},
    units::{
        schema::{SchemaHead, came_later, schema_of},
        visible,
    },
};

/// Value of the field `schema`. The number changes when a field goes away or changes its meaning, not when one is
/// added.
pub const TIMELINE_SCHEMA: &str = "vfio-trace.timeline/1";

const HEAD: SchemaHead = SchemaHead {
    name: TIMELINE_SCHEMA,
    title: "A device's timeline.json in the tree of vfio-trace mount",
    description: "docs/mount.md explains the fields. Readers ignore fields that they do not know: version 1 may gain some.",
};

/// Source of the events: the same for all devices.
#[derive(Clone, Debug)]
pub struct TraceOrigin {
    /// Version of the vfio-trace that traced.
    pub version: String,
    /// Version of the vfio-trace that reads a recording; `None`: this is live.
    pub replayed_by: Option<String>,
    /// Kernel release (`uname -r`).
    pub kernel: String,
    /// Host name.
    pub host: Option<String>,
    /// Clock readings from which wall times are computed.
    pub clock: WallClock,
}

/// Losses of records, of any device; null: not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TimelineLosses {
    /// Records lost because the ring buffer was full; null, as in the next three: not known. The first versions of
    /// vfio-trace had 0 for that here.
    pub lost: Option<u64>,
    /// Calls that the kernel could not probe. The first versions of vfio-trace had neither this nor the next two.
    pub missed: Option<u64>,
    /// Calls whose return could not be matched.
    pub unmatched: Option<u64>,
    /// Devices and data fds that the programs could not remember.
    pub no_room: Option<u64>,
    /// Records that could not be decoded.
    pub undecoded: u64,
}

impl TimelineLosses {
    /// Adds up the probes' counts, `None` if they are not known. `undecoded`: number of records that could not be
    /// decoded.
    pub fn new(probes: Option<&[ProbeReport]>, undecoded: u64) -> Self {
        let counted = probes.map(LossTotals::of);
        Self {
            lost: counted.map(|counted| counted.lost),
            missed: counted.and_then(|counted| counted.missed),
            unmatched: counted.map(|counted| counted.unmatched),
            no_room: counted.map(|counted| counted.no_room),
            undecoded,
        }
    }
}

/// The last events of one device, up to a limit.
#[derive(Debug)]
pub(super) struct DeviceTimeline {
    /// Events, each with its number among those of all devices.
    events: VecDeque<(u64, VfioEvent)>,
    keep: usize,
    since_ns: u64,
    dropped: u64,
    /// Size in bytes of the last rendered document.
    size: u64,
    rendered: Option<RenderedTimeline>,
}

/// The last rendered document, and its inputs.
#[derive(Debug)]
struct RenderedTimeline {
    pushed: u64,
    losses: TimelineLosses,
    gaps: u64,
    drivers: DriverModules,
    clock: WallClock,
    document: Arc<[u8]>,
}

/// Number of gaps that are kept.
const MOST_GAPS: usize = 256;

/// Times in which functions of drivers were not probed: events of devices may be missing in their timelines.
#[derive(Debug, Default)]
pub(super) struct TimelineGaps {
    last: VecDeque<ProbeGap>,
    dropped: u64,
}

impl TimelineGaps {
    pub(super) fn push(&mut self, gap: ProbeGap) {
        if self.last.len() >= MOST_GAPS {
            self.last.pop_front();
            self.dropped += 1;
        }
        self.last.push_back(gap);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.last.is_empty()
    }

    fn count(&self) -> u64 {
        self.dropped + self.last.len() as u64
    }
}

/// Members of the document before the events.
#[derive(Serialize, JsonSchema)]
struct TimelineHeader<'a> {
    /// Name and version of this schema.
    schema: &'static str,
    /// Version of the vfio-trace that traced.
    version: &'a str,
    /// Version of the vfio-trace that reads a recording; null if it is live. The first versions of vfio-trace did not
    /// have it.
    replayed_by: Option<&'a str>,
    /// Kernel release (`uname -r`).
    kernel: &'a str,
    /// Host name.
    host: Option<&'a str>,
    /// Its name in /sys.
    device: &'a str,
    /// Its driver.
    driver: Option<&'a str>,
    /// Time from which events were kept: wall time, RFC 3339 in UTC.
    since: String,
    /// The same as CLOCK_MONOTONIC, in ns.
    since_mono_ns: u64,
    /// Number of events since then that are not kept any more.
    dropped: u64,
    #[serde(flatten)]
    losses: TimelineLosses,
    /// Times in which functions that this device goes through were not probed, each as the data of a probe_gap event.
    /// The first versions of vfio-trace did not have it.
    #[schemars(with = "Vec<Map<String, Value>>")]
    probe_gaps: Vec<&'a ProbeGap>,
    /// Number of older ones, of any driver, that are left out. The first versions of vfio-trace did not have it.
    probe_gaps_dropped: u64,
}

/// The whole document. It is written in two parts; this is for its schema.
#[derive(JsonSchema)]
#[schemars(transform = came_later(
    &["replayed_by", "missed", "unmatched", "no_room", "probe_gaps", "probe_gaps_dropped"]
))]
#[expect(dead_code, reason = "never made")]
struct TimelineDocument<'a> {
    #[schemars(flatten)]
    head: TimelineHeader<'a>,
    /// The last events, in order.
    #[schemars(extend("items" = {"$ref": "urn:vfio-trace:event:1"}))]
    events: Vec<Value>,
}

/// Makes the schema of the document, as kept in `docs/schema`.
pub fn timeline_schema() -> Value {
    schema_of::<TimelineDocument<'_>>(&HEAD)
}

/// Inputs of a document besides the events.
#[derive(Clone, Copy, Debug)]
pub(super) struct TimelineContext<'a> {
    pub(super) origin: &'a TraceOrigin,
    pub(super) losses: TimelineLosses,
    pub(super) gaps: &'a TimelineGaps,
    /// Drivers of all devices: they show the devices that a gap concerns.
    pub(super) drivers: &'a DriverModules,
    pub(super) device: &'a str,
    pub(super) driver: Option<&'a str>,
}

impl DeviceTimeline {
    /// Keeps the last `keep` events since `since_ns` (CLOCK_MONOTONIC).
    pub(super) const fn new(keep: usize, since_ns: u64) -> Self {
        Self { events: VecDeque::new(), keep, since_ns, dropped: 0, size: 0, rendered: None }
    }

    /// Returns the size of the document in bytes when it was made last; 0 before. To make it for every `stat` would
    /// cost more than all else.
    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    /// Drops the rendered document: it is made again at the next look.
    pub(super) fn let_go(&mut self) {
        self.rendered = None;
    }

    /// Takes in an event, which has this number among those of all devices. Returns false if another had to go for it.
    pub(super) fn push(&mut self, event: VfioEvent, number: u64) -> bool {
        let full = self.events.len() >= self.keep.max(1);
        if full {
            self.drop_first();
        }
        self.events.push_back((number, event));
        !full
    }

    /// Returns the number of the oldest event.
    pub(super) fn first(&self) -> Option<u64> {
        self.events.front().map(|(number, _)| *number)
    }

    /// Counts the events that are kept.
    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    /// Drops the oldest event.
    pub(super) fn drop_first(&mut self) {
        self.dropped += u64::from(self.events.pop_front().is_some());
    }

    /// Returns the document, made anew only if something has changed since the last time.
    pub(super) fn document(&mut self, context: &TimelineContext<'_>) -> serde_json::Result<Arc<[u8]>> {
        let &TimelineContext { origin, losses, gaps, drivers, device, driver } = context;
        let pushed = self.dropped + self.events.len() as u64;
        if let Some(last) = &self.rendered
            && (last.pushed, last.losses, last.gaps, &last.drivers, &last.clock)
                == (pushed, losses, gaps.count(), drivers, &origin.clock)
        {
            return Ok(Arc::clone(&last.document));
        }
        let head = TimelineHeader {
            schema: TIMELINE_SCHEMA,
            version: &origin.version,
            replayed_by: origin.replayed_by.as_deref(),
            kernel: &origin.kernel,
            host: origin.host.as_deref(),
            device,
            driver,
            since: origin.clock.rfc3339(self.since_ns),
            since_mono_ns: self.since_ns,
            dropped: self.dropped,
            losses,
            probe_gaps: gaps.last.iter().filter(|gap| gap.reach(drivers).has(driver)).collect(),
            probe_gaps_dropped: gaps.dropped,
        };
        let mut text = visible::json(&head)?;
        // One event per line, so that grep shows complete events.
        text.pop();
        text.push_str(",\"events\":[");
        for (number, (_, event)) in self.events.iter().enumerate() {
            text.push_str(if number == 0 { "\n" } else { ",\n" });
            text.push_str(&event_line(event, &origin.clock.at(event.end_ns))?);
        }
        text.push_str("\n]}\n");
        let document: Arc<[u8]> = text.into_bytes().into();
        self.size = document.len() as u64;
        let (gaps, drivers, clock) = (gaps.count(), drivers.clone(), origin.clock.clone());
        self.rendered =
            Some(RenderedTimeline { pushed, losses, gaps, drivers, clock, document: Arc::clone(&document) });
        Ok(document)
    }
}
