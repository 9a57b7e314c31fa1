//! What is there right now: one run of the inventory, without a single probe.

use std::{
    fs::{self, File},
    os::fd::AsFd as _,
};

use vfio_trace_common::{
    capture::{CAPTURES, Captures},
    layout::Search,
    role::Role,
    wire::{self, device_known},
};

use super::{
    clock::mono_ns,
    live::{LiveError, allowed, capable},
};
use crate::{
    driver::Interpreter,
    event::{Assembler, Body, CaptureNote, MigFlags, MigState, Note, Record, record_text as text},
    kernel::{KernelFacts, KernelFiles, PluginFacts},
    model::Model,
    probe::{LoadError, LoadOptions, Programs},
};

/// Room for a few thousand devices and holders.
const BUFFER_BYTES: u32 = 1 << 20;

/// A process that has a device open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The process.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// Its descriptor of the device.
    pub fd: u32,
}

/// A device as the kernel has it in memory. What could not be read is `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceFacts {
    /// PCI address or mdev UUID.
    pub name: String,
    /// `migration_flags`.
    pub flags: Option<MigFlags>,
    /// Whether it can migrate (`mig_ops`).
    pub migration: Option<bool>,
    /// Whether it tracks dirty pages itself (`log_ops`).
    pub dirty_tracking: Option<bool>,
    /// Its state, read from the driver without its lock.
    pub state: Option<MigState>,
    /// How often it is open.
    pub open_count: Option<u32>,
    /// Who has it open. Empty also where that cannot be told: see [`Snapshot::holders_known`].
    pub holders: Vec<Holder>,
}

/// One moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Devices, in the order of sysfs.
    pub devices: Vec<DeviceFacts>,
    /// The same as what it adds up to: what views are made from.
    pub model: Model,
    /// Whether device fds of other processes could be recognised: that takes the address of one function.
    pub holders_known: bool,
    /// What drivers' plug-ins make of it.
    pub drivers: Interpreter,
}

/// Tells the programs where everything is: the kernel's structures, and each driver's own. Gives what readers of the
/// records must know of these.
pub(super) fn hand_over(programs: &mut Programs, facts: &KernelFacts) -> Result<Vec<Note>, LoadError> {
    let mut notes = Vec::new();
    programs.set_layout(&facts.layout)?;
    for driver in &facts.drivers {
        let private = driver.module.as_ref().and_then(|module| facts.private.get(module));
        let Some(Ok(private)) = private else { continue };
        for address in driver.of(Role::SetState).filter_map(|candidate| candidate.address) {
            programs.set_driver(address, &private.layout)?;
            let plugin =
                facts.plugins.iter().find(|plugin| driver.module.as_deref() == Some(plugin.wanted.module));
            if let Some(plugin) = plugin {
                programs.set_captures(address, &captures(plugin, address, &mut notes))?;
            }
        }
    }
    Ok(notes)
}

/// What a plug-in wants copied of the driver with this `migration_set_state`.
fn captures(plugin: &PluginFacts, driver: u64, notes: &mut Vec<Note>) -> Captures {
    let mut captures = Captures::default();
    let wanted = plugin.wanted.captures.iter().zip(&plugin.captures);
    let there = wanted.filter_map(|(wanted, plan)| Some((wanted, plan.as_ref().ok()?)));
    for (spec, (wanted, plan)) in captures.specs.iter_mut().zip(there) {
        *spec = plan.spec;
        notes.push(Note::Capture(CaptureNote {
            driver,
            id: plan.spec.id,
            module: plugin.wanted.module.to_owned(),
            name: wanted.name.to_owned(),
            structure: wanted.structure.to_owned(),
            fields: plan.fields.clone(),
        }));
    }
    captures
}

/// Whether an inventory tells who holds the devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holders {
    Told,
    LeftOut,
}

/// Lets the kernel tell what is there: a record for every device, and one for every process that holds one. Returns
/// whether holders can be told at all.
pub(super) fn take_inventory(
    programs: &mut Programs,
    facts: &KernelFacts,
    files: &KernelFiles,
    holders: Holders,
) -> Result<bool, LoadError> {
    let folders = open_folders(files);
    let borrowed: Vec<_> = folders.iter().map(File::as_fd).collect();
    let ioctl = facts.core.iter().find(|function| function.role == Role::DeviceIoctl);
    let address = ioctl.and_then(|function| function.address);
    let device_ioctl = address.filter(|_| holders == Holders::Told).unwrap_or(0);
    // Copies of drivers' structures are made at the first look; later ones come with what happens to them.
    let captures = facts.plugins.iter().map(|plugin| plugin.captures.len().min(CAPTURES)).max();
    let captures = captures.filter(|_| holders == Holders::Told).unwrap_or(0) as u32;
    programs.take_inventory(Search { device_ioctl, ..Search::default() }, captures, &borrowed)?;
    Ok(device_ioctl != 0)
}

/// The folders of all vfio devices in sysfs. One that cannot be opened was just removed.
fn open_folders(files: &KernelFiles) -> Vec<File> {
    let Ok(entries) = fs::read_dir(files.path("/sys/class/vfio-dev")) else { return Vec::new() };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths.into_iter().filter_map(|path| File::open(path).ok()).collect()
}

impl Snapshot {
    /// Takes a snapshot.
    pub fn take(files: &KernelFiles, facts: &KernelFacts) -> Result<Self, LiveError> {
        capable(files)?;
        allowed(facts)?;
        let mut programs = Programs::load(LoadOptions { buffer_bytes: BUFFER_BYTES, log: false })?;
        let notes = hand_over(&mut programs, facts)?;
        let mut ring = programs.take_events()?;
        let holders_known = take_inventory(&mut programs, facts, files, Holders::Told)?;
        let mut snapshot = Self { holders_known, ..Self::default() };
        let mut assembler = Assembler::new();
        let now_ns = mono_ns();
        for note in notes.iter().filter_map(|note| Record::decode(&note.record(now_ns)?).ok()) {
            assembler.push(&note);
        }
        let mut pointers: Vec<u64> = Vec::new();
        let mut holders: Vec<(u64, Holder)> = Vec::new();
        while let Some(item) = ring.next() {
            let Ok(record) = Record::decode(&item) else { continue };
            let events = snapshot.drivers.apply(assembler.push(&record));
            for event in &events {
                snapshot.model.apply(event);
            }
            match &record.body {
                Body::Device(body) => {
                    pointers.push(record.header.device);
                    snapshot.devices.push(DeviceFacts::of(body));
                },
                Body::Holder(body) => {
                    let header = &record.header;
                    let comm = text(&header.comm);
                    holders.push((header.device, Holder { pid: header.tgid, comm, fd: body.fd }));
                },
                _ => {},
            }
        }
        for (pointer, holder) in holders {
            let at = pointers.iter().position(|other| *other == pointer);
            if let Some(device) = at.and_then(|at| snapshot.devices.get_mut(at)) {
                // Threads that share their files are seen once each.
                if !device.holders.contains(&holder) {
                    device.holders.push(holder);
                }
            }
        }
        Ok(snapshot)
    }

    /// A device by its name in /sys.
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
