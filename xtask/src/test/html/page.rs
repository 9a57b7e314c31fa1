//! A page that is open in the browser, and the comparisons for it.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{
    figures::{self, word},
    read,
};
use crate::{browser::Browser, setup::browser::SHARED};

/// Script that runs in the page and returns its layout and its text, with all figures or without.
const LOOK: &str = include_str!("look.js");

/// Width of the picture's left part in pixels. It has the names; the time axis begins here.
const GUTTER: f64 = 196.0;

/// Contrast that WCAG (AA) demands for text of this size.
const CONTRAST: f64 = 4.5;

/// Largest PNG of an empty picture, in bytes.
const BLANK: usize = 12_000;

/// An open page, and its document. A check opens it, then compares it or uses it like a person.
pub(super) struct Page<'browser> {
    browser: &'browser mut Browser,
    folder: &'browser Path,
    document: Value,
}

/// Returns a number of the page's account of itself.
pub(super) fn number(of: &Value, name: &str) -> Result<f64> {
    of.get(name).and_then(Value::as_f64).with_context(|| format!("no number {name} in {of}"))
}

/// Returns true if two whole numbers are the same.
pub(super) fn same(one: f64, other: f64) -> bool {
    (one - other).abs() < 0.5
}

fn list<'v>(of: &'v Value, name: &str) -> Result<&'v Vec<Value>> {
    of.get(name).and_then(Value::as_array).with_context(|| format!("no list {name}"))
}

impl<'browser> Page<'browser> {
    pub(super) fn open(
        browser: &'browser mut Browser,
        folder: &'browser Path,
        name: &str,
        width: u32,
        height: u32,
    ) -> Result<Self> {
        let document = serde_json::from_slice(&read(folder, &format!("{name}.json"))?)?;
        // A new page has the system's colours.
        browser.ask("Emulation.setEmulatedMedia", json!({"media": "", "features": []}))?;
        browser.open(&format!("file://{SHARED}/{name}.html"), width, height)?;
        Ok(Self { browser, folder, document })
    }

    pub(super) fn browser(&mut self) -> &mut Browser {
        self.browser
    }

    /// Runs a script in the page.
    pub(super) fn run(&mut self, script: &str) -> Result<Value> {
        self.browser.run(script)
    }

    /// Returns the number of elements of a list in the document.
    pub(super) fn list(&self, pointer: &str) -> usize {
        self.document.pointer(pointer).and_then(Value::as_array).map_or(0, Vec::len)
    }

    /// Returns a number of the document.
    pub(super) fn value(&self, pointer: &str) -> Result<f64> {
        figures::place(&self.document, pointer)?.as_f64().with_context(|| format!("{pointer} is no number"))
    }

    /// Returns the page's account of itself, without its figures.
    pub(super) fn look(&mut self) -> Result<Value> {
        self.browser.settle()?;
        self.browser.run(&format!("({LOOK})(false)"))
    }

    /// Sets the system's colours: `light` or `dark`.
    pub(super) fn scheme(&mut self, scheme: &str) -> Result<()> {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.browser.ask("Emulation.setEmulatedMedia", json!({"media": "", "features": features}))?;
        self.browser.settle()
    }

    /// Switches the page to paper: the media, and the event that comes before printing.
    pub(super) fn as_on_paper(&mut self) -> Result<()> {
        let features = json!([{"name": "prefers-color-scheme", "value": "dark"}]);
        self.browser.ask("Emulation.setEmulatedMedia", json!({"media": "print", "features": features}))?;
        self.run("dispatchEvent(new Event('beforeprint')), 0")?;
        let look = self.look()?;
        ensure!(
            list(&look, "colours")?.first() == Some(&json!("rgb(255, 255, 255)")),
            "paper is not white: {look}"
        );
        let controls = self.run("[...document.querySelectorAll('button, .controls, #tip')].filter((node) => node.getClientRects().length && !node.matches('.choose')).length")?;
        ensure!(controls == json!(0), "{controls} controls are on paper");
        Ok(())
    }

