//! The typed event: what the rest of the program knows of what the kernel did.
//!
//! The structures in [`Data`] serialise as they are into the `data` object of JSON: a field's name here is its
//! documented name there (docs/events.md).

use std::sync::Arc;

use serde::{Serialize, Serializer};
use vfio_trace_common::role::Role;

use super::{
    CallOutcome, DeviceFeature, DriverCall, DriverFinding, DriverImage, EventKind, MigFlags, MigState,
    PciReset, ProbeGap,
};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VfioEvent {
    /// CLOCK_MONOTONIC in ns when it began.
    pub start_ns: u64,
    /// CLOCK_MONOTONIC in ns when it ended. Where `duration_ns` is `None` for want of an end: when the tracer learned
    /// that it was over.
    pub end_ns: u64,
    /// How long it took; `None` if that is not known, or means nothing for this kind.
    pub duration_ns: Option<u64>,
    /// The device; `None` if the record could not tell.
    pub device: Option<DeviceRef>,
    /// Who did it.
    pub process: EventProcess,
    /// What it was.
    pub data: EventData,
}

impl VfioEvent {
    /// What it is about.
    pub const fn kind(&self) -> EventKind {
        self.data.kind()
    }

    /// The device's name, if known.
    pub fn device_name(&self) -> Option<&str> {
        self.device.as_ref().and_then(|device| device.name.as_deref())
    }

    /// The device's driver, if known.
    pub fn driver(&self) -> Option<&str> {
        self.device.as_ref().and_then(|device| device.driver.as_deref())
    }
}

/// A device as events refer to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRef {
    /// Number within this run, by first sight. Keeps devices apart whose name is not known; never printed.
    pub nr: u32,
    /// PCI address or mdev UUID, as in /sys.
    pub name: Option<Arc<str>>,
    /// Name of its driver.
    pub driver: Option<Arc<str>>,
}

/// The thread that did something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventProcess {
    /// Process (the kernel's `tgid`).
    pub pid: u32,
    /// Thread (the kernel's `pid`).
    pub tid: u32,
    /// Name of the thread. Any process may choose it: control characters can be in it.
    pub comm: String,
}

/// What happened, by kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum EventData {
    /// See [`DeviceSeen`].
    Device(DeviceSeen),
    /// See [`Register`].
    Register(DeviceRegister),
    /// A device is about to be taken from vfio: there is no more to say. Those who have it open must let go of it first.
    Unregister {},
    /// See [`Holder`].
    Held(DeviceHeld),
    /// See [`Open`].
    Open(DeviceOpen),
    /// See [`Close`].
    Close(DeviceClose),
    /// See [`ArcStep`].
    Arc(ArcStep),
    /// See [`Desync`].
    Desync(StateDesync),
    /// See [`SetState`].
    SetState(SetState),
    /// See [`GetState`].
    GetState(GetState),
    /// See [`DataSize`].
    DataSize(DataSize),
    /// See [`PrecopyInfo`].
    PrecopyInfo(PrecopyInfo),
    /// See [`DataIoctl`].
    DataIoctl(DataIoctl),
    /// See [`DataIo`].
    Read(DataIo),
    /// See [`DataIo`].
    Write(DataIo),
    /// See [`DataClose`].
    DataClose(DataClose),
    /// See [`FeatureCall`].
    Feature(FeatureCall),
    /// See [`Reset`].
    Reset(DeviceReset),
    /// See [`PciReset`].
    PciReset(PciReset),
    /// See [`Step`].
    Step(DriverCall),
    /// See [`Image`].
    Image(DriverImage),
    /// See [`Finding`].
    Finding(DriverFinding),
    /// See [`ProbeGap`].
    ProbeGap(ProbeGap),
}

impl EventData {
    /// The kind that goes with it.
    pub const fn kind(&self) -> EventKind {
        match self {
            Self::Device(_) => EventKind::Device,
            Self::Register(_) => EventKind::Register,
            Self::Unregister {} => EventKind::Unregister,
            Self::Held(_) => EventKind::Held,
            Self::Open(_) => EventKind::Open,
            Self::Close(_) => EventKind::Close,
            Self::Arc(_) => EventKind::Arc,
            Self::Desync(_) => EventKind::Desync,
            Self::SetState(_) => EventKind::SetState,
            Self::GetState(_) => EventKind::GetState,
            Self::DataSize(_) => EventKind::DataSize,
            Self::PrecopyInfo(_) => EventKind::PrecopyInfo,
            Self::DataIoctl(_) => EventKind::DataIoctl,
            Self::Read(_) => EventKind::Read,
            Self::Write(_) => EventKind::Write,
            Self::DataClose(_) => EventKind::DataClose,
            Self::Feature(_) => EventKind::Feature,
            Self::Reset(_) => EventKind::Reset,
            Self::PciReset(_) => EventKind::PciReset,
            Self::Step(_) => EventKind::Step,
            Self::Image(_) => EventKind::Image,
            Self::Finding(_) => EventKind::Finding,
            Self::ProbeGap(_) => EventKind::ProbeGap,
        }
    }

