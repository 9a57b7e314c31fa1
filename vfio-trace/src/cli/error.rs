//! Errors as users see them: one line what, one line why, one line what to do; and exit codes.

use std::io;

use rustix::io::Errno;

use crate::{
    cli::{output, privileges::is_root},
    kernel::caps::{LinuxCap, setcap_line},
    source::live::LiveError,
    units::human::clean,
};

/// The traced thing failed, where the verb judges it.
pub(super) const FAILED: u8 = 1;
/// The command line is wrong.
pub(super) const USAGE: u8 = 2;
/// Not permitted.
pub(super) const NOT_PERMITTED: u8 = 3;
/// Not supported here.
pub(super) const NOT_SUPPORTED: u8 = 4;
/// Input damaged, or not what it should be.
pub(super) const INPUT: u8 = 5;

/// An error at the edge.
#[derive(Debug)]
pub(super) struct CliError {
    what: String,
    why: String,
    todo: String,
    /// The exit code.
    pub(super) code: u8,
}

impl CliError {
    /// Something about this machine or run that is in the way.
    pub(super) fn failed(what: impl Into<String>, why: impl ToString, todo: impl Into<String>) -> Self {
        Self { what: what.into(), why: why.to_string(), todo: todo.into(), code: FAILED }
    }

    /// The same with an exit code of its own.
    pub(super) fn with_code(
        code: u8,
        what: impl Into<String>,
        why: impl ToString,
        todo: impl Into<String>,
    ) -> Self {
        Self { code, ..Self::failed(what, why, todo) }
    }

    /// What and why, in one line.
    pub(super) fn sentence(&self) -> String {
        format!("{}: {}", self.what, self.why)
    }

    /// Prints it on standard error.
    pub(super) fn print(&self) {
        let [what, why, todo] = [&self.what, &self.why, &self.todo].map(|text| clean(text));
        output::print_finished(&format!("error: {what}\n  why: {why}\n  do:  {todo}"));
    }
}

impl From<LiveError> for CliError {
    fn from(error: LiveError) -> Self {
        let binary = std::env::current_exe()
            .map_or_else(|_| "vfio-trace".to_owned(), |path| path.display().to_string());
        let (code, todo) = match &error {
            LiveError::NotPermitted(missing) if is_root() => {
                let names: Vec<&str> = missing.iter().map(|need| need.cap.name()).collect();
                (NOT_PERMITTED, format!("let this container have {}, or run it on the host", names.join(" and ")))
            },
            LiveError::NotPermitted(missing) if missing.iter().all(|need| need.cap == LinuxCap::SysAdmin) => (
                NOT_PERMITTED,
                "run it as root, or once: sudo sysctl kernel.perf_event_paranoid=2".to_owned(),
            ),
            LiveError::NotPermitted(_) => {
                (NOT_PERMITTED, format!("run it as root, or once: {}", setcap_line(&binary)))
            },
            LiveError::Lockdown => (
                NOT_SUPPORTED,
                "boot without lockdown=confidentiality (integrity, the mode of Secure Boot, is fine)"
                    .to_owned(),
            ),
            LiveError::NotSupported(_) => (
                NOT_SUPPORTED,
                "trace on a host whose kernel has CONFIG_KPROBE_EVENTS, as distributions' have".to_owned(),
            ),
            LiveError::Unlisted(_) if is_root() => {
                (FAILED, "let it read /sys: a container, or a security module, keeps it from that".to_owned())
            },
            LiveError::Unlisted(_) => (FAILED, "run it as root".to_owned()),
            LiveError::Load(_) | LiveError::Poll(_) if let Some(todo) = scarce(&error) => {
                (FAILED, todo.to_owned())
            },
            LiveError::Load(_) | LiveError::Poll(_) => (
                NOT_SUPPORTED,
                "check that the kernel is 6.1 or newer (docs/requirements.md) and that nothing (a container, a security \
                 module) keeps bpf(2) from this process"
                    .to_owned(),
            ),
        };
        Self { what: "cannot trace".to_owned(), why: error.to_string(), todo, code }
    }
}

/// What to do where something has run out, which says nothing of the kernel.
fn scarce(error: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    let io = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
    match io.map(Errno::from_raw_os_error) {
        Some(Errno::NOMEM) => {
            Some("give a smaller --buffer, or let it have more memory (a container may have a limit)")
        },
        Some(Errno::MFILE | Errno::NFILE) => Some("raise the limit of open files (ulimit -n)"),
        _ => error.source().and_then(scarce),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::ProgramLoadError;

    #[test]
    fn what_has_run_out_says_nothing_of_the_kernel() {
        let error = |errno: Errno| CliError::from(LiveError::Load(ProgramLoadError::Iterate(errno.into())));
        let memory = error(Errno::NOMEM);
        assert!(memory.code == FAILED && memory.todo.contains("more memory"), "{memory:?}");
        let files = CliError::from(LiveError::Poll(Errno::MFILE.into()));
        assert!(files.code == FAILED && files.todo.contains("ulimit -n"), "{files:?}");
        assert_eq!(error(Errno::INVAL).code, NOT_SUPPORTED);
    }
}
