//! A nested QEMU with one VFIO device: start, QMP, quit, and its last words when it dies.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::json;

use crate::qmp::{Event, Qmp};
use crate::{mdev, wait};

const PROGRAM: &str = "qemu-system-x86_64";

/// The settings in which the QEMUs of a run differ.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    /// Name of the VM in evidence and file names.
    pub(crate) vm: &'a str,
    /// UUID of its mdev; without one the VM has no device.
    pub(crate) uuid: Option<&'a str>,
    pub(crate) memory_mib: u32,
    /// True if it waits for an incoming migration.
    pub(crate) incoming: bool,
    /// Folder of its sockets.
    pub(crate) folder: &'a Path,
    /// Folder for its trace and its stderr, if a test wants them.
    pub(crate) evidence: Option<&'a Path>,
}

/// A QEMU that was started and whose QMP socket may not be there yet.
#[derive(Debug)]
pub(crate) struct Starting {
    process: Process,
    socket: PathBuf,
}

#[derive(Debug)]
struct Process {
    vm: String,
    child: Child,
    stderr: PathBuf,
}

/// A running QEMU. It is killed when dropped.
#[derive(Debug)]
pub(crate) struct Qemu {
    pub(crate) qmp: Qmp,
    process: Process,
}

impl Launch<'_> {
    pub(crate) fn spawn(&self) -> Result<Starting> {
        let socket = self.folder.join(format!("{}.qmp", self.vm));
        let stderr = self.evidence.unwrap_or(self.folder).join(format!("qemu-{}.stderr", self.vm));
        let log = File::create(&stderr).with_context(|| format!("cannot create {}", stderr.display()))?;
        let child = self.command(&socket).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let child = child.with_context(|| format!("cannot run {PROGRAM}; install qemu-system-x86 10.x"))?;
        Ok(Starting { process: Process { vm: self.vm.to_owned(), child, stderr }, socket })
    }

    fn command(&self, socket: &Path) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(["-name", self.vm, "-M", "pc", "-accel", "tcg", "-nodefaults", "-display", "none"]);
        command.args(["-m", &self.memory_mib.to_string(), "-msg", "timestamp=on"]);
        command.arg("-qmp").arg(format!("unix:{},server=on,wait=off", socket.display()));
        if let Some(uuid) = self.uuid {
            // Dirty page tracking by the device needs IOMMUFD's bitmaps, which Debian's kernels do not have.
            command.arg("-device").arg(format!(
                "vfio-pci,id=mtty0,sysfsdev={},enable-migration=on,migration-events=on,\
                 x-device-dirty-page-tracking=off",
                mdev::sysfs(uuid).display()
            ));
        }
        if self.incoming {
            // Deferred, so that `migrate-incoming` can ask for a failed destination to stay and say why it failed.
            command.args(["-incoming", "defer"]);
        }
        if let Some(evidence) = self.evidence {
            command.args(["-trace", "vfio_*"]);
            command.arg("-D").arg(evidence.join(format!("qemu-{}.trace", self.vm)));
        }
        command
    }
}

impl Starting {
    /// Waits for the QMP socket and connects.
    pub(crate) fn connect(
        mut self,
        timeout: Duration,
        on_event: impl Fn(&Event) + Send + 'static,
    ) -> Result<Qemu> {
        let stream = wait::until(&format!("the QMP socket of {}", self.process.vm), timeout, || {
            if let Some(status) = self.process.child.try_wait()? {
                bail!(
                    "{} ended before it was ready: {}{}",
                    self.process.vm,
                    told(status),
                    self.process.tail()
                );
            }
            Ok(UnixStream::connect(&self.socket).ok())
        })?;
        match Qmp::negotiate(stream, timeout, on_event) {
            Ok(qmp) => Ok(Qemu { qmp, process: self.process }),
            Err(error) => Err(self.process.blame(error)),
        }
    }
}

impl Process {
    /// Adds to an error that this QEMU died, if it did.
    fn blame(&mut self, error: anyhow::Error) -> anyhow::Error {
        // Its sockets close a moment before the process can be waited for.
        let status = wait::until("a dying QEMU", Duration::from_secs(1), || Ok(self.child.try_wait()?));
        match status {
            Ok(status) => anyhow!("{} died: {}{}; {error:#}", self.vm, told(status), self.tail()),
            Err(_) => error,
        }
    }

    /// Returns the last lines of its stderr, for an error message.
    fn tail(&self) -> String {
        let text = fs::read_to_string(&self.stderr).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = &lines[lines.len().saturating_sub(12)..];
        if tail.is_empty() {
            ", nothing on stderr".to_owned()
        } else {
            format!(", stderr ends:\n  {}", tail.join("\n  "))
        }
    }

    fn kill(&mut self) -> Result<ExitStatus> {
        // Fails only if the process was waited for already; then wait() knows its status.
        drop(self.child.kill());
        self.child.wait().with_context(|| format!("cannot wait for {}", self.vm))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.kill());
    }
}

impl Qemu {
    pub(crate) fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// Adds to an error that this QEMU died, if it did.
    pub(crate) fn blame(&mut self, error: anyhow::Error) -> anyhow::Error {
        self.process.blame(error)
    }

    /// Kills QEMU with SIGKILL, as a failing host would.
    pub(crate) fn kill(&mut self) -> Result<String> {
        let status = self.process.kill()?;
        self.qmp.close();
        Ok(told(status))
    }

    /// Ends QEMU in order, or by force if it does not answer. Returns its exit status as text.
    pub(crate) fn quit(&mut self, timeout: Duration) -> Result<String> {
        if let Some(status) = self.process.child.try_wait()? {
            self.qmp.close();
            return Ok(told(status));
        }
        // An answer is not needed: only the end of the process counts.
        drop(self.qmp.execute("quit", json!({}), timeout));
        let child = &mut self.process.child;
        let ended = wait::until("QEMU to quit", timeout, || Ok(child.try_wait()?));
        let status = match ended {
            Ok(status) => told(status),
            Err(_) => format!("{} because it did not quit", told(self.process.kill()?)),
        };
        self.qmp.close();
        Ok(status)
    }
}

fn told(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(launch: &Launch<'_>) -> String {
        let command = launch.command(Path::new("/run/vm-1.qmp"));
        command
            .get_args()
            .map(|argument| argument.to_string_lossy().into_owned())
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn the_command_line_has_what_a_migration_needs() {
        let launch = Launch {
            vm: "vm-1",
            uuid: Some("11111111-1111-1111-1111-111111111111"),
            memory_mib: 16,
            incoming: true,
            folder: Path::new("/run"),
            evidence: Some(Path::new("/out")),
        };
        let all = arguments(&launch);
        assert!(
            all.contains("enable-migration=on,migration-events=on,x-device-dirty-page-tracking=off"),
            "{all}"
        );
        assert!(all.contains("sysfsdev=/sys/bus/mdev/devices/11111111-1111-1111-1111-111111111111"), "{all}");
        assert!(all.ends_with("-incoming defer -trace vfio_* -D /out/qemu-vm-1.trace"), "{all}");
        assert!(!all.contains("-S"), "{all}");
    }

    #[test]
    fn a_source_without_a_device_waits_for_nothing() {
        let launch = Launch {
            vm: "vm-1",
            uuid: None,
            memory_mib: 32,
            incoming: false,
            folder: Path::new("/run"),
            evidence: None,
        };
        let all = arguments(&launch);
        assert!(!all.contains("vfio") && !all.contains("incoming"), "{all}");
    }
}
