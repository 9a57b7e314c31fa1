//! VFIO's ioctls, each as one safe function, and the names of error numbers: all that the tool and its lab both have to say
//! to the kernel.

pub mod errno;
pub mod ioctl;
