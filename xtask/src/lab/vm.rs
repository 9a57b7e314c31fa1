//! One boot of a VM: QEMU, the ports that carry the command's output, and the outcome.

use std::{
    ffi::OsString,
    fmt, fs,
    io::{BufRead as _, BufReader, Read as _, Write},
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::{
    cmd,
    lab::{
        guest::{self, Extras},
        initramfs, tsc,
    },
    progress::say,
    setup::kernel::Kernel,
    workspace,
};

/// QEMU's arguments for the machine. Software emulation: /dev/kvm, where it exists, may not run a stock kernel. No
/// microvm: a third of its boots hang.
const MACHINE: &[&str] = &[
    "-accel",
    "tcg,thread=multi",
    "-M",
    "q35",
    "-cpu",
    "max",
    "-nodefaults",
    "-no-user-config",
    "-display",
    "none",
];

/// Arguments of the guest kernel. `oops=panic panic=-1` with `-no-reboot`: a broken guest kernel ends the VM at once.
/// The rest saves boot time.
const KERNEL_ARGUMENTS: &str = "console=ttyS0 quiet loglevel=5 panic=-1 oops=panic mitigations=off nokaslr \
     no_timer_check tsc=reliable cryptomgr.notests rcupdate.rcu_expedited=1 audit=0 nowatchdog";

/// Argument that makes the kernel leave memory to `hisi_sim`, for the registers of its devices.
const SIMULATED_MEMORY: &str = " memmap=32M$0x30000000";

/// Part of QEMU's last message when it dies in about one boot of ninety, with more than one emulated processor (its
/// issue 1921).
const QEMU_1921: &str = "iotlb_to_section";

/// Line that init.sh prints to the console as soon as it can. A VM that dies before it has run nothing but the stock
/// kernel.
const INIT_BEGAN: &str = "guest: init has begun";

/// Most boots of one VM, if each dies before anything of ours has run.
const BOOTS: usize = 3;

/// Parts of the messages that a guest kernel prints when it cannot go on.
const FATAL: &[&str] = &["Kernel panic", "Oops:", "BUG: ", "general protection fault", "lab: "];

/// A VM to boot: kernel, command, limits. Checks and verbs make it; [`run`] boots it.
pub(crate) struct Request<'kernel> {
    /// The kernel to boot.
    pub(crate) kernel: &'kernel Kernel,
    /// Additions to the stock kernel.
    pub(crate) extras: Extras,
    /// The command and its arguments.
    pub(crate) command: Vec<OsString>,
    /// Memory in MiB.
    pub(crate) memory: u32,
    /// Time after which the VM is ended.
    pub(crate) timeout: Duration,
    /// Host folder for `$LAB_RESULTS`.
    pub(crate) results: Option<PathBuf>,
    /// The end of the guest's port `link`, which leads to the port of another VM.
    pub(crate) link: Option<Link>,
}

/// One end of a unix socket between two VMs.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    /// Path of the socket.
    pub(crate) path: PathBuf,
    /// True for the end that listens. It must be started first.
    pub(crate) listen: bool,
}

impl<'kernel> Request<'kernel> {
    /// Returns a request with the defaults.
    pub(crate) fn new(kernel: &'kernel Kernel, command: Vec<OsString>) -> Self {
        let extras = Extras::default();
        Self {
            kernel,
            extras,
            command,
            memory: 2048,
            timeout: Duration::from_mins(5),
            results: None,
            link: None,
        }
    }
}

/// Result of a VM. [`run`] returns it with the [`Run`]; verbs turn it into an exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The command ended, with this exit code.
    Exited(u8),
    /// The VM ran into its time limit and was ended.
    TimedOut {
        /// True if the command had started.
        started: bool,
        /// The last lines of the guest's console.
        console: String,
    },
    /// The guest kernel panicked, with this line.
    Panicked(String),
    /// QEMU ended, and the guest had not said why.
    Died {
        /// True if the command had started.
        started: bool,
        /// Last message of QEMU.
        said: String,
    },
}

