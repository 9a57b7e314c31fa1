//! Processes that hold devices: their virtual machine and start time; and a check that /proc here uses the kernel's
//! process numbers.

use super::source::KernelFiles;

/// A process that holds a device, as /proc shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessInfo {
    /// Name of its virtual machine, from QEMU's command line or libvirt's control group.
    pub vm: Option<String>,
    /// Time at which it was started, in seconds since 1970.
    pub started: Option<u64>,
}

/// Processes by the numbers that the eBPF programs' records have: those of the first PID namespace. Made once per
/// command; `list`, `exercise` and the live source look up the holders of devices in it.
#[derive(Clone, Copy, Debug)]
pub struct ProcessTable<'a> {
    files: &'a KernelFiles,
    same: bool,
    all: bool,
}

/// Link of the first PID namespace: `PROC_PID_INIT_INO` (include/linux/proc_ns.h), the same on every kernel since 3.8.
const FIRST_NAMESPACE: &str = "pid:[4026531836]";
/// Bit `PF_KTHREAD` of a thread's flags: kernel threads are in the first PID namespace only.
const KERNEL_THREAD: u64 = 0x0020_0000;

impl<'a> ProcessTable<'a> {
    /// Finds out which PID namespace the /proc of `files` belongs to.
    pub fn of(files: &'a KernelFiles) -> Self {
        Self { files, same: is_first(files), all: is_in_first(files) }
    }

    /// Returns true if this process can see all others, because it is in the first PID namespace itself.
    pub const fn sees_all(self) -> bool {
        self.all
    }

    /// Returns true if /proc here uses the kernel's process numbers. In a container with a PID namespace of its own it
    /// does not: there the same number is another process, or none.
    pub const fn matches_kernel(self) -> bool {
        self.same
    }

    /// Looks up the process that the kernel calls `pid` and `comm`. Returns `None` if /proc here does not tell, or if
    /// the number belongs to another process by now.
    pub fn look_up(self, pid: u32, comm: &str) -> Option<ProcessInfo> {
        if !self.same {
            return None;
        }
        let info = ProcessInfo::read(self.files, pid);
        // Read last: if the number had gone to another process by the time the rest was read, this is that process's
        // `comm`.
        let now = self.files.text(&format!("/proc/{pid}/comm")).ok()?;
        (now.strip_suffix('\n') == Some(comm)).then_some(info)
    }
}

/// Returns true if this process is in the first PID namespace.
fn is_in_first(files: &KernelFiles) -> bool {
    // A kernel without PID namespaces has only one.
    let own = files.link("/proc/self/ns/pid");
    own.as_deref() == Some(FIRST_NAMESPACE) || (own.is_none() && files.exists("/proc/self/ns/mnt"))
}

/// Returns true if the /proc of `files` is of the first PID namespace.
fn is_first(files: &KernelFiles) -> bool {
    if is_in_first(files) {
        return true;
    }
    // The host's /proc in a container, as with `-v /proc:/proc`.
    files.link("/proc/1/ns/pid").as_deref() == Some(FIRST_NAMESPACE)
        || files.text("/proc/2/stat").is_ok_and(|stat| {
            let flags =
                stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(6)?.parse::<u64>().ok());
            flags.is_some_and(|flags| flags & KERNEL_THREAD != 0)
        })
}

/// Unit of times in /proc: `USER_HZ`. It is 100 on every architecture that the tracer runs on.
const TICKS_PER_SECOND: u64 = 100;

impl ProcessInfo {
    /// Reads what /proc tells of a process; nothing if it has ended.
    pub fn read(files: &KernelFiles, pid: u32) -> Self {
        let text = |name: &str| files.text(&format!("/proc/{pid}/{name}")).ok();
        let vm = text("cmdline")
            .and_then(|line| vm_of_command_line(&line))
            .or_else(|| text("cgroup").and_then(|groups| vm_of_cgroup(&groups)));
        let booted = files.text("/proc/stat").ok().and_then(|stat| {
            stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<u64>().ok())
        });
        let started = text("stat").and_then(|stat| start_ticks(&stat)).zip(booted);
        Self { vm, started: started.map(|(ticks, booted)| booted.saturating_add(ticks / TICKS_PER_SECOND)) }
    }
}

/// Finds NAME in the `-name guest=NAME,…` or `-name NAME` of a NUL-separated command line.
fn vm_of_command_line(line: &str) -> Option<String> {
    let mut words = line.split('\0');
    words.find(|word| matches!(*word, "-name" | "--name"))?;
    let value = words.next()?;
    let name = value
        .split(',')
        .find_map(|part| part.strip_prefix("guest="))
        .or_else(|| value.split(',').next().filter(|first| !first.contains('=')))?;
    (!name.is_empty()).then(|| name.to_owned())
}

