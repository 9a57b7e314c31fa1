//! Where the downtime went.

use schemars::JsonSchema;
use serde::Serialize;

/// What a device did while it was, or had to be, still.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DowntimeStage {
    /// Source: arcs that stop it.
    Stop,
    /// Source: arcs to STOP_COPY.
    Save,
    /// Source: within `read()` in STOP_COPY.
    Read,
    /// Nothing within VFIO: the VMM, the network, or another device's turn.
    Gap,
    /// Destination: within `write()`, after the source has entered STOP_COPY.
    Write,
    /// Destination: the arc from RESUMING to STOP.
    Load,
    /// Destination: arcs to RUNNING.
    Start,
    /// Source of a migration that did not come about: arcs back to RUNNING.
    Recover,
}

impl DowntimeStage {
    /// All, in the order in which they come.
    pub const ALL: [Self; 8] =
        [Self::Stop, Self::Save, Self::Read, Self::Gap, Self::Write, Self::Load, Self::Start, Self::Recover];

    /// The name used in output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Save => "save",
            Self::Read => "read",
            Self::Gap => "gap",
            Self::Write => "write",
            Self::Load => "load",
            Self::Start => "start",
            Self::Recover => "recover",
        }
    }
}

/// How a figure is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DowntimeBound {
    /// As it was.
    Exact,
    /// It may be off by `uncertainty_ns`, or by an unknown amount if that is null.
    About,
    /// It was this long or longer.
    AtLeast,
}

/// From the first arc that stops a device to the end of the arc that makes it run again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DowntimeBreakdown {
    /// Start of the first arc that stops it.
    pub start_ns: u64,
    /// End of the last arc to RUNNING, or the last that was seen.
    pub end_ns: u64,
    /// From `start_ns` to `end_ns`.
    pub total_ns: u64,
    /// How the figures are to be read.
    pub bound: DowntimeBound,
    /// By how much `total_ns` and the gap may be off; null: not known.
    pub uncertainty_ns: Option<u64>,
    /// Why they are not exact.
    pub why: Option<String>,
    /// Where it went, in order, one entry per stage. Shares add up to `total_ns`.
    pub stages: Vec<StageTime>,
}

impl DowntimeBreakdown {
    /// A stage's time.
    pub fn stage(&self, stage: DowntimeStage) -> Option<&StageTime> {
        self.stages.iter().find(|time| time.stage == stage)
    }
}

/// Time of one stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct StageTime {
    /// Which.
    pub stage: DowntimeStage,
    /// Its part of the total. Time in which two stages were in progress counts for the one that comes first.
    pub share_ns: u64,
    /// Time in which it was in progress, whatever else was; for the gap, the same as its share.
    pub busy_ns: u64,
    /// Of its share, at most so much are pauses between calls, which are the gap's or another stage's: there are more
    /// calls than are kept one by one. 0 if all are.
    pub blurred_ns: u64,
}

/// How several devices of one VM took their turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeviceConcurrency {
    /// One after the other: less than a tenth of the time that could have been shared was.
    Series,
    /// At the same time: more than nine tenths of it was.
    Parallel,
    /// In between.
    Mixed,
}

/// A stage over all devices of a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct StageOrder {
    /// Which.
    pub stage: DowntimeStage,
    /// Devices that had it.
    pub devices: u32,
    /// Time of all devices, added up.
    pub sum_ns: u64,
    /// Time in which it was in progress on at least one of them.
    pub union_ns: u64,
    /// Time of the device that took longest: what the stage would take were all at the same time.
    pub longest_ns: u64,
    /// How they took their turns.
    pub order: DeviceConcurrency,
}
