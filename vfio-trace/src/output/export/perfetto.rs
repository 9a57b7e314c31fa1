//! Writes a document in Perfetto's native format: a process per host, a track per device with tracks below it.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use jiff::Timestamp;
use prost::Message as _;
use serde_json::Value;

use super::{
    chrome::device_name,
    lanes::{SliceEdge, edges},
    protos::{
        COUNTER, ClockSnapshot, CounterDescriptor, DebugAnnotation, EXPLICIT, INSTANT, MONOTONIC,
        ProcessDescriptor, REALTIME, SEQ_INCREMENTAL_STATE_CLEARED, SEQ_NEEDS_INCREMENTAL_STATE, SLICE_BEGIN,
        SLICE_END, SnapshotClock, TracePacket, TracePacketDefaults, TrackDescriptor, TrackEvent, UNIT_COUNT,
        UNIT_SIZE_BYTES,
    },
    tracks::{CounterUnit, ExportTrack, TrackContent, TrackOwner, TrackSlice, each_track},
};
use crate::{report::document::MigrationDocument, units::human::clean};

/// Sequence that all packets belong to.
const SEQUENCE: u32 = 1;

/// Tag of the field `Trace.packet`, which is followed by the packet's length.
const PACKET: u8 = 1 << 3 | 2;

/// Clock of the packets' times, and its reading at the document's origin.
struct TraceClock {
    id: u32,
    at_origin: u64,
    snapshot: ClockSnapshot,
}

impl TraceClock {
    /// Returns the first host's CLOCK_MONOTONIC, so that the trace can be merged with others of that host; or its wall
    /// clock, if the host booted after the origin. The other hosts' clocks have been brought to this one's.
    fn of(document: &MigrationDocument) -> Self {
        let real = document.origin.parse::<Timestamp>().map_or(0, Timestamp::as_nanosecond);
        let real = u64::try_from(real).unwrap_or(0);
        let mono = document.hosts.first().and_then(|host| u64::try_from(host.mono_at_origin_ns).ok());
        let clock = |id, ns| SnapshotClock { clock_id: Some(id), timestamp: Some(ns) };
        let (id, at_origin) = mono.map_or((REALTIME, real), |mono| (MONOTONIC, mono));
        let clocks = mono.map(|mono| clock(MONOTONIC, mono)).into_iter().chain([clock(REALTIME, real)]);
        let snapshot = ClockSnapshot { clocks: clocks.collect(), primary_trace_clock: Some(id) };
        Self { id, at_origin, snapshot }
    }
}

/// Returns a name without control characters, so that it cannot steer the terminal of any program that prints it.
fn shown(name: &str) -> String {
    clean(name).into_owned()
}

/// Writer of packets.
struct PacketWriter<W> {
    out: W,
    buffer: Vec<u8>,
    at_origin: u64,
    /// Number of tracks that were described.
    tracks: u64,
    /// Tracks of the hosts, to which the devices' tracks belong.
    hosts: Vec<u64>,
    devices: BTreeMap<usize, u64>,
}

impl<W: Write> PacketWriter<W> {
    fn put(&mut self, packet: TracePacket) -> io::Result<()> {
        let packet = TracePacket { trusted_packet_sequence_id: Some(SEQUENCE), ..packet };
        self.buffer.clear();
        self.buffer.push(PACKET);
        packet.encode_length_delimited(&mut self.buffer).map_err(io::Error::other)?;
        self.out.write_all(&self.buffer)
    }

    /// Writes the description of a track, and returns its number.
    fn describe(&mut self, descriptor: TrackDescriptor) -> io::Result<u64> {
        self.tracks += 1;
        let rank = i32::try_from(self.tracks).ok();
        let descriptor = TrackDescriptor { uuid: Some(self.tracks), sibling_order_rank: rank, ..descriptor };
        self.put(TracePacket { track_descriptor: Some(descriptor), ..TracePacket::default() })?;
        Ok(self.tracks)
    }

    fn host(&mut self, name: &str, at: usize) -> io::Result<()> {
        let process = ProcessDescriptor { pid: i32::try_from(at + 1).ok(), process_name: Some(shown(name)) };
        let child_ordering = Some(EXPLICIT);
        let track = self.describe(TrackDescriptor {
            process: Some(process),
            child_ordering,
            ..TrackDescriptor::default()
        })?;
        self.hosts.push(track);
        Ok(())
    }

    /// Returns the track that is the parent of an owner's tracks.
    fn parent(&mut self, document: &MigrationDocument, owner: TrackOwner) -> io::Result<Option<u64>> {
        let nr = match owner {
            TrackOwner::All => return Ok(None),
            TrackOwner::Host(host) => return Ok(self.hosts.get(host).copied()),
            TrackOwner::Device(nr) => nr,
        };
        if let Some(known) = self.devices.get(&nr) {
            return Ok(Some(*known));
        }
        let device = &document.devices[nr];
        let driver = device.driver.as_ref().map_or_else(String::new, |driver| format!(" ({driver})"));
        let track = self.describe(TrackDescriptor {
            name: Some(shown(&format!("{}{driver}", device_name(device)))),
            parent_uuid: self.hosts.get(device.host as usize).copied(),
            child_ordering: Some(EXPLICIT),
            ..TrackDescriptor::default()
        })?;
        self.devices.insert(nr, track);
        Ok(Some(track))
    }

    fn event(&mut self, at_ns: u64, event: TrackEvent) -> io::Result<()> {
        self.put(TracePacket {
            timestamp: Some(self.at_origin.saturating_add(at_ns)),
            track_event: Some(event),
            sequence_flags: Some(SEQ_NEEDS_INCREMENTAL_STATE),
            ..TracePacket::default()
        })
    }

