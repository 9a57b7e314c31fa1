//! What `exercise` must know of a driver before it drives a device: what is dangerous, what can be read, what can be checked.

use super::plugin;

/// A driver, as one who exercises its devices sees it.
#[derive(Debug)]
pub struct DriverQuirks {
    /// The name of the driver, as `vfio-trace list` shows it.
    pub driver: &'static str,
    /// How to see, by reading only, that the device takes commands.
    pub channel: Option<CommandChannel>,
    /// Bytes of an image that tell which kind of device it is from.
    pub identity: Option<ImageIdentity>,
    /// Plans that may do harm, by name, and which.
    pub dangers: &'static [(&'static str, &'static str)],
    /// The file of a mounted tree that plans are written to, below the device's `migration` folder: where the debugfs
    /// series of the driver wanted to have one.
    pub debug: Option<&'static str>,
    /// A device that was closed in RESUMING must be reset before anything else; what happens otherwise.
    pub closed_in_resuming: Option<&'static str>,
}

/// A register that says whether the command channel is free.
#[derive(Debug)]
pub struct CommandChannel {
    /// What it is called.
    pub name: &'static str,
    /// The VFIO region: for PCI, the number of the BAR.
    pub region: u32,
    /// Where in the region its 32 bits are.
    pub offset: u64,
    /// A bit that is set while a command is under way.
    pub busy: u32,
    /// What is read where no device answers.
    pub absent: u32,
}

/// A member of the image.
#[derive(Debug)]
pub struct ImageIdentity {
    /// What it is called.
    pub name: &'static str,
    /// Its first byte.
    pub offset: usize,
    /// Its length in bytes.
    pub length: usize,
}

/// Drivers that are not known more closely than this: the kernel's sample, and the lab's own.
static OTHERS: [DriverQuirks; 2] = [
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
    // lab/modules/quayside: the types' migration flags.
    DriverQuirks {
        driver: "quayside",
        channel: None,
        identity: Some(ImageIdentity { name: "flags", offset: 12, length: 4 }),
        dangers: &[],
        debug: None,
        closed_in_resuming: None,
    },
];

/// What is known of a driver.
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
        for driver in ["mtty", "quayside", "hisi_acc_vfio_pci", "mlx5_vfio_pci"] {
            assert_eq!(driver_quirks(driver).map(|quirks| quirks.driver), Some(driver));
        }
        assert!(driver_quirks("vfio-pci").is_none());
        assert!(driver_quirks("hisi_acc_vfio_pci").is_some_and(|quirks| quirks.channel.is_some()));
    }
}