    /// How it ended, for kinds that can end in more than one way.
    pub const fn outcome(&self) -> Option<CallOutcome> {
        Some(match self {
            Self::Device(_)
            | Self::Unregister {}
            | Self::Held(_)
            | Self::Close(_)
            | Self::Desync(_)
            | Self::DataClose(_)
            | Self::Image(_)
            | Self::Finding(_)
            | Self::ProbeGap(_) => return None,
            Self::Register(data) => data.outcome,
            Self::Open(data) => data.outcome,
            Self::Arc(data) => data.outcome,
            Self::SetState(data) => data.outcome,
            Self::GetState(data) => data.outcome,
            Self::DataSize(data) => data.outcome,
            Self::PrecopyInfo(data) => data.outcome,
            Self::DataIoctl(data) => data.outcome,
            Self::Read(data) | Self::Write(data) => data.outcome,
            Self::Feature(data) => data.outcome,
            Self::Reset(data) => data.outcome,
            Self::PciReset(data) => data.outcome,
            Self::Step(data) => data.outcome,
        })
    }
}

/// A device as it was when first seen, or when it had changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceSeen {
    /// Whether it can migrate; `None` if that could not be read.
    pub migration: Option<bool>,
    /// What its migration can do; `None` if that could not be read.
    pub migration_flags: Option<MigFlags>,
    /// Whether it tracks dirty pages itself; `None` if that could not be read.
    pub dirty_tracking: Option<bool>,
    /// The state it was in, read from its driver's memory without a lock; `None` if that could not be read.
    pub state: Option<MigState>,
    /// How often it was open; `None` if that could not be read.
    pub open_count: Option<u32>,
    /// Role of the probe that saw it.
    #[serde(serialize_with = "role_name")]
    pub seen_by: Option<Role>,
}

impl DeviceSeen {
    /// Whether its driver has 0 in memory while nobody has it open: ERROR's number, but also what is there before the first
    /// open.
    pub fn may_be_fresh(&self) -> bool {
        self.state == Some(MigState::ERROR) && self.open_count == Some(0)
    }

    /// The state it was in, if that is known: see [`Self::may_be_fresh`].
    pub fn known_state(&self) -> Option<MigState> {
        self.state.filter(|_| !self.may_be_fresh())
    }
}

#[expect(clippy::ref_option, clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn role_name<S: Serializer>(role: &Option<Role>, serializer: S) -> Result<S::Ok, S::Error> {
    role.map(Role::name).serialize(serializer)
}

/// A device was registered with vfio.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceRegister {
    /// How it ended.
    #[serde(flatten)]
    pub outcome: CallOutcome,
}

/// A process had a device open when tracing began: the event's process, not one that did something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceHeld {
    /// The descriptor in that process.
    pub fd: u32,
}

/// A device was opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceOpen {
    /// Openers after it.
    pub open_count: Option<u32>,
    /// The state it was found in; `None` if that could not be read, or was changing.
    pub state: Option<MigState>,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: CallOutcome,
}

/// A device is being closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceClose {
    /// Openers before it: 1 means that nobody is left.
    pub open_count: Option<u32>,
}

/// One arc of the state machine, asked for or in between.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ArcStep {
    /// State it starts from.
    pub from: MigState,
    /// State it leads to; `None` if the core refused to name one.
    pub to: Option<MigState>,
    /// State that was asked for in the end.
    pub target: MigState,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: CallOutcome,
}

/// What showed that a device is in another state than expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DesyncCause {
    /// An arc that starts from it.
    Arc,
    /// The driver's `migration_get_state`.
    GetState,
    /// The driver's memory, read along with the device.
    Device,
}

impl DesyncCause {
    /// The name used in output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Arc => "arc",
            Self::GetState => "get_state",
            Self::Device => "device",
        }
    }
}