    fn track(&mut self, document: &MigrationDocument, track: &ExportTrack<'_>) -> io::Result<()> {
        let counter = match &track.content {
            TrackContent::Counter(unit, _) => Some(counter(*unit)),
            TrackContent::Slices(_) | TrackContent::Instants(_) => None,
        };
        let parent_uuid = self.parent(document, track.owner)?;
        let name = Some(shown(&track.name));
        let track_uuid = Some(self.describe(TrackDescriptor {
            name,
            parent_uuid,
            counter,
            ..TrackDescriptor::default()
        })?);
        let of = |r#type| TrackEvent { r#type: Some(r#type), track_uuid, ..TrackEvent::default() };
        match &track.content {
            TrackContent::Slices(slices) => edges(slices, |edge, slice| match edge {
                SliceEdge::Begin => self.event(slice.start_ns, begin(slice, of(SLICE_BEGIN))),
                SliceEdge::End => self.event(slice.end_ns, of(SLICE_END)),
            }),
            TrackContent::Instants(instants) => instants.iter().try_for_each(|instant| {
                let name = Some(shown(&instant.name));
                let categories = vec![instant.category.to_owned()];
                let debug_annotations = annotations(&(instant.args)());
                self.event(instant.at_ns, TrackEvent { debug_annotations, categories, name, ..of(INSTANT) })
            }),
            TrackContent::Counter(_, points) => points.iter().try_for_each(|(at_ns, value)| {
                let counter_value = Some(i64::try_from(*value).unwrap_or(i64::MAX));
                self.event(*at_ns, TrackEvent { counter_value, ..of(COUNTER) })
            }),
        }
    }
}

fn begin(slice: &TrackSlice<'_>, event: TrackEvent) -> TrackEvent {
    TrackEvent {
        name: Some(shown(&slice.name)),
        categories: vec![slice.category.to_owned()],
        debug_annotations: annotations(&(slice.args)()),
        flow_ids: slice.arrow_to.into_iter().collect(),
        terminating_flow_ids: slice.arrow_from.into_iter().collect(),
        ..event
    }
}

fn counter(unit: CounterUnit) -> CounterDescriptor {
    match unit {
        CounterUnit::Bytes => CounterDescriptor { unit: Some(UNIT_SIZE_BYTES), unit_name: None },
        CounterUnit::Pages => {
            CounterDescriptor { unit: Some(UNIT_COUNT), unit_name: Some(unit.name().to_owned()) }
        },
    }
}

/// Returns the fields of an object as annotations. Null is left out: the format has no such value.
fn annotations(args: &Value) -> Vec<DebugAnnotation> {
    let fields = args.as_object().into_iter().flatten();
    fields
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| DebugAnnotation { name: Some(shown(name)), ..annotation(value) })
        .collect()
}

fn annotation(value: &Value) -> DebugAnnotation {
    let mut made = DebugAnnotation::default();
    match value {
        Value::Null => {},
        Value::Bool(value) => made.bool_value = Some(*value),
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(value), _) => made.uint_value = Some(value),
            (None, Some(value)) => made.int_value = Some(value),
            (None, None) => made.double_value = number.as_f64(),
        },
        Value::String(text) => made.string_value = Some(shown(text)),
        Value::Array(items) => {
            made.array_values = items.iter().filter(|item| !item.is_null()).map(annotation).collect();
        },
        Value::Object(_) => made.dict_entries = annotations(value),
    }
    made
}

/// Writes a trace, packet by packet.
///
/// # Errors
///
/// Errors of `out`.
pub fn write_perfetto(document: &MigrationDocument, out: impl Write) -> io::Result<()> {
    let clock = TraceClock::of(document);
    let mut packets = PacketWriter {
        out,
        buffer: Vec::new(),
        at_origin: clock.at_origin,
        tracks: 0,
        hosts: Vec::new(),
        devices: BTreeMap::new(),
    };
    packets.put(TracePacket {
        clock_snapshot: Some(clock.snapshot),
        sequence_flags: Some(SEQ_INCREMENTAL_STATE_CLEARED),
        trace_packet_defaults: Some(TracePacketDefaults { timestamp_clock_id: Some(clock.id) }),
        first_packet_on_sequence: Some(true),
        ..TracePacket::default()
    })?;
    for (at, host) in document.hosts.iter().enumerate() {
        packets.host(&host.label, at)?;
    }
    each_track(document, |track| packets.track(document, &track))
}

/// Returns all names and values of a trace that are text.
#[cfg(test)]
pub(crate) fn perfetto_strings(trace: &[u8]) -> Vec<String> {
    fn of(annotations: &[DebugAnnotation], strings: &mut Vec<String>) {
        for one in annotations {
            strings.extend(one.name.iter().chain(&one.string_value).cloned());
            of(&one.dict_entries, strings);
            of(&one.array_values, strings);
        }
    }
    let mut strings = Vec::new();
    let mut rest = trace;
    while let [PACKET, packet @ ..] = rest {
        rest = packet;
        let packet = TracePacket::decode_length_delimited(&mut rest).unwrap();
        if let Some(track) = packet.track_descriptor {
            strings
                .extend(track.name.into_iter().chain(track.process.and_then(|process| process.process_name)));
        }
        if let Some(event) = packet.track_event {
            strings.extend(event.name);
            of(&event.debug_annotations, &mut strings);
        }
    }
    assert!(rest.is_empty(), "not all of it are packets");
    strings
}
