//! Devices under test, and their recovery from the state in which an earlier user left them.

use super::{
    begin_error::BeginError,
    device::{CallResult, OpenDevice},
    report::{ExercisedDevice, RecoveredDevice},
};
use crate::{
    driver::{DriverQuirks, driver_quirks},
    event::{Errno, MigFlags, MigState},
    kernel::VfioDevice,
};

const EIO: Errno = Errno(5);

/// Device under test, open from the beginning of the run to its end (except while it is reopened).
pub(super) struct TestDevice {
    pub(super) name: String,
    pub(super) info: VfioDevice,
    pub(super) device: Option<OpenDevice>,
    pub(super) flags: MigFlags,
    pub(super) can_reset: bool,
    pub(super) quirks: Option<&'static DriverQuirks>,
    /// State as last read; `None` if it could not be read.
    pub(super) state: Option<MigState>,
}

/// Device to be exercised. Made by the command line, taken by [`exercise()`](super::exercise()).
#[derive(Debug)]
pub struct ExerciseCandidate {
    /// Facts about the device.
    pub device: VfioDevice,
    /// State that its driver had in memory while the device was closed, if that could be read.
    pub closed_in: Option<MigState>,
    /// True if no process had it, or a device of its group, open before; false if that is not known.
    pub idle: bool,
}

/// Opens a device. If it was left in another state than RUNNING, it is reset before anything else.
pub(super) fn open(
    candidate: ExerciseCandidate,
    others: &[&TestDevice],
) -> Result<(TestDevice, Option<RecoveredDevice>), BeginError> {
    let ExerciseCandidate { device: info, closed_in, idle } = candidate;
    let name = info.name.clone();
    let others: Vec<&OpenDevice> = others.iter().filter_map(|bench| bench.device.as_ref()).collect();
    let mut device = OpenDevice::open(&info, &others).map_err(|why| BeginError::Open {
        device: name.clone(),
        why,
        idle,
    })?;
    let flags = device.flags().map_err(|errno| BeginError::NoMigration(name.clone(), errno))?;
    let quirks = info.driver.as_deref().and_then(driver_quirks);
    let can_reset = device.can_reset();
    let opened_in = device.state().map_err(|errno| BeginError::State(name.clone(), errno))?;
    if opened_in != MigState::RUNNING {
        // Only a reset: a change of state may crash the kernel if a driver has lost its file.
        let stuck = |why: String| BeginError::Stuck(name.clone(), opened_in.to_string(), why);
        device.reset().map_err(|errno| stuck(format!("VFIO_DEVICE_RESET fails with {errno}")))?;
        match device.state() {
            Ok(MigState::RUNNING) => {},
            Ok(state) => return Err(stuck(format!("in {state} after VFIO_DEVICE_RESET"))),
            Err(errno) => return Err(stuck(format!("its state cannot be read any more: {errno}"))),
        }
    }
    let states = [Some(opened_in), closed_in];
    let left = states.into_iter().flatten().any(|state| state != MigState::RUNNING);
    let recovered = left.then(|| RecoveredDevice {
        device: name.clone(),
        closed_in,
        opened_in,
        by: if opened_in == MigState::RUNNING { "open" } else { "reset" },
        danger: quirks
            .filter(|_| states.contains(&Some(MigState::RESUMING)))
            .and_then(|quirks| quirks.closed_in_resuming),
    });
    let state = Some(MigState::RUNNING);
    Ok((TestDevice { name, info, device: Some(device), flags, can_reset, quirks, state }, recovered))
}

impl TestDevice {
    pub(super) fn subject(&self) -> ExercisedDevice {
        ExercisedDevice {
            device: self.name.clone(),
            driver: self.info.driver.clone(),
            via: self.device.as_ref().map_or("group", OpenDevice::via),
            migration_flags: self.flags,
            reset: self.can_reset,
        }
    }

    /// Returns the open device; EIO if it could not be opened again.
    pub(super) fn device(&mut self) -> CallResult<&mut OpenDevice> {
        self.device.as_mut().ok_or(EIO)
    }
}
