//! VFIO migration states: the kernel's numbers and names, and QMP's spelling of them.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};
use vfio_bindings::bindings::vfio as abi;

/// A migration state: `enum vfio_device_mig_state` of include/uapi/linux/vfio.h. Numbers without a name are kept, so
/// that error cases can ask for them. All of the lab uses it: lab-step's steps, QMP events, and the oracles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MigState(pub u32);

impl MigState {
    /// `VFIO_DEVICE_STATE_ERROR`.
    pub const ERROR: Self = Self(abi::vfio_device_mig_state_VFIO_DEVICE_STATE_ERROR);
    /// `VFIO_DEVICE_STATE_STOP`.
    pub const STOP: Self = Self(abi::vfio_device_mig_state_VFIO_DEVICE_STATE_STOP);
    /// `VFIO_DEVICE_STATE_RUNNING`.
    pub const RUNNING: Self = Self(abi::vfio_device_mig_state_VFIO_DEVICE_STATE_RUNNING);
    /// `VFIO_DEVICE_STATE_STOP_COPY`.
    pub const STOP_COPY: Self = Self(abi::vfio_device_mig_state_VFIO_DEVICE_STATE_STOP_COPY);
    /// `VFIO_DEVICE_STATE_RESUMING`.
    pub const RESUMING: Self = Self(abi::vfio_device_mig_state_VFIO_DEVICE_STATE_RESUMING);
    /// `VFIO_DEVICE_STATE_RUNNING_P2P`.
    pub const RUNNING_P2P: Self = Self(abi::vfio_device_mig_state_VFIO_DEVICE_STATE_RUNNING_P2P);
    /// `VFIO_DEVICE_STATE_PRE_COPY`.
    pub const PRE_COPY: Self = Self(abi::vfio_device_mig_state_VFIO_DEVICE_STATE_PRE_COPY);
    /// `VFIO_DEVICE_STATE_PRE_COPY_P2P`.
    pub const PRE_COPY_P2P: Self = Self(abi::vfio_device_mig_state_VFIO_DEVICE_STATE_PRE_COPY_P2P);

    /// All states that have a name, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::ERROR,
        Self::STOP,
        Self::RUNNING,
        Self::STOP_COPY,
        Self::RESUMING,
        Self::RUNNING_P2P,
        Self::PRE_COPY,
        Self::PRE_COPY_P2P,
    ];

    const NAMES: [&str; 8] =
        ["ERROR", "STOP", "RUNNING", "STOP_COPY", "RESUMING", "RUNNING_P2P", "PRE_COPY", "PRE_COPY_P2P"];

    /// Returns the kernel's name without its prefix; none for a number the kernel does not know.
    pub fn name(self) -> Option<&'static str> {
        Self::NAMES.get(self.0 as usize).copied()
    }

    /// Returns the state of QMP's spelling, `device-state` of a `VFIO_MIGRATION` event: `pre-copy-p2p`.
    pub fn from_qmp(text: &str) -> Option<Self> {
        text.to_ascii_uppercase().replace('-', "_").parse().ok().filter(|state: &Self| state.name().is_some())
    }
}

impl fmt::Display for MigState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.pad(name),
            None => f.pad(&self.0.to_string()),
        }
    }
}

/// The error for a text that is neither a state's name nor a number.
#[derive(Debug, PartialEq, Eq)]
pub struct NotAState(String);

impl fmt::Display for NotAState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is no migration state; it is one of {} or a number",
            self.0,
            MigState::NAMES.join(", ")
        )
    }
}

impl std::error::Error for NotAState {}

impl FromStr for MigState {
    type Err = NotAState;

    fn from_str(text: &str) -> Result<Self, NotAState> {
        let upper = text.to_ascii_uppercase();
        if let Some(number) = Self::NAMES.iter().position(|name| *name == upper) {
            return Ok(Self(number as u32));
        }
        text.parse().map(Self).map_err(|_not_a_number| NotAState(text.to_owned()))
    }
}

/// Writes a state as its name, so that evidence can be read without a table.
impl Serialize for MigState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_reads_back_from_its_name_and_number() {
        for state in MigState::ALL {
            assert_eq!(state.to_string().parse(), Ok(state));
            assert_eq!(state.0.to_string().parse(), Ok(state));
        }
        assert_eq!("pre_copy".parse(), Ok(MigState::PRE_COPY));
        assert_eq!("9".parse(), Ok(MigState(9)));
        assert_eq!("PRECOPY".parse::<MigState>(), Err(NotAState("PRECOPY".to_owned())));
    }

    #[test]
    fn qmp_spells_them_with_dashes() {
        assert_eq!(MigState::from_qmp("pre-copy-p2p"), Some(MigState::PRE_COPY_P2P));
        assert_eq!(MigState::from_qmp("running"), Some(MigState::RUNNING));
        assert_eq!(MigState::from_qmp("pre-copy-p2p-prepare"), None);
        assert_eq!(MigState::from_qmp("9"), None);
    }

    #[test]
    fn a_state_without_a_name_shows_its_number() {
        assert_eq!(MigState(12).to_string(), "12");
        assert_eq!(format!("{:>8}", MigState::STOP), "    STOP");
    }
}
