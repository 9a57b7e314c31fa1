//! BPF iterators over the open files of this process only, which aya cannot ask for.

use std::{
    fs::File,
    os::fd::{AsRawFd as _, BorrowedFd},
    process,
};

use super::{BPF_LINK_CREATE, SysError, owned};

/// `union bpf_attr` for `BPF_LINK_CREATE` with an iterator.
#[repr(C)]
#[derive(Default)]
struct IterLinkAttr {
    prog_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
    /// Pointer to an [`IterTask`].
    iter_info: u64,
    iter_info_len: u32,
    pad: u32,
}

/// `bpf_iter_link_info.task` (Linux 6.1).
#[repr(C)]
#[derive(Default)]
struct IterTask {
    tid: u32,
    pid: u32,
    pid_fd: u32,
}

/// `union bpf_attr` for `BPF_ITER_CREATE`.
#[repr(C)]
struct IterCreateAttr {
    link_fd: u32,
    flags: u32,
}

const BPF_ITER_CREATE: libc::c_long = 33;
const BPF_TRACE_ITER: u32 = 28;

/// Opens a file that, when it is read, runs a loaded `task_file` program over the open files of this process and of no
/// other. Kernels before 6.1 either refuse that, or go over all processes all the same.
pub fn own_files(program: BorrowedFd<'_>) -> Result<File, SysError> {
    // The number in our own PID namespace, which is where the kernel looks it up.
    let task = IterTask { pid: process::id(), ..IterTask::default() };
    let attr = IterLinkAttr {
        prog_fd: program.as_raw_fd().cast_unsigned(),
        attach_type: BPF_TRACE_ITER,
        iter_info: (&raw const task) as u64,
        iter_info_len: size_of::<IterTask>() as u32,
        ..IterLinkAttr::default()
    };
    // SAFETY: `attr` and `task` outlive the call and their sizes are given.
    let link =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_LINK_CREATE, &raw const attr, size_of::<IterLinkAttr>()) };
    let link = owned(link, "bpf(BPF_LINK_CREATE)")?;
    let attr = IterCreateAttr { link_fd: link.as_raw_fd().cast_unsigned(), flags: 0 };
    // SAFETY: `attr` outlives the call and its size is given.
    let iter = unsafe {
        libc::syscall(libc::SYS_bpf, BPF_ITER_CREATE, &raw const attr, size_of::<IterCreateAttr>())
    };
    // The iterator keeps the link.
    owned(iter, "bpf(BPF_ITER_CREATE)").map(File::from)
}