/// A device is not in the state that it was last known to be in: something changed it unseen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct StateDesync {
    /// State that follows from what was seen.
    pub expected: MigState,
    /// State it is in.
    pub found: MigState,
    /// What showed it.
    pub cause: DesyncCause,
}

/// Which records an event of a request is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RequestOrigin {
    /// The ioctl's return was seen: what user space got.
    Ioctl,
    /// Only the driver's function was seen: the kernel called it by itself (debugfs does), or the ioctl's record was lost.
    Driver,
}

/// A request to change the state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SetState {
    /// State asked for.
    pub target: MigState,
    /// Where this is known from.
    pub via: RequestOrigin,
    /// Arcs seen to begin within the request; 0 if the device was there already.
    pub arcs: u32,
    /// The data fd that user space got.
    pub data_fd: Option<i32>,
    /// Number of the data session that the request started.
    pub session: Option<u32>,
    /// How the request ended.
    #[serde(flatten)]
    pub outcome: CallOutcome,
    /// How the driver's function ended: may be `Ok` although the request failed. `None` if it was not seen.
    pub driver_call: Option<CallOutcome>,
}

/// A request for the current state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GetState {
    /// The state given.
    pub state: Option<MigState>,
    /// Where this is known from.
    pub via: RequestOrigin,
    /// How the request ended.
    #[serde(flatten)]
    pub outcome: CallOutcome,
    /// How the driver's function ended, `None` if it was not seen.
    pub driver_call: Option<CallOutcome>,
}

/// A request for the size of what STOP_COPY would move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DataSize {
    /// The driver's estimate, in bytes.
    pub stop_copy_bytes: Option<u64>,
    /// Where this is known from.
    pub via: RequestOrigin,
    /// How the request ended.
    #[serde(flatten)]
    pub outcome: CallOutcome,
    /// How the driver's function ended, `None` if it was not seen.
    pub driver_call: Option<CallOutcome>,
}

/// What is left to read in PRE_COPY.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PrecopyInfo {
    /// The data session.
    pub session: Option<u32>,
    /// Bytes that the destination should have before the switchover.
    pub initial_bytes: Option<u64>,
    /// Bytes that have changed since they were read.
    pub dirty_bytes: Option<u64>,
    /// `vfio_precopy_info.flags` as returned. Kernels before PRECOPY_INFOv2 leave in it what the caller wrote.
    pub flags: Option<u32>,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: CallOutcome,
}

/// An ioctl on a data fd that is not VFIO_MIG_GET_PRECOPY_INFO.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DataIoctl {
    /// The data session.
    pub session: Option<u32>,
    /// The ioctl's number.
    pub cmd: u32,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: CallOutcome,
}

/// Why a `read()` gave nothing, or a `write()` took nothing, although nothing is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadEnd {
    /// 0 bytes: all of it has been read.
    End,
    /// Nothing for now, which is no failure of the migration: ENOMSG from a `read()` in PRE_COPY, EAGAIN from any `read()`, and
    /// whatever says that a signal interrupted the call ([`Errno::is_interrupted`]).
    ForNow,
}

/// One `read()` or `write()` on a data fd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DataIo {
    /// The data session.
    pub session: Option<u32>,
    /// Bytes moved; `None` if the call failed.
    pub bytes: Option<u64>,
    /// Bytes that user space asked to move.
    pub requested_bytes: u64,
    /// Offset in the stream at entry; `None` if it could not be read.
    pub offset_bytes: Option<u64>,
    /// Why a `read()` gave nothing.
    pub dry: Option<ReadEnd>,
    /// Whether the driver had ended the session before: it answers ENODEV then.
    pub ended: bool,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: CallOutcome,
}

/// Which way a data session moves the device's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DataDirection {
    /// Out of the device, by `read()`: source of a migration.
    Save,
    /// Into the device, by `write()`: destination of a migration.
    Resume,
}

impl DataDirection {
    /// The name used in output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Save => "save",
            Self::Resume => "resume",
        }
    }
}

/// The last reference to a data fd is gone: the account of its session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DataClose {
    /// The data session.
    pub session: Option<u32>,
    /// Which way it went, if any of it was seen.
    pub direction: Option<DataDirection>,
    /// Whether its start was not seen, so that the numbers below are a part only.
    pub partial: bool,
    /// Whether the driver was seen to end it before: by an arc, a reset, or the device's close.
    pub ended: bool,
    /// `read()` calls.
    pub reads: u64,
    /// `write()` calls.
    pub writes: u64,
    /// Calls that failed, ENOMSG not counted.
    pub failed: u64,
    /// Bytes that `read()` gave.
    pub read_bytes: u64,
    /// Bytes that `write()` took.
    pub written_bytes: u64,
    /// Bytes that the file's offset passed without a call that was seen; `None` if no offset could be read.
    pub missed_bytes: Option<u64>,
    /// Offset at the end; drivers set it back to 0 when they end a session. `None` if it could not be read.
    pub position_bytes: Option<u64>,
    /// Time since the session's start, in ns; `None` if that was not seen.
    pub lifetime_ns: Option<u64>,
}

