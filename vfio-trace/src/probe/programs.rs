//! The eBPF object: loads it into the kernel; its programs by role; its maps.

use std::{
    io::{self, Read},
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd},
};

use aya::{
    Btf, Ebpf, EbpfLoader, Pod,
    maps::{Array, HashMap, MapData, MapError, PerCpuArray, ProgramArray, RingBuf},
    programs::{Iter, KProbe, ProgramError, RawTracePoint},
};
use aya_log::EbpfLogger;
use thiserror::Error;
use vfio_trace_common::{
    capture::{Captures, StepSpec},
    layout::{DriverLayout, Layout, Search},
    role::Role,
    stats::ProbeStats,
};

use crate::sys::{self, MapValue};

/// Options for loading the object.
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions {
    /// Size of the ring buffer in bytes; rounded up to a power of two of at least a page.
    pub buffer_bytes: u32,
    /// True if the programs report their own difficulties; else that code is not even loaded.
    pub log: bool,
}

/// Error of loading the programs, or of a map.
#[derive(Debug, Error)]
pub enum ProgramLoadError {
    /// The object as a whole, or one of its maps, cannot be loaded.
    #[error("the eBPF object cannot be loaded: {}", chain(.0))]
    Object(#[from] aya::EbpfError),
    /// One program cannot be loaded.
    #[error("eBPF program {name} cannot be loaded: {}", last_words(.source))]
    Program {
        /// Name of the program.
        name: &'static str,
        /// Its error; for the verifier, the end of its log.
        source: ProgramError,
    },
    /// A map cannot be used.
    #[error("eBPF map {name} cannot be used: {source}")]
    Map {
        /// Name of the map.
        name: &'static str,
        /// Its error.
        source: MapError,
    },
    /// The object lacks a map or program: it was built wrongly.
    #[error("the eBPF object lacks {0}: this binary was not built by `cargo xtask build`")]
    IncompleteObject(&'static str),
    /// The inventory did not run to its end.
    #[error("the inventory of open files stopped: {0}")]
    Iterate(#[source] io::Error),
    /// Log lines cannot be received.
    #[error("the eBPF programs' log cannot be read: {0}")]
    Log(#[from] aya_log::Error),
}

/// Open files that an iterator visits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileScope {
    /// Those of this process, if the kernel can choose (6.1). It keeps a file from being closed while it looks at it,
    /// and other processes should feel as little of that as possible. The programs check a file's owner all the same.
    Own,
    /// Those of all processes.
    All,
}

/// Reads to the end. After a million files without output the kernel returns EAGAIN, and goes on when asked again
/// (`MAX_ITER_OBJECTS`, kernel/bpf/bpf_iter.c).
fn run_out(file: &mut impl Read) -> io::Result<()> {
    let mut nothing = [0; 64];
    loop {
        match file.read(&mut nothing) {
            Ok(0) => return Ok(()),
            Ok(_) => {},
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
            },
            Err(error) => return Err(error),
        }
    }
}

/// Returns the causes of an error on one line: aya keeps the interesting part below the top.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Returns the kernel's reason for refusing a program. The verifier's log has megabytes; the reason is at its end.
fn last_words(error: &ProgramError) -> String {
    const LINES: usize = 4;
    let ProgramError::LoadError { io_error, verifier_log } = error else { return chain(error) };
    let log = verifier_log.to_string();
    let mut lines: Vec<&str> = log.lines().rev().filter(|line| !line.trim().is_empty()).take(LINES).collect();
    lines.reverse();
    format!("{io_error}; the verifier: {}", lines.join("; "))
}

/// The loaded object.
pub struct BpfPrograms {
    bpf: Ebpf,
    stats: PerCpuArray<MapData, MapValue<ProbeStats>>,
}

impl BpfPrograms {
    /// Loads the maps. Programs are loaded when their role is first needed: if a kernel's verifier refuses one, only
    /// its role is lost.
    pub fn load(options: LoadOptions) -> Result<Self, ProgramLoadError> {
        let object = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/vfio-trace-ebpf"));
        let level: u8 = if options.log { aya_log::Level::Trace as u8 } else { 0 };
        let page = rustix::param::page_size() as u32;
        let buffer = options.buffer_bytes.max(page).checked_next_power_of_two().unwrap_or(1 << 31);
        let mut bpf = EbpfLoader::new()
            .map_max_entries("EVENTS", buffer)
            .override_global(aya_log::LEVEL, &level, false)
            .load(object)?;
        let map = bpf.take_map("STATS").ok_or(ProgramLoadError::IncompleteObject("map STATS"))?;
        let stats =
            PerCpuArray::try_from(map).map_err(|source| ProgramLoadError::Map { name: "STATS", source })?;
        Ok(Self { bpf, stats })
    }

    /// Returns the ring buffer; it can be taken once.
    pub fn take_events(&mut self) -> Result<RingBuf<MapData>, ProgramLoadError> {
        let map = self.bpf.take_map("EVENTS").ok_or(ProgramLoadError::IncompleteObject("map EVENTS"))?;
        RingBuf::try_from(map).map_err(|source| ProgramLoadError::Map { name: "EVENTS", source })
    }

    /// Returns the reader of the programs' own messages; it can be taken once.
    pub fn take_log<L: log::Log>(&mut self, logger: L) -> Result<EbpfLogger<L>, ProgramLoadError> {
        Ok(EbpfLogger::init_with_logger(&mut self.bpf, logger)?)
    }

    /// Starts or stops all probes at once.
    pub fn enable(&mut self, on: bool) -> Result<(), ProgramLoadError> {
        let wrong = |source| ProgramLoadError::Map { name: "ENABLED", source };
        let map = self.bpf.map_mut("ENABLED").ok_or(ProgramLoadError::IncompleteObject("map ENABLED"))?;
        Array::<_, u32>::try_from(map).map_err(wrong)?.set(0, u32::from(on), 0).map_err(wrong)
    }

    /// Makes the kernel report each module that it loads; `name_offset`: offset of the name in `struct module`.
    pub fn watch_modules(&mut self, name_offset: u32) -> Result<(), ProgramLoadError> {
        const NAME: &str = "module_load";
        let wrong = |source| ProgramLoadError::Map { name: "MODULE_NAME", source };
        let map =
            self.bpf.map_mut("MODULE_NAME").ok_or(ProgramLoadError::IncompleteObject("map MODULE_NAME"))?;
        Array::<_, u32>::try_from(map).map_err(wrong)?.set(0, name_offset, 0).map_err(wrong)?;
        let failed = |source| ProgramLoadError::Program { name: NAME, source };
        let program = self.bpf.program_mut(NAME).ok_or(ProgramLoadError::IncompleteObject(NAME))?;
        let program: &mut RawTracePoint = program.try_into().map_err(failed)?;
        program.load().map_err(failed)?;
        program.attach(NAME).map_err(failed)?;
        Ok(())
    }

    /// Hands over the offsets of struct members.
    pub fn set_layout(&mut self, layout: &Layout) -> Result<(), ProgramLoadError> {
        let wrong = |source| ProgramLoadError::Map { name: "LAYOUT", source };
        let map = self.bpf.map_mut("LAYOUT").ok_or(ProgramLoadError::IncompleteObject("map LAYOUT"))?;
        Array::<_, MapValue<Layout>>::try_from(map)
            .map_err(wrong)?
            .set(0, MapValue(*layout), 0)
            .map_err(wrong)
    }

    /// Tells the programs the place of a driver's state: the driver with this `migration_set_state`.
    pub fn set_driver(&mut self, set_state: u64, layout: &DriverLayout) -> Result<(), ProgramLoadError> {
        let wrong = |source| ProgramLoadError::Map { name: "DRIVERS", source };
        let map = self.bpf.map_mut("DRIVERS").ok_or(ProgramLoadError::IncompleteObject("map DRIVERS"))?;
        let mut drivers: HashMap<_, u64, MapValue<DriverLayout>> = HashMap::try_from(map).map_err(wrong)?;
        drivers.insert(set_state, MapValue(*layout), 0).map_err(wrong)
    }

    /// Tells the programs which parts of a driver's memory to copy: the driver with this `migration_set_state`.
    pub fn set_captures(&mut self, set_state: u64, captures: &Captures) -> Result<(), ProgramLoadError> {
        let wrong = |source| ProgramLoadError::Map { name: "CAPTURES", source };
        let map = self.bpf.map_mut("CAPTURES").ok_or(ProgramLoadError::IncompleteObject("map CAPTURES"))?;
        let mut drivers: HashMap<_, u64, MapValue<Captures>> = HashMap::try_from(map).map_err(wrong)?;
        drivers.insert(set_state, MapValue(*captures), 0).map_err(wrong)?;
        self.load_captures()
    }

    /// Forgets a driver: its address may become another one's.
    pub fn forget_driver(&mut self, set_state: u64) -> Result<(), ProgramLoadError> {
        self.remove::<MapValue<DriverLayout>>("DRIVERS", set_state)?;
        self.remove::<MapValue<Captures>>("CAPTURES", set_state)
    }

    /// Forgets all devices and files: they belonged to a vfio that is gone.
    pub fn forget_devices(&mut self) -> Result<(), ProgramLoadError> {
        self.clear::<[u64; 3]>("DEVICES")?;
        self.clear::<[u64; 2]>("FILES")?;
        self.clear::<u64>("GONE")?;
        self.clear::<u64>("PARENTS")
    }

    fn remove<V: Pod>(&mut self, name: &'static str, key: u64) -> Result<(), ProgramLoadError> {
        let wrong = |source| ProgramLoadError::Map { name, source };
        let map = self.bpf.map_mut(name).ok_or(ProgramLoadError::IncompleteObject(name))?;
        let mut map: HashMap<_, u64, V> = HashMap::try_from(map).map_err(wrong)?;
        match map.remove(&key) {
            // It was not there.
            Err(MapError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(wrong),
        }
    }

    fn clear<V: Pod>(&mut self, name: &'static str) -> Result<(), ProgramLoadError> {
        let wrong = |source| ProgramLoadError::Map { name, source };
        let map = self.bpf.map_mut(name).ok_or(ProgramLoadError::IncompleteObject(name))?;
        let map: HashMap<_, u64, V> = HashMap::try_from(map).map_err(wrong)?;
        let mut keys = Vec::new();
        keys.extend(map.keys().filter_map(Result::ok));
        for key in keys {
            self.remove::<V>(name, key)?;
        }
        Ok(())
    }

    /// Loads the program that makes captures, and gives the others its place.
    fn load_captures(&mut self) -> Result<(), ProgramLoadError> {
        const NAME: &str = "capture";
        let failed = |source| ProgramLoadError::Program { name: NAME, source };
        let program = self.bpf.program_mut(NAME).ok_or(ProgramLoadError::IncompleteObject(NAME))?;
        let program: &mut KProbe = program.try_into().map_err(failed)?;
        if program.fd().is_ok() {
            return Ok(());
        }
        program.load().map_err(failed)?;
        let fd = program.fd().map_err(failed)?.try_clone().map_err(|error| failed(error.into()))?;
        let wrong = |source| ProgramLoadError::Map { name: "JUMPS", source };
        let map = self.bpf.map_mut("JUMPS").ok_or(ProgramLoadError::IncompleteObject("map JUMPS"))?;
        ProgramArray::try_from(map).map_err(wrong)?.set(0, &fd, 0).map_err(wrong)
    }

    /// Tells the programs how to handle the step in this slot.
    pub fn set_step(&mut self, slot: u16, step: &StepSpec) -> Result<(), ProgramLoadError> {
        let wrong = |source| ProgramLoadError::Map { name: "STEPS", source };
        let map = self.bpf.map_mut("STEPS").ok_or(ProgramLoadError::IncompleteObject("map STEPS"))?;
        Array::<_, MapValue<StepSpec>>::try_from(map)
            .map_err(wrong)?
            .set(slot.into(), MapValue(*step), 0)
            .map_err(wrong)
    }

    /// Makes records of devices: those of `folders`, open folders below `/sys/class/vfio-dev`. The records go into the
    /// ring buffer like all others; it must have room for one per folder and capture. `captures`: the largest number of
    /// captures of any driver.
    pub fn tell_devices(
        &mut self,
        captures: u32,
        folders: &[BorrowedFd<'_>],
    ) -> Result<(), ProgramLoadError> {
        self.watch(folders, true)?;
        let told = (|| {
            self.search(Search::default())?;
            self.iterate("inventory", FileScope::Own)?;
            for capture in 0..captures {
                self.search(Search { capture, ..Search::default() })?;
                self.iterate("copies", FileScope::Own)?;
            }
            Ok(())
        })();
        // Even after an error: these descriptors will belong to other files soon.
        self.watch(folders, false)?;
        told
    }

    /// Makes records of processes that have a device open: a file with this ioctl.
    pub fn tell_holders(&mut self, device_ioctl: u64) -> Result<(), ProgramLoadError> {
        self.search(Search { device_ioctl, ..Search::default() })?;
        self.iterate("inventory", FileScope::All)
    }

    fn watch(&mut self, folders: &[BorrowedFd<'_>], on: bool) -> Result<(), ProgramLoadError> {
        let wrong = |source| ProgramLoadError::Map { name: "WATCHED", source };
        let map = self.bpf.map_mut("WATCHED").ok_or(ProgramLoadError::IncompleteObject("map WATCHED"))?;
        let mut watched: HashMap<_, u32, u32> = HashMap::try_from(map).map_err(wrong)?;
        for folder in folders {
            let fd = folder.as_raw_fd().cast_unsigned();
            if on {
                watched.insert(fd, 1, 0).map_err(wrong)?;
            } else {
                // It is not there if the one before it found no room.
                let _absent = watched.remove(&fd).is_err();
            }
        }
        Ok(())
    }

    fn search(&mut self, search: Search) -> Result<(), ProgramLoadError> {
        let wrong = |source| ProgramLoadError::Map { name: "SEARCH", source };
        let map = self.bpf.map_mut("SEARCH").ok_or(ProgramLoadError::IncompleteObject("map SEARCH"))?;
        Array::<_, MapValue<Search>>::try_from(map).map_err(wrong)?.set(0, MapValue(search), 0).map_err(wrong)
    }

    /// Loads the iterator unless it is loaded, and runs it once over these files.
    fn iterate(&mut self, name: &'static str, files: FileScope) -> Result<(), ProgramLoadError> {
        let failed = |source| ProgramLoadError::Program { name, source };
        let program = self.bpf.program_mut(name).ok_or(ProgramLoadError::IncompleteObject(name))?;
        let program: &mut Iter = program.try_into().map_err(failed)?;
        if program.fd().is_err() {
            let btf = Btf::from_sys_fs().map_err(|error| failed(error.into()))?;
            program.load("task_file", &btf).map_err(failed)?;
        }
        if files == FileScope::Own
            && let Ok(mut own) = sys::own_files(program.fd().map_err(failed)?.as_fd())
        {
            return run_out(&mut own).map_err(ProgramLoadError::Iterate);
        }
        let link = program.attach().map_err(failed)?;
        let link = program.take_link(link).map_err(failed)?;
        let mut file =
            link.into_file().map_err(|error| ProgramLoadError::Iterate(io::Error::other(error)))?;
        // It prints nothing; reading is what makes it run, until the end of all files.
        run_out(&mut file).map_err(ProgramLoadError::Iterate)
    }

    /// Loads a role's programs unless they are loaded.
    pub fn prepare(&mut self, role: Role) -> Result<(), ProgramLoadError> {
        let (enter, exit) = role.programs();
        for name in [Some(enter), exit].into_iter().flatten() {
            let program = self.bpf.program_mut(name).ok_or(ProgramLoadError::IncompleteObject(name))?;
            let program: &mut KProbe =
                program.try_into().map_err(|source| ProgramLoadError::Program { name, source })?;
            if program.fd().is_err() {
                program.load().map_err(|source| ProgramLoadError::Program { name, source })?;
            }
        }
        Ok(())
    }

    /// Loads the programs of all roles. A program that the kernel refuses is reported when it is needed.
    pub fn prepare_all(&mut self) {
        for role in Role::ALL.into_iter().filter(|role| *role != Role::Inventory) {
            let _told_later = self.prepare(role).is_err();
        }
    }

    /// Returns the descriptors of a prepared role's programs: at entry, and at return if it has one.
    pub fn fds(&self, role: Role) -> Option<(BorrowedFd<'_>, Option<BorrowedFd<'_>>)> {
        let (enter, exit) = role.programs();
        let fd = |name: &str| {
            let program: &KProbe = self.bpf.program(name)?.try_into().ok()?;
            program.fd().ok().map(|fd| fd.as_fd())
        };
        Some((fd(enter)?, exit.and_then(fd)))
    }

    /// Returns the number of calls that a role's programs did not see because another program ran on that CPU; `None`
    /// if the kernel does not count them.
    pub fn recursion_misses(&self, role: Role) -> Option<u64> {
        let (enter, exit) = self.fds(role)?;
        let exit = exit.map_or(Some(0), sys::recursion_misses)?;
        Some(sys::recursion_misses(enter)?.saturating_add(exit))
    }

    /// Returns a probe's counters, the sum of all CPUs.
    pub fn stats(&self, slot: u16) -> ProbeStats {
        let mut sum = ProbeStats::default();
        let Ok(values) = self.stats.get(&u32::from(slot), 0) else { return sum };
        for MapValue(ProbeStats { hits, records, lost, unmatched, no_room }) in values.iter().copied() {
            sum.hits = sum.hits.saturating_add(hits);
            sum.records = sum.records.saturating_add(records);
            sum.lost = sum.lost.saturating_add(lost);
            sum.unmatched = sum.unmatched.saturating_add(unmatched);
            sum.no_room = sum.no_room.saturating_add(no_room);
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns scripted results, as the kernel does: EAGAIN after every million of files.
    struct ScriptedReader(Vec<io::Result<usize>>);

    impl Read for ScriptedReader {
        fn read(&mut self, _buffer: &mut [u8]) -> io::Result<usize> {
            self.0.pop().unwrap_or(Ok(0))
        }
    }

    #[test]
    fn a_host_with_millions_of_open_files_is_looked_through() {
        let again = || Err(io::Error::from_raw_os_error(11));
        let mut files = ScriptedReader(vec![again(), again()]);
        run_out(&mut files).unwrap();
        assert!(files.0.is_empty());
        run_out(&mut ScriptedReader(vec![Err(io::Error::from_raw_os_error(12))])).unwrap_err();
    }
}
