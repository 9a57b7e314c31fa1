//! The report's page in a real browser: every figure is compared with the document, the page loads nothing from
//! outside, and it can be used.

mod figures;
mod page;
mod using;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use self::page::Page;
use super::{Check, Found, guest::Lab, host::HOST_CRATES, skip};
use crate::{browser::Browser, cmd, setup, workspace};

/// A recording that is kept with the sources.
const RECORDING: &str = "vfio-trace/src/cli/replay/testdata/mtty-6.12-format-1.vft";

/// Script that counts the elements which `<img onerror>`s in names would become.
const ALERT: &str = "document.querySelectorAll('img').length";

pub(super) fn checks() -> Vec<Check> {
    [
        Check::new("html: figures of made-up documents", made_up),
        Check::new("html: figures of a recording", recording),
        Check::new("html: zoom, hover, keys, theme", |lab| started(lab, using::all)),
        Check::new("html: names that mean harm", |lab| started(lab, hostile)),
        Check::new("html: on paper", |lab| started(lab, paper)),
    ]
    // The checks share one folder and its browser profile, so they run one after the other.
    .map(|check| check.sharing("browser"))
    .into()
}

/// A folder with the made-up pages, and a browser that can read it.
struct Started {
    browser: Browser,
    folder: PathBuf,
}

impl Started {
    fn new(lab: &Lab) -> Result<Self> {
        if let Some(why) = setup::browser::refusal() {
            return Err(skip(why));
        }
        setup::browser::prepare()
            .map_err(|why| skip(format!("Chromium cannot be had on this machine: {why:#}")))?;
        let folder = lab.folder().join("html");
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        // Chromium refuses a profile that another Chromium has not closed.
        let profile = folder.join("profile");
        if profile.exists() {
            fs::remove_dir_all(&profile).context("cannot remove the browser's old profile")?;
        }
        Ok(Self { browser: Browser::start(&folder)?, folder })
    }

    /// Runs the library's unit test that writes the made-up documents and their pages.
    fn made_up(&self) -> Result<()> {
        let mut cargo = Command::new("cargo");
        cargo.args(["test", "--quiet"]).args(HOST_CRATES).args(["--lib", "output::html::tests::pages"]);
        cargo.current_dir(workspace::root()).env("VFIO_TRACE_PAGES", &self.folder);
        for name in ["merged", "hostile", "many", "bare"] {
            drop(fs::remove_file(self.folder.join(format!("{name}.html"))));
        }
        cmd::run(&mut cargo).context("the library's pages")?;
        Ok(())
    }

    /// Opens `NAME.html`, with the document in `NAME.json`.
    fn open(&mut self, name: &str, width: u32, height: u32) -> Result<Page<'_>> {
        Page::open(&mut self.browser, &self.folder, name, width, height)
    }
}

fn started(lab: &Lab, check: impl Fn(&mut Started) -> Result<Found>) -> Result<Found> {
    let mut started = Started::new(lab)?;
    if !started.folder.join("merged.html").exists() {
        started.made_up()?;
    }
    check(&mut started)
}

fn made_up(lab: &Lab) -> Result<Found> {
    let mut started = Started::new(lab)?;
    started.made_up()?;
    let mut said = Vec::new();
    for (name, least) in [("merged", 500), ("hostile", 300), ("many", 10_000), ("bare", 20)] {
        for (theme, width) in [("light", 1400), ("dark", 1100)] {
            let mut page = started.open(name, width, 1000)?;
            page.scheme(theme)?;
            let figures = page.compare().with_context(|| format!("{name}, {theme}"))?;
            ensure!(figures >= least, "only {figures} figures on {name}");
            page.quiet()?;
            page.picture(&format!("{name}-{theme}.png"))?;
            if theme == "light" {
                said.push(format!("{name} {figures}"));
            }
        }
    }
    Ok(Found::one(format!("{} figures as in the document; light and dark", said.join(", "))))
}

/// Compares the page and the JSON that the program itself makes of one recording.
fn recording(lab: &Lab) -> Result<Found> {
    let mut started = Started::new(lab)?;
    let file = workspace::root().join(RECORDING);
    for (option, kind) in [("--json", "json"), ("--html", "html")] {
        let mut report = Command::new(workspace::bin_dir()?.join("vfio-trace"));
        let output = cmd::run(report.arg("report").arg(option).arg(&file))?;
        fs::write(started.folder.join(format!("recording.{kind}")), output.stdout)
            .context("cannot write a page")?;
    }
    let mut page = started.open("recording", 1400, 1000)?;
    let figures = page.compare()?;
    page.quiet()?;
    page.picture("recording.png")?;
    let migrations = page.list("/migrations");
    let arcs = page.list("/devices/0/arcs");
    ensure!(migrations > 0 && arcs > 0, "{migrations} migrations and {arcs} arcs in the recording");
    Ok(Found::one(format!("{figures} figures as in report --json, {arcs} arcs")))
}

fn hostile(started: &mut Started) -> Result<Found> {
    let mut page = started.open("hostile", 1400, 1000)?;
    ensure!(page.run(ALERT)?.as_u64() == Some(0), "a name became an element");
    ensure!(page.run("Boolean(globalThis.hacked)")?.as_bool() == Some(false), "a script of a name ran");
    page.quiet()?;
    // An attacker's script would try these next; the policy must stop them.
    let tried = page.run(include_str!("attack.js"))?;
    let stopped = tried.get("stopped").and_then(Value::as_array).map_or(0, Vec::len);
    ensure!(tried.get("ran").and_then(Value::as_bool) == Some(false), "an injected script ran");
    ensure!(stopped >= 5, "the policy stopped {stopped} of 5 attempts: {tried}");
    Ok(Found::one(format!("no element, no script; the policy stopped {stopped} attempts")))
}

fn paper(started: &mut Started) -> Result<Found> {
    let mut said = Vec::new();
    for name in ["merged", "hostile"] {
        let mut page = started.open(name, 1060, 1000)?;
        page.scheme("dark")?;
        let pages = page.print(&format!("{name}.pdf"))?;
        ensure!((1..=12).contains(&pages), "{name} takes {pages} pages");
        said.push(format!("{name} {pages} pages"));
        page.as_on_paper()?;
        page.picture(&format!("{name}-paper.png"))?;
        let figures = page.compare().with_context(|| format!("{name} on paper"))?;
        ensure!(figures > 300, "only {figures} figures on paper");
        page.quiet()?;
    }
    Ok(Found::one(format!("{}, light although the screen is dark, without controls", said.join(", "))))
}

/// Returns the contents of a file of the results folder.
fn read(folder: &Path, name: &str) -> Result<Vec<u8>> {
    let path = folder.join(name);
    fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
}
