//! A data session in the document: the data that went over one data fd.

use schemars::JsonSchema;
use serde::Serialize;

use crate::event::{DataDirection, SessionEnding};

/// A data session: the calls on one data fd, and the data that they moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DataSession {
    /// Place of the session in `sessions`.
    pub nr: u32,
    /// Place of its device in `devices`.
    pub device: u32,
    /// Number of the session in the events of its host.
    pub session: u32,
    /// Direction: out of the device or into it; null if no call shows it.
    pub direction: Option<DataDirection>,
    /// Time at which the session was started, or first seen.
    pub start_ns: u64,
    /// Time at which the session ended, or was last seen.
    pub end_ns: u64,
    /// True if the session's start was not seen, so that the numbers are incomplete.
    pub partial: bool,
    /// Reason for the session's end.
    pub end: SessionEnd,
    /// Error of the first call that failed.
    pub errno: Option<String>,
    /// Bytes moved.
    pub bytes: u64,
    /// Bytes by which the data fd's offset advanced without a call that was seen; null if not known.
    pub missed_bytes: Option<u64>,
    /// Parts of the session, one per state of the device.
    pub parts: Vec<SessionPart>,
    /// TIDs of threads that read or wrote.
    pub threads: Vec<u32>,
    /// Largest number of calls at the same time.
    pub concurrent_calls: u32,
    /// Bytes over time, counted from the session's start. A choice of points if there are many.
    pub series: Vec<BytesSample>,
    /// Answers to VFIO_MIG_GET_PRECOPY_INFO. A choice of points if there are many.
    pub precopy_info: Vec<PrecopySample>,
    /// Number of VFIO_MIG_GET_PRECOPY_INFO calls.
    pub precopy_info_calls: u64,
    /// Time spent in those calls.
    pub precopy_info_ns: u64,
    /// Number of calls on the data fd after the driver had ended the session.
    pub calls_after_end: u64,
}

/// Reason for the end of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SessionEnd {
    /// A `read()` gave 0 bytes in STOP_COPY: all data was read.
    Eof,
    /// An arc ended the session, and no `read()` had given 0 bytes before. This is the normal end when data is loaded.
    Arc,
    /// A reset ended the session.
    Reset,
    /// The device was closed.
    DeviceClose,
    /// The data fd was closed before the driver ended the session.
    Close,
    /// A call failed, and none succeeded after it.
    Error,
    /// The session is not over.
    Open,
}

impl From<SessionEnding> for SessionEnd {
    fn from(ending: SessionEnding) -> Self {
        match ending {
            SessionEnding::Arc => Self::Arc,
            SessionEnding::Reset => Self::Reset,
            SessionEnding::LastClose => Self::DeviceClose,
        }
    }
}

/// Name of a part of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PartName {
    /// Reads in PRE_COPY or PRE_COPY_P2P.
    PreCopy,
    /// Reads in STOP_COPY.
    StopCopy,
    /// Writes in RESUMING.
    Resuming,
    /// Calls in a state that is not known.
    Unknown,
}

impl PartName {
    /// Returns the name used in output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PreCopy => "pre_copy",
            Self::StopCopy => "stop_copy",
            Self::Resuming => "resuming",
            Self::Unknown => "unknown",
        }
    }
}

/// Part of a session: the calls in one state of the device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SessionPart {
    /// Name of the part, after the state.
    pub part: PartName,
    /// Start of the first call.
    pub first_ns: u64,
    /// End of the last call.
    pub last_ns: u64,
    /// Number of calls.
    pub calls: u64,
    /// Number of calls that moved nothing for now: reads that gave ENOMSG or EAGAIN, and calls that a signal
    /// interrupted.
    pub empty: u64,
    /// Number of calls that gave nothing because all data was read.
    pub eof: u64,
    /// Number of calls that failed.
    pub failed: u64,
    /// Bytes moved.
    pub bytes: u64,
    /// Time in calls, during which the caller was blocked. Calls at the same time count each.
    pub blocked_ns: u64,
    /// Time with at least one call in progress.
    pub busy_ns: u64,
    /// `bytes` per second from `first_ns` to `last_ns`, rounded down; null if that is no time.
    pub bytes_per_s: Option<u64>,
    /// Bytes per call, for calls that moved any.
    pub size_bytes: Log2Histogram,
    /// Duration of the calls.
    pub latency_ns: Log2Histogram,
}

/// Histogram by powers of two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Log2Histogram {
    /// Number of values.
    pub count: u64,
    /// Smallest value.
    pub min: Option<u64>,
    /// Largest value.
    pub max: Option<u64>,
    /// Sum of the values.
    pub sum: u64,
    /// Buckets with at least one value, in order.
    pub buckets: Vec<HistogramBucket>,
}

/// One bucket of a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct HistogramBucket {
    /// Lowest value of the bucket.
    pub from: u64,
    /// Highest value of the bucket.
    pub to: u64,
    /// Number of values in the bucket.
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

    /// Returns the mean, rounded down; `None` without values.
    pub const fn mean(&self) -> Option<u64> {
        self.sum.checked_div(self.count)
    }
}

/// A point of the bytes over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct BytesSample {
    /// Time at which the call ended.
    pub at_ns: u64,
    /// Bytes moved up to that time.
    pub bytes: u64,
}

/// An answer to VFIO_MIG_GET_PRECOPY_INFO (struct vfio_precopy_info, include/uapi/linux/vfio.h, Linux 6.2 and later).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PrecopySample {
    /// Time of the answer.
    pub at_ns: u64,
    /// initial_bytes: bytes that the destination should have before the switchover.
    pub initial_bytes: Option<u64>,
    /// dirty_bytes: bytes that have changed since they were read.
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
