//! Copies of a driver's structures, as its plug-in asked for them. No lock is taken: a copy may show half of a change.

use aya_ebpf::{
    EbpfContext, helpers::generated::bpf_probe_read_kernel, macros::kprobe, programs::ProbeContext,
};
use vfio_trace_common::{
    capture::{CAPTURES, Chain, HOPS, PIECE_LEN, PIECES, PIECES_LEN, Spec},
    wire::{CAPTURE_LEN, Capture, Kind},
};

use crate::{
    device,
    emit::{Record, header},
    gate::{self, Probe},
    inflight::{self, Call},
    maps::{self, EVENTS, JOB, JUMPS, ZEROS},
    read,
};

/// A request for captures: the program that asks writes it into the `JOB` map, and [`capture`] reads it after the tail
/// call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Job {
    call: Call,
    /// Address of the driver's `migration_set_state`.
    driver: u64,
    moment: u32,
    /// Index of the next capture.
    index: u32,
}

/// Makes the captures that are wanted at this moment of the device of `call`. Must be the last thing that a program
/// does: it does not return if there is something to do.
///
/// The loops would exhaust the verifier if each program had them, so they are in a program of their own.
#[inline(always)]
pub fn run(ctx: &impl EbpfContext, moment: u32, call: &Call) {
    // A device that is gone is not known: the memory that it had is not read.
    if let Some(known) = device::known(call.device) {
        run_for(ctx, moment, call, known.set_state);
    }
}

/// Makes the captures of a driver, whether its device is known or not; see [`run`].
#[inline(always)]
pub fn run_for(ctx: &impl EbpfContext, moment: u32, call: &Call, driver: u64) {
    let Some(job) = JOB.get_ptr_mut(0) else { return };
    // SAFETY: this CPU's own slot; kprobe programs of one CPU do not interrupt each other.
    unsafe { *job = Job { call: *call, driver, moment, index: 0 } };
    jump(ctx);
}

#[inline(always)]
fn jump(ctx: &impl EbpfContext) {
    // SAFETY: the program there is of this program's type. An empty slot is no error.
    unsafe { JUMPS.tail_call(ctx, 0) };
}

/// Makes one capture of the job, and then calls itself for the next.
#[kprobe]
pub fn capture(ctx: ProbeContext) -> u32 {
    let Some(probe) = gate::probe(&ctx) else { return 0 };
    let Some(job) = JOB.get_ptr_mut(0) else { return 0 };
    // SAFETY: as in `run`.
    let job = unsafe { &mut *job };
    let index = job.index;
    if index as usize >= CAPTURES {
        return 0;
    }
    job.index = index + 1;
    if one(probe, job.moment, &job.call, job.driver, index).is_none() {
        // No plug-in: the other captures would not be found either.
        return 0;
    }
    jump(&ctx);
    0
}

/// Makes one capture; returns `None` if there are none for this driver.
#[inline(always)]
pub fn one(probe: Probe, moment: u32, call: &Call, driver: u64, index: u32) -> Option<()> {
    // SAFETY: user space writes an entry when the driver is loaded and removes it when the driver is gone. If it is
    // removed at this moment, it may already be another driver's. It has only numbers, and any number is valid: `copy`
    // keeps to its bounds, and helpers check what they read.
    let captures = unsafe { maps::CAPTURES.get(driver) }?;
    let spec = captures.specs.get(index as usize)?;
    if spec.when & moment != 0 {
        let _: Option<()> = copy(probe, moment, call, driver, spec);
    }
    Some(())
}

/// Follows a chain of pointers; returns `None` if one is NULL or cannot be read.
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
    let zeros = ZEROS.get_ptr(0)?;
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
    // SAFETY: the map's value is as long as the buffer; a helper's copy costs the verifier nothing, a loop much.
    unsafe {
        bpf_probe_read_kernel(body.data.as_mut_ptr().cast(), CAPTURE_LEN as u32, zeros.cast());
    }
    let mut len: u32 = 0;
    let mut failed: u32 = 0;
    for index in 0..PIECES {
        if index as u64 >= spec.pieces_used {
            break;
        }
        let piece = spec.pieces[index];
        // User space keeps to these limits, but the verifier must see them.
        let place = (len & PIECES_LEN) as usize;
        let size = piece.len & PIECE_LEN;
        // SAFETY: `place + size` is below CAPTURE_LEN (asserted in vfio-trace-common); the helper checks the source.
        let result = unsafe {
            let to = body.data.as_mut_ptr().add(place);
            bpf_probe_read_kernel(to.cast(), size, (address + u64::from(piece.offset)) as *const _)
        };
        // Without a branch: the verifier would follow both sides of each.
        failed |= (result.cast_unsigned() as u32 >> 31) << index;
        len += size;
    }
    body.len = len;
    body.failed = failed;
    entry.submit(0);
    probe.sent();
    Some(())
}
