//! Uses the page as a person does: pointer, wheel and keys, by the browser's own input.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{
    Found, Started, figures,
    page::{Page, layout, number, same},
};

/// The modifier Ctrl in the protocol's bits.
const CTRL: u32 = 2;
const SHIFT: u32 = 8;

impl Page<'_> {
    fn mouse(&mut self, kind: &str, (x, y): (f64, f64), more: &Value) -> Result<()> {
        let mut event = json!({"type": kind, "x": x, "y": y});
        if let (Some(fields), Some(more)) = (event.as_object_mut(), more.as_object()) {
            fields.extend(more.clone());
        }
        self.browser().ask("Input.dispatchMouseEvent", event).map(drop)
    }

    fn click(&mut self, at: (f64, f64), times: u32) -> Result<()> {
        for count in 1..=times {
            for kind in ["mousePressed", "mouseReleased"] {
                self.mouse(kind, at, &json!({"button": "left", "buttons": 1, "clickCount": count}))?;
            }
        }
        Ok(())
    }

    fn drag(&mut self, from: (f64, f64), to: (f64, f64), modifiers: u32) -> Result<()> {
        let held =
            |clicks| json!({"button": "left", "buttons": 1, "clickCount": clicks, "modifiers": modifiers});
        self.mouse("mousePressed", from, &held(1))?;
        self.mouse("mouseMoved", (f64::midpoint(from.0, to.0), to.1), &held(0))?;
        self.mouse("mouseMoved", to, &held(0))?;
        self.mouse("mouseReleased", to, &held(1))
    }

    fn key(&mut self, key: &str) -> Result<()> {
        let text = if key.chars().count() == 1 { key } else { "" };
        for kind in ["keyDown", "keyUp"] {
            let event = json!({"type": kind, "key": key, "text": if kind == "keyDown" { text } else { "" }});
            self.browser().ask("Input.dispatchKeyEvent", event)?;
        }
        Ok(())
    }

    /// Returns the range that the picture shows.
    fn range(&mut self) -> Result<(f64, f64)> {
        let look = self.look()?;
        Ok((number(&look, "from")?, number(&look, "to")?))
    }

    /// Returns the middle of the first element that a selector finds.
    fn middle(&mut self, selector: &str) -> Result<(f64, f64)> {
        let script = format!(
            "(() => {{ const node = document.querySelector({}); node.scrollIntoView({{block: 'center'}}); \
             const box = node.getBoundingClientRect(); \
             return {{x: box.x + box.width / 2, y: box.y + box.height / 2}}; }})()",
            json!(selector)
        );
        let at = self.run(&script)?;
        Ok((number(&at, "x")?, number(&at, "y")?))
    }

    fn press(&mut self, selector: &str) -> Result<()> {
        let at = self.middle(selector)?;
        self.click(at, 1)
    }
}

fn span((from, to): (f64, f64)) -> f64 {
    to - from
}

pub(super) fn all(started: &mut Started) -> Result<Found> {
    let mut page = started.open("merged", 1400, 1200)?;
    zoom(&mut page)?;
    hover(&mut page)?;
    keys(&mut page)?;
    theme(&mut page)?;
    page.quiet()?;
    let mut page = started.open("many", 1400, 1200)?;
    choose(&mut page)?;
    page.quiet()?;
    Ok(Found::one("wheel, drag, double click, buttons; tips as in the document; keys; theme; chooser"))
}

fn zoom(page: &mut Page<'_>) -> Result<()> {
    let whole = page.range()?;
    let lanes = page.middle("svg.lanes")?;
    page.mouse("mouseWheel", lanes, &json!({"deltaX": 0, "deltaY": -400, "modifiers": CTRL}))?;
    let zoomed = page.range()?;
    ensure!(span(zoomed) < span(whole) * 0.7, "Ctrl and the wheel went from {whole:?} to {zoomed:?}");
    page.compare().context("zoomed by the wheel")?;
    page.mouse("mouseWheel", lanes, &json!({"deltaX": 300, "deltaY": 0}))?;
    let panned = page.range()?;
    ensure!(
        panned.0 > zoomed.0 && (span(panned) - span(zoomed)).abs() < 2.0,
        "a wheel sideways went from {zoomed:?} to {panned:?}"
    );
    page.press("button[aria-label^='fit']")?;
    ensure!(page.range()? == whole, "fit does not fit");
    // A drag zooms to the range that it covers.
    let lanes = page.middle("svg.lanes")?;
    page.drag((lanes.0 - 100.0, lanes.1), (lanes.0 + 100.0, lanes.1), 0)?;
    let dragged = page.range()?;
    let expected = span(whole) * 200.0 / number(&page.look()?, "axis")?;
    ensure!(
        (span(dragged) - expected).abs() < expected * 0.02,
        "a drag shows {dragged:?}, not {expected} ns"
    );
    page.drag((lanes.0, lanes.1), (lanes.0 + 100.0, lanes.1), SHIFT)?;
    let moved = page.range()?;
    ensure!(
        (dragged.0
            - moved.0
            - span(dragged) * 100.0 * span(dragged) / expected / number(&page.look()?, "axis")?)
        .abs()
            < span(dragged) * 0.02,
        "a drag with Shift went from {dragged:?} to {moved:?}"
    );
    page.press("button[aria-label^='zoom to the downtime']")?;
    let look = page.look()?;
    let (from, to) = (number(&look, "from")?, number(&look, "to")?);
    let downtime = |name: &str| page.value(&format!("/migrations/0/downtime/{name}"));
    ensure!(
        from < downtime("start_ns")? && to > downtime("end_ns")? && to - from < downtime("total_ns")? * 1.5,
        "the downtime is not what {from} to {to} shows"
    );
    page.compare().context("zoomed to the downtime")?;
    page.picture("merged-downtime.png")?;
    let arc = page.middle("svg.lanes .item.arc")?;
    page.click(arc, 2)?;
    let close = page.range()?;
    ensure!(span(close) < to - from, "a double click on an arc did not zoom in: {close:?}");
    page.compare().context("zoomed to an arc")?;
    page.picture("merged-arc.png")?;
    page.press("button[aria-label^='fit']")
}

