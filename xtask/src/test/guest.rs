//! Runs a script in the lab VM and keeps all its output.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{notes, traced::Traced};
use crate::{
    lab::{
        guest::Extras,
        vm::{self, Outcome},
    },
    setup::kernel::Kernel,
    workspace,
};

/// The lab for checks: a kernel with its additions, and the folder of results. Each check gets one, or makes its own.
pub(crate) struct Lab {
    kernel: Kernel,
    extras: Extras,
    folder: PathBuf,
}

/// A finished guest with the files and the output of its script.
pub(crate) struct Guest {
    /// Result of the VM.
    pub(crate) outcome: Outcome,
    /// Standard output of the script.
    pub(crate) stdout: String,
    /// Standard error of the script.
    pub(crate) stderr: String,
    /// Folder on the host that the script has as `$LAB_RESULTS`.
    pub(crate) results: PathBuf,
    /// Warnings of its kernel.
    pub(crate) warnings: Vec<String>,
}

impl Lab {
    /// Returns a lab that boots this kernel.
    pub(crate) fn new(kernel: Kernel) -> Result<Self> {
        let folder = workspace::target_dir()?.join("lab/test");
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(Self { kernel, extras: Extras::default(), folder })
    }

    /// Returns a lab that boots this kernel with additions.
    pub(crate) fn with(kernel: Kernel, extras: Extras) -> Result<Self> {
        Ok(Self { extras, ..Self::new(kernel)? })
    }

    /// Returns the folder in which the checks leave their files.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Boots and runs a shell script as root. Returns its output, whatever the result.
    pub(crate) fn boot(&self, name: &str, script: &str, timeout: Duration) -> Result<Guest> {
        self.boot_linked(name, script, timeout, None)
    }

    /// Does the same for one of two VMs with a link between them.
    pub(crate) fn boot_linked(
        &self,
        name: &str,
        script: &str,
        timeout: Duration,
        link: Option<vm::Link>,
    ) -> Result<Guest> {
        let results = self.folder.join(name);
        if results.exists() {
            fs::remove_dir_all(&results).with_context(|| format!("cannot remove {}", results.display()))?;
        }
        let command = ["sh", "-c", script].map(Into::into).to_vec();
        let request = vm::Request {
            extras: self.extras,
            timeout,
            results: Some(results.clone()),
            link,
            ..vm::Request::new(&self.kernel, command)
        };
        let (stdout, stderr) = (Capture::default(), Capture::default());
        let run = vm::run(&request, stdout.clone(), stderr.clone())?;
        for why in run.tried_again {
            notes::retry(format!("{name}, {why}"));
        }
        notes::cpu(run.cpu);
        let guest = Guest {
            outcome: run.outcome,
            stdout: stdout.text(),
            stderr: stderr.text(),
            results,
            warnings: run.warnings,
        };
        for (file, text) in [("stdout", &guest.stdout), ("stderr", &guest.stderr)] {
            fs::write(guest.results.join(file), text).with_context(|| format!("cannot keep {file}"))?;
        }
        Ok(guest)
    }

    /// Boots and runs a script that must succeed on a kernel without warnings. If the accelerators' driver gave up
    /// after its 1 ms, in a VM that got no processor for longer than that, the script is tried again, and that is
    /// noted.
    pub(crate) fn run(&self, name: &str, script: &str) -> Result<Guest> {
        // Longer than any script needs, even beside another VM on a busy machine.
        let limit = Duration::from_mins(8);
        let mut guest = self.boot(name, script, limit)?;
        for _ in 0..2 {
            let Some(step) = late_step(&guest.stderr).filter(|_| self.extras.driver.is_some()) else { break };
            if guest.outcome == Outcome::Exited(0) {
                break;
            }
            notes::retry(format!("{name}, {step}"));
            guest = self.boot(name, script, limit)?;
        }
        let lines: Vec<&str> = guest.stderr.lines().collect();
        let last = &lines[lines.len().saturating_sub(6)..];
        ensure!(guest.outcome == Outcome::Exited(0), "{}; it said:\n{}", guest.outcome, last.join("\n"));
        ensure!(guest.warnings.is_empty(), "the guest kernel warned: {}", guest.warnings.join("; "));
        Ok(guest)
    }
}

/// Returns the line of `lab-step` about a step that the driver answered with an unexpected ETIMEDOUT.
fn late_step(said: &str) -> Option<&str> {
    said.lines().find(|line| line.starts_with("lab-step: `") && line.contains("` failed: ETIMEDOUT"))
}

impl Guest {
    /// Returns the text of a file that the guest left.
    pub(crate) fn file(&self, name: &str) -> Result<String> {
        self.left("").file(name)
    }

    /// Returns a folder that the guest left.
    pub(crate) fn left(&self, folder: &str) -> Left {
        Left(self.results.join(folder))
    }
}

/// A folder with files that a guest, or one part of its script, left.
pub(crate) struct Left(PathBuf);

impl Left {
    /// Returns the path of a file in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Returns the text of a file in it.
    pub(crate) fn file(&self, name: &str) -> Result<String> {
        let path = self.0.join(name);
        fs::read_to_string(&path).with_context(|| format!("the guest left no readable {}", path.display()))
    }

    /// Returns a file in it that is one JSON document.
    pub(crate) fn json(&self, name: &str) -> Result<Value> {
        serde_json::from_str(&self.file(name)?).with_context(|| format!("{name} is not JSON"))
    }

    /// Returns a file in it that has one JSON object per line.
    pub(crate) fn records(&self, name: &str) -> Result<Vec<Value>> {
        let parse =
            |line| serde_json::from_str(line).with_context(|| format!("{name} has a line that is not JSON"));
        self.file(name)?.lines().map(parse).collect()
    }

    /// Returns the output of `tail --format ndjson` in a file.
    pub(crate) fn traced(&self, name: &str) -> Result<Traced> {
        Traced::parse(&self.file(name)?).with_context(|| name.to_owned())
    }
}

/// A writer that keeps the bytes written to it.
#[derive(Clone, Default)]
struct Capture(Arc<Mutex<Vec<u8>>>);

impl Capture {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

impl Write for Capture {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_step_that_came_too_late_is_tried_again() {
        let late = "1  (reset)  ok\nlab-step: `2:set=RESUMING` failed: ETIMEDOUT (110)\n";
        assert_eq!(late_step(late), Some("lab-step: `2:set=RESUMING` failed: ETIMEDOUT (110)"));
        assert_eq!(late_step("lab-step: `set=RUNNING` failed: EINVAL (22)"), None, "another error");
        assert_eq!(late_step("vfio-trace: `x` failed: ETIMEDOUT (110)"), None, "the tracer's");
        assert_eq!(late_step("2  set=STOP_COPY  ETIMEDOUT"), None, "as expected");
    }
}