impl Outcome {
    /// Returns the exit code for the shell. Failures of the VM have codes of their own.
    pub(crate) const fn exit_code(&self) -> u8 {
        match self {
            Self::Exited(code) => *code,
            Self::TimedOut { .. } => 124,
            Self::Panicked(_) | Self::Died { .. } => 125,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let when =
            |started: &bool| if *started { "while the command ran" } else { "before the command started" };
        match self {
            Self::Exited(code) => write!(f, "command exited with {code}"),
            Self::TimedOut { started, console } => {
                write!(f, "FAILED: timed out {}; console:\n{console}", when(started))
            },
            Self::Panicked(line) => write!(f, "FAILED: the guest kernel died: {line}"),
            Self::Died { started, said } => write!(f, "FAILED: QEMU ended {}: {said}", when(started)),
        }
    }
}

/// A finished boot.
pub(crate) struct Run {
    /// Result of the VM.
    pub(crate) outcome: Outcome,
    /// Time from QEMU's start to the command's.
    pub(crate) ready_after: Option<Duration>,
    /// Warnings of the guest kernel.
    pub(crate) warnings: Vec<String>,
    /// Reason for each further boot.
    pub(crate) tried_again: Vec<String>,
    /// True if the guest died before any program in it had begun.
    died_early: bool,
    /// Processor time of QEMU.
    pub(crate) cpu: Duration,
}

/// A folder for the files of one run, removed with it. Unix socket paths must be short, so it is not below target/.
struct Scratch(TempDir);

impl Scratch {
    fn new() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("vfio-lab-").tempdir();
        folder.map(Self).context("cannot create a folder for the files of a run")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// A QEMU process. Killed when dropped, so that an early return leaves none.
struct Qemu(Child);

impl Qemu {
    /// Returns the processor time so far, of all its threads. None once the process has been waited for.
    fn cpu(&self) -> Option<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).ok()?;
        // After the name, which may have any characters: state, then ten numbers, then user and system time.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
        let mut ticks = || fields.next()?.parse::<u64>().ok();
        let ticks = ticks()? + ticks()?;
        Some(Duration::from_secs(ticks) / u32::try_from(rustix::param::clock_ticks_per_second()).ok()?)
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn qemu(kernel: &Kernel, extras: Extras, memory: u32, scratch: &Scratch, results: &Path) -> Result<Command> {
    let mut arguments = KERNEL_ARGUMENTS.to_owned();
    arguments.push_str(&tsc::kernel_argument());
    if extras.driver.is_some() {
        ensure!(memory >= 1024, "simulated hardware takes its registers from the VM's memory: --memory 1024");
        arguments.push_str(SIMULATED_MEMORY);
    }
    let share = scratch.path("share");
    fs::create_dir_all(&share).context("cannot create the share")?;
    let initrd = scratch.path("initramfs");
    initramfs::write(kernel, &initrd)?;
    // setpriv: QEMU ends with xtask, even if that is killed.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "qemu-system-x86_64"]).args(MACHINE);
    command.args(["-smp", "2", "-no-reboot", "-m", &memory.to_string()]);
    command.arg("-kernel").arg(kernel.vmlinux()).arg("-initrd").arg(initrd).args(["-append", &arguments]);
    command.arg("-serial").arg(format!("file:{}", scratch.path("console").display()));
    command.args(["-fsdev", "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap"]);
    command.args(["-device", "virtio-9p-pci,fsdev=host,mount_tag=host"]);
    command
        .arg("-fsdev")
        .arg(format!("local,id=lab,path={},security_model=none,multidevs=remap", share.display()));
    command.args(["-device", "virtio-9p-pci,fsdev=lab,mount_tag=lab", "-device", "virtio-serial-pci"]);
    command
        .arg("-fsdev")
        .arg(format!("local,id=results,path={},security_model=none,multidevs=remap", results.display()));
    command.args(["-device", "virtio-9p-pci,fsdev=results,mount_tag=results"]);
    Ok(command)
}

/// Makes a port of the guest: the host listens, QEMU connects.
fn port(command: &mut Command, scratch: &Scratch, name: &str) -> Result<UnixListener> {
    let path = scratch.path(name);
    let listener =
        UnixListener::bind(&path).with_context(|| format!("cannot listen on {}", path.display()))?;
    command.arg("-chardev").arg(format!("socket,id={name},path={}", path.display()));
    command.arg("-device").arg(format!("virtserialport,chardev={name},name={name}"));
    Ok(listener)
}

/// Copies a port to a writer until QEMU closes it.
fn forward(listener: UnixListener, mut to: impl Write + Send + 'static) -> JoinHandle<()> {
    thread::spawn(move || {
        let Ok((mut from, _)) = listener.accept() else { return };
        let mut buffer = vec![0; 1 << 16];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if to.write_all(&buffer[..count]).and_then(|()| to.flush()).is_err() {
                break;
            }
        }
    })
}

/// A message of the guest on the control port.
enum Control {
    Ready,
    Exit(u8),
    Closed,
}

fn control(listener: UnixListener) -> Receiver<Control> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        if let Ok((stream, _)) = listener.accept() {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                let message = match line.strip_prefix("exit ") {
                    Some(code) => Control::Exit(code.trim().parse().unwrap_or(u8::MAX)),
                    None if line == "ready" => Control::Ready,
                    None => continue,
                };
                if sender.send(message).is_err() {
                    return;
                }
            }
        }
        drop(sender.send(Control::Closed));
    });
    receiver
}

