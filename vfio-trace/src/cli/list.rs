//! `vfio-trace list`: every VFIO device of this host.

use std::io;

use super::{
    devices::HostDevices,
    error::CliError,
    kernel_args::KernelArgs,
    out_file,
    output::{ColorMode, note},
    past::{FromArgs, PastState},
    privileges::give_up,
};
use crate::{
    kernel::{
        DeviceBus, KernelFiles, VfioDevice,
        process::{ProcessInfo, ProcessTable},
    },
    output::{DeviceRow, HolderRow, ListLosses, RecordingFacts, device_table, devices_json},
    source::snapshot::{DeviceFacts, SnapshotLosses},
    state::DeviceStatus,
    units::human,
};

/// Devices that a recording had and that were gone: so many are named.
const SAID_GONE: usize = 8;

/// Arguments of `list`.
#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    /// One JSON document instead of a table (schema vfio-trace.list/1, docs/schema/list-1.json).
    #[arg(long)]
    json: bool,
    /// Colours.
    #[arg(long, value_enum, default_value = "auto")]
    color: ColorMode,
    #[command(flatten)]
    from: FromArgs,
    #[command(flatten)]
    kernel: KernelArgs,
}

/// Runs `vfio-trace list`.
pub(super) fn main(args: &ListArgs) -> Result<u8, CliError> {
    if args.from.is_given() {
        return past(args);
    }
    let files = args.kernel.files()?;
    let devices = HostDevices::read(&files);
    let processes = ProcessTable::of(&files);
    let rows: Vec<DeviceRow> = devices
        .all
        .iter()
        .map(|(device, memory)| row(processes, &devices, device, memory.as_ref()))
        .collect();
    // All is read; what others have named is only written now.
    give_up()?;
    devices.check_sysfs()?;
    let blind = devices.snapshot_error.as_ref().map(ToString::to_string);
    let losses = devices.snapshot_error.is_none().then_some(devices.losses);
    let read = print(args, &rows, blind.as_deref(), losses, None)?;
    if read {
        devices.say_losses();
    }
    if read && !args.json {
        for text in notes(&files, &devices, &rows) {
            note(&text);
        }
    }
    Ok(0)
}

/// Returns what a reader of the table must know besides, a sentence each.
fn notes(files: &KernelFiles, devices: &HostDevices, rows: &[DeviceRow]) -> Vec<String> {
    let processes = ProcessTable::of(files);
    let mut said = Vec::new();
    if let Some(why) = &devices.snapshot_error {
        said.push(format!("flags, state and holders are not known: {why}"));
    } else if !devices.holders_known && !rows.is_empty() {
        said.push(
            "holders are not known: the address of vfio_device_fops_unl_ioctl is hidden (CAP_SYSLOG)"
                .to_owned(),
        );
    }
    let held = |row: &DeviceRow| row.holders.as_ref().is_some_and(|holders| !holders.is_empty());
    if !processes.matches_kernel() && rows.iter().any(held) {
        said.push(
            "numbers of processes are the host's: /proc here is of another PID namespace, so which virtual machines they run is \
             not known"
                .to_owned(),
        );
    }
    // Where holders may be among what was lost, that is told already.
    let all_told = devices.holders_known && devices.losses.holders_told();
    if all_told && rows.iter().any(|row| row.holders.is_none() && row.open_count > Some(0)) {
        said.push(unseen(processes).to_owned());
    }
    if rows.is_empty() && VfioDevice::has_sysfs(files) {
        said.push("no device is bound to a VFIO driver".to_owned());
    }
    said
}

