//! Refuses devices in use: only a device that is not open, nor another one of its group, may be exercised.

use crate::{
    cli::{
        devices::HostDevices,
        error::{CliError, IN_USE},
    },
    kernel::{KernelFiles, VfioDevice, process::ProcessTable},
    source::snapshot::DeviceFacts,
    units::human,
};

/// Refuses a device that a process holds. Returns true if none does; false if that cannot be told. Opening it tells
/// then: a device can be opened by one process at a time.
pub(super) fn check(
    files: &KernelFiles,
    devices: &HostDevices,
    device: &VfioDevice,
) -> Result<bool, CliError> {
    let same_group = |other: &VfioDevice| device.group.is_some() && other.group == device.group;
    let mut known = true;
    let members = devices.all.iter().filter(|(other, _)| other.name == device.name || same_group(other));
    for (member, memory) in members {
        let Some(users) = memory.as_ref().and_then(|memory| users(files, memory)) else {
            known &= memory.as_ref().is_some_and(|memory| memory.open_count.is_some());
            continue;
        };
        let what = if member.name == device.name {
            format!("{} is in use", device.name)
        } else {
            format!("{} is in the group of {}, which is in use", device.name, member.name)
        };
        let todo = "exercise takes idle devices only; detach it from its VM, or end that process, first";
        return Err(CliError::with_code(IN_USE, what, users, todo));
    }
    Ok(known)
}

/// Returns a sentence on the processes that have the device open; `None` if there are none, or it cannot be told.
fn users(files: &KernelFiles, memory: &DeviceFacts) -> Option<String> {
    let processes = ProcessTable::of(files);
    // The kernel counts PIDs in the first PID namespace: here no process has this one, or another process has.
    let whose = if processes.matches_kernel() { "" } else { " of the first PID namespace" };
    let mut seen: Vec<u32> = Vec::new();
    let mut names = Vec::new();
    for holder in &memory.holders {
        if seen.contains(&holder.pid) {
            continue;
        }
        seen.push(holder.pid);
        let vm = processes.look_up(holder.pid, &holder.comm).and_then(|info| info.vm);
        let vm = vm.map_or_else(String::new, |vm| format!(", VM {}", human::clean(&vm)));
        names.push(format!("{} (process {}{whose}{vm})", human::clean(&holder.comm), holder.pid));
    }
    match (names.is_empty(), memory.open_count) {
        (false, _) => Some(format!("{} has it open", names.join(", "))),
        (true, Some(count)) if count > 0 => {
            Some(format!("it is open {}, by whom cannot be told", human::count(count.into(), "time")))
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{kernel::source::testing::TestRoot, source::snapshot::SnapshotHolder};

    fn facts(open_count: Option<u32>, holders: &[(u32, &str, u32)]) -> DeviceFacts {
        let holder = |&(pid, comm, fd): &(u32, &str, u32)| SnapshotHolder { pid, comm: comm.to_owned(), fd };
        DeviceFacts {
            name: "dev".to_owned(),
            flags: None,
            migration: None,
            dirty_tracking: None,
            state: None,
            open_count,
            holders: holders.iter().map(holder).collect(),
        }
    }

    #[test]
    fn users_are_named_once_each() {
        // Of no process here.
        let files = KernelFiles::default();
        let far = u32::MAX;
        let elsewhere =
            if ProcessTable::of(&files).matches_kernel() { "" } else { " of the first PID namespace" };
        assert_eq!(users(&files, &facts(Some(0), &[])), None);
        assert_eq!(users(&files, &facts(None, &[])), None);
        assert_eq!(
            users(&files, &facts(Some(2), &[])).as_deref(),
            Some("it is open 2 times, by whom cannot be told")
        );
        let held = facts(Some(1), &[(far, "qemu\n", 7), (far, "qemu\n", 9), (far - 1, "other", 3)]);
        assert_eq!(
            users(&files, &held),
            Some(format!(
                "qemu\\n (process {far}{elsewhere}), other (process {}{elsewhere}) has it open",
                far - 1
            ))
        );
    }

    #[test]
    fn no_vm_is_named_that_is_another_process() {
        let root = TestRoot::new();
        root.write("proc/7/cmdline", "qemu\0-name\0web\0").write("proc/7/comm", "qemu\n");
        let files = root.files();
        let said = |comm| users(&files, &facts(Some(1), &[(7, comm, 3)]));
        let there = "qemu (process 7 of the first PID namespace) has it open";
        assert_eq!(said("qemu").as_deref(), Some(there), "another namespace");
        root.link("proc/self/ns/pid", "pid:[4026531836]");
        assert_eq!(said("qemu").as_deref(), Some("qemu (process 7, VM web) has it open"));
        assert_eq!(
            said("other").as_deref(),
            Some("other (process 7) has it open"),
            "the number was given again"
        );
    }
}
