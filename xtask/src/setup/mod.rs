//! `cargo xtask setup`: prepares a fresh machine. Each step is skipped if its result is there.

pub(crate) mod apt;
mod backport;
pub(crate) mod browser;
mod hisi;
pub(crate) mod host;
pub(crate) mod kernel;
mod module;
mod modules;
mod packages;
pub(crate) mod python;
mod rust;
mod sources;
mod toolchain;
mod tree;
mod vmlinux;

use std::{cell::OnceCell, process::ExitCode, thread};

use anyhow::{Context as _, Result};

use crate::{
    cache::{self, Cache},
    progress::say,
};

/// Arguments of `setup`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Kernel series of the lab to prepare; may be given several times.
    #[arg(long = "kernel", value_name = "SERIES", default_values_t = [kernel::DEFAULT.to_owned()])]
    kernels: Vec<String>,
    /// Look for newer packages than the ones already in the cache.
    #[arg(long)]
    upgrade: bool,
    /// Also the browser that the checks of the HTML report use (`test` fetches it by itself).
    #[arg(long)]
    browser: bool,
}

/// Runs `cargo xtask setup`.
pub(crate) fn main(args: &Args) -> Result<ExitCode> {
    all(&args.kernels, args.upgrade)?;
    if args.browser {
        browser::prepare()?;
    }
    say(&format!("setup: ready (cache: {})", cache::root()?.display()));
    Ok(ExitCode::SUCCESS)
}

/// Sets up the build's requirements, and the lab for `kernels`. The compiler's part and the archive's part run side by
/// side: one waits for the processor, the other for the network.
pub(crate) fn all(kernels: &[String], upgrade: bool) -> Result<()> {
    let series = kernels.iter().map(|name| kernel::find(name)).collect::<Result<Vec<_>>>()?;
    let kernels_ready = || series.iter().all(|series| kernel::ready(series));
    if !upgrade && rust::ready()? && host::ready() && python::all_ready() && kernels_ready() {
        return Ok(());
    }
    let cache = Cache::lock()?;
    let archive = Archive::new(&cache);
    let archive = &archive;
    thread::scope(|scope| {
        let tools = scope.spawn(|| rust::linker(&cache));
        rust::source(archive)?;
        host::install(archive)?;
        python::install(&cache)?;
        for series in series {
            kernel::prepare(archive, series, upgrade)?;
        }
        join(tools)
    })
}

/// Sets up the requirements of `cargo build`, without the lab.
pub(crate) fn for_build() -> Result<()> {
    if rust::ready()? {
        return Ok(());
    }
    let cache = Cache::lock()?;
    rust::source(&Archive::new(&cache))?;
    rust::linker(&cache)
}

fn join(thread: thread::ScopedJoinHandle<'_, Result<()>>) -> Result<()> {
    thread.join().map_err(|_panic| anyhow::anyhow!("a set-up thread panicked"))?
}

/// The Debian archive. Package lists are fetched only when a package is missing: a finished set-up works without
/// network.
pub(crate) struct Archive<'cache> {
    pub(crate) cache: &'cache Cache,
    apt: OnceCell<apt::Apt>,
    trixie: OnceCell<apt::Apt>,
}

impl<'cache> Archive<'cache> {
    fn new(cache: &'cache Cache) -> Self {
        Self { cache, apt: OnceCell::new(), trixie: OnceCell::new() }
    }

    /// Returns the view for this system's programs and for all kernels.
    pub(crate) fn apt(&self) -> Result<&apt::Apt> {
        self.open(&self.apt, &apt::HOST)
    }

    /// Returns the view for the compilers of newer kernels.
    pub(crate) fn trixie(&self) -> Result<&apt::Apt> {
        self.open(&self.trixie, &apt::TRIXIE)
    }

    fn open<'cell>(&self, cell: &'cell OnceCell<apt::Apt>, view: &apt::View) -> Result<&'cell apt::Apt> {
        if cell.get().is_none() {
            let opened = apt::Apt::open(self.cache, view)?;
            drop(cell.set(opened));
        }
        cell.get().context("apt was just opened")
    }
}
