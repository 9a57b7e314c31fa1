//! Record -> typed event, and the event as JSON.

mod assemble;
mod clock;
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
mod sessions;
mod state;
mod types;
pub mod visible;

pub(crate) use self::record::text;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;

pub use self::{
    assemble::{Assembler, HOLD_NS},
    clock::{ClockAnchor, WallClock},
    driver::{Finding, Image, Moment, PciReset, Severity, Step, StreamHash, Within},
    filter::Filter,
    gap::{Drivers, GapCause, GapFunction, GapTotals, Gaps, ProbeGap, Reach},
    json::{SCHEMA, SCHEMA_ID, event_line, host_event_line, start_line, summary_line},
    kind::{Kind, UnknownKind},
    note::{CaptureNote, FunctionNote, Note},
    outcome::{Errno, Outcome},
    record::{Body, DecodeError, Record},
    report::{LossTotals, ProbeReport, Start, Summary, probes_since},
    state::{Feature, MigFlags, MigState},
    types::{
        ArcStep, Cause, Close, Data, DataClose, DataIo, DataIoctl, DataSize, Desync, DeviceRef, DeviceSeen,
        Direction, Dry, Event, FeatureCall, FeatureDetail, FeatureOp, GetState, Holder, IovaRange, Open,
        PrecopyInfo, Process, Register, Reset, SetState, Via,
    },
};
pub(crate) use self::{devices::shows_new, gap::functions_of, layouts::Layouts, record::text as record_text};
