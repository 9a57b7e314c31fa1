//! The event: one observed action of the kernel, as all outputs get it.

use std::sync::Arc;

use super::{EventData, EventKind};

/// One observed action of the kernel. The assembler (`event/correlate`) makes it from records, plug-ins add findings;
/// it does not change afterwards. Every output and `state` take it from the pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VfioEvent {
    /// CLOCK_MONOTONIC in ns when it began.
    pub start_ns: u64,
    /// CLOCK_MONOTONIC in ns when it ended. If the end was not seen (`duration_ns` is `None`): the time at which the
    /// tracer learned that it was over.
    pub end_ns: u64,
    /// Duration in ns; `None` if it is not known, or means nothing for this kind.
    pub duration_ns: Option<u64>,
    /// The device; `None` if the record could not tell.
    pub device: Option<DeviceRef>,
    /// The thread that did it.
    pub process: EventProcess,
    /// Data of the event's kind.
    pub data: EventData,
}

impl VfioEvent {
    /// Returns the kind of the event.
    pub const fn kind(&self) -> EventKind {
        self.data.kind()
    }

    /// Returns the device's name, if known.
    pub fn device_name(&self) -> Option<&str> {
        self.device.as_ref().and_then(|device| device.name.as_deref())
    }

    /// Returns the device's driver, if known.
    pub fn driver(&self) -> Option<&str> {
        self.device.as_ref().and_then(|device| device.driver.as_deref())
    }
}

/// A device as events refer to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRef {
    /// Number within this run, by first sight. Keeps devices apart whose name is not known; never printed.
    pub nr: u32,
    /// PCI address or mdev UUID, as in /sys.
    pub name: Option<Arc<str>>,
    /// Name of its driver.
    pub driver: Option<Arc<str>>,
}

/// The thread that did something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventProcess {
    /// Process (the kernel's `tgid`).
    pub pid: u32,
    /// Thread (the kernel's `pid`).
    pub tid: u32,
    /// Name of the thread. Any process may choose it: control characters can be in it.
    pub comm: String,
}
