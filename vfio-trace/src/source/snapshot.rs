//! The present devices: one run of the inventory, without any probe.

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    os::fd::AsFd as _,
    path::PathBuf,
};

use bytes::Bytes;
use vfio_trace_common::{
    capture::CAPTURES,
    role::Role,
    stats::{INVENTORY_SLOT, ProbeStats},
    wire::{self, device_known},
};

use super::{
    clock::mono_ns,
    handed::DriverRegistry,
    live::{LiveError, allowed, capable},
};
use crate::{
    driver::PluginDispatcher,
    event::{MigFlags, MigState, RecordBody, RecordNote, WireRecord, record_text as text},
    kernel::{KernelFacts, KernelFiles},
    pipeline::Pipeline,
    probe::{BpfPrograms, LoadOptions},
    state::TraceModel,
};

/// Size of the ring buffer: room for a batch of devices with all copies of their structures, and for more than ten
/// thousand holders.
const BUFFER_BYTES: u32 = 1 << 20;

/// A process that has a device open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotHolder {
    /// The process.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// Its descriptor of the device.
    pub fd: u32,
}

/// A device as the kernel has it in memory. Values that could not be read are `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceFacts {
    /// PCI address or mdev UUID.
    pub name: String,
    /// `migration_flags`.
    pub flags: Option<MigFlags>,
    /// True if it can migrate (`mig_ops`).
    pub migration: Option<bool>,
    /// True if it tracks dirty pages itself (`log_ops`).
    pub dirty_tracking: Option<bool>,
    /// Its state, read from the driver without its lock.
    pub state: Option<MigState>,
    /// Number of openers.
    pub open_count: Option<u32>,
    /// Processes that have it open. Also empty if they cannot be found: see [`DeviceSnapshot::holders_known`].
    pub holders: Vec<SnapshotHolder>,
}

/// All devices at one moment. `devices` and `doctor` take one; it does not change.
#[derive(Debug, Default)]
pub struct DeviceSnapshot {
    /// Devices, in the order of sysfs.
    pub devices: Vec<DeviceFacts>,
    /// The same as a model, from which views are made.
    pub model: TraceModel,
    /// True if device fds of other processes could be recognised: that takes the address of one function.
    pub holders_known: bool,
    /// Plug-ins, with their conclusions about the devices.
    pub drivers: PluginDispatcher,
    /// Losses of the inventory.
    pub losses: SnapshotLosses,
}

/// Choice between an inventory with the devices' holders and one without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HolderQuery {
    Included,
    Omitted,
}

/// Most folders that are open at once: each takes a descriptor, and the process needs some for other files.
const BATCH: usize = 256;

/// Returns the number of devices per batch, so that their records fit into half of a buffer of this size.
fn batch(buffer_bytes: u32, captures: u32) -> usize {
    /// Bytes that the ring buffer puts in front of a record.
    const RING_HEADER: usize = 8;
    let record = |body: usize| RING_HEADER + size_of::<wire::Header>() + body;
    let each = record(size_of::<wire::Device>()) + captures as usize * record(size_of::<wire::Capture>());
    (buffer_bytes as usize / 2 / each).clamp(1, BATCH)
}

/// Devices and holders that an inventory could not report. There are records of all others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InventoryLosses {
    /// Devices that it could not look at: their folders in sysfs could not be opened.
    pub unopened: u64,
    /// True if there are devices whose holders could not be found: that takes the address of one function.
    pub without_holders: bool,
}

impl InventoryLosses {
    /// Describes the losses, and the remedy, in words; `None` if there are none.
    pub fn describe_losses(self) -> Option<String> {
        let unopened = (self.unopened > 0).then(|| {
            format!(
                "{} devices were not looked at, their folders in /sys/class/vfio-dev cannot be opened: raise the limit of \
                 open files (ulimit -n), or run it as root",
                self.unopened
            )
        });
        let holders = self.without_holders.then(|| {
            "who holds the devices is not told, the kernel hides its addresses: run it with CAP_SYSLOG, and with \
             kernel.kptr_restrict below 2"
                .to_owned()
        });
        let said: Vec<String> = unopened.into_iter().chain(holders).collect();
        (!said.is_empty()).then(|| said.join("; "))
    }
}

