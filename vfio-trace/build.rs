//! Builds the eBPF object with aya-build.

use std::{
    env,
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result, anyhow};
use aya_build::{Package, Toolchain};

/// Set in the second run of this script, which has the environment that aya-build reads.
const PREPARED: &str = "VFIO_TRACE_BUILD_PREPARED";

fn main() -> ExitCode {
    match if env::var_os(PREPARED).is_some() { build() } else { prepare() } {
        Ok(code) => code,
        Err(error) => {
            // cargo shows `cargo::error=` lines as errors, and fails.
            println!("cargo::error=cannot build the eBPF programs: {error:#}");
            println!("cargo::error=`cargo xtask setup` provides what this needs (rust-src and bpf-linker)");
            ExitCode::FAILURE
        },
    }
}

/// Runs this script again with `RUSTC_BOOTSTRAP=1`, which lets a stable compiler build `core` for BPF, and with the
/// project's own bpf-linker first in PATH. Changing one's own environment would be unsafe; a child's is not.
fn prepare() -> Result<ExitCode> {
    let script = env::current_exe()?;
    // target/PROFILE/build/vfio-trace-HASH/build-script-build
    let target = script.ancestors().nth(4).context("the build script is not where cargo puts it")?;
    let mut path = vec![target.join("tools/bin")];
    path.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    println!("cargo:rerun-if-changed={}", target.join("tools/bin/bpf-linker").display());
    let output = Command::new(&script)
        .env("PATH", env::join_paths(path)?)
        .env("RUSTC_BOOTSTRAP", "1")
        .env(PREPARED, "1")
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {} again", script.display()))?;
    let done = output.status.success();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        if !(done && is_progress(line)) {
            println!("{line}");
        }
    }
    Ok(if done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// aya-build passes on all that the inner cargo says as warnings; `   Compiling core v0.0.0` is none.
fn is_progress(line: &str) -> bool {
    line.strip_prefix("cargo:warning=").is_some_and(|said| said.starts_with(' ') || said.is_empty())
}

fn build() -> Result<ExitCode> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or_else(|| anyhow!("not run by cargo"))?);
    let root = root.parent().context("the crate has no workspace around it")?.join("vfio-trace-ebpf");
    let package = Package {
        name: "vfio-trace-ebpf",
        root_dir: root.to_str().context("the path of the checkout is not UTF-8")?,
        ..Package::default()
    };
    let toolchain = env::var("RUSTUP_TOOLCHAIN").unwrap_or_else(|_| "1.95.0".to_owned());
    aya_build::build_ebpf([package], Toolchain::Custom(&toolchain))?;
    Ok(ExitCode::SUCCESS)
}