    /// Compares all figures with the document, and checks the layout. Returns the number of figures.
    pub(super) fn compare(&mut self) -> Result<usize> {
        self.browser.settle()?;
        let look = self.browser.run(&format!("({LOOK})(true)"))?;
        let (fields, counts) = (list(&look, "fields")?, list(&look, "counts")?);
        for element in fields {
            figures::field(&self.document, element)?;
        }
        for element in counts {
            figures::count(&self.document, element)?;
        }
        let stray = list(&look, "stray")?;
        ensure!(stray.is_empty(), "numbers that are from nowhere: {stray:?}");
        self.lanes(&look)?;
        layout(&look)?;
        self.stages(&look)?;
        Ok(fields.len() + counts.len())
    }

    /// Compares the places of spans and moments in the picture with their times.
    fn lanes(&self, look: &Value) -> Result<()> {
        if self.list("/devices") == 0 || look.get("from").is_none_or(Value::is_null) {
            return Ok(());
        }
        let (from, to) = (number(look, "from")?, number(look, "to")?);
        ensure!(to > from && number(look, "lanes")? >= 1.0, "no lanes, or from {from} to {to}");
        for item in list(look, "items")? {
            let name = word(item, "field").unwrap_or_default();
            let one = figures::place(&self.document, name)?;
            let time = |keys: &[&str]| keys.iter().find_map(|key| one.get(key)?.as_f64());
            let (start, end) = (number(item, "start")?, number(item, "end")?);
            let expected = time(&["start_ns", "first_ns", "at_ns"]);
            ensure!(
                expected.is_some_and(|expected| same(expected, start)),
                "{name} starts at {expected:?}, in the picture at {start}"
            );
            if let Some(expected) = time(&["end_ns", "last_ns", "stop_ns"]) {
                ensure!(same(expected, end), "{name} ends at {expected}, in the picture at {end}");
            }
        }
        axis(look, from, to)
    }

    /// Checks that the widths of the stages in the bars are their shares.
    fn stages(&self, look: &Value) -> Result<()> {
        for share in list(look, "shares")? {
            let (Some(name), Some(width)) =
                (share.get(0).and_then(Value::as_str), share.get(1).and_then(Value::as_f64))
            else {
                continue;
            };
            let value = figures::place(&self.document, name)?.as_f64().context("no share")?;
            let downtime = name.split("/stages/").next().unwrap_or_default();
            let total = figures::place(&self.document, &format!("{downtime}/total_ns"))?;
            let expected = value / total.as_f64().context("no total")?.max(1.0) * 100.0;
            ensure!((width - expected).abs() < 0.01, "{name} is {expected} %, its bar {width}");
        }
        Ok(())
    }

    /// Checks that the page made no request to the network, had no error, and violated no policy.
    pub(super) fn quiet(&mut self) -> Result<()> {
        self.browser.settle()?;
        let requests = self.browser.told("Network.requestWillBeSent");
        let urls: Vec<_> =
            requests.iter().filter_map(|one| one.pointer("/request/url")).filter_map(Value::as_str).collect();
        ensure!(urls.len() == 1 && urls.iter().all(|url| url.starts_with("file:")), "it asked for {urls:?}");
        for event in ["Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"] {
            let told = self.browser.told(event);
            ensure!(told.is_empty(), "{event}: {told:?}");
        }
        Ok(())
    }

    /// Writes a picture of the whole page. It must not be empty.
    pub(super) fn picture(&mut self, name: &str) -> Result<()> {
        let height = number(
            &self.run(
                "({height: Math.min(document.documentElement.scrollHeight, 4000), width: innerWidth})",
            )?,
            "height",
        )?;
        let width = number(&self.run("({width: innerWidth})")?, "width")?;
        let clip = json!({"x": 0, "y": 0, "width": width, "height": height, "scale": 1});
        let shot = self.browser.ask(
            "Page.captureScreenshot",
            json!({"format": "png", "captureBeyondViewport": true, "clip": clip}),
        )?;
        let data = word(&shot, "data").context("no picture")?;
        let bytes = base64(data).context("the picture is not base64")?;
        ensure!(bytes.len() > BLANK, "{name} is as good as blank: {} bytes", bytes.len());
        fs::write(self.folder.join(name), bytes).with_context(|| format!("cannot write {name}"))?;
        Ok(())
    }

