//! VFIO_DEVICE_FEATURE for anything that has no kind of its own.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use super::payload::{EventMark, EventPayload, OpenCount};
use crate::event::{
    CallOutcome, DeviceFeature, EventCells, EventProcess, MigFlags, SessionEnding, StateEffect, VfioEvent,
    cells::or_unknown,
};
use crate::units::human;

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
    /// Returns `get`, `set`, `probe`; the kernel allows `probe+get`, `probe+set` and all three; `none` is an invalid
    /// call.
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

impl JsonSchema for FeatureOp {
    fn schema_name() -> Cow<'static, str> {
        "FeatureOp".into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        let bit = |bits: u8, bit: u8| bits & bit != 0;
        let all =
            (0..8).map(|bits| Self { probe: bit(bits, 4), get: bit(bits, 1), set: bit(bits, 2) }.name());
        json_schema!({"enum": all.collect::<Vec<_>>()})
    }
}

impl Serialize for FeatureOp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// A VFIO_DEVICE_FEATURE call without a kind of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FeatureCall {
    /// The feature; in JSON `feature` (name or null) and `number`. `None` if it could not be read.
    #[serde(flatten, serialize_with = "feature_fields")]
    #[schemars(flatten, with = "FeatureFields")]
    pub feature: Option<DeviceFeature>,
    /// The operation. `None` if it could not be read.
    pub op: Option<FeatureOp>,
    /// Contents of the call, for features that are decoded and calls that worked or carried arguments.
    pub detail: Option<FeatureDetail>,
    /// Outcome of the call.
    #[serde(flatten)]
    pub outcome: CallOutcome,
}

impl FeatureCall {
    /// Returns true if the call starts a log of dirty pages, or tries to.
    pub fn starts_log(&self) -> bool {
        let name = self.feature.and_then(DeviceFeature::name);
        name == Some("DMA_LOGGING_START") && self.op.is_some_and(|op| op.set && !op.probe)
    }
}

#[expect(clippy::ref_option, clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn feature_fields<S: Serializer>(feature: &Option<DeviceFeature>, serializer: S) -> Result<S::Ok, S::Error> {
    let fields = FeatureFields {
        feature: feature.and_then(DeviceFeature::name),
        number: feature.map(|feature| feature.0),
    };
    fields.serialize(serializer)
}

/// `feature` and `number` as JSON has them.
#[derive(Serialize, JsonSchema)]
struct FeatureFields {
    /// Its name in the uAPI; null for one that this version does not know.
    feature: Option<&'static str>,
    /// Its number; null if it could not be read.
    number: Option<u32>,
}

/// A number as text: a JSON number would lose bits in readers that use doubles.
#[derive(JsonSchema)]
#[schemars(rename = "HexNumber", transparent)]
#[expect(dead_code, reason = "for the schema alone")]
struct HexShape(#[schemars(regex(pattern = "^0x[0-9a-f]+$"))] String);

/// Arguments and results of the features that migration uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum FeatureDetail {
    /// GET MIGRATION.
    Migration {
        /// The device's migration flags.
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
        /// Distance from the lowest address of all ranges to the highest, gaps included; drivers have a limit for it.
        /// `None` if not all could be read.
        span_bytes: Option<u64>,
    },
    /// GET DMA_LOGGING_REPORT.
    LogReport {
        /// Start of the range, `0x…`: a JSON number would lose bits in readers that use doubles. Values that could not
        /// be read are `None`, here and in the following.
        #[serde(serialize_with = "hex_if_known")]
        #[schemars(with = "Option<HexShape>")]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct IovaRange {
    /// Its start, `0x…`.
    #[serde(serialize_with = "hex")]
    #[schemars(with = "HexShape")]
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

impl EventPayload for FeatureCall {
    fn outcome(&self) -> Option<CallOutcome> {
        Some(self.outcome)
    }

    fn state_effect(&self) -> StateEffect {
        StateEffect::None
    }

    fn session_ending(&self) -> Option<SessionEnding> {
        None
    }

    fn presence(&self) -> Option<bool> {
        None
    }

    fn opens(&self) -> OpenCount {
        OpenCount::AsBefore
    }

    fn is_failure(&self) -> bool {
        self.starts_log() && self.outcome.is_failure()
    }

    fn mark(&self, _process: &EventProcess) -> Option<EventMark> {
        None
    }

    fn describe(&self, _event: &VfioEvent, cells: &mut EventCells<'_>) {
        match (self.op, self.feature) {
            (Some(op), Some(feature)) => cells.subject(&format!("{} {feature}", op.name())),
            _ => cells.subject("?"),
        };
        if let Some(detail) = &self.detail {
            detail.describe(cells);
        }
        cells.outcome(self.outcome);
    }
}

impl FeatureDetail {
    fn describe(&self, cells: &mut EventCells<'_>) {
        match self {
            Self::Migration { migration_flags } => _ = cells.more(&migration_flags.to_string()),
            Self::LogStart { page_size_bytes, granted_page_size_bytes, ranges, iova_ranges, span_bytes } => {
                cells
                    .more(&ranges.map_or_else(|| "? ranges".to_owned(), |n| human::count(n.into(), "range")));
                for range in iova_ranges.iter().flatten() {
                    cells.more(&format!("{} @ {:#x}", human::bytes(range.length_bytes), range.iova));
                }
                if let Some(span) = span_bytes.filter(|_| ranges.is_some_and(|ranges| ranges > 1)) {
                    cells.more(&format!("span {}", human::bytes(span)));
                }
                cells.more(&format!("page {}", or_unknown(page_size_bytes.map(human::bytes))));
                if let Some(granted) =
                    granted_page_size_bytes.filter(|granted| Some(*granted) != *page_size_bytes)
                {
                    cells.more(&format!("granted {}", human::bytes(granted)));
                }
            },
            Self::LogReport { iova, length_bytes, page_size_bytes, dirty_pages } => {
                if let Some(dirty) = dirty_pages {
                    cells.more(&human::count(*dirty, "dirty page"));
                }
                let iova = or_unknown(iova.map(|iova| format!("{iova:#x}")));
                cells.more(&format!("{} @ {iova}", or_unknown(length_bytes.map(human::bytes))));
                cells.more(&format!("page {}", or_unknown(page_size_bytes.map(human::bytes))));
            },
        }
    }
}
