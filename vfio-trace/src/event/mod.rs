//! Turns records into typed events, and events into JSON.

mod cells;
mod clock;
mod correlate;
mod devices;
mod filter;
mod gap;
mod json;
mod kind;
mod kinds;
mod layouts;
mod note;
mod outcome;
mod record;
mod report;
mod sessions;
mod state;
mod uapi_names;
mod vfio_event;

pub(crate) use self::record::text;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;

pub use self::{
    cells::{CellColumn, CellSink, CellStyle, EventCells, NOT_OPEN},
    clock::{ClockAnchor, WallClock},
    correlate::{EventAssembler, HOLD_NS},
    filter::EventFilter,
    gap::{DriverModules, GapReach, GapTotals, GapTracker},
    json::{SCHEMA, SCHEMA_ID, event_line, event_schema, host_event_line, start_line, summary_line},
    kind::UnknownKind,
    kinds::*,
    note::{CaptureNote, FunctionNote, RecordNote},
    outcome::{CallOutcome, Errno},
    record::{RecordBody, WireRecord},
    report::{LossTotals, ProbeReport, TraceStart, TraceSummary, probes_since},
    state::{KnownSpan, MigState, SessionEnding, StateEffect, StateTimeline},
    uapi_names::{DeviceFeature, MigFlags},
    vfio_event::{DeviceRef, EventProcess, VfioEvent},
};
pub(crate) use self::{
    devices::may_be_new_device, gap::functions_of, layouts::CaptureLayouts, record::text as record_text,
};
pub use vfio_trace_common::record::DecodeError;
