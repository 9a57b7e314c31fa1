//! The header of every record, and the usual way to hand a record to the ring buffer. Records that are too big for the
//! stack of a BPF program are filled in place by their own files.

use aya_ebpf::helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_smp_processor_id};
use vfio_trace_common::wire::{COMM_LEN, Header, Kind};

use crate::{gate::Probe, inflight::Call, maps::EVENTS};

/// A record: a header with its body.
#[repr(C)]
pub struct Record<B> {
    /// The part that every record has.
    pub header: Header,
    /// The part that only this kind of record has.
    pub body: B,
}

/// Makes the header of a record about `call`, with the ids and the `comm` of the current thread.
#[inline(always)]
pub fn header<B>(probe: Probe, kind: Kind, call: &Call, end_ns: u64) -> Header {
    let id = bpf_get_current_pid_tgid();
    Header {
        len: size_of::<Record<B>>() as u16,
        kind: kind as u16,
        probe: probe.index(),
        // SAFETY: takes nothing, touches nothing.
        cpu: unsafe { bpf_get_smp_processor_id() } as u16,
        tgid: (id >> 32) as u32,
        tid: id as u32,
        start_ns: call.start_ns,
        end_ns,
        device: call.device,
        file: call.file,
        comm: bpf_get_current_comm().unwrap_or([0; COMM_LEN]),
    }
}

/// Hands a record with the given header to user space, or counts it as lost.
#[inline(always)]
pub fn emit_as<B: 'static>(probe: Probe, header: Header, body: B) {
    let Some(mut entry) = EVENTS.reserve::<Record<B>>(0) else {
        probe.lost();
        return;
    };
    entry.write(Record { header, body });
    entry.submit(0);
    probe.sent();
}

/// Hands a record about a call to user space, or counts it as lost.
#[inline(always)]
pub fn emit<B: 'static>(probe: Probe, kind: Kind, call: &Call, end_ns: u64, body: B) {
    emit_as(probe, header::<B>(probe, kind, call, end_ns), body);
}
