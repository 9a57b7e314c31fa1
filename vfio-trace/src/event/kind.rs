//! Names of the kinds of events: for `--kind`, the text's column and JSON's `kind`.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};
use thiserror::Error;

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventKind {
    /// A device was seen for the first time, or has changed.
    Device,
    /// A device was registered with vfio.
    Register,
    /// A device is about to be taken from vfio.
    Unregister,
    /// A process had the device open when tracing began.
    Held,
    /// A device was opened.
    Open,
    /// A device is being closed.
    Close,
    /// One step of the state machine.
    Arc,
    /// A device is not in the state that it was last known to be in.
    Desync,
    /// A request to change the state: one per request, after its arcs.
    SetState,
    /// A request for the current state.
    GetState,
    /// A request for how many bytes STOP_COPY would move.
    DataSize,
    /// VFIO_MIG_GET_PRECOPY_INFO on a data fd.
    PrecopyInfo,
    /// Any other ioctl on a data fd.
    DataIoctl,
    /// `read()` on a data fd: the device's state leaves.
    Read,
    /// `write()` on a data fd: a state is loaded.
    Write,
    /// The last reference to a data fd is gone.
    DataClose,
    /// VFIO_DEVICE_FEATURE for anything that has no kind of its own.
    Feature,
    /// VFIO_DEVICE_RESET.
    Reset,
    /// The PCI core has reset the device.
    PciReset,
    /// A step of a driver.
    Step,
    /// A driver's structure as it was at a moment.
    Image,
    /// What a driver's plug-in makes of it.
    Finding,
    /// Functions were not probed for a time: what they did then was not seen.
    ProbeGap,
}

impl EventKind {
    /// Every kind, in the order in which a migration meets them.
    pub const ALL: [Self; 23] = [
        Self::Device,
        Self::Register,
        Self::Unregister,
        Self::Held,
        Self::Open,
        Self::Close,
        Self::Arc,
        Self::Desync,
        Self::SetState,
        Self::GetState,
        Self::DataSize,
        Self::PrecopyInfo,
        Self::DataIoctl,
        Self::Read,
        Self::Write,
        Self::DataClose,
        Self::Feature,
        Self::Reset,
        Self::PciReset,
        Self::Step,
        Self::Image,
        Self::Finding,
        Self::ProbeGap,
    ];

    /// The name that users type and see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Register => "register",
            Self::Unregister => "unregister",
            Self::Held => "held",
            Self::Open => "open",
            Self::Close => "close",
            Self::Arc => "arc",
            Self::Desync => "desync",
            Self::SetState => "set_state",
            Self::GetState => "get_state",
            Self::DataSize => "data_size",
            Self::PrecopyInfo => "precopy_info",
            Self::DataIoctl => "data_ioctl",
            Self::Read => "read",
            Self::Write => "write",
            Self::DataClose => "data_close",
            Self::Feature => "feature",
            Self::Reset => "reset",
            Self::PciReset => "pci_reset",
            Self::Step => "step",
            Self::Image => "image",
            Self::Finding => "finding",
            Self::ProbeGap => "probe_gap",
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Serialize for EventKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// No kind has this name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("no kind of event is called {0:?}; there are: {all}", all = EventKind::ALL.map(EventKind::name).join(", "))]
pub struct UnknownKind(pub String);

impl FromStr for EventKind {
    type Err = UnknownKind;

    /// # Errors
    ///
    /// [`UnknownKind`], which names all there are.
    fn from_str(name: &str) -> Result<Self, UnknownKind> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| UnknownKind(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for kind in EventKind::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
        }
        let error = "arcs".parse::<EventKind>().unwrap_err().to_string();
        assert!(
            error.starts_with("no kind of event is called \"arcs\"; there are: device, register,"),
            "{error}"
        );
    }
}
