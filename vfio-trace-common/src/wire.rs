//! The records that eBPF programs put into the ring buffer.
//!
//! A record is a [`Header`] followed by the body that [`Header::kind`] names. A reader must use [`Header::len`] and
//! ignore bytes past the body it knows, so that a body may grow at its end without a new [`VERSION`].

#[cfg(feature = "user")]
use alloc::{borrow::Cow, boxed::Box};
#[cfg(feature = "user")]
use zerocopy::IntoBytes as _;

#[cfg(feature = "user")]
use crate::{
    record::{self, DecodeError, RecordPayload},
    uapi,
};

/// Version of everything in this module; changes when an existing field moves or changes its meaning.
pub const VERSION: u16 = 1;

/// Bytes of a task's `comm`, NUL padded (`TASK_COMM_LEN`, include/linux/sched.h).
pub const COMM_LEN: usize = 16;
/// Longest device name kept, NUL padded: an mdev UUID has 36 characters, a PCI address 12.
pub const NAME_LEN: usize = 64;
/// Longest driver name kept, NUL padded.
pub const DRIVER_LEN: usize = 32;

/// Declares a plain-data wire structure with an asserted size.
macro_rules! wire {
    ($(#[$doc:meta])* pub struct $name:ident = $size:literal { $($(#[$fdoc:meta])* pub $field:ident: $ty:ty,)* }) => {
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[cfg_attr(
            feature = "user",
            derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
        )]
        pub struct $name { $($(#[$fdoc])* pub $field: $ty,)* }
        const _: () = assert!(size_of::<$name>() == $size);
        const _: () = assert!($size % 8 == 0);
    };
}

/// Declares a body that never changed: all of it must be there.
macro_rules! body {
    ($(#[$doc:meta])* pub struct $name:ident = $size:literal { $($fields:tt)* }) => {
        wire! { $(#[$doc])* pub struct $name = $size { $($fields)* } }
        #[cfg(feature = "user")]
        impl RecordPayload for $name {
            fn decode(kind: Kind, body: &[u8]) -> Result<Self, DecodeError> {
                record::take(kind, body)
            }

            fn encode(&self) -> Cow<'_, [u8]> {
                Cow::Borrowed(self.as_bytes())
            }
        }
    };
}

/// Declares all kinds of records: number, name, body.
macro_rules! records {
    (@bind $value:ident: $body:ty) => { $value };
    (@encode) => { Cow::Borrowed(&[]) };
    (@encode $value:ident: $body:ty) => { <$body>::encode($value) };
    ($($(#[$doc:meta])* $name:ident = $number:literal $(: $body:ty)?,)*) => {
        /// Kind of a record, which determines its body. Numbers are part of the recording format: never reuse one.
        #[repr(u16)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind { $($(#[$doc])* $name = $number,)* }

        impl Kind {
            /// Every kind, by number.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Returns the kind with this number, `None` for one that this version does not know.
            pub const fn from_raw(raw: u16) -> Option<Self> {
                match raw {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }
        }

        /// A record's body, by [`Kind`]. `N`: the reader's type for a note's text.
        #[cfg(feature = "user")]
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum DecodedBody<N> { $($(#[$doc])* $name $(($body))?,)* }

        #[cfg(feature = "user")]
        impl<N: RecordPayload> DecodedBody<N> {
            /// Reads the body of a record of this kind.
            ///
            /// # Errors
            ///
            /// See [`DecodeError`].
            pub fn decode(kind: Kind, body: &[u8]) -> Result<Self, DecodeError> {
                Ok(match kind {
                    $(Kind::$name => Self::$name $((<$body>::decode(kind, body)?))?,)*
                })
            }

            /// Returns the body's bytes, as [`Self::decode`] reads them.
            pub fn encode(&self) -> Cow<'_, [u8]> {
                match self {
                    $(Self::$name $((records!(@bind body: $body)))? => records!(@encode $(body: $body)?),)*
                }
            }
        }
    };
}

records! {
    /// [`Device`]: a device seen for the first time, or opened.
    Device = 1: Device,
    /// [`NextState`]: the core told a driver the next state; the arc `current → next` starts when it returns 0.
    NextState = 2: NextState,
    /// [`SetState`]: a driver's `migration_set_state` returned.
    SetState = 3: SetState,
    /// [`GetState`]: a driver's `migration_get_state` returned.
    GetState = 4: GetState,
    /// [`DataSize`]: a driver's `migration_get_data_size` returned.
    DataSize = 5: DataSize,
    /// [`DataIo`]: `read()` on a data fd returned.
    Read = 6: DataIo,
    /// [`DataIo`]: `write()` on a data fd returned.
    Write = 7: DataIo,
    /// [`PrecopyInfo`]: an ioctl on a data fd returned.
    PrecopyInfo = 8: PrecopyInfo,
    /// [`DataRelease`]: the last reference to a data fd is gone.
    DataRelease = 9: DataRelease,
    /// [`Ioctl`]: VFIO_DEVICE_FEATURE or VFIO_DEVICE_RESET returned.
    Ioctl = 10: Ioctl,
    /// [`Open`]: a device was opened.
    Open = 11: Open,
    /// [`Close`]: a device was closed.
    Close = 12: Close,
    /// [`Holder`]: a process has a device open. Made by the inventory; the header names the process, not the caller.
    Holder = 13: Holder,
    /// [`Registered`]: a device was registered with vfio.
    Register = 14: Registered,
    /// No body: a device is about to be taken from vfio.
    Unregister = 15,
    /// [`LogRanges`]: the ranges that DMA_LOGGING_START asked for; right before the [`Ioctl`] it belongs to.
    LogRanges = 16: Box<LogRanges>,
    /// [`LogDirty`]: the dirty pages that DMA_LOGGING_REPORT found; right before the [`Ioctl`] it belongs to.
    LogDirty = 17: LogDirty,
    /// [`PciReset`]: the PCI core has reset the device's function.
    PciReset = 18: PciReset,
    /// [`Step`]: a function that a driver plug-in asked for returned.
    Step = 19: Step,
    /// [`Capture`]: a structure of the driver, as it was at a moment that a driver plug-in asked for.
    Capture = 20: Box<Capture>,
    /// [`Module`]: the kernel has loaded a module. For the tracer itself: it is in no recording.
    Module = 32: Module,
    /// JSON text of any length, made in user space: facts that a reader needs to understand other records.
    Note = 256: N,
}

wire! {
    /// Header of every record. The eBPF programs fill it, user space only for notes; all sources read it.
    pub struct Header = 64 {
        /// Bytes of the whole record, header included.
        pub len: u16,
        /// A [`Kind`].
        pub kind: u16,
        /// Index of the probe that made it: the slot in the statistics map.
        pub probe: u16,
        /// CPU it was made on.
        pub cpu: u16,
        /// Process (`tgid`; what user space calls pid).
        pub tgid: u32,
        /// Thread (`pid` in the kernel).
        pub tid: u32,
        /// CLOCK_MONOTONIC in ns when the traced function was entered.
        pub start_ns: u64,
        /// CLOCK_MONOTONIC in ns when it returned; equals `start_ns` for records made at entry.
        pub end_ns: u64,
        /// Address of the `struct vfio_device`, 0 if not known. An identity, never dereferenced in user space.
        pub device: u64,
        /// Address of the data fd's `struct file`, 0 if the record has none.
        pub file: u64,
        /// The thread's name.
        pub comm: [u8; COMM_LEN],
    }
}

body! {
    /// Body of [`Kind::Device`] (`struct vfio_device`, include/linux/vfio.h). Pointers are 0 if the kernel has none or
    /// the layout is not known.
    pub struct Device = 192 {
        /// `dev_name(device->dev)`: PCI address or mdev UUID.
        pub name: [u8; NAME_LEN],
        /// `device->dev->driver->name`.
        pub driver: [u8; DRIVER_LEN],
        /// `device->migration_flags` (`VFIO_MIGRATION_*`).
        pub migration_flags: u64,
        /// `device->mig_ops`, 0 for a device without migration.
        pub mig_ops: u64,
        /// `device->log_ops`, 0 for a device without dirty tracking.
        pub log_ops: u64,
        /// `mig_ops->migration_set_state`.
        pub set_state: u64,
        /// `mig_ops->migration_get_state`.
        pub get_state: u64,
        /// `mig_ops->migration_get_data_size`.
        pub get_data_size: u64,
        /// `log_ops->log_start`.
        pub log_start: u64,
        /// `log_ops->log_stop`.
        pub log_stop: u64,
        /// `log_ops->log_read_and_clear`.
        pub log_read_and_clear: u64,
        /// Bits of [`device_known`]: the members above that could be read.
        pub known: u32,
        /// The state in the driver's private structure (`enum vfio_device_mig_state`).
        pub state: u32,
        /// The probe role (a [`crate::role::Role`]) through which the device was seen.
        pub seen_by: u32,
        /// `device->open_count`.
        pub open_count: u32,
        /// `device->ops->open_device`: the function that opens the device if the core's own is inlined.
        pub open_device: u64,
    }
}

/// Bits of [`Device::known`].
pub mod device_known {
    /// `name` was read.
    pub const NAME: u32 = 1 << 0;
    /// `driver` was read.
    pub const DRIVER: u32 = 1 << 1;
    /// `migration_flags` was read.
    pub const FLAGS: u32 = 1 << 2;
    /// `mig_ops` was read (0 then means: no migration).
    pub const MIG_OPS: u32 = 1 << 3;
    /// `log_ops` was read (0 then means: no dirty tracking).
    pub const LOG_OPS: u32 = 1 << 4;
    /// `state` was read.
    pub const STATE: u32 = 1 << 5;
    /// `open_count` was read.
    pub const OPEN_COUNT: u32 = 1 << 6;
    /// The device is being taken from vfio, and was opened since: it is no new one.
    pub const LEAVING: u32 = 1 << 7;
}

body! {
    /// Body of [`Kind::NextState`]: one call of `vfio_mig_get_next_state()`.
    pub struct NextState = 16 {
        /// State that the driver is in (`enum vfio_device_mig_state`).
        pub current: u32,
        /// State that it was asked to reach in the end.
        pub target: u32,
        /// State that it must go to now; meaningless unless `ret` is 0.
        pub next: u32,
        /// 0 or a negative errno.
        pub ret: i32,
    }
}

body! {
    /// Body of [`Kind::SetState`]: one call of a driver's `migration_set_state()`. `Header::file` is the file it
    /// returned.
    pub struct SetState = 48 {
        /// State asked for.
        pub target: u32,
        /// 0 or a negative errno.
        pub ret: i32,
        /// `file->f_op` of the returned file, 0 without one. The following are its members.
        pub f_op: u64,
        /// `f_op->read`.
        pub read: u64,
        /// `f_op->write`.
        pub write: u64,
        /// `f_op->unlocked_ioctl`.
        pub unlocked_ioctl: u64,
        /// `f_op->release`.
        pub release: u64,
    }
}

body! {
    /// Body of [`Kind::GetState`].
    pub struct GetState = 8 {
        /// The state returned; meaningless unless `ret` is 0.
        pub state: u32,
        /// 0 or a negative errno.
        pub ret: i32,
    }
}

body! {
    /// Body of [`Kind::DataSize`].
    pub struct DataSize = 16 {
        /// `stop_copy_length` in bytes; meaningless unless `ret` and `unread` are 0.
        pub stop_copy_length: u64,
        /// 0 or a negative errno.
        pub ret: i32,
        /// 1: `stop_copy_length` could not be read.
        pub unread: u32,
    }
}

body! {
    /// Body of [`Kind::Read`] and [`Kind::Write`].
    pub struct DataIo = 24 {
        /// Bytes that user space asked to move.
        pub requested: u64,
        /// Bytes moved, or a negative errno.
        pub ret: i64,
        /// `file->f_pos` at entry: the offset in the stream; -1 if it could not be read.
        pub pos: i64,
    }
}

wire! {
    /// Body of [`Kind::PrecopyInfo`]: an ioctl on a data fd (`struct vfio_precopy_info`, uapi/linux/vfio.h).
    ///
    /// Members up to `dirty_bytes` never changed; the rest is 0 in older recordings, in which all counted as read.
    pub struct PrecopyInfo = 40 {
        /// The ioctl's number; `VFIO_MIG_GET_PRECOPY_INFO` for all that is defined today.
        pub cmd: u32,
        /// 0 or a negative errno.
        pub ret: i32,
        /// `argsz` as user space gave it.
        pub argsz: u32,
        /// `flags` as the driver left them.
        pub flags: u32,
        /// `initial_bytes`; meaningless unless `ret` is 0.
        pub initial_bytes: u64,
        /// `dirty_bytes`; meaningless unless `ret` is 0.
        pub dirty_bytes: u64,
        /// Bits of [`precopy_unread`]: members that could not be read, and are 0.
        pub unread: u32,
        /// Zero.
        pub reserved: u32,
    }
}

/// Bits of [`PrecopyInfo::unread`].
pub mod precopy_unread {
    /// `argsz`.
    pub const ARGSZ: u32 = 1 << 0;
    /// `flags`.
    pub const FLAGS: u32 = 1 << 1;
    /// `initial_bytes`.
    pub const INITIAL: u32 = 1 << 2;
    /// `dirty_bytes`.
    pub const DIRTY: u32 = 1 << 3;
}

/// Bytes of a [`PrecopyInfo`] in recordings that do not have `unread`.
pub const PRECOPY_INFO_BEFORE: usize = 32;

#[cfg(feature = "user")]
impl RecordPayload for PrecopyInfo {
    fn decode(kind: Kind, body: &[u8]) -> Result<Self, DecodeError> {
        record::take_grown(kind, body, PRECOPY_INFO_BEFORE)
    }

    fn encode(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(self.as_bytes())
    }
}

body! {
    /// Body of [`Kind::DataRelease`].
    pub struct DataRelease = 8 {
        /// `file->f_pos` at release: the end of the stream; -1 if it could not be read.
        pub pos: i64,
    }
}

/// Bits of [`Ioctl::unread`].
pub mod ioctl_unread {
    /// Bit `n` from here on: `data_in[n]`.
    pub const DATA_IN: u32 = 0;
    /// Bit `n` from here on: `data_out[n]`.
    pub const DATA_OUT: u32 = 4;
    /// `argsz` and `flags`.
    pub const HEADER: u32 = 1 << 8;
}

/// Bytes of an [`Ioctl`] in recordings that do not have `unread` and `late`.
pub const IOCTL_BEFORE: usize = 80;

/// Payload bytes of `struct vfio_device_feature` that an [`Ioctl`] keeps: enough for every migration feature.
pub const FEATURE_WORDS: usize = 4;

wire! {
    /// Body of [`Kind::Ioctl`]: VFIO_DEVICE_FEATURE or VFIO_DEVICE_RESET on a device fd.
    ///
    /// Members up to `data_out` never changed; the rest is 0 in older recordings, in which all counted as read.
    pub struct Ioctl = 88 {
        /// `VFIO_DEVICE_FEATURE` or `VFIO_DEVICE_RESET`.
        pub cmd: u32,
        /// Return value of the ioctl: 0 or more, or a negative errno.
        pub ret: i32,
        /// `vfio_device_feature.argsz`; 0 for a reset.
        pub argsz: u32,
        /// `vfio_device_feature.flags`: feature number and `VFIO_DEVICE_FEATURE_{GET,SET,PROBE}`; 0 for a reset.
        pub flags: u32,
        /// First bytes of `vfio_device_feature.data` at entry.
        pub data_in: [u64; FEATURE_WORDS],
        /// The same at return.
        pub data_out: [u64; FEATURE_WORDS],
        /// Bits of [`ioctl_unread`]: members that could not be read, and are 0.
        pub unread: u32,
        /// Bit `n` set: `data_in[n]` could only be read at return; the kernel may have written to it.
        pub late: u32,
    }
}

#[cfg(feature = "user")]
impl RecordPayload for Ioctl {
    /// Refuses ioctls that the eBPF side should not have reported.
    fn decode(kind: Kind, body: &[u8]) -> Result<Self, DecodeError> {
        let ioctl: Self = record::take_grown(kind, body, IOCTL_BEFORE)?;
        match ioctl.cmd {
            uapi::VFIO_DEVICE_FEATURE | uapi::VFIO_DEVICE_RESET => Ok(ioctl),
            cmd => Err(DecodeError::UnknownIoctl { cmd }),
        }
    }

    fn encode(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(self.as_bytes())
    }
}

body! {
    /// Body of [`Kind::Open`].
    pub struct Open = 8 {
        /// 0 or a negative errno.
        pub ret: i32,
        /// `device->open_count` after it, `u32::MAX` if not known.
        pub open_count: u32,
    }
}

body! {
    /// Body of [`Kind::Close`].
    pub struct Close = 8 {
        /// `device->open_count` before it, `u32::MAX` if not known.
        pub open_count: u32,
        /// Zero.
        pub reserved: u32,
    }
}

body! {
    /// Body of [`Kind::Holder`].
    pub struct Holder = 8 {
        /// The descriptor in that process.
        pub fd: u32,
        /// Zero.
        pub reserved: u32,
    }
}

body! {
    /// Body of [`Kind::Register`].
    pub struct Registered = 8 {
        /// 0 or a negative errno.
        pub ret: i32,
        /// Zero.
        pub reserved: u32,
    }
}

/// IOVA ranges that a [`LogRanges`] keeps; QEMU asks for three at most.
pub const LOG_RANGES: usize = 16;

body! {
    /// Body of [`Kind::LogRanges`] (`struct vfio_device_feature_dma_logging_control`, uapi/linux/vfio.h).
    pub struct LogRanges = 264 {
        /// `num_ranges`, as user space gave it.
        pub asked: u32,
        /// Number of `ranges` that could be read.
        pub kept: u32,
        /// `iova` and `length` of each.
        pub ranges: [[u64; 2]; LOG_RANGES],
    }
}

body! {
    /// Body of [`Kind::LogDirty`].
    pub struct LogDirty = 8 {
        /// Bits set in the bitmap that user space got.
        pub pages: u64,
    }
}

/// Bit of [`PciReset::how`]: by a Function Level Reset.
pub const RESET_BY_FLR: u32 = 1;

body! {
    /// Body of [`Kind::PciReset`].
    pub struct PciReset = 8 {
        /// 0 or a negative errno.
        pub ret: i32,
        /// Bits `RESET_BY_*`.
        pub how: u32,
    }
}

/// Arguments of a function that a [`Step`] keeps.
pub const STEP_ARGS: usize = 5;

body! {
    /// Body of [`Kind::Step`]. `Header::probe` identifies the function.
    pub struct Step = 56 {
        /// Its return value, as the register has it; meaningless for a function that returns nothing.
        pub ret: u64,
        /// Its first arguments, as the registers had them at entry.
        pub args: [u64; STEP_ARGS],
        /// The [`crate::role::Role`] of the call that this thread was in, `u32::MAX` if in none or not known.
        pub within: u32,
        /// Zero.
        pub reserved: u32,
    }
}

/// Longest name of a module, NUL padded (`MODULE_NAME_LEN`: 64 less an unsigned long).
pub const MODULE_LEN: usize = 64;

body! {
    /// Body of [`Kind::Module`]. `Header::end_ns` is the time from which its code could be called.
    pub struct Module = 64 {
        /// Its name.
        pub name: [u8; MODULE_LEN],
    }
}

/// Bytes of a structure that a [`Capture`] can hold.
pub const CAPTURE_LEN: usize = 384;

body! {
    /// Body of [`Kind::Capture`]. `Header::file` is the data file that the structure belongs to, if it names one.
    pub struct Capture = 416 {
        /// Number of the capture within the driver: `capture::Spec::id`.
        pub id: u32,
        /// Moment of the copy: one of `capture::moment`.
        pub moment: u32,
        /// Address of the structure. An identity, never dereferenced in user space.
        pub address: u64,
        /// Number of bytes of `data` that are used.
        pub len: u32,
        /// Bit `n` set: piece `n` could not be read and is zero.
        pub failed: u32,
        /// The driver: its `migration_set_state`.
        pub driver: u64,
        /// The pieces, one after the other.
        pub data: [u8; CAPTURE_LEN],
    }
}
