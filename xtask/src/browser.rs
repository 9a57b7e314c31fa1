//! Headless Chromium, controlled by the DevTools protocol over a pipe: JSON messages that end with a zero byte.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::setup::browser;

/// Longest wait for an answer. Only a browser that hangs takes longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running browser with one page. Made by `test/html`, which opens the report's pages in it. Killed when dropped.
pub(crate) struct Browser {
    child: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    last: u64,
    session: Option<String>,
    /// Events that the browser sent since [`Browser::open`].
    events: Vec<Value>,
}

impl Drop for Browser {
    fn drop(&mut self) {
        // An error means that it has ended. It has nothing to save.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Browser {
    /// Starts the browser. `shared` is the folder of its pages and of its log.
    pub(crate) fn start(shared: &Path) -> Result<Self> {
        let words = shared.join("browser.log");
        let log = File::create(&words).with_context(|| format!("cannot create {}", words.display()))?;
        let mut child = browser::command(shared)?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context("cannot start unshare")?;
        let to = child.stdin.take().context("no pipe to the browser")?;
        let output = child.stdout.take().context("no pipe from the browser")?;
        let (sender, from) = mpsc::channel();
        thread::spawn(move || {
            for message in BufReader::new(output).split(0).map_while(std::result::Result::ok) {
                let Ok(value) = serde_json::from_slice(&message) else { break };
                if sender.send(value).is_err() {
                    break;
                }
            }
        });
        let mut browser = Self { child, to, from, last: 0, session: None, events: Vec::new() };
        let page = browser
            .ask("Target.createTarget", json!({"url": "about:blank"}))
            .with_context(|| format!("Chromium did not start; it said: {}", said(&words)))?;
        let attached = browser
            .ask("Target.attachToTarget", json!({"targetId": page.get("targetId"), "flatten": true}))?;
        browser.session = attached.get("sessionId").and_then(Value::as_str).map(str::to_owned);
        ensure!(browser.session.is_some(), "no session: {attached}");
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.ask(&format!("{domain}.enable"), json!({}))?;
        }
        Ok(browser)
    }

    /// Calls a method and waits for its result.
    pub(crate) fn ask(&mut self, method: &str, parameters: Value) -> Result<Value> {
        self.last += 1;
        let mut message = json!({"id": self.last, "method": method, "params": parameters});
        if let (Some(session), Some(fields)) = (&self.session, message.as_object_mut()) {
            fields.insert("sessionId".to_owned(), json!(session));
        }
        let mut bytes = serde_json::to_vec(&message)?;
        bytes.push(0);
        self.to.write_all(&bytes).with_context(|| format!("the browser is gone ({method})"))?;
        loop {
            let mut answer = self
                .from
                .recv_timeout(PATIENCE)
                .with_context(|| format!("the browser does not answer {method}"))?;
            if answer.get("id").and_then(Value::as_u64) != Some(self.last) {
                self.events.push(answer);
                continue;
            }
            if let Some(error) = answer.get("error") {
                bail!("{method}: {error}");
            }
            return Ok(answer.get_mut("result").map(Value::take).unwrap_or_default());
        }
    }

    /// Waits until the browser has sent an event of this name.
    fn wait(&mut self, method: &str) -> Result<()> {
        let is = |event: &Value| event.get("method").and_then(Value::as_str) == Some(method);
        while !self.events.iter().any(is) {
            let event = self
                .from
                .recv_timeout(PATIENCE)
                .with_context(|| format!("the browser never said {method}"))?;
            self.events.push(event);
        }
        Ok(())
    }

    /// Opens a page in a window of this size and waits until it is loaded and drawn.
    pub(crate) fn open(&mut self, url: &str, width: u32, height: u32) -> Result<()> {
        self.size(width, height)?;
        self.events.clear();
        let answer = self.ask("Page.navigate", json!({"url": url}))?;
        ensure!(answer.get("errorText").is_none(), "cannot open {url}: {answer}");
        self.wait("Page.loadEventFired")?;
        self.settle()
    }

    /// Sets the size of the window.
    pub(crate) fn size(&mut self, width: u32, height: u32) -> Result<()> {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.ask("Emulation.setDeviceMetricsOverride", size).map(drop)
    }

    /// Waits until pending drawing is done.
    pub(crate) fn settle(&mut self) -> Result<()> {
        self.run(
            "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 0))))",
        )
        .map(drop)
    }

    /// Runs a script in the page, to which the page's content security policy does not apply. Returns its result.
    pub(crate) fn run(&mut self, script: &str) -> Result<Value> {
        let wanted = json!({"expression": script, "awaitPromise": true, "returnByValue": true});
        let mut answer = self.ask("Runtime.evaluate", wanted)?;
        if let Some(thrown) = answer.get("exceptionDetails") {
            bail!("a script of the check failed: {thrown}");
        }
        Ok(answer.pointer_mut("/result/value").map(Value::take).unwrap_or_default())
    }

    /// Returns the parameters of all events of this name since the page was opened.
    pub(crate) fn told(&self, method: &str) -> Vec<&Value> {
        let is = |event: &&Value| event.get("method").and_then(Value::as_str) == Some(method);
        self.events.iter().filter(is).filter_map(|event| event.get("params")).collect()
    }
}

/// Returns the last lines of a file, for an error message.
fn said(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(5).collect();
    if lines.is_empty() { "nothing".to_owned() } else { lines.join(" | ") }
}
