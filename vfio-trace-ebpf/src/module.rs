//! Program for the kernel's notice that a module is loaded: its symbols and its BTF are there, its init function has
//! not run yet.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use vfio_trace_common::wire::{Kind, MODULE_LEN, Module};

use crate::{emit::emit, gate::Probe, inflight::Call, maps::MODULE_NAME, read};

/// Handles the tracepoint `module_load(struct module *)`: emits a record with the module's name.
#[raw_tracepoint(tracepoint = "module_load")]
pub fn module_load(ctx: RawTracePointContext) -> i32 {
    let _: Option<()> = notice(&ctx);
    0
}

#[inline(always)]
fn notice(ctx: &RawTracePointContext) -> Option<()> {
    let offset = *MODULE_NAME.get(0)?;
    if offset == 0 {
        return None;
    }
    let module: u64 = ctx.arg(0);
    let mut body = Module { name: [0; MODULE_LEN] };
    read::string(module + u64::from(offset), &mut body.name);
    let call = Call::now();
    emit(Probe::NONE, Kind::Module, &call, call.start_ns, body);
    Some(())
}