fn console_lines(scratch: &Scratch) -> Vec<String> {
    let bytes = fs::read(scratch.path("console")).unwrap_or_default();
    String::from_utf8_lossy(&bytes)
        .lines()
        .map(|line| line.trim().to_owned())
        .filter(|line| !line.is_empty())
        .collect()
}

fn fatal_line(console: &[String]) -> Option<String> {
    console.iter().find(|line| FATAL.iter().any(|word| line.contains(word))).cloned()
}

/// Boots a VM and runs the command. `stdout` and `stderr` get its output as it comes.
pub(crate) fn run(
    request: &Request<'_>,
    stdout: impl Write + Send + 'static,
    stderr: impl Write + Send + 'static,
) -> Result<Run> {
    let mut outputs = Some((stdout, stderr));
    until_booted(|| once(request, &mut outputs))
}

/// Boots until a boot has come further than the kernel, or has failed too often for that.
fn until_booted(mut boot: impl FnMut() -> Result<Run>) -> Result<Run> {
    let mut tried_again = Vec::new();
    loop {
        let run = boot()?;
        match run.reason_to_boot_again() {
            Some(why) if tried_again.len() + 1 < BOOTS => {
                say(&format!("lab: {why}; trying once more"));
                tried_again.push(why);
            },
            _ => return Ok(Run { tried_again, ..run }),
        }
    }
}

impl Run {
    /// Returns the reason for another boot, if this one died while booting. The command had not started and its outputs
    /// are untouched, so another boot hides no failure of the command. A kernel that dies once programs of the guest
    /// run, which load modules of ours, is not booted again.
    fn reason_to_boot_again(&self) -> Option<String> {
        match &self.outcome {
            Outcome::Panicked(line) if self.died_early => {
                Some(format!("the guest kernel died while booting, before its first program ({line})"))
            },
            Outcome::Died { started: false, said } if said.contains(QEMU_1921) => {
                Some("QEMU died while booting, with the assertion of its issue 1921".to_owned())
            },
            Outcome::Died { started: false, said } if self.died_early => {
                Some(format!("QEMU ended while the guest kernel booted, before its first program ({said})"))
            },
            _ => None,
        }
    }
}

