//! The table of event kinds, and the records from which each of them is made.
//!
//! A kind is one file in this folder and one line in the table. Its name, its place in `--kind`, its JSON Schema and
//! the answers to all questions that other modules ask of an event come from these. An event that is made of one record
//! alone can be made in the kind's own file; one that needs several is made by the assembler (`event/correlate`).

mod arc;
mod close;
mod data_close;
mod data_io;
mod data_ioctl;
mod data_size;
mod desync;
mod device;
mod feature;
mod finding;
mod get_state;
mod held;
mod image;
mod open;
mod payload;
mod pci_reset;
mod precopy_info;
mod probe_gap;
mod register;
mod reset;
mod set_state;
mod step;
mod unregister;

use schemars::{Schema, SchemaGenerator};
use serde::Serialize;

pub use self::{
    arc::*, close::*, data_close::*, data_io::*, data_ioctl::*, data_size::*, desync::*, device::*,
    feature::*, finding::*, get_state::*, held::*, image::*, open::*, payload::*, pci_reset::*,
    precopy_info::*, probe_gap::*, register::*, reset::*, set_state::*, step::*, unregister::*,
};
use super::{
    CallOutcome, EventAssembler, EventCells, EventProcess, RecordBody, RecordNote, SessionEnding,
    StateEffect, VfioEvent, WireRecord,
};

