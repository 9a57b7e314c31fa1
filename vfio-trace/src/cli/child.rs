//! The command after `--`: it starts when all probes are attached, and gets the signals that ask us to stop.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::{
        fd::AsFd as _,
        unix::{ffi::OsStrExt as _, process::ExitStatusExt as _},
    },
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::{
    fs::{Access, access},
    io::Errno,
    process::{Pid, kill_process},
};
use tokio::process::{Child, Command};

use super::{error::CliError, signals::ReceivedSignal};
use crate::sys::signals::shares_group;

/// Longest time that a command gets to end after a signal was passed on to it.
pub(super) const GRACE: Duration = Duration::from_secs(5);

/// The running command that was given after `--`.
#[derive(Debug)]
pub(super) struct TracedCommand {
    name: String,
    child: Child,
    /// True if a signal came that the command may not have got: the next one is passed on to it in any case.
    signal_undelivered: bool,
}

impl TracedCommand {
    /// Returns an error if there is no such command: a misspelt one is reported before anything is made or replaced.
    pub(super) fn look(command: &[OsString]) -> Result<(), CliError> {
        let Some(program) = command.first() else { return Ok(()) };
        let name = program.display().to_string();
        find(program, std::env::var_os("PATH").as_deref()).map_err(|why| cannot_start(&name, &why))
    }

    /// Starts the command. Its standard output goes to our standard error: our standard output has events only.
    pub(super) fn start(command: &[OsString]) -> Result<Option<Self>, CliError> {
        let Some((program, arguments)) = command.split_first() else { return Ok(None) };
        let name = program.to_string_lossy().into_owned();
        let cannot = |why: io::Error| cannot_start(&name, &why);
        let stdout = io::stderr().as_fd().try_clone_to_owned().map_err(cannot)?;
        let child =
            Command::new(program).args(arguments).stdout(Stdio::from(stdout)).spawn().map_err(cannot)?;
        Ok(Some(Self { name, child, signal_undelivered: false }))
    }

    /// Waits until the command has ended.
    pub(super) async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Returns the exit status if the command has ended; does not wait.
    pub(super) fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Notes that a signal came while the command was being started: it may not have got it.
    pub(super) const fn may_have_missed_one(&mut self) {
        self.signal_undelivered = true;
    }

    /// Passes a signal on, unless the command got it from the terminal already: programs take a second one for
    /// impatience. The caller then waits for the command's end, but not for ever: see [`GRACE`].
    pub(super) fn signal(&mut self, heard: ReceivedSignal) {
        let pid = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        // A command with a process group of its own is not in the foreground with us.
        let undelivered = std::mem::take(&mut self.signal_undelivered);
        let from_terminal = heard.by_terminal && !undelivered;
        let has_it = |pid: Pid| from_terminal && shares_group(pid.as_raw_nonzero().get());
        if let Some(pid) = pid.filter(|pid| !has_it(*pid)) {
            // It may just have ended: then no process gets the signal.
            let _gone = kill_process(pid, heard.signal).is_err();
        }
    }

    /// Returns a phrase on how the command ended; `None` as status: it still runs.
    pub(super) fn describe(&self, status: Option<ExitStatus>) -> String {
        let name = &self.name;
        match status {
            None => format!("{name} goes on without being traced"),
            Some(status) => match (status.code(), status.signal()) {
                (Some(code), _) => format!("{name} exited with {code}"),
                (None, Some(signal)) => format!("{name} was ended by signal {signal}"),
                (None, None) => format!("{name} ended"),
            },
        }
    }
}

/// Looks for a program as execvp(3) does; the error is the reason why it cannot be started.
fn find(program: &OsStr, path: Option<&OsStr>) -> io::Result<()> {
    let runs = |path: &Path| {
        if path.metadata()?.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        access(path, Access::EXEC_OK).map_err(io::Error::from)
    };
    if program.as_bytes().contains(&b'/') {
        return runs(Path::new(program));
    }
    // Without PATH the C library uses a default of its own.
    let Some(path) = path else { return Ok(()) };
    let mut found = io::Error::from(Errno::NOENT);
    for folder in std::env::split_paths(path) {
        let path = folder.join(program);
        match runs(&path) {
            Ok(()) => return Ok(()),
            // A file that is there, and may not be run, tells more than that there is none. A folder that may not be
            // entered tells nothing.
            Err(why) if why.kind() == io::ErrorKind::PermissionDenied && path.metadata().is_ok() => {
                found = why;
            },
            Err(_) => {},
        }
    }
    Err(found)
}

