//! Dirty tracking: what user space asked for and got, from its own memory. All of it is there: the kernel has just used it.

use vfio_trace_common::{
    uapi::{
        FEATURE_DMA_LOGGING_REPORT, FEATURE_DMA_LOGGING_START, FEATURE_GET, FEATURE_MASK, FEATURE_PROBE,
        FEATURE_SET,
    },
    wire::{FEATURE_WORDS, Ioctl, Kind, LOG_RANGES, LogDirty, LogRanges},
};

use crate::{
    emit::{Record, emit, header},
    gate::Probe,
    inflight::{self, Call},
    maps::EVENTS,
    read,
};

/// Words read at a time.
const CHUNK: usize = 8;
/// Chunks of a bitmap that are counted at most: 131072 pages, 512 MiB of 4 KiB pages. The caller waits meanwhile.
const CHUNKS: u64 = 256;

/// Says more of a VFIO_DEVICE_FEATURE call that returned, if it was about dirty tracking.
#[inline(always)]
pub fn explain(probe: Probe, call: &Call, ioctl: &Ioctl) {
    if ioctl.flags & FEATURE_PROBE != 0 {
        return;
    }
    match ioctl.flags & FEATURE_MASK {
        FEATURE_DMA_LOGGING_START if ioctl.flags & FEATURE_SET != 0 => ranges(probe, call, &ioctl.data_in),
        FEATURE_DMA_LOGGING_REPORT if ioctl.flags & FEATURE_GET != 0 && ioctl.ret >= 0 => {
            if let Some(pages) = count(&ioctl.data_in) {
                emit(probe, Kind::LogDirty, call, inflight::now(), LogDirty { pages });
            }
        },
        _ => {},
    }
}

/// `struct vfio_device_feature_dma_logging_control`: page_size, num_ranges and a reserved word, ranges.
#[inline(always)]
fn ranges(probe: Probe, call: &Call, payload: &[u64; FEATURE_WORDS]) {
    let asked = if cfg!(target_endian = "little") { payload[1] as u32 } else { (payload[1] >> 32) as u32 };
    let Some(mut entry) = EVENTS.reserve::<Record<LogRanges>>(0) else {
        probe.lost();
        return;
    };
    // SAFETY: the reserved entry is ours until it is submitted, and every byte of the record is written first.
    let record = unsafe { &mut *entry.as_mut_ptr() };
    record.header = header::<LogRanges>(probe, Kind::LogRanges, call, inflight::now());
    record.body.asked = asked;
    record.body.kept = 0;
    for index in 0..LOG_RANGES {
        // struct vfio_device_feature_dma_logging_range: iova, length
        let range = if index < asked as usize {
            read::user::<[u64; 2]>(payload[2] + 16 * index as u64)
        } else {
            None
        };
        record.body.kept += u32::from(range.is_some());
        record.body.ranges[index] = range.unwrap_or([0; 2]);
    }
    entry.submit(0);
    probe.sent();
}

/// `struct vfio_device_feature_dma_logging_report`: iova, length, page_size, bitmap. `None` where it is not cheap.
#[inline(always)]
fn count(payload: &[u64; FEATURE_WORDS]) -> Option<u64> {
    let [_, length, page_size, bitmap] = *payload;
    if page_size == 0 {
        return None;
    }
    let bits = length.div_ceil(page_size);
    let words = bits.div_ceil(64);
    if words > CHUNKS * CHUNK as u64 {
        return None;
    }
    let mut pages = 0u64;
    for chunk in 0..CHUNKS {
        let first = chunk * CHUNK as u64;
        if first >= words {
            break;
        }
        let at = bitmap + first * 8;
        if words - first >= CHUNK as u64 {
            let values: [u64; CHUNK] = read::user(at)?;
            for value in values {
                pages += u64::from(value.count_ones());
            }
        } else {
            for index in 0..CHUNK as u64 - 1 {
                if index < words - first {
                    let value: u64 = read::user(at + 8 * index)?;
                    pages += u64::from(value.count_ones());
                }
            }
        }
    }
    Some(pages)
}
