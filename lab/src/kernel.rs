//! Facts and settings of the running kernel beside VFIO: modules, dynamic debug, its release.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::wait;

/// Loads a module unless it is there already (loaded or built in).
pub(crate) fn load_module(name: &str, timeout: Duration) -> Result<()> {
    if Path::new("/sys/module").join(name).exists() {
        return Ok(());
    }
    let mut child = Command::new("modprobe")
        .arg(name)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .context("cannot run modprobe; install kmod in the test VM's root")?;
    let status = wait::until(&format!("modprobe {name}"), timeout, || Ok(child.try_wait()?));
    let status = status.inspect_err(|_| drop(child.kill()))?;
    if !status.success() {
        bail!("modprobe {name} failed ({status}); is the module built for kernel {}?", release());
    }
    Ok(())
}

/// Returns the kernel's release, as `uname -r` prints it.
pub(crate) fn release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}

/// Dynamic debug of one module: on until dropped.
#[derive(Debug)]
pub(crate) struct DynamicDebug {
    control: &'static str,
    module: String,
}

impl DynamicDebug {
    /// The control files of dynamic debug. procfs first: it needs no debugfs mount, which would change what the tracer
    /// under test finds.
    const CONTROLS: [&str; 2] = ["/proc/dynamic_debug/control", "/sys/kernel/debug/dynamic_debug/control"];

    pub(crate) fn enable(module: &str) -> Result<Self> {
        let control = Self::CONTROLS
            .into_iter()
            .find(|control| Path::new(control).exists())
            .context("this kernel has no dynamic debug (CONFIG_DYNAMIC_DEBUG), so mtty cannot tell what it did; use a stock kernel")?;
        fs::write(control, format!("module {module} +p\n"))
            .with_context(|| format!("cannot turn on {module}'s debug messages in {control}; run as root"))?;
        Ok(Self { control, module: module.to_owned() })
    }
}

impl Drop for DynamicDebug {
    fn drop(&mut self) {
        // The module may be unloaded by now; then there is nothing to turn off.
        drop(fs::write(self.control, format!("module {} -p\n", self.module)));
    }
}
