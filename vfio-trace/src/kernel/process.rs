//! Who a process is: the virtual machine that it runs, and since when.

use super::source::KernelFiles;

/// A process that holds a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessInfo {
    /// The virtual machine's name, from QEMU's command line or libvirt's control group.
    pub vm: Option<String>,
    /// When it was started, in seconds since 1970.
    pub started: Option<u64>,
}

/// `USER_HZ`: what /proc counts in. It is 100 on every architecture that the tracer runs on.
const TICKS_PER_SECOND: u64 = 100;

impl ProcessInfo {
    /// Looks a process up. One that has ended has no answers.
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

/// `-name guest=NAME,…` or `-name NAME` of a NUL-separated command line.
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

/// The NAME of libvirt's `machine-qemu\x2d3\x2dNAME.scope`; systemd escapes what is no letter or digit.
fn vm_of_cgroup(groups: &str) -> Option<String> {
    let scope = groups
        .split(['/', '\n'])
        .find(|part| part.starts_with("machine-qemu") && part.strip_suffix(".scope").is_some())?;
    let plain = unescape(scope.trim_end_matches(".scope"));
    let name = plain.strip_prefix("machine-qemu-")?.split_once('-')?.1;
    (!name.is_empty()).then(|| name.to_owned())
}

/// `\x2d` -> `-`.
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

/// Field 22 of /proc/PID/stat; the second one, in parentheses, may contain anything.
fn start_ticks(stat: &str) -> Option<u64> {
    stat.rsplit_once(") ")?.1.split(' ').nth(19)?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::source::testing::Root;

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
    fn start_of_a_process() {
        let root = Root::new();
        root.write("proc/stat", "cpu 1 2\nbtime 1000\n");
        root.write("proc/7/stat", "7 (a) b) S 1 1 1 0 -1 4 1 2 3 4 5 6 7 8 20 0 1 0 250 999 1\n");
        root.write("proc/7/cmdline", "qemu\0-name\0web\0");
        let info = ProcessInfo::read(&root.files(), 7);
        assert_eq!(info, ProcessInfo { vm: Some("web".to_owned()), started: Some(1002) });
        assert_eq!(ProcessInfo::read(&root.files(), 8), ProcessInfo::default());
    }
}
