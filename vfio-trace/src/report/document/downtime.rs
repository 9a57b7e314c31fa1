//! The downtime of a device or of a VM, and its stages.

use schemars::JsonSchema;
use serde::Serialize;

/// Stage of the downtime: an activity of a device while it was, or had to be, stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DowntimeStage {
    /// Source: arcs that stop the device.
    Stop,
    /// Source: arcs to STOP_COPY.
    Save,
    /// Source: time in `read()` in STOP_COPY.
    Read,
    /// No activity within VFIO: the VMM, the network, or another device's turn.
    Gap,
    /// Destination: time in `write()`, after the source has entered STOP_COPY.
    Write,
    /// Destination: the arc from RESUMING to STOP.
    Load,
    /// Destination: arcs to RUNNING.
    Start,
    /// Source of a migration that did not succeed: arcs back to RUNNING.
    Recover,
}

impl DowntimeStage {
    /// All stages, in the order in which they come.
    pub const ALL: [Self; 8] =
        [Self::Stop, Self::Save, Self::Read, Self::Gap, Self::Write, Self::Load, Self::Start, Self::Recover];

    /// Returns the name used in output.
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

/// Precision of the figures of a downtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DowntimeBound {
    /// The figures are exact.
    Exact,
    /// The figures may be off by `uncertainty_ns`, or by an unknown amount if that is null.
    About,
    /// The downtime was this long or longer.
    AtLeast,
}

/// A downtime: from the first arc that stops a device to the end of the arc that makes it run again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DowntimeBreakdown {
    /// Start of the first arc that stops the device.
    pub start_ns: u64,
    /// End of the last arc to RUNNING, or the last time that was seen.
    pub end_ns: u64,
    /// Time from `start_ns` to `end_ns`.
    pub total_ns: u64,
    /// Precision of the figures.
    pub bound: DowntimeBound,
    /// Largest error of `total_ns` and of the gap; null if it is not known.
    pub uncertainty_ns: Option<u64>,
    /// Reason why the figures are not exact.
    pub why: Option<String>,
    /// Stages in order, one entry per stage. Shares add up to `total_ns`.
    pub stages: Vec<StageTime>,
}

impl DowntimeBreakdown {
    /// Returns the time of a stage.
    pub fn stage(&self, stage: DowntimeStage) -> Option<&StageTime> {
        self.stages.iter().find(|time| time.stage == stage)
    }
}

/// Time of one stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct StageTime {
    /// The stage.
    pub stage: DowntimeStage,
    /// Share of the stage in the total. Time in which two stages were in progress counts for the one that comes first.
    pub share_ns: u64,
    /// Time in which the stage was in progress, whatever else was; for the gap, the same as its share.
    pub busy_ns: u64,
    /// Largest part of the share that may be pauses between calls, which belong to the gap or to another stage: there
    /// are more calls than are kept one by one. 0 if all are kept.
    pub blurred_ns: u64,
}

/// Order in which several devices of one VM went through a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeviceConcurrency {
    /// One after the other: they shared less than a tenth of the time that they could have shared.
    Series,
    /// At the same time: they shared more than nine tenths of it.
    Parallel,
    /// In between.
    Mixed,
}

/// A stage over all devices of a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct StageOrder {
    /// The stage.
    pub stage: DowntimeStage,
    /// Number of devices that had the stage.
    pub devices: u32,
    /// Sum of the times of all devices.
    pub sum_ns: u64,
    /// Time in which the stage was in progress on at least one of them.
    pub union_ns: u64,
    /// Time of the slowest device: the stage's time if all devices had gone through it at once.
    pub longest_ns: u64,
    /// Order in which the devices went through the stage.
    pub order: DeviceConcurrency,
}
