//! Facts that `exercise` needs to know about a driver: dangers, registers that can be read, members that can be
//! checked.

use super::plugin;

/// Facts about a driver that matter to `exercise`.
///
/// Each is a constant, of a plug-in or of `OTHERS`, and is found by the driver's name with [`driver_quirks()`].
#[derive(Debug)]
pub struct DriverQuirks {
    /// Name of the driver, as `vfio-trace list` shows it.
    pub driver: &'static str,
    /// Register from which `io_test` sees, by reading only, that the device takes commands.
    pub channel: Option<CommandChannel>,
    /// Bytes of an image that depend on the kind of device.
    pub identity: Option<ImageIdentity>,
    /// Plans that may do harm: name of the plan, and the harm.
    pub dangers: &'static [(&'static str, &'static str)],
    /// Name of the file in the mounted tree that takes the names of plans, below the device's `migration` folder: the
    /// file that the debugfs series of the driver was to have.
    pub debug: Option<&'static str>,
    /// Consequence of not resetting a device that was closed in RESUMING; `None` if it needs no reset.
    pub closed_in_resuming: Option<&'static str>,
}

/// Register that shows whether the command channel is free.
#[derive(Debug)]
pub struct CommandChannel {
    /// Name of the register.
    pub name: &'static str,
    /// Number of the VFIO region: for PCI, that of the BAR.
    pub region: u32,
    /// Offset of its 32 bits in the region, in bytes.
    pub offset: u64,
    /// Bit that is set while a command is in progress.
    pub busy: u32,
    /// Value that is read if no device answers.
    pub absent: u32,
}

/// Member of the image that tells kinds of devices apart.
#[derive(Debug)]
pub struct ImageIdentity {
    /// Name of the member.
    pub name: &'static str,
    /// Offset of its first byte in the image.
    pub offset: usize,
    /// Length in bytes.
    pub length: usize,
}

/// Drivers without a plug-in of which something is known: the kernel's sample.
static OTHERS: [DriverQuirks; 1] = [
    // samples/vfio-mdev/mtty.c, 6.12 and 7.3.
    DriverQuirks {
        driver: "mtty",
        channel: None,
        identity: Some(ImageIdentity { name: "nr_ports", offset: 16, length: 4 }),
        dangers: &[],
        debug: None,
        closed_in_resuming: Some(
            "mtty drops its file and stays in RESUMING; the next change of state would make the kernel follow a NULL \
             pointer (mtty_load_state)",
        ),
    },
];

/// Returns the facts about a driver; `None` if there are none.
pub fn driver_quirks(driver: &str) -> Option<&'static DriverQuirks> {
    plugin(driver)
        .and_then(super::DriverPlugin::quirks)
        .or_else(|| OTHERS.iter().find(|quirks| quirks.driver == driver))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_the_drivers_name() {
        for driver in ["mtty", "hisi_acc_vfio_pci", "mlx5_vfio_pci"] {
            assert_eq!(driver_quirks(driver).map(|quirks| quirks.driver), Some(driver));
        }
        assert!(driver_quirks("vfio-pci").is_none());
        assert!(driver_quirks("hisi_acc_vfio_pci").is_some_and(|quirks| quirks.channel.is_some()));
    }
}
