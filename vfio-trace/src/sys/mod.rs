//! Raw system calls that aya does not offer: probes with a cookie or by address, the kernel's counters; and signals.
//!
//! With the crate `vfio-uapi` the only `unsafe` code of user space is here. Structures follow include/uapi/linux/{bpf,perf_event}.h; the kernel is
//! told their size and ignores, or fills with zeros, the part that one side does not know.
#![expect(
    unsafe_code,
    reason = "perf_event_open(2), bpf(2), what signals do and what comes before `main` have no safe wrapper"
)]

mod clock;
mod iter;
mod pod;
mod poll;
pub mod signals;
mod stdio;

use std::{
    ffi::{CString, c_long, c_void},
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

pub use clock::utc_error_ns;
pub use iter::own_files;
pub use pod::MapValue;
pub use poll::readable;
pub use stdio::stdout_was_closed;

/// `perf_event_attr` up to `config2` (`PERF_ATTR_SIZE_VER1`).
#[repr(C)]
#[derive(Default)]
struct PerfEventAttr {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    bp_type: u32,
    /// `kprobe_func`: pointer to a name, or 0.
    config1: u64,
    /// `probe_offset` after a name, `kprobe_addr` without one.
    config2: u64,
}

const _: () = assert!(size_of::<PerfEventAttr>() == 72);

/// `union bpf_attr` for `BPF_LINK_CREATE` with a perf event.
#[repr(C)]
#[derive(Default)]
struct PerfLinkAttr {
    prog_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
    cookie: u64,
}

/// `union bpf_attr` for `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C)]
struct ObjectInfoAttr {
    fd: u32,
    info_len: u32,
    info: u64,
}

const BPF_OBJ_GET_INFO_BY_FD: c_long = 15;
const BPF_LINK_CREATE: c_long = 28;
const BPF_PERF_EVENT: u32 = 41;
const PERF_FLAG_FD_CLOEXEC: c_long = 8;
const ALL_THREADS: c_long = -1;
/// The PMU of kprobes ignores the CPU but wants one.
const CPU_0: c_long = 0;
const NO_GROUP: c_long = -1;

/// Place of a kprobe. The probe plan (`probe/plan.rs`) chooses it; [`attach_kprobe`] uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeLocation {
    /// Name of a symbol, or `module:symbol`.
    Name(String),
    /// Address of the function.
    Address(u64),
}

/// A system call that failed.
#[derive(Debug, thiserror::Error)]
#[error("{call}: {source}")]
pub struct SysError {
    /// Name of the system call.
    pub call: &'static str,
    /// The error it failed with.
    pub source: io::Error,
}

impl SysError {
    fn last(call: &'static str) -> Self {
        Self { call, source: io::Error::last_os_error() }
    }

    /// Returns the errno, or 0 if there is none.
    pub fn errno(&self) -> i32 {
        self.source.raw_os_error().unwrap_or(0)
    }
}

/// Attaches a loaded kprobe or kretprobe program to one function. The link ends when the returned descriptor is closed.
///
/// `pmu` is the `type` and `config` of the kprobe PMU; see [`crate::probe`]. The program finds `cookie` through
/// `bpf_get_attach_cookie()` (Linux 5.15).
pub fn attach_kprobe(
    program: BorrowedFd<'_>,
    pmu: (u32, u64),
    place: &ProbeLocation,
    cookie: u64,
) -> Result<OwnedFd, SysError> {
    let (kind, config) = pmu;
    let mut attr =
        PerfEventAttr { kind, config, size: size_of::<PerfEventAttr>() as u32, ..PerfEventAttr::default() };
    // The kernel copies the name before the call returns.
    let name = match place {
        ProbeLocation::Name(name) => Some(CString::new(name.as_str()).map_err(|_nul| SysError {
            call: "perf_event_open",
            source: io::Error::from(io::ErrorKind::InvalidInput),
        })?),
        ProbeLocation::Address(address) => {
            attr.config2 = *address;
            None
        },
    };
    if let Some(name) = &name {
        attr.config1 = name.as_ptr() as u64;
    }
    // SAFETY: `attr` and `name` outlive the call, and `size` says how much of `attr` may be read.
    let event = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attr,
            ALL_THREADS,
            CPU_0,
            NO_GROUP,
            PERF_FLAG_FD_CLOEXEC,
        )
    };
    drop(name);
    let event = owned(event, "perf_event_open")?;
    let attr = PerfLinkAttr {
        prog_fd: program.as_raw_fd().cast_unsigned(),
        target_fd: event.as_raw_fd().cast_unsigned(),
        attach_type: BPF_PERF_EVENT,
        flags: 0,
        cookie,
    };
    // SAFETY: `attr` outlives the call and its size is given.
    let link =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_LINK_CREATE, &raw const attr, size_of::<PerfLinkAttr>()) };
    // The link keeps the event.
    owned(link, "bpf(BPF_LINK_CREATE)")
}

