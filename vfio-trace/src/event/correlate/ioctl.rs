//! Decoding of a VFIO_DEVICE_FEATURE call: the request it makes, and the words of its payload.

use vfio_trace_common::{
    uapi,
    wire::{self, ioctl_unread},
};

use super::thread::{DirtyDetail, DirtyIoctl};
use crate::event::{DeviceFeature, FeatureDetail, FeatureOp, IovaRange, MigFlags, MigState};

/// Kind of a device ioctl, by its handling in the assembler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DeviceRequest {
    Reset,
    /// `None`: the state could not be read.
    SetState(Option<MigState>),
    GetState,
    DataSize,
    /// `None`: neither could be read.
    Feature(Option<(DeviceFeature, FeatureOp)>),
}

impl DeviceRequest {
    pub(super) fn of(ioctl: &wire::Ioctl) -> Self {
        if ioctl.cmd == uapi::VFIO_DEVICE_RESET {
            return Self::Reset;
        }
        if ioctl.unread & ioctl_unread::HEADER != 0 {
            return Self::Feature(None);
        }
        let bit = |bit: u32| ioctl.flags & bit != 0;
        let op = FeatureOp {
            probe: bit(uapi::FEATURE_PROBE),
            get: bit(uapi::FEATURE_GET),
            set: bit(uapi::FEATURE_SET),
        };
        // A probe asks whether the call exists, and both at once is refused: neither does anything to the device.
        match (ioctl.flags & uapi::FEATURE_MASK, op.name()) {
            (uapi::FEATURE_MIG_DEVICE_STATE, "set") => {
                Self::SetState(input(ioctl, 0).map(|word| MigState(halves(word).0)))
            },
            (uapi::FEATURE_MIG_DEVICE_STATE, "get") => Self::GetState,
            (uapi::FEATURE_MIG_DATA_SIZE, "get") => Self::DataSize,
            (number, _) => Self::Feature(Some((DeviceFeature(number), op))),
        }
    }
}

/// Returns a word of the payload at entry; `None` if it could not be read.
fn input(ioctl: &wire::Ioctl, word: usize) -> Option<u64> {
    ioctl
        .data_in
        .get(word)
        .copied()
        .filter(|_| ioctl.unread & 1 << (ioctl_unread::DATA_IN as usize + word) == 0)
}

/// Returns a word of the payload at return; `None` if it could not be read.
pub(super) fn output(ioctl: &wire::Ioctl, word: usize) -> Option<u64> {
    ioctl
        .data_out
        .get(word)
        .copied()
        .filter(|_| ioctl.unread & 1 << (ioctl_unread::DATA_OUT as usize + word) == 0)
}

/// Returns `vfio_device_feature_mig_state` at return: the state, and the data fd if the call returned one.
pub(super) fn mig_state(ioctl: &wire::Ioctl) -> (Option<MigState>, Option<i32>) {
    let Some((state, fd)) = output(ioctl, 0).map(halves) else { return (None, None) };
    (Some(MigState(state)), i32::try_from(fd).ok())
}

/// Decodes the payload of a feature call. Addresses of user space are left out.
pub(super) fn detail(
    feature: DeviceFeature,
    op: FeatureOp,
    ioctl: &wire::Ioctl,
    log: Option<DirtyIoctl>,
) -> Option<FeatureDetail> {
    let ok = ioctl.ret >= 0;
    let log = log.map(|log| log.log);
    match (feature.0, op.name()) {
        (uapi::FEATURE_MIGRATION, "get") if ok => {
            output(ioctl, 0).map(|flags| FeatureDetail::Migration { migration_flags: MigFlags(flags) })
        },
        (uapi::FEATURE_DMA_LOGGING_START, "set") => Some(FeatureDetail::LogStart {
            // The kernel writes the granted size over the requested one.
            page_size_bytes: input(ioctl, 0).filter(|_| ioctl.late & 1 == 0 || !ok),
            granted_page_size_bytes: output(ioctl, 0).filter(|_| ok),
            ranges: input(ioctl, 1).map(|word| halves(word).0),
            iova_ranges: iova_ranges(log.as_ref()),
            span_bytes: span(log.as_ref()),
        }),
        (uapi::FEATURE_DMA_LOGGING_REPORT, "get") => Some(FeatureDetail::LogReport {
            iova: input(ioctl, 0),
            length_bytes: input(ioctl, 1),
            page_size_bytes: input(ioctl, 2),
            dirty_pages: match log {
                Some(DirtyDetail::Dirty(pages)) if ok => Some(pages),
                _ => None,
            },
        }),
        _ => None,
    }
}

fn kept(log: Option<&DirtyDetail>) -> Option<(&wire::LogRanges, &[[u64; 2]])> {
    match log {
        Some(DirtyDetail::Ranges(log)) => Some((log, log.ranges.get(..usize::try_from(log.kept).ok()?)?)),
        _ => None,
    }
}

fn iova_ranges(log: Option<&DirtyDetail>) -> Option<Vec<IovaRange>> {
    let (log, ranges) = kept(log)?;
    // None could be read: that is not the same as an empty list.
    (log.kept > 0 || log.asked == 0).then_some(())?;
    Some(ranges.iter().map(|&[iova, length_bytes]| IovaRange { iova, length_bytes }).collect())
}

fn span(log: Option<&DirtyDetail>) -> Option<u64> {
    let (log, ranges) = kept(log)?;
    let start = ranges.iter().map(|&[iova, _]| iova).min()?;
    // A range may end at the very end of the address space.
    let end = ranges.iter().map(|&[iova, length]| iova.saturating_add(length)).max()?;
    (log.kept == log.asked).then_some(end.saturating_sub(start))
}

/// Returns the two 32-bit members that share a payload word, in memory order.
fn halves(word: u64) -> (u32, u32) {
    let (low, high) = (word as u32, (word >> 32) as u32);
    if cfg!(target_endian = "little") { (low, high) } else { (high, low) }
}
