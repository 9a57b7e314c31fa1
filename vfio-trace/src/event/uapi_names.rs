//! Names of the VFIO uAPI's numbers besides states: migration flags and device features.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};
use vfio_trace_common::uapi::{self, migration_flags};

/// `VFIO_MIGRATION_*` bits (include/uapi/linux/vfio.h): the migration features of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MigFlags(pub u64);

impl MigFlags {
    const KNOWN: [(u64, &'static str, &'static str); 3] = [
        (migration_flags::STOP_COPY, "STOP_COPY", "stop-copy"),
        (migration_flags::P2P, "P2P", "p2p"),
        (migration_flags::PRE_COPY, "PRE_COPY", "pre-copy"),
    ];

    /// Returns the bits that have no name here.
    const fn rest(self) -> u64 {
        self.0 & !(migration_flags::STOP_COPY | migration_flags::P2P | migration_flags::PRE_COPY)
    }

    /// Returns the names as the kernel's debugfs file `features` has them; bits without a name as one hexadecimal
    /// number.
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
    /// Writes uAPI names: `STOP_COPY|P2P|PRE_COPY`, `0` without any.
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

impl JsonSchema for MigFlags {
    fn schema_name() -> Cow<'static, str> {
        "MigrationFlags".into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        let known = Self::KNOWN.map(|(.., name)| name);
        json_schema!({
            "description": format!(
                "A device's migration flags: `{}`; bits without a name as one hexadecimal number.",
                known.join("`, `")
            ),
            "type": "array",
            "items": {"type": "string", "pattern": format!("^({}|0x[0-9a-f]+)$", known.join("|"))},
        })
    }
}

/// A `VFIO_DEVICE_FEATURE_*` number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeviceFeature(pub u32);

impl DeviceFeature {
    /// Returns the uAPI's name without its prefix, `None` for a number that this version does not know.
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
    /// Writes the name, or `feature 13`.
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
