//! A data session: what went over one data fd.

use schemars::JsonSchema;
use serde::Serialize;

use crate::event::DataDirection;

/// What went over one data fd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DataSession {
    /// Its place in `sessions`.
    pub nr: u32,
    /// Place of its device in `devices`.
    pub device: u32,
    /// Its number in the events of its host.
    pub session: u32,
    /// Out of the device or into it; null if no call tells.
    pub direction: Option<DataDirection>,
    /// When it was started, or first seen.
    pub start_ns: u64,
    /// When it was over, or last seen.
    pub end_ns: u64,
    /// Whether its start was not seen, so that the numbers are a part only.
    pub partial: bool,
    /// How it ended.
    pub end: SessionEnd,
    /// The error of the call that failed first.
    pub errno: Option<String>,
    /// Bytes moved.
    pub bytes: u64,
    /// Bytes that the file's offset passed without a call that was seen; null: not known.
    pub missed_bytes: Option<u64>,
    /// What went when.
    pub parts: Vec<SessionPart>,
    /// Threads that read or wrote.
    pub threads: Vec<u32>,
    /// Most calls at the same time.
    pub concurrent_calls: u32,
    /// Bytes over time, counted from the session's start. A choice of points if there are many.
    pub series: Vec<BytesSample>,
    /// Answers to VFIO_MIG_GET_PRECOPY_INFO. A choice of points if there are many.
    pub precopy_info: Vec<PrecopySample>,
    /// VFIO_MIG_GET_PRECOPY_INFO calls.
    pub precopy_info_calls: u64,
    /// Time within them.
    pub precopy_info_ns: u64,
    /// Calls on the data fd after the driver had ended the session.
    pub calls_after_end: u64,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SessionEnd {
    /// A `read()` gave 0 bytes in STOP_COPY: all of it was read.
    Eof,
    /// An arc ended it, and no `read()` had given 0 bytes before. The normal end where data is loaded.
    Arc,
    /// A reset ended it.
    Reset,
    /// The device was closed.
    DeviceClose,
    /// The data fd was closed before the driver ended the session.
    Close,
    /// A call failed, and none worked after it.
    Error,
    /// It is not over.
    Open,
}

/// Which part of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PartName {
    /// Read in PRE_COPY or PRE_COPY_P2P.
    PreCopy,
    /// Read in STOP_COPY.
    StopCopy,
    /// Written in RESUMING.
    Resuming,
    /// In a state that is not known.
    Unknown,
}

impl PartName {
    /// The name used in output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PreCopy => "pre_copy",
            Self::StopCopy => "stop_copy",
            Self::Resuming => "resuming",
            Self::Unknown => "unknown",
        }
    }
}

/// What went in one state of the device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SessionPart {
    /// The state.
    pub part: PartName,
    /// Start of the first call.
    pub first_ns: u64,
    /// End of the last call.
    pub last_ns: u64,
    /// Calls.
    pub calls: u64,
    /// Calls that moved nothing for now: reads that gave ENOMSG or EAGAIN, or a signal interrupted them.
    pub empty: u64,
    /// Calls that gave nothing because all was read.
    pub eof: u64,
    /// Calls that failed.
    pub failed: u64,
    /// Bytes moved.
    pub bytes: u64,
    /// Time within calls: the caller was blocked. Calls at the same time count each.
    pub blocked_ns: u64,
    /// Time with at least one call in progress.
    pub busy_ns: u64,
    /// `bytes` per second from `first_ns` to `last_ns`, rounded down; null for no time.
    pub bytes_per_s: Option<u64>,
    /// Bytes per call that moved any.
    pub size_bytes: Log2Histogram,
    /// Time per call.
    pub latency_ns: Log2Histogram,
}

/// Counts by powers of two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Log2Histogram {
    /// Values.
    pub count: u64,
    /// The smallest.
    pub min: Option<u64>,
    /// The largest.
    pub max: Option<u64>,
    /// Their sum.
    pub sum: u64,
    /// The buckets that have any, in order.
    pub buckets: Vec<HistogramBucket>,
}

/// One bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct HistogramBucket {
    /// The values are at least this.
    pub from: u64,
    /// The values are at most this.
    pub to: u64,
    /// How many.
    pub count: u64,
}

impl Log2Histogram {
    /// Counts a value.
    pub fn add(&mut self, value: u64) {
        self.count += 1;
        self.sum = self.sum.saturating_add(value);
        self.min = Some(self.min.map_or(value, |min| min.min(value)));
        self.max = Some(self.max.map_or(value, |max| max.max(value)));
        let (from, to) = match value.checked_ilog2() {
            None => (0, 0),
            Some(63) => (1 << 63, u64::MAX),
            Some(log) => (1 << log, (1 << (log + 1)) - 1),
        };
        match self.buckets.binary_search_by_key(&from, |bucket| bucket.from) {
            Ok(at) => self.buckets[at].count += 1,
            Err(at) => self.buckets.insert(at, HistogramBucket { from, to, count: 1 }),
        }
    }

    /// The mean, rounded down; `None` without values.
    pub const fn mean(&self) -> Option<u64> {
        self.sum.checked_div(self.count)
    }
}

/// A point of the bytes over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct BytesSample {
    /// When the call ended.
    pub at_ns: u64,
    /// Bytes moved up to then.
    pub bytes: u64,
}

/// An answer to VFIO_MIG_GET_PRECOPY_INFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PrecopySample {
    /// When.
    pub at_ns: u64,
    /// Bytes that the destination should have before the switchover.
    pub initial_bytes: Option<u64>,
    /// Bytes that have changed since they were read.
    pub dirty_bytes: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_of_two() {
        let mut histogram = Log2Histogram::default();
        for value in [0, 1, 2, 3, 4, 1023, 1024, u64::MAX, 3] {
            histogram.add(value);
        }
        let buckets: Vec<_> = histogram.buckets.iter().map(|one| (one.from, one.to, one.count)).collect();
        assert_eq!(
            buckets,
            [
                (0, 0, 1),
                (1, 1, 1),
                (2, 3, 3),
                (4, 7, 1),
                (512, 1023, 1),
                (1024, 2047, 1),
                (1 << 63, u64::MAX, 1)
            ]
        );
        assert_eq!((histogram.min, histogram.max, histogram.sum), (Some(0), Some(u64::MAX), u64::MAX));
        assert_eq!(Log2Histogram::default().mean(), None);
    }
}
