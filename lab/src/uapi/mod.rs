//! The VFIO uAPI without QEMU: container, group, device, migration features, data fd.

mod device;

pub(crate) use device::Device;
pub(crate) use vfio_uapi::ioctl::{DmaRange, FeatureOp};
