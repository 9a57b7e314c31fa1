//! What a part says before its records: where, when and with what they were made.

use std::io;

use serde::{Deserialize, Serialize};
use vfio_trace_common::wire;

use super::{block::MAX_JSON_LEN, open_error::PartOpenError};
use crate::event::{ClockAnchor, TraceStart};

/// Value of [`Header::schema`]. The number changes when a field goes away or changes its meaning.
pub const SCHEMA: &str = "vfio-trace.recording/1";

/// The same moment on all clocks of a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockSample {
    /// CLOCK_MONOTONIC in ns: the clock of the records. It stands still while the host sleeps.
    pub mono_ns: u64,
    /// CLOCK_BOOTTIME in ns: the same with the time asleep.
    pub boot_ns: u64,
    /// CLOCK_REALTIME in ns since 1970-01-01 UTC.
    pub real_ns: u64,
    /// CLOCK_TAI in ns; `None` if the kernel was not told how far it is from UTC.
    pub tai_ns: Option<u64>,
    /// The readings may be so far apart.
    pub error_ns: u64,
    /// What the kernel promises CLOCK_REALTIME is off UTC at most (adjtimex(2), `maxerror`); `None` if it is not
    /// synchronised.
    #[serde(default)]
    pub utc_error_ns: Option<u64>,
}

impl ClockSample {
    /// The pair that wall times are computed from.
    pub const fn anchor(&self) -> ClockAnchor {
        ClockAnchor { mono_ns: self.mono_ns, real_ns: self.real_ns }
    }
}

/// A migration driver that was there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriverFacts {
    /// Its module; `None` if it is built in.
    pub module: Option<String>,
    /// Its functions that are known by their types: role, name.
    pub functions: Vec<(String, String)>,
}

/// Where a member is in a structure of the kernel, in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayoutMember {
    /// In C: `vfio_device.mig_ops`.
    pub path: String,
    /// `None`: not known, so nothing that depends on it is in the records.
    pub offset_bytes: Option<u32>,
}

/// The header of a part. Every part has it whole, so that it can be read alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartHeader {
    /// [`SCHEMA`].
    pub schema: String,
    /// Version of the kernel's records: `vfio_trace_common::wire::VERSION`.
    pub wire_version: u16,
    /// Byte order of the records: `little` or `big`.
    pub byte_order: String,
    /// What all parts of one recording have in common, and no other recording has.
    pub recording: String,
    /// Number of the part, from 1.
    pub part: u32,
    /// What `/proc/sys/kernel/random/boot_id` says.
    pub boot_id: Option<String>,
    /// CLOCK_MONOTONIC in ns when all probes of the recording were on.
    pub began_ns: u64,
    /// The same when this part began.
    pub part_began_ns: u64,
    /// Tool, kernel, host, command line, the anchor of all wall times, and the probes as they were at the start of
    /// this part.
    pub start: TraceStart,
    /// The clocks at the start of this part.
    pub clock: ClockSample,
    /// Whether all records up to the time of a tick come before it. Recorders up to 0.1.0 that fell behind wrote what
    /// their clock showed.
    #[serde(default)]
    pub settled_ticks: bool,
    /// Whether times in which functions were not probed are among the records. Recorders up to 0.1.0 did not tell them.
    #[serde(default)]
    pub gaps_told: bool,
    /// Migration drivers at the start of the recording.
    pub drivers: Vec<DriverFacts>,
    /// Where the eBPF programs found what is in the records.
    pub layout: Vec<LayoutMember>,
}

/// The byte order of this machine's records.
const BYTE_ORDER: &str = if cfg!(target_endian = "little") { "little" } else { "big" };

impl PartHeader {
    /// Its JSON.
    pub(super) fn json(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(self)
    }

    /// Reads one. What it must have is known only for its own schema: one that lacks something is of another, if it says so.
    ///
    /// # Errors
    ///
    /// What it is not.
    pub(super) fn read(json: &[u8]) -> Result<Self, PartOpenError> {
        /// What a header of any schema has.
        #[derive(Deserialize)]
        struct AnyHeader {
            schema: String,
        }
        let AnyHeader { schema } = serde_json::from_slice(json).map_err(PartOpenError::Header)?;
        if schema != SCHEMA {
            return Err(PartOpenError::OtherHeader);
        }
        serde_json::from_slice(json).map_err(PartOpenError::Header)
    }

    /// For the next part.
    #[must_use]
    pub fn next_part(
        &self,
        began_ns: u64,
        clock: ClockSample,
        probes: Vec<crate::event::ProbeReport>,
    ) -> Self {
        let mut next = self.clone();
        next.part = self.part.saturating_add(1);
        next.part_began_ns = began_ns;
        next.clock = clock;
        next.start.probes = probes;
        next
    }

    /// Whether a block can hold it: the command line may be long.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn check(&self) -> io::Result<()> {
        if self.json()?.len() <= MAX_JSON_LEN {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::InvalidInput, "its header is longer than 1 MiB"))
    }

    /// Why the part cannot be read by this version, on this machine.
    pub(super) fn refusal(&self) -> Option<PartOpenError> {
        if self.byte_order != BYTE_ORDER {
            return Some(PartOpenError::ByteOrder(self.byte_order.clone()));
        }
        (self.wire_version > wire::VERSION).then_some(PartOpenError::NewerRecords(self.wire_version))
    }

    /// Stands for a header until it is read.
    pub(super) fn nothing() -> Self {
        Self {
            schema: String::new(),
            wire_version: 0,
            byte_order: String::new(),
            recording: String::new(),
            part: 0,
            boot_id: None,
            began_ns: 0,
            part_began_ns: 0,
            start: TraceStart {
                version: String::new(),
                replayed_by: None,
                kernel: String::new(),
                machine: String::new(),
                host: None,
                command: Vec::new(),
                clock: ClockAnchor::default(),
                probes: Vec::new(),
            },
            clock: ClockSample::default(),
            settled_ticks: false,
            gaps_told: false,
            drivers: Vec::new(),
            layout: Vec::new(),
        }
    }

    /// The byte order of records made on this machine.
    pub const fn byte_order() -> &'static str {
        BYTE_ORDER
    }
}
