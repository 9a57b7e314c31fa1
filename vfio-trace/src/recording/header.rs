//! Header of a part: place, time and tools of its recording.

use std::io;

use serde::{Deserialize, Serialize};
use vfio_trace_common::wire;

use super::{block::MAX_JSON_LEN, open_error::PartOpenError};
use crate::event::{ClockAnchor, TraceStart};

/// Value of [`PartHeader::schema`]. The number changes when a field is removed or changes its meaning.
pub const SCHEMA: &str = "vfio-trace.recording/1";

/// Readings of all clocks of a host at the same moment.
///
/// The recorder takes one at the start of each part and from time to time (`BlockItem::Clock`). Wall times, and the
/// comparison of hosts, are computed from them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockSample {
    /// CLOCK_MONOTONIC in ns: the clock of the records. It stands still while the host sleeps.
    pub mono_ns: u64,
    /// CLOCK_BOOTTIME in ns: like CLOCK_MONOTONIC, but with the time asleep.
    pub boot_ns: u64,
    /// CLOCK_REALTIME in ns since 1970-01-01 UTC.
    pub real_ns: u64,
    /// CLOCK_TAI in ns; `None` if the kernel does not know its distance from UTC.
    pub tai_ns: Option<u64>,
    /// Maximum time between the readings, in ns.
    pub error_ns: u64,
    /// Maximum error of CLOCK_REALTIME against UTC that the kernel promises, in ns (adjtimex(2), `maxerror`); `None` if
    /// it is not synchronised.
    #[serde(default)]
    pub utc_error_ns: Option<u64>,
}

impl ClockSample {
    /// Returns the pair from which wall times are computed.
    pub const fn anchor(&self) -> ClockAnchor {
        ClockAnchor { mono_ns: self.mono_ns, real_ns: self.real_ns }
    }
}

/// Migration driver that was loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriverFacts {
    /// Name of its module; `None` if it is built in.
    pub module: Option<String>,
    /// Functions that are known by their types: role, name.
    pub functions: Vec<(String, String)>,
}

/// Offset of a member in a structure of the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayoutMember {
    /// Path in C: `vfio_device.mig_ops`.
    pub path: String,
    /// Offset in bytes; `None` if it is not known, so that the records have nothing that depends on it.
    pub offset_bytes: Option<u32>,
}

/// Header of a part. Every part has all of it, so that it can be read alone.
///
/// The recorder makes the first one when all probes are on, and the others with [`PartHeader::next_part`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartHeader {
    /// Value of [`SCHEMA`].
    pub schema: String,
    /// Version of the kernel's records: `vfio_trace_common::wire::VERSION`.
    pub wire_version: u16,
    /// Byte order of the records: `little` or `big`.
    pub byte_order: String,
    /// Identifier that all parts of one recording share, and no other recording has.
    pub recording: String,
    /// Number of the part, from 1.
    pub part: u32,
    /// Content of `/proc/sys/kernel/random/boot_id`.
    pub boot_id: Option<String>,
    /// Time at which all probes of the recording were on (CLOCK_MONOTONIC, ns).
    pub began_ns: u64,
    /// Time at which this part began (CLOCK_MONOTONIC, ns).
    pub part_began_ns: u64,
    /// Tool, kernel, host, command line, the anchor of all wall times, and the probes at the start of this part.
    pub start: TraceStart,
    /// Clocks at the start of this part.
    pub clock: ClockSample,
    /// True if all records up to the time of a tick come before it. Recorders up to 0.1.0 that fell behind wrote the
    /// time of their clock.
    #[serde(default)]
    pub settled_ticks: bool,
    /// True if times in which functions were not probed are among the records. Recorders up to 0.1.0 did not write
    /// them.
    #[serde(default)]
    pub gaps_told: bool,
    /// Migration drivers at the start of the recording.
    pub drivers: Vec<DriverFacts>,
    /// Offsets with which the eBPF programs read the kernel's structures.
    pub layout: Vec<LayoutMember>,
}

/// Byte order of records made on this machine.
const BYTE_ORDER: &str = if cfg!(target_endian = "little") { "little" } else { "big" };

impl PartHeader {
    /// Returns the header as JSON.
    pub(super) fn json(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(self)
    }

    /// Reads a header. The required fields are known only for this version's schema: a header without some of them
    /// counts as another version's if it names another schema.
    ///
    /// # Errors
    ///
    /// [`PartOpenError::OtherHeader`] or [`PartOpenError::Header`].
    pub(super) fn read(json: &[u8]) -> Result<Self, PartOpenError> {
        /// Fields of a header of any schema.
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

    /// Returns the header of the next part.
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

    /// Checks that a block can hold the header: the command line may be long.
    ///
    /// # Errors
    ///
    /// The header is too long.
    pub fn check(&self) -> io::Result<()> {
        if self.json()?.len() <= MAX_JSON_LEN {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::InvalidInput, "its header is longer than 1 MiB"))
    }

    /// Returns the reason why this version cannot read the part on this machine, if there is one.
    pub(super) fn refusal(&self) -> Option<PartOpenError> {
        if self.byte_order != BYTE_ORDER {
            return Some(PartOpenError::ByteOrder(self.byte_order.clone()));
        }
        (self.wire_version > wire::VERSION).then_some(PartOpenError::NewerRecords(self.wire_version))
    }

    /// Returns a placeholder until the header is read.
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

    /// Returns the byte order of records made on this machine.
    pub const fn byte_order() -> &'static str {
        BYTE_ORDER
    }
}
