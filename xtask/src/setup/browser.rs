//! A browser for the checks of the HTML report: Debian's Chromium without a window, unpacked, not installed.
//!
//! It runs in a folder of its own, entered by `chroot`, with the libraries and the fonts of that folder: they are the
//! same on every machine.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    cache::{self, Cache},
    cmd,
    progress::say,
    setup::{Archive, apt, toolchain},
};

/// Folder in the cache. The number changes when the handling of the packages changes.
const FOLDER: &str = "browser/chromium-1";

/// Packages of the browser and of a font for it.
const PACKAGES: [&str; 3] = ["base-files", "chromium-headless-shell", "fonts-dejavu-core"];

/// Packages that they depend on, and that a browser without a GPU never loads: 200 MB.
const UNUSED: [&str; 4] = ["libgl1-mesa-dri_", "libllvm", "libz3-4_", "mesa-libgallium_"];

/// Path of the program, in the folder.
const PROGRAM: &str = "usr/lib/chromium/chromium-headless-shell";

/// Path of the shared folder, inside of the browser's folder.
pub(crate) const SHARED: &str = "/shared";

/// Script that starts the browser. Chromium speaks on descriptors 3 and 4; here those are standard input and output.
/// The mounts end with the process.
const ENTER: &str = "mount --rbind /proc \"$1/proc\" && mount --rbind /dev \"$1/dev\" && \
                     mount --bind \"$2\" \"$1/shared\" && root=$1 && shift 2 && \
                     exec chroot \"$root\" \"$@\" 3<&0 4>&1 0</dev/null 1>&2";

/// Returns the folder with the browser. Makes it if it is missing.
pub(crate) fn prepare() -> Result<PathBuf> {
    let done = cache::root()?.join(FOLDER);
    if done.join(PROGRAM).is_file() {
        return Ok(done);
    }
    let cache = Cache::lock()?;
    let archive = Archive::new(&cache);
    cache.folder(FOLDER, |dir| {
        let debs = dir.join("debs");
        fs::create_dir_all(&debs).with_context(|| format!("cannot create {}", debs.display()))?;
        let wanted: Vec<String> = PACKAGES.iter().map(|&name| name.to_owned()).collect();
        let mut files = archive.trixie()?.download_with_dependencies(&debs, &wanted)?;
        say("browser: unpacking Chromium");
        let named = |deb: &Path, start: &str| {
            deb.file_name().is_some_and(|name| name.to_string_lossy().starts_with(start))
        };
        files.retain(|deb| !UNUSED.iter().any(|start| named(deb, start)));
        // base-files makes /bin and /lib the links that the others rely on.
        files.sort_by_key(|deb| !named(deb, "base-files_"));
        for deb in files {
            apt::unpack(&deb, dir)?;
        }
        fs::create_dir_all(dir.join(SHARED.trim_start_matches('/'))).context("cannot make a mount point")?;
        fs::remove_dir_all(&debs).context("cannot remove the package files")
    })
}

/// Returns a command for the browser that speaks the DevTools protocol on standard input and output. It sees `shared`
/// as [`SHARED`], and no network: not even loopback is up.
pub(crate) fn command(shared: &Path) -> Result<Command> {
    let root = prepare()?;
    let mut command = toolchain::unshare();
    command.args(["--net", "sh", "-c", ENTER, "sh"]).arg(&root).arg(shared);
    command.arg(Path::new("/").join(PROGRAM)).args([
        // There is no other user for it here, and its pages are ours.
        "--no-sandbox",
        "--disable-gpu",
        "--disable-extensions",
        "--hide-scrollbars",
        "--no-first-run",
        "--remote-debugging-pipe",
    ]);
    command.arg(format!("--user-data-dir={SHARED}/profile"));
    Ok(command)
}

/// Returns the reason if the browser cannot be used on this machine even after a download.
pub(crate) fn refusal() -> Option<String> {
    let tried = cmd::run(toolchain::unshare().args(["--net", "mount", "--rbind", "/proc", "/mnt"]));
    tried.err().map(|why| {
        format!(
            "the browser runs in a folder entered with mount and chroot, without network, and this user may make \
             neither (it takes root, or unprivileged user namespaces): {why:#}"
        )
    })
}
