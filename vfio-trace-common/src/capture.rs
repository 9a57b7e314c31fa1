//! What a driver plug-in wants to see of its driver's memory, as user space hands it to the eBPF programs.

/// Captures that one driver can have.
pub const CAPTURES: usize = 6;
/// Pieces that one capture can have.
pub const PIECES: usize = 16;
/// Longest piece in bytes. The eBPF programs rely on it and on [`PIECES_LEN`] to stay within the record.
pub const PIECE_LEN: u32 = 127;
/// Bytes of all pieces together but the last.
pub const PIECES_LEN: u32 = 255;
/// Pointers that can be followed to get to a structure.
pub const HOPS: usize = 4;

const _: () = assert!((PIECE_LEN + PIECES_LEN) as usize <= crate::wire::CAPTURE_LEN);

/// When a structure is looked at; bits of [`Spec::when`], and one of them in a record.
pub mod moment {
    /// The core said which arc comes next: before the driver acts on it.
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
    /// A step that was asked for begins.
    pub const STEP_ENTER: u32 = 1 << 7;
    /// A step that was asked for is over.
    pub const STEP_EXIT: u32 = 1 << 8;
    /// An ioctl on a data fd returned.
    pub const DATA_IOCTL: u32 = 1 << 9;
}

/// The way from a value to a structure: `offset[0]` is added and the pointer there followed, `hops` times; then
/// `offset[hops]` is added.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// Pointers to follow.
    pub hops: u64,
    /// Bytes to add before each, and at the end.
    pub offset: [i64; HOPS + 1],
}

/// Some bytes of a structure.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// From the structure's start.
    pub offset: u32,
    /// How many, at most [`PIECE_LEN`].
    pub len: u32,
}

/// One capture.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spec {
    /// Its number in the record.
    pub id: u32,
    /// Bits of [`moment`]; 0: not used.
    pub when: u32,
    /// From the `struct vfio_device` to the structure.
    pub from_device: Chain,
    /// Offset of a `struct file *` in the structure, -1 without one.
    pub file: i64,
    /// How many of `pieces` are used.
    pub pieces_used: u64,
    /// What to copy.
    pub pieces: [Piece; PIECES],
}

/// All captures of a driver, in the `CAPTURES` map by the address of its `migration_set_state`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Captures {
    /// The captures.
    pub specs: [Spec; CAPTURES],
}

/// How a step's arguments lead to the device.
pub mod step_device {
    /// Not at all: it is the device of the call that the thread is in.
    pub const OF_THREAD: u32 = 0;
    /// [`super::StepSpec::chain`] from an argument leads to the `struct vfio_device`.
    pub const BY_ARGUMENT: u32 = 1;
    /// As above if that is a device that is known, else as [`OF_THREAD`].
    pub const BY_ARGUMENT_OR_THREAD: u32 = 2;
}

/// What to do for a step, in the `STEPS` map by the probe's slot.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepSpec {
    /// One of [`step_device`].
    pub device: u32,
    /// Which argument to start from.
    pub argument: u32,
    /// From there to the `struct vfio_device`.
    pub chain: Chain,
    /// Bits of [`moment`]: `STEP_ENTER`, `STEP_EXIT`.
    pub captures: u32,
    /// Zero.
    pub reserved: u32,
}

const _: () = assert!(size_of::<Chain>() == 8 + 8 * (HOPS + 1));
const _: () = assert!(size_of::<Spec>() == 24 + size_of::<Chain>() + 8 * PIECES);
const _: () = assert!(size_of::<StepSpec>() == 16 + size_of::<Chain>());
