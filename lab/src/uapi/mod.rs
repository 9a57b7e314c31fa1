//! The VFIO uAPI without QEMU: container, group, device, migration features, data fd.

mod device;
mod sys;

pub(crate) use device::Device;
pub(crate) use sys::{DmaRange, FeatureOp};