fn cannot_start(name: &str, why: &io::Error) -> CliError {
    let todo = match why.kind() {
        io::ErrorKind::IsADirectory => "it is a folder: give a program after `--`",
        io::ErrorKind::PermissionDenied => {
            "let it be executed, and its folder be entered (chmod +x), or give what runs it: -- sh FILE"
        },
        _ => "check the command after `--` and PATH",
    };
    CliError::failed(format!("cannot start {name}"), why, todo)
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt as _, chown},
        thread,
    };

    use rustix::process::Signal;

    use super::*;
    use crate::kernel::{caps, source::testing::TestRoot};

    fn in_runtime<T>(act: impl FnOnce() -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        act()
    }

    #[test]
    fn what_is_there_is_not_said_to_be_missing() {
        let root = TestRoot::new();
        root.write("bin/plain", "#!/bin/sh\n").write("bin/run", "#!/bin/sh\n").write("more/plain", "");
        root.write("bin/folder/x", "");
        let bin = root.path().join("bin");
        for (name, mode) in [("plain", 0o644), ("run", 0o755)] {
            fs::set_permissions(bin.join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        let path = std::env::join_paths([root.path().join("none"), bin.clone(), root.path().join("more")]);
        let path = path.unwrap();
        let kind = |program: &Path| {
            let found = find(program.as_os_str(), Some(&path));
            found.err().map(|why| why.kind())
        };
        let [missing, denied, folder] =
            [io::ErrorKind::NotFound, io::ErrorKind::PermissionDenied, io::ErrorKind::IsADirectory];
        assert_eq!(kind(&bin.join("run")), None);
        assert_eq!(kind(&bin.join("plain")), Some(denied));
        assert_eq!(kind(&bin.join("folder")), Some(folder));
        assert_eq!(kind(&bin.join("none")), Some(missing));
        assert_eq!(kind(Path::new("run")), None);
        assert_eq!(kind(Path::new("plain")), Some(denied));
        assert_eq!(kind(Path::new("folder")), Some(missing), "PATH has no such program");
        assert_eq!(kind(Path::new("none")), Some(missing));
        assert_eq!(find(OsStr::new("none"), None).ok(), Some(()));
        let said = |name: &str| {
            let command = [bin.join(name).into_os_string()];
            format!("{:?}", TracedCommand::look(&command).unwrap_err())
        };
        assert!(said("plain").contains("Permission denied") && said("plain").contains("chmod"));
        assert!(said("folder").contains("folder: give a program"), "{}", said("folder"));
        assert!(said("none").contains("No such file"), "{}", said("none"));
    }

    /// Starts a command, again if it is busy: another test's child may have the file open for writing still, from
    /// between its fork and its exec.
    fn start(command: &[OsString]) -> Result<Option<TracedCommand>, CliError> {
        loop {
            match TracedCommand::start(command) {
                Err(why) if why.sentence().contains("Text file busy") => {
                    thread::sleep(Duration::from_millis(10));
                },
                other => return other,
            }
        }
    }

    /// Starts a command as `sudo` does in a home of mode 0700.
    #[test]
    fn a_command_in_a_closed_folder_is_found_after_rights_were_put_aside() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: only root can be let into a closed folder by a capability");
            return;
        }
        let root = TestRoot::new();
        root.write("home/run", "#!/bin/sh\nexit 7\n");
        let home = root.path().join("home");
        fs::set_permissions(home.join("run"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).unwrap();
        chown(home.join("run"), Some(4711), Some(4711)).unwrap();
        chown(&home, Some(4711), Some(4711)).unwrap();
        let command = [home.join("run").into_os_string()];
        // Capabilities are per thread: the other tests keep theirs.
        let started = thread::spawn(move || {
            TracedCommand::look(&command).unwrap();
            caps::put_aside(&[]).unwrap();
            in_runtime(|| {
                let closed = fs::read_dir(&home).is_err();
                let misspelt = find(OsStr::new("rnu"), Some(home.as_os_str())).unwrap_err();
                assert_eq!(misspelt.kind(), io::ErrorKind::NotFound, "nobody has seen it there");
                let started = caps::start_with(|| start(&command)).unwrap();
                let again = caps::start_with(|| TracedCommand::start(&command)).unwrap();
                (closed, started.unwrap().unwrap(), again.is_err())
            })
        });
        let (closed, mut traced, given_up) = started.join().unwrap();
        assert!(closed, "what is put aside is not in force");
        assert!(given_up, "and is gone with the start");
        let status = loop {
            match traced.has_ended() {
                Some(status) => break status,
                None => thread::sleep(Duration::from_millis(10)),
            }
        };
        assert_eq!(traced.describe(Some(status)), format!("{} exited with 7", traced.name));
    }

    #[test]
    fn a_signal_that_came_while_it_was_started_is_passed_on() {
        let command = ["sleep", "60"].map(OsString::from);
        let mut traced = in_runtime(|| start(&command)).unwrap().unwrap();
        let typed = |signal| ReceivedSignal { signal, by_terminal: true };
        traced.may_have_missed_one();
        traced.signal(typed(Signal::CONT));
        traced.signal(typed(Signal::TERM));
        thread::sleep(Duration::from_millis(100));
        assert_eq!(traced.has_ended(), None, "of later ones it has its own");
        // The first that it gets is the one that it may have missed, whoever it is from.
        traced.may_have_missed_one();
        traced.signal(ReceivedSignal { signal: Signal::CONT, by_terminal: false });
        traced.signal(typed(Signal::TERM));
        thread::sleep(Duration::from_millis(100));
        assert_eq!(traced.has_ended(), None, "of later ones it has its own");
        traced.may_have_missed_one();
        traced.signal(typed(Signal::TERM));
        let status = loop {
            match traced.has_ended() {
                Some(status) => break status,
                None => thread::sleep(Duration::from_millis(10)),
            }
        };
        assert_eq!(traced.describe(Some(status)), "sleep was ended by signal 15");
    }
}