/// Finds NAME in libvirt's `machine-qemu\x2d3\x2dNAME.scope`; systemd escapes characters that are no letters or digits.
fn vm_of_cgroup(groups: &str) -> Option<String> {
    let scope = groups
        .split(['/', '\n'])
        .find(|part| part.starts_with("machine-qemu") && part.strip_suffix(".scope").is_some())?;
    let plain = unescape(scope.trim_end_matches(".scope"));
    let name = plain.strip_prefix("machine-qemu-")?.split_once('-')?.1;
    (!name.is_empty()).then(|| name.to_owned())
}

/// Replaces systemd's escapes: `\x2d` becomes `-`.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.strip_prefix(b"x").and_then(|hex| hex.get(..2)).filter(|_| *first == b'\\');
        let value = hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(value.unwrap_or(*first));
        rest = if value.is_some() { tail.get(3..).unwrap_or_default() } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads field 22 of /proc/PID/stat; the second field, in parentheses, may contain anything.
fn start_ticks(stat: &str) -> Option<u64> {
    stat.rsplit_once(") ")?.1.split(' ').nth(19)?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::source::testing::TestRoot;

    #[test]
    fn names_of_virtual_machines() {
        let line = |words: &[&str]| vm_of_command_line(&words.join("\0"));
        assert_eq!(line(&["qemu", "-name", "guest=web-1,debug-threads=on", "-S"]), Some("web-1".to_owned()));
        assert_eq!(line(&["qemu", "-name", "web"]), Some("web".to_owned()));
        assert_eq!(line(&["qemu", "-name", "debug-threads=on"]), None);
        assert_eq!(line(&["qemu", "-m", "16"]), None);
        let group = "0::/machine.slice/machine-qemu\\x2d3\\x2dweb\\x2d1.scope/libvirt/emulator\n";
        assert_eq!(vm_of_cgroup(group), Some("web-1".to_owned()));
        assert_eq!(vm_of_cgroup("0::/user.slice/user-0.slice\n"), None);
        assert_eq!(unescape("a\\x2d\\xzz\\x2"), "a-\\xzz\\x2");
    }

    #[test]
    fn only_the_first_namespaces_proc_has_the_kernels_numbers() {
        let known = |root: &TestRoot| ProcessTable::of(&root.files()).matches_kernel();
        let root = TestRoot::new();
        assert!(!known(&root), "without /proc nothing is known");
        root.link("proc/self/ns/pid", "pid:[4026532201]").link("proc/1/ns/pid", "pid:[4026532201]");
        root.write("proc/2/stat", "2 (sh) S 0 2 2 0 -1 4194560 1 2 3\n");
        assert!(!known(&root), "a container");
        root.write("proc/2/stat", "2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0\n");
        assert!(known(&root), "with the host's /proc");
        root.remove("proc/2/stat");
        assert!(!known(&root));
        root.remove("proc/1/ns/pid").link("proc/1/ns/pid", FIRST_NAMESPACE);
        assert!(known(&root), "with the host's /proc");
        let host = TestRoot::new();
        host.link("proc/self/ns/pid", FIRST_NAMESPACE);
        assert!(known(&host));
        let single = TestRoot::new();
        single.link("proc/self/ns/mnt", "mnt:[1]");
        assert!(known(&single), "a kernel without PID namespaces");
    }

    #[test]
    fn nothing_is_told_of_another_process() {
        let root = TestRoot::new();
        root.write("proc/7/cmdline", "qemu\0-name\0web\0").write("proc/7/comm", "qemu\n");
        let files = root.files();
        let vm = |comm| ProcessTable::of(&files).look_up(7, comm).map(|info| info.vm);
        assert_eq!(vm("qemu"), None, "another namespace");
        root.link("proc/self/ns/pid", FIRST_NAMESPACE);
        assert_eq!(vm("qemu"), Some(Some("web".to_owned())));
        assert_eq!(vm("other"), None, "the number was given again");
        assert!(ProcessTable::of(&files).look_up(8, "qemu").is_none());
    }

    #[test]
    fn start_of_a_process() {
        let root = TestRoot::new();
        root.write("proc/stat", "cpu 1 2\nbtime 1000\n");
        root.write("proc/7/stat", "7 (a) b) S 1 1 1 0 -1 4 1 2 3 4 5 6 7 8 20 0 1 0 250 999 1\n");
        root.write("proc/7/cmdline", "qemu\0-name\0web\0");
        let info = ProcessInfo::read(&root.files(), 7);
        assert_eq!(info, ProcessInfo { vm: Some("web".to_owned()), started: Some(1002) });
        assert_eq!(ProcessInfo::read(&root.files(), 8), ProcessInfo::default());
    }
}