/// Runs the inventory: the kernel makes a record for every device, and one for every process that holds one. It goes on
/// a few devices at a time; `drain` empties the ring buffer (of `buffer_bytes`) in between.
pub(super) fn take_inventory(
    programs: &mut BpfPrograms,
    facts: &KernelFacts,
    files: &KernelFiles,
    holders: HolderQuery,
    buffer_bytes: u32,
    mut drain: impl FnMut(),
) -> Result<InventoryLosses, LiveError> {
    let ioctl = facts.core.iter().find(|function| function.role == Role::DeviceIoctl);
    let address = ioctl.and_then(|function| function.address);
    let device_ioctl = address.filter(|_| holders == HolderQuery::Included).unwrap_or(0);
    // Drivers' structures are copied at the first look; later copies come with the device's events.
    let captures = facts.plugins.iter().map(|plugin| plugin.captures.len().min(CAPTURES)).max();
    let captures = captures.filter(|_| holders == HolderQuery::Included).unwrap_or(0) as u32;
    let mut unopened = 0;
    let folders = folders(files)?;
    for paths in folders.chunks(batch(buffer_bytes, captures)) {
        drain();
        let open: Vec<File> = paths
            .iter()
            .filter_map(|path| match File::open(path) {
                Ok(file) => Some(file),
                Err(error) => {
                    // It may just have been removed. With any other error a device is missing.
                    unopened += u64::from(error.kind() != io::ErrorKind::NotFound);
                    None
                },
            })
            .collect();
        let borrowed: Vec<_> = open.iter().map(File::as_fd).collect();
        programs.tell_devices(captures, &borrowed)?;
    }
    drain();
    if device_ioctl != 0 {
        programs.tell_holders(device_ioctl)?;
        drain();
    }
    let asked = holders == HolderQuery::Omitted || device_ioctl != 0;
    Ok(InventoryLosses { unopened, without_holders: !asked && !folders.is_empty() })
}

/// Returns the folders of all vfio devices in sysfs.
fn folders(files: &KernelFiles) -> Result<Vec<PathBuf>, LiveError> {
    let paths = fs::read_dir(files.path("/sys/class/vfio-dev"))
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect());
    match paths {
        Ok(paths) => {
            let mut paths: Vec<PathBuf> = paths;
            paths.sort();
            Ok(paths)
        },
        // vfio is not loaded.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(LiveError::Unlisted(error)),
    }
}

/// Losses of a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotLosses {
    /// Records that found no room in the buffer.
    pub lost: u64,
    /// Records that could not be decoded.
    pub undecoded: u64,
    /// Devices and files that the programs could not remember.
    pub no_room: u64,
    /// Devices whose folders in sysfs could not be opened.
    pub unopened: u64,
}

impl SnapshotLosses {
    /// Returns true if all holders that the kernel reported are known: none of them can be among the lost records.
    pub const fn holders_told(self) -> bool {
        self.lost == 0 && self.undecoded == 0 && self.no_room == 0
    }

    /// Describes the losses in words; `None` if there are none.
    pub fn describe(&self) -> Option<String> {
        let Self { lost, undecoded, no_room, unopened } = *self;
        let said: Vec<String> = [
            (lost, "records were lost because the buffer was full"),
            (undecoded, "records were not understood"),
            (no_room, "devices or files were not remembered because a map was full"),
            (unopened, "devices could not be looked at because their folders in /sys could not be opened"),
        ]
        .into_iter()
        .filter(|&(count, _)| count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
        (!said.is_empty()).then(|| said.join(", "))
    }
}

impl DeviceSnapshot {
    /// Takes a snapshot.
    pub fn take(files: &KernelFiles, facts: &KernelFacts) -> Result<Self, LiveError> {
        capable(files)?;
        allowed(facts)?;
        let mut programs = BpfPrograms::load(LoadOptions { buffer_bytes: BUFFER_BYTES, log: false })?;
        let notes = DriverRegistry::default().hand_over(&mut programs, facts)?.notes;
        let mut ring = programs.take_events()?;
        let mut records: Vec<Bytes> = Vec::new();
        let drain = || {
            while let Some(item) = ring.next() {
                records.push(Bytes::copy_from_slice(&item));
            }
        };
        let inventory =
            take_inventory(&mut programs, facts, files, HolderQuery::Included, BUFFER_BYTES, drain)?;
        let ProbeStats { lost, no_room, .. } = programs.stats(INVENTORY_SLOT);
        let mut snapshot = Self::of_records(&notes, mono_ns(), &records);
        snapshot.holders_known = !inventory.without_holders;
        snapshot.losses = SnapshotLosses { lost, no_room, unopened: inventory.unopened, ..snapshot.losses };
        Ok(snapshot)
    }

