//! Copies of a driver's structures, as its plug-in asked for them. No lock is taken: a copy may be half of a change.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use vfio_trace_common::{
    capture::{CAPTURES, Chain, HOPS, PIECE_LEN, PIECES, PIECES_LEN, Spec},
    wire::{CAPTURE_LEN, Capture, Kind},
};

use crate::{
    emit::{Record, header},
    gate::Probe,
    inflight::{self, Call},
    maps::{self, DEVICES, EVENTS},
    read,
};

/// Makes the captures that are wanted at this moment of the device of `call`.
#[inline(always)]
pub fn run(probe: Probe, moment: u32, call: &Call) {
    // SAFETY: entries are written once per device, with a value that user space reads nothing from.
    let Some(&driver) = (unsafe { DEVICES.get(call.device) }) else { return };
    // SAFETY: user space writes an entry once, before the driver's first record.
    let Some(captures) = (unsafe { maps::CAPTURES.get(driver) }) else { return };
    for index in 0..CAPTURES {
        let spec = &captures.specs[index];
        if spec.when & moment != 0 {
            let _: Option<()> = copy(probe, moment, call, driver, spec);
        }
    }
}

/// Follows pointers; `None` where one is NULL or cannot be read.
#[inline(always)]
pub fn follow(start: u64, chain: &Chain) -> Option<u64> {
    let mut at = start;
    for hop in 0..HOPS {
        if hop as u64 >= chain.hops {
            return Some(at.wrapping_add_signed(chain.offset[hop]));
        }
        at = read::kernel(at.wrapping_add_signed(chain.offset[hop]))?;
        if at == 0 {
            return None;
        }
    }
    Some(at.wrapping_add_signed(chain.offset[HOPS]))
}

#[inline(always)]
fn copy(probe: Probe, moment: u32, call: &Call, driver: u64, spec: &Spec) -> Option<()> {
    let address = follow(call.device, &spec.from_device)?;
    let Some(mut entry) = EVENTS.reserve::<Record<Capture>>(0) else {
        probe.lost();
        return None;
    };
    // Too big for the stack of a BPF program.
    // SAFETY: the reserved entry is ours until it is submitted, and every byte of the record is written first.
    let record = unsafe { &mut *entry.as_mut_ptr() };
    record.header = header::<Capture>(probe, Kind::Capture, call, inflight::now());
    record.header.file =
        if spec.file < 0 { 0 } else { read::kernel(address.wrapping_add_signed(spec.file)).unwrap_or(0) };
    let body = &mut record.body;
    body.id = spec.id;
    body.moment = moment;
    body.address = address;
    body.driver = driver;
    let mut word = 0;
    while word < CAPTURE_LEN {
        body.data[word] = 0;
        word += 1;
    }
    let mut len: u32 = 0;
    let mut failed: u32 = 0;
    for index in 0..PIECES {
        if index as u64 >= spec.pieces_used {
            break;
        }
        let piece = spec.pieces[index];
        // User space keeps to these limits; the verifier wants to see them.
        let place = (len & PIECES_LEN) as usize;
        let size = piece.len & PIECE_LEN;
        // SAFETY: `place + size` is below CAPTURE_LEN (asserted in vfio-trace-common); the helper checks the source.
        let result = unsafe {
            let to = body.data.as_mut_ptr().add(place);
            bpf_probe_read_kernel(to.cast(), size, (address + u64::from(piece.offset)) as *const _)
        };
        if result != 0 {
            failed |= 1 << index;
        }
        len += size;
    }
    body.len = len;
    body.failed = failed;
    entry.submit(0);
    probe.sent();
    Some(())
}
