//! Errors for which a run cannot begin, and what to do about them.

use std::borrow::Cow;

use thiserror::Error;

use super::device::{DeviceOpenError, OpenRefusal};
use crate::{
    event::Errno,
    kernel::caps::is_root,
    units::advice::{ErrorAdvice, FAILED, IN_USE, NOT_PERMITTED, NOT_SUPPORTED},
};

/// Reason why a run cannot begin.
#[derive(Debug, Error)]
pub enum BeginError {
    /// Failure to open a device.
    #[error("{device}: {why}")]
    Open {
        /// Name of the device.
        device: String,
        /// Reason why it cannot be opened.
        why: DeviceOpenError,
        /// True if no process had it, or a device of its group, open before; false if that is not known.
        idle: bool,
    },
    /// Name of a device without migration, or without the interface of Linux 5.18 and later; the errno of
    /// VFIO_DEVICE_FEATURE_MIGRATION.
    #[error("{0} cannot migrate: VFIO_DEVICE_FEATURE_MIGRATION gives {name}", name = .1.name())]
    NoMigration(String, Errno),
    /// Name of a device with migration whose state cannot be read, and the errno.
    #[error("{0}: its state cannot be read: VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE gives {name}", name = .1.name())]
    State(String, Errno),
    /// Signal that came before the run.
    #[error("a signal asked for the end before it began")]
    Stopped,
    /// Name of a device that was left in another state than RUNNING, that state, and the reason why it cannot be
    /// brought back from it.
    #[error("{0} is in {1}, and {2}")]
    Stuck(String, String, String),
    /// Reason why the requested image cannot be kept.
    #[error("its image cannot be kept: {0}")]
    ImageNotKept(String),
}

impl ErrorAdvice for BeginError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Open { why, idle, .. } => open_advice(why, *idle, is_root()).0,
            Self::NoMigration(..) => NOT_SUPPORTED,
            Self::State(..) | Self::Stopped | Self::Stuck(..) | Self::ImageNotKept(_) => FAILED,
        }
    }

    fn advice(&self) -> Cow<'static, str> {
        let text = match self {
            Self::Open { why, idle, .. } => return open_advice(why, *idle, is_root()).1,
            Self::NoMigration(..) => "exercise one that can: vfio-trace list",
            Self::State(..) => "look for its driver's words in the kernel's log",
            Self::Stopped => "start it again",
            Self::Stuck(..) => "unbind its driver and bind it again, or remove the mdev",
            Self::ImageNotKept(_) => "choose another place for it: --out FILE",
        };
        text.into()
    }
}

/// Returns exit code and advice where a device cannot be opened; `root`: root runs this.
fn open_advice(why: &DeviceOpenError, idle: bool, root: bool) -> (u8, Cow<'static, str>) {
    if why.is_busy() {
        let text = "let whoever has it or a device of its group end: vfio-trace list; fuser -v /dev/vfio/*";
        return (IN_USE, text.into());
    }
    if let Some(node) = why.denied_path() {
        let text = if root {
            format!("let this container have {node}, to read and to write").into()
        } else {
            "run it as root".into()
        };
        return (NOT_PERMITTED, text);
    }
    if let Some(refusal) = why.open_refusal() {
        return refusal_advice(refusal, idle);
    }
    let text = "modprobe vfio_iommu_type1 (or iommufd), and bind all devices of its group to VFIO drivers";
    (NOT_SUPPORTED, text.into())
}

/// Returns exit code and advice where the kernel refuses to open a device, maybe to every process.
fn refusal_advice(refusal: OpenRefusal, idle: bool) -> (u8, Cow<'static, str>) {
    let (may_be_busy, lacks) = match refusal {
        OpenRefusal::Interrupts { may_be_busy } => (
            may_be_busy,
            "this host does not isolate interrupts: switch interrupt remapping on (firmware, intremap=), or, where all guests \
             are trusted, set allow_unsafe_interrupts=1 for iommufd or vfio_iommu_type1",
        ),
        OpenRefusal::Driver => {
            (true, "its driver refuses to open it: look for its words in the kernel's log")
        },
    };
    match (may_be_busy, idle) {
        (false, _) => (NOT_SUPPORTED, lacks.into()),
        (true, true) => (NOT_SUPPORTED, format!("if nobody has opened it meanwhile, {lacks}").into()),
        (true, false) => {
            let text = format!(
                "let whoever has it or a device of its group end, which cannot be told here (fuser -v /dev/vfio/*); if nobody \
                 has, {lacks}"
            );
            (NOT_PERMITTED, text.into())
        },
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn refused(call: &'static str, errno: u32, idle: bool) -> (u8, String) {
        let why = DeviceOpenError::Call { call, errno: Errno(errno) };
        let error = BeginError::Open { device: "dev".to_owned(), why, idle };
        (error.exit_code(), format!("{error}: {}", error.advice()))
    }

    #[test]
    fn in_use_is_said_of_what_somebody_has() {
        let bind = "VFIO_DEVICE_BIND_IOMMUFD";
        assert_eq!(refused(bind, 16, true).0, IN_USE);
        assert_eq!(refused("VFIO_GROUP_GET_DEVICE_FD", 16, false).0, IN_USE);
        for (errno, why) in [(1, "interrupt remapping"), (22, "driver refuses")] {
            for (idle, expected) in [(true, NOT_SUPPORTED), (false, NOT_PERMITTED)] {
                let (code, said) = refused(bind, errno, idle);
                assert_eq!(code, expected, "{said}");
                assert!(said.contains(why), "{said}");
                assert_eq!(said.contains("let whoever has it"), !idle, "{said}");
            }
        }
        let (code, said) = refused("VFIO_SET_IOMMU", 1, true);
        assert!(code == NOT_SUPPORTED && said.contains("allow_unsafe_interrupts"), "{said}");
        assert!(!said.contains("modprobe") && !said.contains("nobody"), "{said}");
        assert!(refused("VFIO_SET_IOMMU", 22, true).1.contains("modprobe"));
    }

    #[test]
    fn root_is_not_told_to_be_root() {
        let why = io::Error::from(io::ErrorKind::PermissionDenied);
        let why = DeviceOpenError::Node { path: "/dev/vfio/7".to_owned(), why };
        let [user, root] = [false, true].map(|root| open_advice(&why, true, root));
        assert_eq!([user.0, root.0], [NOT_PERMITTED; 2]);
        assert_eq!(user.1, "run it as root");
        assert!(root.1.contains("container have /dev/vfio/7") && !root.1.contains("as root"), "{}", root.1);
    }

    #[test]
    fn what_was_not_opened_for_another_reason_has_its_own_advice() {
        let name = || "dev".to_owned();
        let cases = [
            (BeginError::NoMigration(name(), Errno(25)), NOT_SUPPORTED, "vfio-trace list"),
            (BeginError::State(name(), Errno(5)), FAILED, "kernel's log"),
            (BeginError::Stopped, FAILED, "again"),
            (BeginError::Stuck(name(), "ERROR".to_owned(), String::new()), FAILED, "unbind"),
            (BeginError::ImageNotKept(String::new()), FAILED, "--out"),
        ];
        for (error, code, text) in cases {
            assert_eq!(error.exit_code(), code, "{error}");
            assert!(error.advice().contains(text), "{error}");
        }
    }
}
