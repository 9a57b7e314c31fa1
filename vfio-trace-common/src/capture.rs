//! Copies of a driver's memory that its plug-in asks for, as user space hands them to the eBPF programs.

/// Greatest number of captures per driver.
pub const CAPTURES: usize = 6;
/// Greatest number of pieces per capture.
pub const PIECES: usize = 16;
/// Longest piece in bytes. The eBPF programs rely on it and on [`PIECES_LEN`] to stay within the record.
pub const PIECE_LEN: u32 = 127;
/// Greatest length of all pieces but the last, in bytes.
pub const PIECES_LEN: u32 = 255;
/// Greatest number of pointers on the way to a structure.
pub const HOPS: usize = 4;

const _: () = assert!((PIECE_LEN + PIECES_LEN) as usize <= crate::wire::CAPTURE_LEN);

/// Moments at which a structure is copied: bits of [`Spec::when`], and one of them in a record.
pub mod moment {
    /// The core has said which arc comes next; the driver has not acted on it yet.
    pub const ARC: u32 = 1 << 0;
    /// The driver's `migration_set_state` returned.
    pub const SET_STATE: u32 = 1 << 1;
    /// `read()` on a data fd returned.
    pub const READ: u32 = 1 << 2;
    /// `write()` on a data fd returned.
    pub const WRITE: u32 = 1 << 3;
    /// The device is about to be closed.
    pub const CLOSE: u32 = 1 << 4;
    /// The device is about to be reset.
    pub const RESET: u32 = 1 << 5;
    /// The device was seen for the first time, or opened.
    pub const SEEN: u32 = 1 << 6;
    /// A step of the driver's plug-in begins.
    pub const STEP_ENTER: u32 = 1 << 7;
    /// A step of the driver's plug-in returned.
    pub const STEP_EXIT: u32 = 1 << 8;
    /// An ioctl on a data fd returned.
    pub const DATA_IOCTL: u32 = 1 << 9;
}

/// The way from a value to a structure: `offset[0]` is added and the pointer there followed, `hops` times; then
/// `offset[hops]` is added.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// Number of pointers to follow, at most [`HOPS`].
    pub hops: u64,
    /// Bytes to add before each pointer is read, and at the end.
    pub offset: [i64; HOPS + 1],
}

/// A range of bytes of a structure.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// Offset in the structure, in bytes.
    pub offset: u32,
    /// Length in bytes, at most [`PIECE_LEN`].
    pub len: u32,
}

/// One capture: the way to a structure, the pieces to copy, and when. The kernel facts make it from the plug-in's
/// wishes and BTF (`CapturePlan`); the program `capture` follows it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spec {
    /// Number of the capture in the plug-in's list; records of the capture carry it.
    pub id: u32,
    /// Bits of [`moment`]; 0 if this entry is not used.
    pub when: u32,
    /// The way from the `struct vfio_device` to the structure.
    pub from_device: Chain,
    /// Offset of the data fd's `struct file *` in the structure; -1 if it has none.
    pub file: i64,
    /// Number of `pieces` in use.
    pub pieces_used: u64,
    /// The bytes to copy.
    pub pieces: [Piece; PIECES],
}

/// All captures of a driver, in the `CAPTURES` map by the address of its `migration_set_state`. User space writes an
/// entry when the driver is loaded and removes it when the driver is gone.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Captures {
    /// The captures.
    pub specs: [Spec; CAPTURES],
}

/// Ways from a step's arguments to the device.
pub mod step_device {
    /// No argument leads there: the device is that of the call that the thread is in.
    pub const OF_THREAD: u32 = 0;
    /// [`super::StepSpec::chain`] from an argument leads to the `struct vfio_device`.
    pub const BY_ARGUMENT: u32 = 1;
    /// As [`BY_ARGUMENT`] if that leads to a known device, else as [`OF_THREAD`].
    pub const BY_ARGUMENT_OR_THREAD: u32 = 2;
}

/// Instructions for a step, in the `STEPS` map by the probe's slot. The kernel facts make them (`StepPlan`); the step
/// programs use them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepSpec {
    /// One of [`step_device`].
    pub device: u32,
    /// Index of the argument that `chain` starts from.
    pub argument: u32,
    /// The way from the argument to the `struct vfio_device`.
    pub chain: Chain,
    /// Moments at which the driver's captures are made: bits `STEP_ENTER` and `STEP_EXIT` of [`moment`].
    pub captures: u32,
    /// Zero.
    pub reserved: u32,
}

const _: () = assert!(size_of::<Chain>() == 8 + 8 * (HOPS + 1));
const _: () = assert!(size_of::<Spec>() == 24 + size_of::<Chain>() + 8 * PIECES);
const _: () = assert!(size_of::<StepSpec>() == 16 + size_of::<Chain>());