fn owned(fd: c_long, call: &'static str) -> Result<OwnedFd, SysError> {
    match i32::try_from(fd) {
        // SAFETY: the kernel just made this descriptor for us; nothing else owns it.
        Ok(fd @ 0..) => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(SysError::last(call)),
    }
}

/// `bpf_link_info` of a perf event link on a kprobe, as of Linux 6.7.
#[repr(C)]
#[derive(Default)]
struct LinkInfo {
    kind: u32,
    id: u32,
    prog_id: u32,
    pad: u32,
    event_kind: u32,
    event_pad: u32,
    func_name: u64,
    name_len: u32,
    offset: u32,
    addr: u64,
    missed: u64,
}

const _: () = assert!(std::mem::offset_of!(LinkInfo, missed) == 48);
const BPF_LINK_TYPE_PERF_EVENT: u32 = 7;
const BPF_PERF_EVENT_KPROBE: u32 = 3;
const BPF_PERF_EVENT_KRETPROBE: u32 = 4;

fn info<T: Default>(fd: BorrowedFd<'_>) -> Result<(T, usize), SysError> {
    let mut info = T::default();
    let mut attr = ObjectInfoAttr {
        fd: fd.as_raw_fd().cast_unsigned(),
        info_len: size_of::<T>() as u32,
        info: (&raw mut info).cast::<c_void>() as u64,
    };
    // SAFETY: both outlive the call; the kernel writes at most `info_len` bytes, all of which are plain integers.
    let ret = unsafe {
        libc::syscall(libc::SYS_bpf, BPF_OBJ_GET_INFO_BY_FD, &raw mut attr, size_of::<ObjectInfoAttr>())
    };
    if ret < 0 {
        Err(SysError::last("bpf(BPF_OBJ_GET_INFO_BY_FD)"))
    } else {
        Ok((info, attr.info_len as usize))
    }
}

/// Returns the number of times the probe of a link was missed (`bpf_link_info.perf_event.kprobe.missed`, Linux 6.7);
/// `None` if the kernel does not tell.
pub fn missed(link: BorrowedFd<'_>) -> Option<u64> {
    let (info, len) = info::<LinkInfo>(link).ok()?;
    let told = info.kind == BPF_LINK_TYPE_PERF_EVENT
        && [BPF_PERF_EVENT_KPROBE, BPF_PERF_EVENT_KRETPROBE].contains(&info.event_kind)
        && len >= size_of::<LinkInfo>();
    told.then_some(info.missed)
}

/// Returns the address of the function that a link probes (`bpf_link_info.perf_event.kprobe.addr`, Linux 6.6); `None`
/// if the kernel does not tell.
pub fn address(link: BorrowedFd<'_>) -> Option<u64> {
    let (info, len) = info::<LinkInfo>(link).ok()?;
    let told = info.kind == BPF_LINK_TYPE_PERF_EVENT
        && [BPF_PERF_EVENT_KPROBE, BPF_PERF_EVENT_KRETPROBE].contains(&info.event_kind)
        && len >= std::mem::offset_of!(LinkInfo, missed)
        && info.offset == 0;
    Some(info.addr).filter(|addr| told && *addr != 0).map(entry)
}

/// Returns the start of a function from the address of its probe: on x86, with CONFIG_X86_KERNEL_IBT, the probe comes
/// after an `endbr64` of 4 bytes (`arch_adjust_kprobe_addr()`), and functions begin at multiples of 16.
const fn entry(probed: u64) -> u64 {
    if cfg!(target_arch = "x86_64") && probed % 16 == 4 { probed - 4 } else { probed }
}

/// `bpf_prog_info` up to `recursion_misses`.
#[repr(C)]
#[derive(Default)]
struct ProgInfo {
    before: [u64; 26],
    recursion_misses: u64,
}

const _: () = assert!(std::mem::offset_of!(ProgInfo, recursion_misses) == 208);

/// Returns the number of times a program did not run because another one ran on that CPU
/// (`bpf_prog_info.recursion_misses`, Linux 5.12); `None` if the kernel does not tell.
pub fn recursion_misses(program: BorrowedFd<'_>) -> Option<u64> {
    let (info, len) = info::<ProgInfo>(program).ok()?;
    (len >= size_of::<ProgInfo>()).then_some(info.recursion_misses)
}
