//! VFIO's uAPI numbers (include/uapi/linux/vfio.h) that the tracer needs on both sides of the boundary.

/// `VFIO_DEVICE_RESET`, `_IO(';', 100 + 11)`.
pub const VFIO_DEVICE_RESET: u32 = 0x3b6f;
/// `VFIO_DEVICE_FEATURE`, `_IO(';', 100 + 17)`.
pub const VFIO_DEVICE_FEATURE: u32 = 0x3b75;
/// `VFIO_MIG_GET_PRECOPY_INFO`, `_IO(';', 100 + 21)`, on a data fd.
pub const VFIO_MIG_GET_PRECOPY_INFO: u32 = 0x3b79;

/// Mask of the feature number in `vfio_device_feature.flags`.
pub const FEATURE_MASK: u32 = 0xffff;
/// `VFIO_DEVICE_FEATURE_GET`.
pub const FEATURE_GET: u32 = 1 << 16;
/// `VFIO_DEVICE_FEATURE_SET`.
pub const FEATURE_SET: u32 = 1 << 17;
/// `VFIO_DEVICE_FEATURE_PROBE`.
pub const FEATURE_PROBE: u32 = 1 << 18;

/// `VFIO_DEVICE_FEATURE_MIGRATION`: payload is `u64 flags`.
pub const FEATURE_MIGRATION: u32 = 1;
/// `VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE`: payload is `u32 device_state, s32 data_fd`.
pub const FEATURE_MIG_DEVICE_STATE: u32 = 2;
/// `VFIO_DEVICE_FEATURE_DMA_LOGGING_START`: payload is `u64 page_size, u32 num_ranges, u32 reserved, u64 ranges`.
pub const FEATURE_DMA_LOGGING_START: u32 = 6;
/// `VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP`: no payload.
pub const FEATURE_DMA_LOGGING_STOP: u32 = 7;
/// `VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT`: payload is `u64 iova, u64 length, u64 page_size, u64 bitmap`.
pub const FEATURE_DMA_LOGGING_REPORT: u32 = 8;
/// `VFIO_DEVICE_FEATURE_MIG_DATA_SIZE`: payload is `u64 stop_copy_length`.
pub const FEATURE_MIG_DATA_SIZE: u32 = 9;

/// Bits of `vfio_device.migration_flags` and of the MIGRATION feature.
pub mod migration_flags {
    /// `VFIO_MIGRATION_STOP_COPY`.
    pub const STOP_COPY: u64 = 1 << 0;
    /// `VFIO_MIGRATION_P2P`.
    pub const P2P: u64 = 1 << 1;
    /// `VFIO_MIGRATION_PRE_COPY`.
    pub const PRE_COPY: u64 = 1 << 2;
}

/// Values of `enum vfio_device_mig_state`.
pub mod mig_state {
    /// `VFIO_DEVICE_STATE_ERROR`.
    pub const ERROR: u32 = 0;
    /// `VFIO_DEVICE_STATE_STOP`.
    pub const STOP: u32 = 1;
    /// `VFIO_DEVICE_STATE_RUNNING`.
    pub const RUNNING: u32 = 2;
    /// `VFIO_DEVICE_STATE_STOP_COPY`.
    pub const STOP_COPY: u32 = 3;
    /// `VFIO_DEVICE_STATE_RESUMING`.
    pub const RESUMING: u32 = 4;
    /// `VFIO_DEVICE_STATE_RUNNING_P2P`.
    pub const RUNNING_P2P: u32 = 5;
    /// `VFIO_DEVICE_STATE_PRE_COPY`.
    pub const PRE_COPY: u32 = 6;
    /// `VFIO_DEVICE_STATE_PRE_COPY_P2P`.
    pub const PRE_COPY_P2P: u32 = 7;
}