/// Checks that the text about an item is in the document.
fn hover(page: &mut Page<'_>) -> Result<()> {
    for (selector, says) in [
        ("svg.lanes .item.state-pre_copy", "PRE_COPY"),
        ("svg.lanes .item.part", "throughput"),
        ("svg.lanes .item.downtime", "total"),
        ("svg.lanes .item.arc", "target"),
        ("svg.lanes .item.mark", "at"),
        ("svg.charts", "bytes moved"),
    ] {
        let at = page.middle(selector)?;
        page.mouse("mouseMoved", at, &json!({}))?;
        let look = page.look()?;
        let tip = figures::word(&look, "tip").with_context(|| format!("no tip over {selector}"))?;
        ensure!(tip.contains(says), "the tip over {selector} says {tip:?}");
        page.compare().with_context(|| format!("the tip over {selector}"))?;
    }
    page.mouse("mouseMoved", (5.0, 5.0), &json!({}))?;
    ensure!(figures::word(&page.look()?, "tip").is_none(), "the tip stays");
    Ok(())
}

fn keys(page: &mut Page<'_>) -> Result<()> {
    let whole = page.range()?;
    page.run("document.querySelector('svg.lanes').focus({preventScroll: true})")?;
    page.key("+")?;
    let zoomed = page.range()?;
    ensure!((span(zoomed) - span(whole) / 2.0).abs() < 2.0, "+ went from {whole:?} to {zoomed:?}");
    page.key("ArrowRight")?;
    let panned = page.range()?;
    ensure!(panned.0 > zoomed.0, "→ went from {zoomed:?} to {panned:?}");
    page.key("0")?;
    ensure!(page.range()? == whole, "0 does not fit");
    page.key("Enter")?;
    page.key("ArrowDown")?;
    page.key("ArrowRight")?;
    let focused = page.run("document.activeElement.dataset.field ?? ''")?;
    ensure!(focused == json!("/devices/0/states/3"), "the keys lead to {focused}");
    let look = page.look()?;
    let tip = figures::word(&look, "tip").context("no tip for who uses keys")?;
    ensure!(tip.starts_with("STOP_COPY"), "the tip says {tip:?}");
    let live = page.run("document.getElementById('live').textContent")?;
    ensure!(live.as_str().is_some_and(|said| said.starts_with("STOP_COPY,")), "a screen reader hears {live}");
    page.key("Escape")?;
    Ok(())
}

fn theme(page: &mut Page<'_>) -> Result<()> {
    page.scheme("light")?;
    let mut grounds = Vec::new();
    for _ in 0..3 {
        page.press("#theme")?;
        grounds.push(page.look()?.pointer("/colours/0").cloned());
    }
    ensure!(grounds[0] != grounds[1] && grounds[0] == grounds[2], "light, dark, system: {grounds:?}");
    Ok(())
}

fn choose(page: &mut Page<'_>) -> Result<()> {
    page.press("table.migrations tr[data-migration='7'] button")?;
    let look = page.look()?;
    ensure!(look.get("sections") == Some(&json!([7])), "{:?} is shown", look.get("sections"));
    let begin = page.value("/migrations/7/start_ns")?;
    let (from, to) = (number(&look, "from")?, number(&look, "to")?);
    ensure!(
        from < begin && begin < to && same(number(&look, "lanes")?, 2.0),
        "the picture is of something else"
    );
    page.press("#all")?;
    let look = page.look()?;
    ensure!(
        same(number(&look, "lanes")?, 200.0) && same(number(&look, "to")?, page.value("/duration_ns")?),
        "not all"
    );
    layout(&look).context("all of many")?;
    page.picture("many-all.png")
}
