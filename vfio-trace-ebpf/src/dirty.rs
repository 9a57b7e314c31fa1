//! Dirty tracking: the ranges and bitmaps of a VFIO_DEVICE_FEATURE call, read from the memory of its process. All of it
//! is resident: the kernel has just used it.

use aya_ebpf::helpers::generated::{bpf_probe_read_kernel, bpf_probe_read_user};
use vfio_trace_common::{
    uapi::{
        FEATURE_DMA_LOGGING_REPORT, FEATURE_DMA_LOGGING_START, FEATURE_GET, FEATURE_MASK, FEATURE_PROBE,
        FEATURE_SET,
    },
    wire::{FEATURE_WORDS, Ioctl, Kind, LOG_RANGES, LogDirty, LogRanges, ioctl_unread},
};

use crate::{
    emit::{Record, emit, header},
    gate::Probe,
    inflight::{self, Call},
    maps::{BITMAP, BITMAP_WORDS, EVENTS, ZEROS},
};

/// Emits a second record about a VFIO_DEVICE_FEATURE call that returned, if it was about dirty tracking.
#[inline(always)]
pub fn explain(probe: Probe, call: &Call, ioctl: &Ioctl) {
    if ioctl.flags & FEATURE_PROBE != 0 || ioctl.unread & ioctl_unread::HEADER != 0 {
        return;
    }
    // A start of logging needs words 1 and 2, a report all words.
    let unread = ioctl.unread >> ioctl_unread::DATA_IN & 0xf;
    match ioctl.flags & FEATURE_MASK {
        FEATURE_DMA_LOGGING_START if ioctl.flags & FEATURE_SET != 0 && unread & 0b110 == 0 => {
            ranges(probe, call, &ioctl.data_in);
        },
        FEATURE_DMA_LOGGING_REPORT if ioctl.flags & FEATURE_GET != 0 && ioctl.ret >= 0 && unread == 0 => {
            if let Some(pages) = count(&ioctl.data_in) {
                emit(probe, Kind::LogDirty, call, inflight::now(), LogDirty { pages });
            }
        },
        _ => {},
    }
}

/// Emits the ranges of a `struct vfio_device_feature_dma_logging_control`: page_size, num_ranges and a reserved word,
/// ranges.
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
    // struct vfio_device_feature_dma_logging_range: iova, length
    let kept = asked.min(LOG_RANGES as u32);
    record.body.ranges = [[0; 2]; LOG_RANGES];
    // SAFETY: at most LOG_RANGES entries of 16 bytes each.
    let result = unsafe {
        bpf_probe_read_user(record.body.ranges.as_mut_ptr().cast(), kept * 16, payload[2] as *const _)
    };
    record.body.kept = if result == 0 { kept } else { 0 };
    entry.submit(0);
    probe.sent();
}

/// Counts the dirty pages of a `struct vfio_device_feature_dma_logging_report`: iova, length, page_size, bitmap. `None`
/// if the bitmap cannot be read or is too long to be counted cheaply.
#[inline(always)]
fn count(payload: &[u64; FEATURE_WORDS]) -> Option<u64> {
    let [_, length, page_size, bitmap] = *payload;
    if page_size == 0 {
        return None;
    }
    let words = length.div_ceil(page_size).div_ceil(64);
    if words > BITMAP_WORDS as u64 {
        return None;
    }
    let zeros = ZEROS.get_ptr(0)?;
    // SAFETY: this CPU's own slot; a nested use would spoil a count and nothing else.
    let copy = unsafe { BITMAP.get_ptr_mut(0)?.as_mut()? };
    // SAFETY: both are as long as the length given; the words of an earlier call must not be counted.
    unsafe { bpf_probe_read_kernel(copy.as_mut_ptr().cast(), (BITMAP_WORDS * 8) as u32, zeros.cast()) };
    let bytes = (words * 8) as u32;
    if bytes > (BITMAP_WORDS * 8) as u32 {
        return None;
    }
    // SAFETY: as just checked.
    let result = unsafe { bpf_probe_read_user(copy.as_mut_ptr().cast(), bytes, bitmap as *const _) };
    if result != 0 {
        return None;
    }
    let mut pages = 0u64;
    for word in copy {
        pages += u64::from(word.count_ones());
    }
    Some(pages)
}