/// Declares all kinds of events, in the order in which a migration meets them: variant, name, data.
macro_rules! event_kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal: $data:ty,)*) => {
        /// Kind of an event.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum EventKind { $($(#[$doc])* $kind,)* }

        impl EventKind {
            /// Every kind, in the order in which a migration meets them.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$kind),*];

            /// Returns the name that users type and see.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }

            /// Makes the JSON Schema of the kind's data.
            pub(super) fn data_schema(self, generator: &mut SchemaGenerator) -> Schema {
                match self { $(Self::$kind => generator.subschema_for::<$data>(),)* }
            }
        }

        /// Data of an event, by kind. Serialises as it is into the `data` object of JSON: a field's name here is its
        /// documented name there (docs/events.md).
        #[derive(Clone, Debug, PartialEq, Eq, Serialize)]
        #[serde(untagged)]
        pub enum EventData { $($(#[$doc])* $kind($data),)* }

        impl EventData {
            /// Returns the kind of this data.
            pub const fn kind(&self) -> EventKind {
                match self { $(Self::$kind(_) => EventKind::$kind,)* }
            }

            fn payload(&self) -> &dyn EventPayload {
                match self { $(Self::$kind(data) => data,)* }
            }
        }
    };
}

event_kinds! {
    /// A device was seen for the first time, or has changed.
    Device = "device": DeviceSeen,
    /// A device was registered with vfio.
    Register = "register": DeviceRegister,
    /// A device is about to be taken from vfio.
    Unregister = "unregister": DeviceUnregister,
    /// A process had the device open when tracing began.
    Held = "held": DeviceHeld,
    /// A device was opened.
    Open = "open": DeviceOpen,
    /// A device is being closed.
    Close = "close": DeviceClose,
    /// One step of the state machine.
    Arc = "arc": ArcStep,
    /// A device is not in the state that it was last known to be in.
    Desync = "desync": StateDesync,
    /// A request to change the state: one per request, after its arcs.
    SetState = "set_state": SetState,
    /// A request for the current state.
    GetState = "get_state": GetState,
    /// A request for how many bytes STOP_COPY would move.
    DataSize = "data_size": DataSize,
    /// VFIO_MIG_GET_PRECOPY_INFO on a data fd.
    PrecopyInfo = "precopy_info": PrecopyInfo,
    /// Any other ioctl on a data fd.
    DataIoctl = "data_ioctl": DataIoctl,
    /// `read()` on a data fd: the device's state leaves.
    Read = "read": DataIo,
    /// `write()` on a data fd: a state is loaded.
    Write = "write": DataIo,
    /// The last reference to a data fd is gone.
    DataClose = "data_close": DataClose,
    /// VFIO_DEVICE_FEATURE for anything that has no kind of its own.
    Feature = "feature": FeatureCall,
    /// VFIO_DEVICE_RESET.
    Reset = "reset": DeviceReset,
    /// The PCI core has reset the device.
    PciReset = "pci_reset": PciReset,
    /// A step of a driver.
    Step = "step": DriverCall,
    /// A driver's structure as it was at a moment.
    Image = "image": DriverImage,
    /// A conclusion of a driver's plug-in.
    Finding = "finding": DriverFinding,
    /// Functions were not probed for a time: their calls were not seen.
    ProbeGap = "probe_gap": ProbeGap,
}

/// The answers of a kind: see [`EventPayload`].
impl EventData {
    /// Returns the outcome, for kinds that can end in more than one way.
    pub fn outcome(&self) -> Option<CallOutcome> {
        self.payload().outcome()
    }

    /// Returns the effect on the device's migration state.
    pub fn state_effect(&self) -> StateEffect {
        self.payload().state_effect()
    }

    /// Returns the way in which it ended the device's data sessions, if it did.
    pub fn session_ending(&self) -> Option<SessionEnding> {
        self.payload().session_ending()
    }

    /// Returns true if the device is registered with vfio after it; `None` if the event does not show that.
    pub fn presence(&self) -> Option<bool> {
        self.payload().presence()
    }

    /// Returns the number of openers of the device after it, if the event shows that.
    pub fn opens(&self) -> OpenCount {
        self.payload().opens()
    }

    /// Returns true if a report lists it as a failure, within a migration or outside of all.
    pub fn is_failure(&self) -> bool {
        self.payload().is_failure()
    }

    /// Returns the mark that a report makes for it, if any.
    pub fn mark(&self, process: &EventProcess) -> Option<EventMark> {
        self.payload().mark(process)
    }
}

impl VfioEvent {
    /// Writes its line of text: subject, details, result.
    pub fn describe(&self, cells: &mut EventCells<'_>) {
        self.data.payload().describe(self, cells);
    }
}

/// Makes events of a record: in the kind's own file or in the assembler.
pub(super) fn assemble(assembler: &mut EventAssembler, record: &WireRecord, out: &mut Vec<VfioEvent>) {
    let header = &record.header;
    match &record.body {
        RecordBody::Device(body) => assembler.device(header, body, out),
        RecordBody::NextState(body) => assembler.next_state(header, *body, out),
        RecordBody::SetState(body) => assembler.set_state(header, body, out),
        RecordBody::GetState(body) => assembler.get_state(header, *body, out),
        RecordBody::DataSize(body) => assembler.data_size(header, *body, out),
        RecordBody::Read(body) => assembler.data_io(header, *body, DataDirection::Save, out),
        RecordBody::Write(body) => assembler.data_io(header, *body, DataDirection::Resume, out),
        RecordBody::PrecopyInfo(body) => assembler.data_ioctl(header, body, out),
        RecordBody::DataRelease(body) => assembler.data_release(header, *body, out),
        RecordBody::Ioctl(body) => assembler.ioctl(header, body, out),
        RecordBody::Open(body) => assembler.open(header, *body, out),
        RecordBody::Close(body) => assembler.close(header, *body, out),
        RecordBody::Holder(body) => assembler.holder(header, *body, out),
        RecordBody::Register(body) => assembler.register(header, *body, out),
        RecordBody::Unregister => assembler.unregister(header, out),
        RecordBody::LogRanges(body) => assembler.log_ranges(header, body),
        RecordBody::LogDirty(body) => assembler.log_dirty(header, *body),
        RecordBody::PciReset(body) => assembler.pci_reset(header, *body, out),
        RecordBody::Step(body) => assembler.step(header, body, out),
        RecordBody::Capture(body) => assembler.capture(header, body, out),
        RecordBody::Note(RecordNote::ProbeGap(gap)) => out.push(gap.event(header.end_ns)),
        RecordBody::Note(note) => assembler.take_note(note),
        // The live source does not pass these on.
        RecordBody::Module(_) => {},
    }
}