/// Returns the reason why no process is named that has a device open.
const fn unseen(processes: ProcessTable<'_>) -> &'static str {
    if processes.sees_all() {
        "a device is open, but no process has a file of it: a region of it may still be mapped, KVM or io_uring may keep it, the \
         fd may be on its way through a socket, or it came and went just now"
    } else {
        "a device is open, but not in a process that the kernel tells of here: it may be one of another PID namespace (run \
         vfio-trace on the host to see it)"
    }
}

/// Returns the processes that have a device open; `None` also where one has it or may have it, and none is known to:
/// the kernel could not be asked, or does not tell. `all`: it has told of all processes.
fn known(holders: Vec<HolderRow>, open_count: Option<u32>, all: bool) -> Option<Vec<HolderRow>> {
    (!holders.is_empty() || open_count.map_or(all, |count| count == 0)).then_some(holders)
}

/// Prints the table or the document. Returns false if the reader of standard output is gone.
fn print(
    args: &ListArgs,
    rows: &[DeviceRow],
    blind: Option<&str>,
    losses: Option<SnapshotLosses>,
    recording: Option<&RecordingFacts>,
) -> Result<bool, CliError> {
    let text = if args.json {
        devices_json(rows, blind, losses.map(ListLosses::from), recording)
            .map_err(|why| CliError::bug("cannot write the list as JSON", why))?
    } else {
        device_table(rows, args.color.on(&io::stdout()))
    };
    out_file::print(&text, args.from.files())
}

/// Runs `vfio-trace list --from`.
fn past(args: &ListArgs) -> Result<u8, CliError> {
    let past = args.from.read(1)?;
    let rows = past_rows(&past);
    let read = print(args, &rows, None, None, Some(&past.facts))?;
    if read && !args.json {
        match past.unknown() {
            Some(why) => note(why),
            None if rows.is_empty() => {
                note("the recording knows of no device that was bound to a VFIO driver then");
            },
            None => {},
        }
        past.say_unnamed();
        let mut gone: Vec<(&str, DeviceStatus)> = past.gone().collect();
        gone.sort_by_key(|(_, known)| std::cmp::Reverse(known.changed_ns));
        for (name, known) in gone.iter().take(SAID_GONE) {
            note(&format!(
                "{name} had gone at {}; --at shows an earlier moment",
                past.time(known.changed_ns)
            ));
        }
        if let Some(more) = gone.len().checked_sub(SAID_GONE).filter(|more| *more > 0) {
            note(&format!("{} more had gone before", human::count(more as u64, "device")));
        }
        note(&past.describe());
    }
    past.code()
}

fn past_rows(past: &PastState) -> Vec<DeviceRow> {
    past.present().map(|(name, known)| past_row(name, known)).collect()
}

/// Makes the row of a device in a recording, which has nothing that only sysfs and /proc tell.
fn past_row(name: &str, DeviceStatus { report, open_count, .. }: DeviceStatus) -> DeviceRow {
    let holders = report.holders.into_iter();
    let holders: Vec<HolderRow> = holders
        .map(|holder| HolderRow {
            pid: holder.pid,
            local_pid: None,
            comm: holder.comm,
            vm: None,
            process_started: None,
        })
        .collect();
    DeviceRow {
        device: name.to_owned(),
        bus: DeviceBus::of_name(name).name(),
        vfio: None,
        group: None,
        cdev: None,
        driver: report.driver,
        migration: report.migration,
        migration_flags: report.migration_flags,
        dirty_tracking: report.dirty_tracking,
        state: report.state.filter(|_| report.migration != Some(false)),
        open_count,
        // It is open, and nobody is known to have it: the kernel could not be asked.
        holders: (open_count == Some(0) || !holders.is_empty()).then_some(holders),
    }
}

fn row(
    processes: ProcessTable<'_>,
    devices: &HostDevices,
    device: &VfioDevice,
    memory: Option<&DeviceFacts>,
) -> DeviceRow {
    let holders = memory.map_or_else(Vec::new, |memory| {
        let holder = |holder: &crate::source::snapshot::SnapshotHolder| {
            let info = processes.look_up(holder.pid, &holder.comm);
            let ProcessInfo { vm, started } = info.unwrap_or_default();
            let (pid, comm) = (holder.pid, holder.comm.clone());
            HolderRow {
                pid,
                local_pid: processes.matches_kernel().then_some(pid),
                comm,
                vm,
                process_started: started,
            }
        };
        memory.holders.iter().map(holder).collect()
    });
    let all_told = processes.sees_all() && devices.losses.holders_told();
    DeviceRow {
        device: device.name.clone(),
        bus: device.bus.name(),
        vfio: device.vfio.clone(),
        group: device.group,
        cdev: Some(device.cdev),
        driver: device.driver.clone(),
        migration: memory.and_then(|memory| memory.migration),
        migration_flags: memory.and_then(|memory| memory.flags),
        dirty_tracking: memory.and_then(|memory| memory.dirty_tracking),
        state: memory.and_then(|memory| memory.state),
        open_count: memory.and_then(|memory| memory.open_count),
        holders: memory
            .filter(|_| devices.holders_known)
            .and_then(|memory| known(holders, memory.open_count, all_told)),
    }
}

impl From<SnapshotLosses> for ListLosses {
    fn from(SnapshotLosses { lost, undecoded, no_room, unopened }: SnapshotLosses) -> Self {
        Self { lost, undecoded, no_room, unopened }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::past::tests::kept,
        driver::PluginDispatcher,
        kernel::{KernelFacts, source::testing::TestRoot},
        source::snapshot::SnapshotHolder,
        state::TraceModel,
        units::visible::tests::{HOSTILE, harms},
    };

    /// Returns all devices of a host, each with this open_count and these holders.
    fn devices(files: &KernelFiles, open_count: Option<u32>, holders: &[(u32, &str)]) -> HostDevices {
        let holder = |&(pid, comm): &(u32, &str)| SnapshotHolder { pid, comm: comm.to_owned(), fd: 3 };
        let memory = |device: VfioDevice| {
            let memory = DeviceFacts {
                name: device.name.clone(),
                flags: None,
                migration: Some(true),
                dirty_tracking: None,
                state: None,
                open_count,
                holders: holders.iter().map(holder).collect(),
            };
            (device, Some(memory))
        };
        HostDevices {
            all: VfioDevice::all(files).into_iter().map(memory).collect(),
            model: TraceModel::new(),
            drivers: PluginDispatcher::new(false),
            holders_known: true,
            losses: SnapshotLosses::default(),
            snapshot_error: None,
            sysfs_readable: VfioDevice::has_sysfs(files),
            facts: KernelFacts::read(files),
        }
    }

    fn rows(files: &KernelFiles, devices: &HostDevices) -> Vec<DeviceRow> {
        let all = devices.all.iter();
        all.map(|(device, memory)| row(ProcessTable::of(files), devices, device, memory.as_ref())).collect()
    }

    /// The name of a virtual machine is a word of its command line: the user who starts it chooses it.
    #[test]
    fn nothing_in_proc_or_sysfs_hurts_a_terminal() {
        for name in [HOSTILE, "\u{1b}]0;x\u{7}", "\u{202e}gnp", "a\nFORGED"] {
            let root = TestRoot::new();
            root.write("proc/7/cmdline", format!("qemu\0-name\0guest={name}\0"))
                .write("proc/7/comm", format!("{name}\n"))
                .write("proc/8/cgroup", format!("0::/machine-qemu\\x2d3\\x2d{name}.scope"))
                .write("proc/8/comm", "qemu\n")
                .link("proc/self/ns/pid", "pid:[4026531836]")
                .link(&format!("sys/devices/{name}/driver"), &format!("../../bus/drivers/{name}"))
                .write(&format!("sys/bus/drivers/{name}/x"), "")
                .link("sys/class/vfio-dev/vfio0/device", &format!("../../../devices/{name}"));
            let files = root.files();
            let devices = devices(&files, Some(2), &[(7, name), (8, "qemu")]);
            let rows = rows(&files, &devices);
            let vms: Vec<_> = rows[0].holders.iter().flatten().map(|holder| holder.vm.is_some()).collect();
            assert_eq!(vms, [true, !name.contains(['\n', '/'])], "{name:?}");
            for text in [device_table(&rows, false), devices_json(&rows, None, None, None).unwrap()] {
                assert!(!text.chars().any(|c| harms(c) && c != '\n'), "{text:?}");
                assert!(!text.lines().any(|line| line.trim_start().starts_with("FORGED")), "{text}");
            }
        }
    }

    #[test]
    fn nobody_is_said_to_have_it_only_where_it_is_closed() {
        let holder =
            HolderRow { pid: 7, local_pid: None, comm: "qemu".to_owned(), vm: None, process_started: None };
        for all in [true, false] {
            assert_eq!(known(vec![], Some(0), all).map(|holders| holders.len()), Some(0));
            assert!(known(vec![], Some(1), all).is_none());
            let one = known(vec![holder.clone()], Some(1), all);
            assert_eq!(one.map(|holders| holders.len()), Some(1));
        }
        assert_eq!(known(vec![], None, true).map(|holders| holders.len()), Some(0));
        assert!(known(vec![], None, false).is_none(), "a process that is not told of may have it");
        let root = TestRoot::new();
        root.write("proc/self/ns/x", "").link("proc/self/ns/pid", "pid:[4026531836]");
        let files = root.files();
        assert!(!unseen(ProcessTable::of(&files)).contains("namespace"), "there is none above the first");
        root.remove("proc/self/ns/pid").link("proc/self/ns/pid", "pid:[4026532001]");
        root.write("proc/1/ns/x", "").link("proc/1/ns/pid", "pid:[4026531836]");
        let files = root.files();
        let processes = ProcessTable::of(&files);
        assert!(
            processes.matches_kernel() && unseen(processes).contains("another PID namespace"),
            "the /proc is the host's"
        );
    }

    #[test]
    fn a_note_is_printed_only_where_it_is_true() {
        let root = TestRoot::new();
        root.link("sys/devices/dev/driver", "../../bus/drivers/mtty").write("sys/bus/drivers/mtty/x", "");
        root.link("sys/class/vfio-dev/vfio0/device", "../../../devices/dev");
        root.write("proc/self/ns/x", "").write("proc/1/ns/x", "");
        let place = |own: &str, first: &str| {
            for (name, namespace) in [("proc/self/ns/pid", own), ("proc/1/ns/pid", first)] {
                drop(std::fs::remove_file(root.path().join(name)));
                root.link(name, &format!("pid:[{namespace}]"));
            }
            root.files()
        };
        let said = |files: &KernelFiles, devices: &HostDevices| notes(files, devices, &rows(files, devices));
        let (host, other) = ("4026531836", "4026532001");
        let (numbers, elsewhere, nobody) = (
            "numbers of processes are the host's",
            "not in a process that the kernel tells of here",
            "no process has a file",
        );
        for (own, first, known, all) in
            [(host, host, true, true), (other, other, false, false), (other, host, true, false)]
        {
            let files = place(own, first);
            let open = said(&files, &devices(&files, Some(1), &[])).join("\n");
            assert_eq!(
                [open.contains(elsewhere), open.contains(nobody)],
                [!all, all],
                "{own} {first}: {open}"
            );
            let held = said(&files, &devices(&files, Some(1), &[(7, "qemu")])).join("\n");
            assert_eq!(held.contains(numbers), !known, "{own} {first}: {held}");
            assert!(known == held.is_empty(), "{own} {first}: {held}");
            for quiet in [Some(0), None] {
                let closed = said(&files, &devices(&files, quiet, &[]));
                assert!(closed.is_empty(), "{own} {first}: {closed:?}");
            }
            // Who has it may be in what was lost, which is told.
            let mut lost = devices(&files, Some(1), &[]);
            lost.losses.lost = 1;
            assert_eq!(said(&files, &lost), [""; 0]);
            lost.holders_known = false;
            assert_eq!(said(&files, &lost).len(), 1, "only that holders are not known");
        }
        let files = place(host, host);
        let none = devices(&TestRoot::new().files(), None, &[]);
        assert_eq!(notes(&TestRoot::new().files(), &none, &[]), [""; 0], "without /sys nothing is known");
        let empty = TestRoot::new();
        empty.write("sys/bus/x", "");
        assert_eq!(notes(&empty.files(), &none, &[]), ["no device is bound to a VFIO driver"]);
        assert!(said(&files, &devices(&files, Some(0), &[])).is_empty());
    }

    #[test]
    fn a_recording_gives_what_it_knows() {
        let past = kept(Some("6.9s")).unwrap();
        let rows = past_rows(&past);
        let table = "\
device                                vfio  node  driver  migration               dirty tracking  state     held by
11111111-1111-1111-1111-111111111111  ?     ?     mtty    STOP_COPY|P2P|PRE_COPY  yes             PRE_COPY  qemu-system-x86 201
22222222-2222-2222-2222-222222222222  ?     ?     mtty    STOP_COPY|P2P|PRE_COPY  yes             RESUMING  qemu-system-x86 202
";
        assert_eq!(device_table(&rows, false), table);
        let json = devices_json(&rows, None, None, Some(&past.facts)).unwrap();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let expected = serde_json::json!({
            "host": "lab",
            "kernel": "6.12.117+deb12-amd64",
            "version": "0.1.0",
            "began": "2026-11-22T20:44:33.357600576Z",
            "at": "2026-11-22T20:44:40.257600576Z",
            "at_mono_ns": 17_307_885_245_u64,
            "complete": true,
        });
        assert_eq!(json["recording"], expected);
        let one = &json["devices"][1];
        assert_eq!((&one["bus"], &one["cdev"], &one["open_count"]), (&"mdev".into(), &().into(), &1.into()));

        // The source has been closed, and nobody has looked since; the destination's QEMU goes on.
        let rows = past_rows(&kept(Some("2026-11-22T20:44:40.8Z")).unwrap());
        assert_eq!(
            (rows[0].state, rows[0].open_count, rows[0].holders.as_deref()),
            (None, Some(0), Some(&[][..]))
        );
        assert_eq!(rows[1].holders.as_ref().map(Vec::len), Some(1));
        assert!(past_rows(&kept(None).unwrap()).is_empty());
    }
}