fn once<O, E>(request: &Request<'_>, outputs: &mut Option<(O, E)>) -> Result<Run>
where
    O: Write + Send + 'static,
    E: Write + Send + 'static,
{
    let scratch = Scratch::new()?;
    let default_results = scratch.path("results");
    let results = match &request.results {
        Some(dir) => std::path::absolute(dir)?,
        None => default_results,
    };
    fs::create_dir_all(&results).with_context(|| format!("cannot create {}", results.display()))?;
    let mut command = qemu(request.kernel, request.extras, request.memory, &scratch, &results)?;
    guest::write(&scratch.path("share"), request.kernel, request.extras, Some(&request.command))?;
    if let Some(Link { path, listen }) = &request.link {
        let how = if *listen { "server=on,wait=off" } else { "reconnect-ms=200" };
        command.arg("-chardev").arg(format!("socket,id=link,path={},{how}", path.display()));
        command.args(["-device", "virtserialport,chardev=link,name=link"]);
    }
    let messages = control(port(&mut command, &scratch, "control")?);
    let stdout_port = port(&mut command, &scratch, "stdout")?;
    let stderr_port = port(&mut command, &scratch, "stderr")?;

    let said = fs::File::create(scratch.path("qemu"))?;
    let start = Instant::now();
    let child = command
        .stdin(Stdio::null())
        .stdout(said.try_clone()?)
        .stderr(said)
        .spawn()
        .context("cannot start QEMU (setpriv and qemu-system-x86_64): run `cargo xtask setup`")?;
    let mut qemu = Qemu(child);

    let mut forwards: Vec<JoinHandle<()>> = Vec::new();
    let mut ports = Some((stdout_port, stderr_port));
    let mut ready_after = None;
    let mut code = None;
    let mut timed_out = false;
    let mut refused = false;
    let mut cpu = Duration::ZERO;
    loop {
        let left = request.timeout.saturating_sub(start.elapsed());
        match messages.recv_timeout(left.min(Duration::from_millis(200))) {
            Ok(Control::Ready) => {
                ready_after = Some(start.elapsed());
                if let (Some((out_port, err_port)), Some((out, err))) = (ports.take(), outputs.take()) {
                    forwards = vec![forward(out_port, out), forward(err_port, err)];
                }
            },
            Ok(Control::Exit(exit)) => code = Some(exit),
            Ok(Control::Closed) | Err(RecvTimeoutError::Disconnected) => {
                // The guest has sent everything; QEMU ends by itself, or the time runs out.
                thread::sleep(Duration::from_millis(20));
            },
            Err(RecvTimeoutError::Timeout) => {},
        }
        cpu = qemu.cpu().unwrap_or(cpu);
        if let Some(status) = qemu.0.try_wait()? {
            // Arguments that QEMU does not take, a program that is missing: it would be so again.
            refused = status.code().is_some_and(|code| code != 0);
            break;
        }
        if start.elapsed() >= request.timeout {
            timed_out = true;
            break;
        }
    }
    drop(qemu);
    // A last message may still be in the pipe.
    while let Ok(message) = messages.recv_timeout(Duration::from_millis(500)) {
        match message {
            Control::Exit(exit) => code = Some(exit),
            Control::Ready => {},
            Control::Closed => break,
        }
    }
    for thread in forwards {
        drop(thread.join());
    }

    let console = console_lines(&scratch);
    let started = ready_after.is_some();
    let outcome = match code {
        Some(code) if !timed_out => Outcome::Exited(code),
        _ => match fatal_line(&console) {
            Some(line) => Outcome::Panicked(line),
            None if timed_out => {
                Outcome::TimedOut { started, console: console[console.len().saturating_sub(8)..].join("\n") }
            },
            None => Outcome::Died {
                started,
                said: fs::read_to_string(scratch.path("qemu")).unwrap_or_default().trim().to_owned(),
            },
        },
    };
    let began = started || console.iter().any(|line| line.contains(INIT_BEGAN));
    let died_early = !began && !timed_out && !refused;
    let warnings = console.into_iter().filter(|line| line.contains("WARNING: ")).collect();
    Ok(Run { outcome, ready_after, warnings, tried_again: Vec::new(), died_early, cpu })
}

/// Boots a VM and connects the terminal to a shell in it.
pub(crate) fn shell(kernel: &Kernel, extras: Extras, memory: u32) -> Result<ExitCode> {
    let scratch = Scratch::new()?;
    let results = workspace::target_dir()?.join("lab/shell");
    fs::create_dir_all(&results).with_context(|| format!("cannot create {}", results.display()))?;
    let mut command = qemu(kernel, extras, memory, &scratch, &results)?;
    guest::write(&scratch.path("share"), kernel, extras, None)?;
    command.args(["-chardev", "stdio,id=terminal,signal=off", "-device", "virtconsole,chardev=terminal"]);
    say(&format!(
        "lab: {} is booting; $LAB_RESULTS is {}; the VM ends with the shell",
        kernel.release,
        results.display()
    ));
    cmd::run_loud(&mut command)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(outcome: Outcome, died_early: bool) -> Run {
        Run {
            outcome,
            ready_after: None,
            warnings: Vec::new(),
            tried_again: Vec::new(),
            died_early,
            cpu: Duration::ZERO,
        }
    }

    fn died(said: &str) -> Outcome {
        Outcome::Died { started: false, said: said.to_owned() }
    }

    /// Returns the number of boots, the outcome and the number of reasons, if the boots end like this.
    fn booted(ends: Vec<Run>) -> (usize, Outcome, usize) {
        let (all, mut ends) = (ends.len(), ends.into_iter());
        let run = until_booted(|| ends.next().context("booted once too often")).unwrap();
        (all - ends.len(), run.outcome, run.tried_again.len())
    }

    #[test]
    fn a_kernel_that_dies_before_any_program_is_booted_again_at_most_twice() {
        let oops = || Outcome::Panicked("[1.625502] Oops: int3: 0000 [#1] SMP NOPTI".to_owned());
        let fine = || run(Outcome::Exited(0), false);
        assert_eq!(booted(vec![run(oops(), true), fine()]), (2, Outcome::Exited(0), 1));
        assert_eq!(booted(vec![run(oops(), true), run(died(""), true), fine()]), (3, Outcome::Exited(0), 2));
        let always = (0..4).map(|_| run(oops(), true)).collect();
        assert_eq!(booted(always), (3, oops(), 2));
        assert_eq!(booted(vec![run(oops(), false)]), (1, oops(), 0), "programs of the guest ran");
    }

    #[test]
    fn a_qemu_that_dies_is_started_again_only_if_nothing_of_ours_ran() {
        let assertion = || died("Assertion failed: iotlb_to_section");
        assert_eq!(booted(vec![run(assertion(), false), run(Outcome::Exited(7), false)]).0, 2);
        assert_eq!(booted(vec![run(died("no such device"), false)]).0, 1);
        let started = Outcome::Died { started: true, said: "iotlb_to_section".to_owned() };
        assert_eq!(booted(vec![run(started, false)]).0, 1);
        let late = Outcome::TimedOut { started: false, console: String::new() };
        assert_eq!(booted(vec![run(late, false)]).0, 1);
    }

    #[test]
    fn the_guests_first_program_says_that_it_has_begun() {
        let said = guest::INIT.lines().position(|line| line.contains(INIT_BEGAN)).unwrap();
        let loads = guest::INIT.lines().position(|line| line.contains("insmod")).unwrap();
        assert!(said < loads);
    }
}
