//! vfio-trace's eBPF programs: one file per group of probed functions.
//!
//! Every program starts with [`gate::probe`]: nothing is looked at before user space has attached all probes, so that
//! the first record and the first count of every probe belong to the same moment. The programs only read: no helper
//! that writes to user or kernel memory, overrides a return value or sends a signal is used.
#![no_std]
#![no_main]

mod capture;
mod core_fn;
mod data_file;
mod device;
mod dirty;
mod emit;
mod gate;
mod inflight;
mod inventory;
mod maps;
mod migration_ops;
mod module;
mod read;
mod step;

/// License of the programs; GPL-compatible, as kprobes and `bpf_probe_read_kernel` require.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
