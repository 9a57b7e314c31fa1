//! Compares a figure on the page with the one in the document: by its place there, and by parsing the text shown.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

/// Returns a text field of the page's account of itself.
pub(super) fn word<'v>(of: &'v Value, name: &str) -> Option<&'v str> {
    of.get(name).and_then(Value::as_str)
}

/// Returns a value of the document.
pub(super) fn place<'v>(document: &'v Value, pointer: &str) -> Result<&'v Value> {
    document.pointer(pointer).with_context(|| format!("the document has no {pointer}"))
}

/// Compares one element of the page that has `data-field`.
pub(super) fn field(document: &Value, element: &Value) -> Result<()> {
    let pointer = word(element, "field").context("no field")?;
    let shown = word(element, "shown").unwrap_or_default();
    let value = place(document, pointer)?;
    let Some(raw) = word(element, "value") else {
        return text(value, element, shown).with_context(|| pointer.to_owned());
    };
    let expected = match (word(element, "minus"), word(element, "over")) {
        (Some(other), _) => pair(value, place(document, other)?).map(|(a, b)| a - b),
        (_, Some(other)) => {
            pair(value, place(document, other)?).filter(|(_, b)| *b > 0.0).map(|(a, b)| a / b)
        },
        _ => value.as_f64(),
    };
    let Some(expected) = expected else {
        ensure!(raw == "null" && (shown == "–"), "{pointer} is not known, and shown as {shown:?}");
        return Ok(());
    };
    let raw: f64 = raw.parse().with_context(|| format!("{pointer} has the value {raw:?}"))?;
    ensure!(close(raw, expected, expected.abs() * 1e-12), "{pointer} is {expected} and on the page {raw}");
    // The element of a bar has no text.
    if shown.is_empty() {
        return Ok(());
    }
    let unit = word(element, "unit").context("a number without unit")?;
    let (read, off) = read(shown, unit).with_context(|| format!("{pointer} is shown as {shown:?}"))?;
    ensure!(close(read, expected, off), "{pointer} is {expected}, and shown as {shown:?}, which is {read}");
    Ok(())
}

fn pair(one: &Value, other: &Value) -> Option<(f64, f64)> {
    Some((one.as_f64()?, other.as_f64()?))
}

fn close(one: f64, other: f64, off: f64) -> bool {
    (one - other).abs() <= off
}

/// Compares a text with the document's: whole or, where there is no room, its two ends.
fn text(value: &Value, element: &Value, shown: &str) -> Result<()> {
    let has = |name| element.get(name).is_some();
    let expected = match value {
        Value::Null => "–".to_owned(),
        Value::Bool(yes) if has("bool") => if *yes { "yes" } else { "no" }.to_owned(),
        Value::String(text) if has("words") => text.replace('_', " "),
        Value::String(text) => text.clone(),
        other => bail!("a text is shown for {other}"),
    };
    if has("short") {
        let fits = shown
            .split_once('…')
            .map_or(shown == expected, |(start, end)| expected.starts_with(start) && expected.ends_with(end));
        ensure!(fits, "{expected:?} is shortened to {shown:?}");
    } else {
        ensure!(shown == expected, "{expected:?} is shown as {shown:?}");
    }
    Ok(())
}

/// Compares the length of a list, or the number of its elements with a value, with the text shown.
pub(super) fn count(document: &Value, element: &Value) -> Result<()> {
    let pointer = word(element, "count").context("no list")?;
    let list = place(document, pointer)?.as_array().with_context(|| format!("{pointer} is no list"))?;
    let fits = |one: &&Value| word(element, "key").is_none_or(|key| word(one, key) == word(element, "is"));
    let expected = list.iter().filter(fits).count();
    let shown = word(element, "shown").unwrap_or_default().replace('\u{202f}', "");
    ensure!(shown == expected.to_string(), "{pointer} has {expected}, and {shown:?} is shown");
    ensure!(word(element, "value") == Some(shown.as_str()), "{pointer}: value and text differ");
    Ok(())
}