/// `VFIO_DEVICE_FEATURE` operation bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeatureOp {
    /// `VFIO_DEVICE_FEATURE_PROBE`.
    pub probe: bool,
    /// `VFIO_DEVICE_FEATURE_GET`.
    pub get: bool,
    /// `VFIO_DEVICE_FEATURE_SET`.
    pub set: bool,
}

impl FeatureOp {
    /// `get`, `set`, `probe`; the kernel allows `probe+get`, `probe+set` and all three; `none` is an invalid call.
    pub const fn name(self) -> &'static str {
        match (self.probe, self.get, self.set) {
            (false, false, false) => "none",
            (false, true, false) => "get",
            (false, false, true) => "set",
            (false, true, true) => "get+set",
            (true, false, false) => "probe",
            (true, true, false) => "probe+get",
            (true, false, true) => "probe+set",
            (true, true, true) => "probe+get+set",
        }
    }
}

impl Serialize for FeatureOp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// A VFIO_DEVICE_FEATURE call without a kind of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FeatureCall {
    /// Which feature; in JSON `feature` (name or null) and `number`.
    #[serde(flatten, serialize_with = "feature_fields")]
    pub feature: Option<DeviceFeature>,
    /// What was asked of it. Both are `None` if they could not be read.
    pub op: Option<FeatureOp>,
    /// What the call said, for features that are decoded and calls that worked or carried arguments.
    pub detail: Option<FeatureDetail>,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: CallOutcome,
}

#[expect(clippy::ref_option, clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn feature_fields<S: Serializer>(feature: &Option<DeviceFeature>, serializer: S) -> Result<S::Ok, S::Error> {
    use serde::ser::SerializeStruct as _;
    let mut map = serializer.serialize_struct("Feature", 2)?;
    map.serialize_field("feature", &feature.and_then(DeviceFeature::name))?;
    map.serialize_field("number", &feature.map(|feature| feature.0))?;
    map.end()
}

/// Arguments and results of the features that migration uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum FeatureDetail {
    /// GET MIGRATION.
    Migration {
        /// What the device's migration can do.
        migration_flags: MigFlags,
    },
    /// SET DMA_LOGGING_START.
    LogStart {
        /// Granularity asked for; `None` if it could not be read.
        page_size_bytes: Option<u64>,
        /// Granularity that the driver chose; `None` if the call failed.
        granted_page_size_bytes: Option<u64>,
        /// Number of IOVA ranges to log; `None` if it could not be read.
        ranges: Option<u32>,
        /// The first of them; `None` if they could not be read.
        iova_ranges: Option<Vec<IovaRange>>,
        /// From the lowest address of all ranges to the highest, what is in between included; drivers have a limit for
        /// it. `None` if not all could be read.
        span_bytes: Option<u64>,
    },
    /// GET DMA_LOGGING_REPORT.
    LogReport {
        /// Start of the range, `0x…`: a JSON number would lose bits in readers that use doubles. What could not be read
        /// is `None`, here and in the following.
        #[serde(serialize_with = "hex_if_known")]
        iova: Option<u64>,
        /// Length of the range.
        length_bytes: Option<u64>,
        /// Bytes per bit of the bitmap.
        page_size_bytes: Option<u64>,
        /// Bits that were set; `None` if the call failed, or the bitmap was too big to be counted cheaply.
        dirty_pages: Option<u64>,
    },
}

/// A range of addresses that a device may write to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct IovaRange {
    /// Its start, `0x…`.
    #[serde(serialize_with = "hex")]
    pub iova: u64,
    /// Its length.
    pub length_bytes: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn hex<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{number:#x}"))
}

#[expect(clippy::ref_option, reason = "serde's signature")]
fn hex_if_known<S: Serializer>(number: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    match number {
        Some(number) => hex(number, serializer),
        None => serializer.serialize_none(),
    }
}

/// VFIO_DEVICE_RESET.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceReset {
    /// The state it has led to; `None` if it failed, or while a request to change the state was in progress.
    pub state: Option<MigState>,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: CallOutcome,
}