    /// Makes a snapshot of records; `notes`, made at `now_ns`, explain them. Records and notes that cannot be decoded
    /// are counted.
    fn of_records(notes: &[RecordNote], now_ns: u64, records: &[Bytes]) -> Self {
        let (mut snapshot, mut pipeline) = (Self::default(), Pipeline::new(false));
        for note in notes.iter().filter_map(|note| note.record(now_ns)) {
            let note = WireRecord::decode(&note);
            let Ok(()) = pipeline.push(note.as_ref().map_err(|error| *error), &mut snapshot.model);
        }
        let mut pointers: HashMap<u64, usize> = HashMap::new();
        let mut holders: Vec<(u64, SnapshotHolder)> = Vec::new();
        for bytes in records {
            let record = WireRecord::decode(bytes);
            let Ok(()) = pipeline.push(record.as_ref().map_err(|error| *error), &mut snapshot.model);
            let Ok(WireRecord { header, body }) = record else { continue };
            match body {
                RecordBody::Device(body) => {
                    pointers.insert(header.device, snapshot.devices.len());
                    snapshot.devices.push(DeviceFacts::of(&body));
                },
                RecordBody::Holder(body) => {
                    let comm = text(&header.comm);
                    holders.push((header.device, SnapshotHolder { pid: header.tgid, comm, fd: body.fd }));
                },
                _ => {},
            }
        }
        for (pointer, holder) in holders {
            if let Some(device) = pointers.get(&pointer).and_then(|at| snapshot.devices.get_mut(*at)) {
                // Threads that share their files are seen once each.
                if !device.holders.contains(&holder) {
                    device.holders.push(holder);
                }
            }
        }
        snapshot.losses.undecoded = pipeline.undecoded();
        snapshot.drivers = pipeline.into_drivers();
        snapshot
    }

    /// Returns a device by its name in /sys.
    pub fn device(&self, name: &str) -> Option<&DeviceFacts> {
        self.devices.iter().find(|device| device.name == name)
    }
}

impl DeviceFacts {
    fn of(record: &wire::Device) -> Self {
        let known = |bit: u32| record.known & bit != 0;
        Self {
            name: text(&record.name),
            flags: known(device_known::FLAGS).then_some(MigFlags(record.migration_flags)),
            migration: known(device_known::MIG_OPS).then_some(record.mig_ops != 0),
            dirty_tracking: known(device_known::LOG_OPS).then_some(record.log_ops != 0),
            state: known(device_known::STATE).then_some(MigState(record.state)),
            open_count: known(device_known::OPEN_COUNT).then_some(record.open_count),
            holders: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{event::fixture::*, kernel::source::testing::TestRoot};

    #[test]
    fn batches_fit_into_the_buffer() {
        // A device takes 264 bytes in the ring buffer, a capture 488.
        assert_eq!(batch(1 << 20, 0), BATCH);
        assert_eq!(batch(1 << 20, 4), 236);
        assert_eq!(batch(4096, 0), 7);
        assert_eq!(batch(4096, 8), 1, "there is no smaller one");
        for captures in 0..=CAPTURES as u32 {
            let bytes = batch(BUFFER_BYTES, captures) * (264 + captures as usize * 488);
            assert!(bytes <= BUFFER_BYTES as usize / 2 || batch(BUFFER_BYTES, captures) == 1, "{captures}");
        }
    }

    #[test]
    fn no_folder_and_one_that_cannot_be_listed_are_not_the_same() {
        let root = TestRoot::new();
        assert!(folders(&root.files()).unwrap().is_empty());
        root.write("sys/class/vfio-dev", "no folder");
        let error = folders(&root.files()).unwrap_err().to_string();
        assert!(error.contains("/sys/class/vfio-dev cannot be listed"), "{error}");
    }

    #[test]
    fn what_an_inventory_lacks_is_said_with_its_number() {
        assert_eq!(InventoryLosses::default().describe_losses(), None);
        let said = InventoryLosses { unopened: 3, without_holders: false }.describe_losses().unwrap();
        assert!(said.starts_with("3 devices were not looked at") && !said.contains("holds"), "{said}");
        let said = InventoryLosses { unopened: 0, without_holders: true }.describe_losses().unwrap();
        assert!(said.starts_with("who holds the devices is not told"), "{said}");
    }

    #[test]
    fn records_that_are_not_understood_are_counted() {
        let script = RecordScript::new(0xd1).device(BDF, "mtty", 7);
        let mut records: Vec<Bytes> = script.records().iter().map(|record| bytes(record).into()).collect();
        records.insert(0, Bytes::from_static(b"no record"));
        let snapshot = DeviceSnapshot::of_records(&[], 5, &records);
        assert_eq!((snapshot.devices.len(), snapshot.losses.undecoded), (1, 1));
        assert!(!snapshot.losses.holders_told());
    }

    #[test]
    fn losses_are_said_and_nothing_else() {
        assert_eq!(SnapshotLosses::default().describe(), None);
        let some = SnapshotLosses { lost: 3, unopened: 1, ..SnapshotLosses::default() };
        let said = some.describe().unwrap();
        assert!(said.starts_with("3 records were lost") && said.contains(", 1 devices could not"), "{said}");
        assert!(!said.contains("understood"), "{said}");
    }
}