/// Returns the value of a number as shown, and the error that its few digits allow.
pub(super) fn read(shown: &str, unit: &str) -> Result<(f64, f64)> {
    let plain = shown.replace('\u{202f}', "").replace('−', "-");
    match unit {
        "count" | "nr" => Ok((plain.parse()?, plain.parse::<f64>()?.abs() * 1e-15)),
        "percent" => {
            let number = plain.strip_suffix(" %").context("no percent")?;
            let off = if number.contains('.') { 0.05 } else { 0.5 };
            Ok((number.parse::<f64>()? / 100.0, off / 100.0 + 1e-9))
        },
        "at" => Ok((plain.strip_suffix(" s").context("no seconds")?.parse::<f64>()? * 1e9, 501.0)),
        "rate" => read(plain.strip_suffix("/s").context("no rate")?, "bytes"),
        "ns" | "bytes" => measure(&plain),
        other => bail!("unit {other} is not known"),
    }
}

/// Parses `12.3 ms`, `1 MiB`, `1h02m03s`: three digits, so an error of half of one in a thousand.
fn measure(plain: &str) -> Result<(f64, f64)> {
    let Some((number, unit)) = plain.split_once(' ') else {
        let mut seconds = 0.0;
        let mut digits = String::new();
        for c in plain.chars() {
            match c {
                'h' | 'm' | 's' => {
                    let value: f64 = digits.parse()?;
                    seconds += value
                        * if c == 'h' {
                            3600.0
                        } else if c == 'm' {
                            60.0
                        } else {
                            1.0
                        };
                    digits.clear();
                },
                other => digits.push(other),
            }
        }
        return Ok((seconds * 1e9, 1e9));
    };
    let scale = match unit {
        "ns" | "B" => 1.0,
        "µs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        other => {
            let power =
                ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"].iter().zip(1..).find(|(name, _)| **name == other);
            f64::powi(1024.0, power.with_context(|| format!("{other} is no unit"))?.1)
        },
    };
    let value: f64 = number.parse()?;
    let decimals = number.split_once('.').map_or(0, |(_, after)| i32::try_from(after.len()).unwrap_or(9));
    let off = if scale > 1.0 { scale * f64::powi(0.1, decimals) * 0.5001 } else { value.abs() * 1e-15 };
    Ok((value * scale, off))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_shown_is_read() {
        for (shown, unit, value) in [
            ("640 ns", "ns", 640.0),
            ("9.10 µs", "ns", 9_100.0),
            ("−1.20 ms", "ns", -1_200_000.0),
            ("1h02m03s", "ns", 3_723e9),
            ("1.46 KiB", "bytes", 1.46 * 1024.0),
            ("10.7 MiB/s", "rate", 10.7 * 1024.0 * 1024.0),
            ("1\u{202f}234", "count", 1_234.0),
            ("0.4 %", "percent", 0.004),
            ("1.520040 s", "at", 1_520_040_000.0),
        ] {
            let (read, _) = read(shown, unit).unwrap();
            assert!((read - value).abs() <= value.abs() * 1e-9, "{shown} is read as {read}");
        }
        read("1.5 parsecs", "ns").unwrap_err();
        read("twelve", "count").unwrap_err();
    }

    #[test]
    fn a_wrong_figure_is_found() {
        let document =
            json!({"a": 1_500, "b": 500, "name": "x_y", "list": [{"k": "v"}, {"k": "w"}], "none": null});
        let check = |element: Value| field(&document, &element);
        check(json!({"field": "/a", "value": "1500", "unit": "ns", "shown": "1.50 µs"})).unwrap();
        check(json!({"field": "/a", "value": "1500", "unit": "ns", "shown": "1.51 µs"})).unwrap_err();
        check(json!({"field": "/a", "value": "1501", "unit": "ns", "shown": "1.50 µs"})).unwrap_err();
        check(json!({"field": "/a", "minus": "/b", "value": "1000", "unit": "ns", "shown": "1.00 µs"}))
            .unwrap();
        check(json!({"field": "/c", "value": "1", "unit": "ns", "shown": "1 ns"})).unwrap_err();
        check(json!({"field": "/none", "value": "null", "unit": "ns", "shown": "–"})).unwrap();
        check(json!({"field": "/none", "value": "0", "unit": "ns", "shown": "0 ns"})).unwrap_err();
        check(json!({"field": "/name", "shown": "x_y"})).unwrap();
        check(json!({"field": "/name", "words": "", "shown": "x y"})).unwrap();
        check(json!({"field": "/name", "shown": "x y"})).unwrap_err();
        let counted = json!({"count": "/list", "key": "k", "is": "v", "value": "1", "shown": "1"});
        count(&document, &counted).unwrap();
        count(&document, &json!({"count": "/list", "value": "1", "shown": "1"})).unwrap_err();
    }
}