    /// Prints to a PDF. Returns the number of its pages.
    pub(super) fn print(&mut self, name: &str) -> Result<usize> {
        let printed = self
            .browser
            .ask("Page.printToPDF", json!({"preferCSSPageSize": true, "printBackground": false}))?;
        let bytes = base64(word(&printed, "data").context("no PDF")?).context("the PDF is not base64")?;
        let pages = bytes.windows(11).filter(|word| word == b"/Type /Page").count()
            - bytes.windows(12).filter(|word| word == b"/Type /Pages").count();
        fs::write(self.folder.join(name), bytes).with_context(|| format!("cannot write {name}"))?;
        Ok(pages)
    }
}

/// Checks that nothing overlaps, sticks out, is hard to read, or comes from elsewhere.
pub(super) fn layout(look: &Value) -> Result<()> {
    for (what, of) in [("overlaps", "texts overlap"), ("foreign", "the page has foreign elements")] {
        let found = list(look, what)?;
        ensure!(found.is_empty(), "{of}: {} times, {:?}", found.len(), found.first());
    }
    ensure!(number(look, "wide")? <= 0.0, "the page is wider than the window by {} px", look["wide"]);
    ensure!(same(number(look, "unnamed")?, 0.0), "controls or pictures without a name");
    if let Some(worst) = look.get("contrast").filter(|worst| !worst.is_null()) {
        let ratio = worst.get(0).and_then(Value::as_f64).context("no contrast")?;
        ensure!(ratio >= CONTRAST, "hard to read, contrast {ratio:.2}: {worst}");
    }
    Ok(())
}

/// Checks that all places of items and ticks lie on one straight line over their times.
fn axis(look: &Value, from: f64, to: f64) -> Result<()> {
    let width = number(look, "axis")?;
    let x = |at: f64| GUTTER + (at.clamp(from, to) - from) / (to - from) * width;
    let base = match word(look, "base").and_then(|base| base.strip_suffix(" +")) {
        Some(base) => figures::read(base, "at")?.0,
        None => 0.0,
    };
    let ticks = list(look, "ticks")?;
    ensure!(ticks.len() >= 3, "the axis has {} ticks", ticks.len());
    for tick in ticks {
        let (label, place) = (tick.get(0).and_then(Value::as_str), tick.get(1).and_then(Value::as_f64));
        let (label, place) = (label.context("no label")?, place.context("no place")?);
        let (after, _) =
            if label == "0" { (0.0, 0.0) } else { figures::read(label.trim_start_matches('+'), "ns")? };
        // A base is shown to the microsecond.
        let off = if base > 0.0 { 501.0 / (to - from) * width } else { 0.0 };
        ensure!(
            (place - x(base + after)).abs() < 1.0 + off,
            "tick {label} is at {place}, not {}",
            x(base + after)
        );
    }
    for item in list(look, "items")? {
        let name = word(item, "field").unwrap_or_default();
        let (start, end) = (number(item, "start")?, number(item, "end")?);
        let (left, wide) = (number(item, "x")?, number(item, "width")?);
        if item.get("moment") == Some(&Value::Bool(true)) {
            ensure!(
                (left + wide / 2.0 - x(start)).abs() < 4.0,
                "{name} is at {left} instead of {}",
                x(start)
            );
            continue;
        }
        ensure!((left - x(start)).abs() < 1.0, "{name} begins at {left} instead of {}", x(start));
        let expected = (x(end) - x(start)).max(1.0);
        ensure!((wide - expected).abs() < 1.5, "{name} is {wide} wide instead of {expected}");
    }
    Ok(())
}

/// Decodes base64. `None` if the text is none.
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0);
    for c in text.trim_end_matches('=').bytes() {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    #[test]
    fn base64_of_known_words() {
        for (text, bytes) in [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9vYg==", "foob")]
        {
            assert_eq!(super::base64(text).as_deref(), Some(bytes.as_bytes()));
        }
        assert_eq!(super::base64("Z?"), None);
    }
}
