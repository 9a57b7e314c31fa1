//! The command line of lab-step.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use super::parse::Step;

const STEPS: &str = "\
Steps, each as [N:]STEP[!ERRNO][ -> VALUE]: N is the device (1 if left out; created devices come before named ones),
with !ERRNO the step has to fail with that errno, and with -> VALUE what it saw (bytes, a state, a knob's text) has to
be that. States are names (PRE_COPY) or numbers; sizes know the suffixes K, M and G.

  set=STATE                   MIG_DEVICE_STATE SET; a data fd that comes back replaces the last one
  crowd=STATE:N               the same from N threads at the same time, and then once more from each, one after the other;
                              data fds are dropped, and errnos
  hoard=N                     N times PRE_COPY and RUNNING; all data fds are kept, until close-data
  get                         MIG_DEVICE_STATE GET
  flags                       MIGRATION GET
  size                        MIG_DATA_SIZE GET
  probe=FEATURE[:get|:set]    PROBE of a feature, by name (DMA_LOGGING_START) or number
  precopy-info                VFIO_MIG_GET_PRECOPY_INFO on the data fd
  read=BYTES[:FILE]           one read() of the data fd
  read-all[=FILE[:CHUNK]]     read() until 0 or ENOMSG, 1 MiB at a time or CHUNK
  write=FILE[:CHUNK]          write() the file to the data fd, at once or CHUNK at a time
  write-zero=BYTES            one write() of zero bytes
  log-start[=IOVA:LENGTH[:PAGE]]   DMA_LOGGING_START with one range (0:1M:4K if left out)
  log-report[=IOVA:LENGTH[:PAGE]]  DMA_LOGGING_REPORT
  log-stop                    DMA_LOGGING_STOP
  copy-to=N[:CHUNK]           read() until 0 or ENOMSG, and write() each read's bytes to device N's data fd
  knob=NAME[:VALUE]           write VALUE to an attribute of the driver (/sys/bus/mdev/devices/UUID/DRIVER/NAME), or
                              read it: knob=delay_us:'RUNNING STOP 3000000', knob=where; see --knobs, too
  patch=FILE:OFFSET:HEX       change bytes of a file, for a later write
  truncate=FILE:BYTES         cut a file
  reset                       VFIO_DEVICE_RESET
  pci-reset                   reset through the PCI device's sysfs folder, which does not ask VFIO
  close-data                  close() of the data fd
  reopen                      close device, group and container, and open them again
  rebind                      the same, and meanwhile unbind the device from its driver and bind it again
  sleep=MS                    nothing for a while
  pause=FILE                  create FILE.paused, then wait until FILE is there
  matrix                      for each pair of states: reset, set the first, set the second, report

STOP_COPY to PRE_COPY and to PRE_COPY_P2P, on which most kernels before 7.2 loop for ever, are not asked for unless the
kernel is known to be mended: `matrix` tells them as avoided, `set` fails.

A file that is read into is emptied at its first use in a run and appended to later. A data fd outlives its session
until it is replaced or closed, so that the errors of an ended session can be seen. EBADF is what a step on the data fd
gives when there is none.

Example: lab-step --create mtty-2 --create mtty-2 1:set=PRE_COPY 1:read-all=/tmp/image 1:set=STOP_COPY \\
         1:read-all=/tmp/image 1:set=STOP 2:set=RESUMING 2:write=/tmp/image 2:set=RUNNING 1:read=1!ENODEV";

/// Drives VFIO devices through their migration states without QEMU, one step after the other.
///
/// At the end each device is back in RUNNING (by VFIO_DEVICE_RESET if need be) and closed, and the devices that were
/// created are removed. Exits 0 if every step did what it should, 1 at the first one that did not, 2 on wrong usage.
#[derive(Clone, Debug, Parser)]
#[command(name = "lab-step", version, after_help = STEPS)]
pub(crate) struct Args {
    /// Create an mdev of this type first (11111111-1111-1111-1111-111111111111, then 22222222-…); up to four times
    #[arg(long, value_name = "TYPE")]
    pub(crate) create: Vec<String>,
    /// A device that is there: an mdev's UUID or a PCI address
    #[arg(long, value_name = "NAME")]
    pub(crate) device: Vec<String>,
    /// Where knobs are that are not the driver's own, the first that has one; {} stands for the device's name
    #[arg(long, value_name = "DIR")]
    pub(crate) knobs: Vec<String>,
    /// Write one JSON object per step into this file
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Turn on the driver's debug messages and copy the kernel log of this run into this file
    #[arg(long, value_name = "FILE")]
    pub(crate) dmesg: Option<PathBuf>,
    /// Close the devices as they are: no reset, and created ones stay
    #[arg(long)]
    pub(crate) leave: bool,
    /// How long any single wait may take
    #[arg(long, value_name = "S", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) timeout: u64,
    /// What to do, in this order
    #[arg(value_name = "STEP", required = true)]
    pub(crate) steps: Vec<Step>,
}

impl Args {
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }

    /// Returns the reason why the steps do not fit the devices, as a sentence.
    pub(crate) fn conflict(&self) -> Option<String> {
        let devices = self.create.len() + self.device.len();
        if devices == 0 {
            return Some("no device to drive; give --create mtty-2, or --device and a name".to_owned());
        }
        let (step, last) =
            self.steps.iter().map(|step| (step, step.last_device())).find(|(_, last)| *last >= devices)?;
        let number = last + 1;
        Some(format!(
            "`{}` is for device {number}, and there are {devices}; add --create or --device",
            step.text
        ))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn devices_and_steps_are_told_apart() {
        let args = Args::try_parse_from([
            "lab-step",
            "--create",
            "mtty-2",
            "--create",
            "mtty-1",
            "get",
            "2:set=RESUMING",
            "sleep=5",
        ])
        .unwrap();
        assert_eq!(args.create, ["mtty-2", "mtty-1"]);
        assert_eq!(args.steps.len(), 3);
        assert_eq!(args.conflict(), None);
        let lonely = Args::try_parse_from(["lab-step", "--create", "mtty-2", "2:get"]).unwrap();
        assert!(lonely.conflict().unwrap().contains("is for device 2, and there are 1"));
        let alone = Args::try_parse_from(["lab-step", "--create", "mtty-2", "copy-to=2"]).unwrap();
        assert!(alone.conflict().unwrap().contains("is for device 2, and there are 1"));
        assert!(Args::try_parse_from(["lab-step", "get"]).unwrap().conflict().unwrap().contains("no device"));
        Args::try_parse_from(["lab-step", "--create", "mtty-2"]).unwrap_err();
        Args::try_parse_from(["lab-step", "--create", "mtty-2", "set=NOWHERE"]).unwrap_err();
    }
}
