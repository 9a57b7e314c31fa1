//! Names of what the VFIO uAPI numbers: migration states, migration flags, device features.

use std::fmt;

use serde::{Serialize, Serializer};
use vfio_trace_common::uapi::{self, mig_state, migration_flags};

/// A migration state: `enum vfio_device_mig_state` (include/uapi/linux/vfio.h) as its number.
///
/// Kept as a number and not as an enum, so that a state of a newer kernel survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MigState(pub u32);

impl MigState {
    /// `VFIO_DEVICE_STATE_ERROR`: only a reset leaves it.
    pub const ERROR: Self = Self(mig_state::ERROR);
    /// `VFIO_DEVICE_STATE_STOP`.
    pub const STOP: Self = Self(mig_state::STOP);
    /// `VFIO_DEVICE_STATE_RUNNING`.
    pub const RUNNING: Self = Self(mig_state::RUNNING);
    /// `VFIO_DEVICE_STATE_STOP_COPY`.
    pub const STOP_COPY: Self = Self(mig_state::STOP_COPY);
    /// `VFIO_DEVICE_STATE_RESUMING`.
    pub const RESUMING: Self = Self(mig_state::RESUMING);
    /// `VFIO_DEVICE_STATE_RUNNING_P2P`.
    pub const RUNNING_P2P: Self = Self(mig_state::RUNNING_P2P);
    /// `VFIO_DEVICE_STATE_PRE_COPY`.
    pub const PRE_COPY: Self = Self(mig_state::PRE_COPY);
    /// `VFIO_DEVICE_STATE_PRE_COPY_P2P`.
    pub const PRE_COPY_P2P: Self = Self(mig_state::PRE_COPY_P2P);

    /// The kernel's name, as its debugfs prints it (drivers/vfio/debugfs.c); `Invalid` for any other number.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ERROR => "ERROR",
            Self::STOP => "STOP",
            Self::RUNNING => "RUNNING",
            Self::STOP_COPY => "STOP_COPY",
            Self::RESUMING => "RESUMING",
            Self::RUNNING_P2P => "RUNNING_P2P",
            Self::PRE_COPY => "PRE_COPY",
            Self::PRE_COPY_P2P => "PRE_COPY_P2P",
            _ => "Invalid",
        }
    }

    /// Whether the number is a state that this version knows.
    pub const fn is_valid(self) -> bool {
        self.0 <= mig_state::PRE_COPY_P2P
    }
}

impl fmt::Display for MigState {
    /// The name; for an unknown state the number is kept: `Invalid(9)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_valid() { f.pad(self.name()) } else { f.pad(&format!("{}({})", self.name(), self.0)) }
    }
}

impl Serialize for MigState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// `VFIO_MIGRATION_*` bits: what a device's migration can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MigFlags(pub u64);

impl MigFlags {
    const KNOWN: [(u64, &'static str, &'static str); 3] = [
        (migration_flags::STOP_COPY, "STOP_COPY", "stop-copy"),
        (migration_flags::P2P, "P2P", "p2p"),
        (migration_flags::PRE_COPY, "PRE_COPY", "pre-copy"),
    ];

    /// Bits that have no name here.
    const fn rest(self) -> u64 {
        self.0 & !(migration_flags::STOP_COPY | migration_flags::P2P | migration_flags::PRE_COPY)
    }

    /// Names as the kernel's debugfs file `features` has them; bits without a name as one hexadecimal number.
    pub fn names(self) -> Vec<String> {
        let known = Self::KNOWN.into_iter().filter(|(bit, ..)| self.0 & bit != 0);
        let mut names: Vec<String> = known.map(|(.., name)| name.to_owned()).collect();
        if self.rest() != 0 {
            names.push(format!("{:#x}", self.rest()));
        }
        names
    }
}

impl fmt::Display for MigFlags {
    /// uAPI names: `STOP_COPY|P2P|PRE_COPY`, `0` without any.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        for name in Self::KNOWN.into_iter().filter(|(bit, ..)| self.0 & bit != 0).map(|(_, name, _)| name) {
            if !text.is_empty() {
                text.push('|');
            }
            text.push_str(name);
        }
        if self.rest() != 0 || text.is_empty() {
            let separator = if text.is_empty() { "" } else { "|" };
            let number = if self.rest() == 0 { "0".to_owned() } else { format!("{:#x}", self.rest()) };
            text.push_str(separator);
            text.push_str(&number);
        }
        f.pad(&text)
    }
}

impl Serialize for MigFlags {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.names())
    }
}

/// A `VFIO_DEVICE_FEATURE_*` number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeviceFeature(pub u32);

impl DeviceFeature {
    /// The uAPI's name without its prefix, `None` for a number that this version does not know.
    pub const fn name(self) -> Option<&'static str> {
        Some(match self.0 {
            0 => "PCI_VF_TOKEN",
            uapi::FEATURE_MIGRATION => "MIGRATION",
            uapi::FEATURE_MIG_DEVICE_STATE => "MIG_DEVICE_STATE",
            3 => "LOW_POWER_ENTRY",
            4 => "LOW_POWER_ENTRY_WITH_WAKEUP",
            5 => "LOW_POWER_EXIT",
            uapi::FEATURE_DMA_LOGGING_START => "DMA_LOGGING_START",
            uapi::FEATURE_DMA_LOGGING_STOP => "DMA_LOGGING_STOP",
            uapi::FEATURE_DMA_LOGGING_REPORT => "DMA_LOGGING_REPORT",
            uapi::FEATURE_MIG_DATA_SIZE => "MIG_DATA_SIZE",
            10 => "BUS_MASTER",
            11 => "DMA_BUF",
            12 => "PRECOPY_INFOv2",
            _ => return None,
        })
    }
}

impl fmt::Display for DeviceFeature {
    /// The name, or `feature 13`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.pad(name),
            None => f.pad(&format!("feature {}", self.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_have_the_kernels_names() {
        let names: Vec<String> = (0..9).map(|n| MigState(n).to_string()).collect();
        let kernel = "ERROR STOP RUNNING STOP_COPY RESUMING RUNNING_P2P PRE_COPY PRE_COPY_P2P Invalid(8)";
        assert_eq!(names.join(" "), kernel);
        assert_eq!(MigState(8).name(), "Invalid");
        assert_eq!(format!("{:>10}|", MigState::STOP), "      STOP|");
    }

    #[test]
    fn flags_keep_bits_without_a_name() {
        assert_eq!(MigFlags(7).to_string(), "STOP_COPY|P2P|PRE_COPY");
        assert_eq!(MigFlags(0x15).to_string(), "STOP_COPY|PRE_COPY|0x10");
        assert_eq!(MigFlags(0).to_string(), "0");
        assert_eq!(MigFlags(0x10).to_string(), "0x10");
        assert_eq!(MigFlags(0x13).names(), ["stop-copy", "p2p", "0x10"]);
        assert!(MigFlags(0).names().is_empty());
    }

    #[test]
    fn features_by_name_or_number() {
        assert_eq!(DeviceFeature(9).to_string(), "MIG_DATA_SIZE");
        assert_eq!(DeviceFeature(13).to_string(), "feature 13");
    }
}
