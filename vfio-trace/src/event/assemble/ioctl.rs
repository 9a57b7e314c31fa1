//! What a VFIO_DEVICE_FEATURE call says: the request it makes, and the words of its payload.

use vfio_trace_common::{uapi, wire};

use super::thread::Log;
use crate::event::{Feature, FeatureDetail, FeatureOp, IovaRange, MigFlags, MigState};

/// A device ioctl, by what the assembler does with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    Reset,
    SetState(MigState),
    GetState,
    DataSize,
    Feature(Feature, FeatureOp),
}

impl Request {
    pub(super) fn of(ioctl: &wire::Ioctl) -> Self {
        if ioctl.cmd == uapi::VFIO_DEVICE_RESET {
            return Self::Reset;
        }
        let bit = |bit: u32| ioctl.flags & bit != 0;
        let op = FeatureOp {
            probe: bit(uapi::FEATURE_PROBE),
            get: bit(uapi::FEATURE_GET),
            set: bit(uapi::FEATURE_SET),
        };
        // A probe asks whether the call exists, and both at once is refused: neither does anything to the device.
        match (ioctl.flags & uapi::FEATURE_MASK, op.name()) {
            (uapi::FEATURE_MIG_DEVICE_STATE, "set") => Self::SetState(MigState(halves(ioctl.data_in[0]).0)),
            (uapi::FEATURE_MIG_DEVICE_STATE, "get") => Self::GetState,
            (uapi::FEATURE_MIG_DATA_SIZE, "get") => Self::DataSize,
            (number, _) => Self::Feature(Feature(number), op),
        }
    }
}

/// `vfio_device_feature_mig_state` at return: the state, and the data fd if there is one.
pub(super) fn mig_state(ioctl: &wire::Ioctl) -> (MigState, Option<i32>) {
    let (state, fd) = halves(ioctl.data_out[0]);
    (MigState(state), i32::try_from(fd).ok())
}

/// What a feature call carried. Addresses of user space are left out.
pub(super) fn detail(
    feature: Feature,
    op: FeatureOp,
    ioctl: &wire::Ioctl,
    log: Option<Log>,
) -> Option<FeatureDetail> {
    let ok = ioctl.ret >= 0;
    match (feature.0, op.name()) {
        (uapi::FEATURE_MIGRATION, "get") if ok => {
            Some(FeatureDetail::Migration { migration_flags: MigFlags(ioctl.data_out[0]) })
        },
        (uapi::FEATURE_DMA_LOGGING_START, "set") => Some(FeatureDetail::LogStart {
            page_size_bytes: ioctl.data_in[0],
            granted_page_size_bytes: ok.then_some(ioctl.data_out[0]),
            ranges: halves(ioctl.data_in[1]).0,
            iova_ranges: iova_ranges(log.as_ref()),
            span_bytes: span(log.as_ref()),
        }),
        (uapi::FEATURE_DMA_LOGGING_REPORT, "get") => Some(FeatureDetail::LogReport {
            iova: ioctl.data_in[0],
            length_bytes: ioctl.data_in[1],
            page_size_bytes: ioctl.data_in[2],
            dirty_pages: match log {
                Some(Log::Dirty(pages)) if ok => Some(pages),
                _ => None,
            },
        }),
        _ => None,
    }
}

fn kept(log: Option<&Log>) -> Option<(&wire::LogRanges, &[[u64; 2]])> {
    match log {
        Some(Log::Ranges(log)) => Some((log, log.ranges.get(..usize::try_from(log.kept).ok()?)?)),
        _ => None,
    }
}

fn iova_ranges(log: Option<&Log>) -> Option<Vec<IovaRange>> {
    let (_, ranges) = kept(log)?;
    Some(ranges.iter().map(|&[iova, length_bytes]| IovaRange { iova, length_bytes }).collect())
}

fn span(log: Option<&Log>) -> Option<u64> {
    let (log, ranges) = kept(log)?;
    let start = ranges.iter().map(|&[iova, _]| iova).min()?;
    // A range may end at the very end of the address space.
    let end = ranges.iter().map(|&[iova, length]| iova.saturating_add(length)).max()?;
    (log.kept == log.asked).then_some(end - start)
}

/// The two 32-bit members that share a payload word, in memory order.
fn halves(word: u64) -> (u32, u32) {
    let (low, high) = (word as u32, (word >> 32) as u32);
    if cfg!(target_endian = "little") { (low, high) } else { (high, low) }
}
