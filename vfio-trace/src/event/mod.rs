//! Record -> typed event, and the event as JSON.

mod clock;
mod correlate;
mod devices;
mod driver;
mod filter;
mod gap;
mod json;
mod kind;
mod layouts;
mod note;
mod outcome;
mod record;
mod report;
mod schema;
mod sessions;
mod state;
mod types;

pub(crate) use self::record::text;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;

pub use self::{
    clock::{ClockAnchor, WallClock},
    correlate::{EventAssembler, HOLD_NS},
    driver::{
        CaptureMoment, DriverCall, DriverFinding, DriverImage, EnclosingArc, FindingSeverity, PciReset,
        StreamHash,
    },
    filter::EventFilter,
    gap::{DriverModules, GapCause, GapFunction, GapReach, GapTotals, GapTracker, ProbeGap},
    json::{SCHEMA, SCHEMA_ID, event_line, host_event_line, start_line, summary_line},
    kind::{EventKind, UnknownKind},
    note::{CaptureNote, FunctionNote, RecordNote},
    outcome::{CallOutcome, Errno},
    record::{RecordBody, WireRecord},
    report::{LossTotals, ProbeReport, TraceStart, TraceSummary, probes_since},
    state::{DeviceFeature, MigFlags, MigState},
    types::{
        ArcStep, DataClose, DataDirection, DataIo, DataIoctl, DataSize, DesyncCause, DeviceClose, DeviceHeld,
        DeviceOpen, DeviceRef, DeviceRegister, DeviceReset, DeviceSeen, EventData, EventProcess, FeatureCall,
        FeatureDetail, FeatureOp, GetState, IovaRange, PrecopyInfo, ReadEnd, RequestOrigin, SetState,
        StateDesync, VfioEvent,
    },
};
pub(crate) use self::{
    devices::may_be_new_device, gap::functions_of, layouts::CaptureLayouts, record::text as record_text,
};
pub use vfio_trace_common::record::DecodeError;
