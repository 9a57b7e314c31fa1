//! What `exercise` must know of a driver before it drives a device: what is dangerous, what can be read, what can be checked.

use super::plugin;

/// A driver, as one who exercises its devices sees it.
#[derive(Debug)]
pub struct Manners {
    /// The name of the driver, as `vfio-trace list` shows it.
    pub driver: &'static str,
    /// How to see, by reading only, that the device takes commands.
    pub channel: Option<Channel>,
    /// Bytes of an image that tell which kind of device it is from.
    pub identity: Option<Identity>,
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
pub struct Channel {
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
pub struct Identity {
    /// What it is called.
    pub name: &'static str,
    /// Its first byte.
    pub offset: usize,
    /// Its length in bytes.
    pub length: usize,
}

/// Drivers that are not known more closely than this: the kernel's sample, and the lab's own.
static OTHERS: [Manners; 2] = [
    // samples/vfio-mdev/mtty.c, 6.12 and 7.3.
    Manners {
        driver: "mtty",
        channel: None,
        identity: Some(Identity { name: "nr_ports", offset: 16, length: 4 }),
        dangers: &[],
        debug: None,
        closed_in_resuming: Some(
            "mtty drops its file and stays in RESUMING; the next change of state would make the kernel follow a NULL \
             pointer (mtty_load_state)",
        ),
    },
    // lab/modules/quayside: the types' migration flags.
    Manners {
        driver: "quayside",
        channel: None,
        identity: Some(Identity { name: "flags", offset: 12, length: 4 }),
        dangers: &[],
        debug: None,
        closed_in_resuming: None,
    },
];

/// What is known of a driver.
pub fn manners(driver: &str) -> Option<&'static Manners> {
    plugin(driver)
        .and_then(super::Plugin::manners)
        .or_else(|| OTHERS.iter().find(|manners| manners.driver == driver))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_the_drivers_name() {
        for driver in ["mtty", "quayside", "hisi_acc_vfio_pci", "mlx5_vfio_pci"] {
            assert_eq!(manners(driver).map(|manners| manners.driver), Some(driver));
        }
        assert!(manners("vfio-pci").is_none());
        assert!(manners("hisi_acc_vfio_pci").is_some_and(|manners| manners.channel.is_some()));
    }
}
