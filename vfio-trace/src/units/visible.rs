//! Names that cannot harm a terminal: characters that would control it, break its line or reverse its text are shown as
//! escapes.
//!
//! Names are not trusted: a process chooses its `comm` and its command line, a recording may have been made by hand.
//! All text for people goes through [`clean`], all JSON through [`json`]: there the escapes are JSON's own, so that a
//! program reads the unchanged value.

use std::{
    borrow::Cow,
    fmt::Write as _,
    io::{self, Write},
};

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter, Serializer};

/// Returns true if the character is shown as itself, takes its place and does nothing else.
fn is_visible(c: char) -> bool {
    match c {
        ' '..='~' => true,
        // Characters that fonts show as nothing, though Unicode counts them as letters or marks
        // (Default_Ignorable_Code_Point without category Cf).
        '\u{34f}'
        | '\u{115f}'..='\u{1160}'
        | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}'
        | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{ffa0}'
        | '\u{e0100}'..='\u{e01ef}' => false,
        // The standard library escapes control and format characters (C1, bidi, zero width), line separators, odd
        // spaces and unassigned characters. Tried again after a letter, because an accent at the start of a text is
        // escaped too.
        _ => {
            c.escape_debug().next() == Some(c)
                || ['a', c].iter().collect::<String>().escape_debug().nth(1) == Some(c)
        },
    }
}

/// Returns text of one line that a terminal shows as it is: invisible characters become `\x1b`, `\u{202e}`.
///
/// Clean text stays as it is, so cleaning twice does no harm.
pub fn clean(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_visible) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            c if is_visible(c) => safe.push(c),
            '\n' => safe.push_str("\\n"),
            '\t' => safe.push_str("\\t"),
            '\r' => safe.push_str("\\r"),
            // Writing to a String cannot fail.
            c if u32::from(c) < 0x100 => _ = write!(safe, "\\x{:02x}", u32::from(c)),
            c => _ = write!(safe, "\\u{{{:x}}}", u32::from(c)),
        }
    }
    Cow::Owned(safe)
}

/// Cleans text of several lines as [`clean`] does; its line breaks stay.
pub fn clean_lines(text: &str) -> String {
    text.split('\n').map(clean).collect::<Vec<_>>().join("\n")
}

/// Returns a value as JSON on one line, with escapes for invisible characters (see the module).
///
/// # Errors
///
/// Those of the value's `Serialize`.
pub fn json(value: &impl Serialize) -> serde_json::Result<String> {
    text(|out| write_json(value, false, out))
}

/// Returns a value as JSON on many lines, with the same escapes.
///
/// # Errors
///
/// As [`json`].
pub fn json_pretty(value: &impl Serialize) -> serde_json::Result<String> {
    text(|out| write_json(value, true, out))
}

/// Writes a value as JSON, on one line or on many.
///
/// # Errors
///
/// Those of `out`, and of the value's `Serialize`.
pub fn write_json(value: &impl Serialize, pretty: bool, out: impl Write) -> serde_json::Result<()> {
    if pretty {
        value.serialize(&mut Serializer::with_formatter(out, VisibleFormatter(PrettyFormatter::new())))
    } else {
        value.serialize(&mut Serializer::with_formatter(out, VisibleFormatter(CompactFormatter)))
    }
}

fn text(write: impl FnOnce(&mut Vec<u8>) -> serde_json::Result<()>) -> serde_json::Result<String> {
    let mut out = Vec::with_capacity(256);
    write(&mut out)?;
    String::from_utf8(out)
        .map_err(|why| serde_json::Error::io(io::Error::new(io::ErrorKind::InvalidData, why)))
}

/// A JSON formatter that adds escapes for invisible characters to another formatter.
struct VisibleFormatter<F>(F);

/// Passes calls on to the inner formatter.
macro_rules! passed_on {
    ($($name:ident($($argument:ident: $type:ty),*)),*) => {
        $(fn $name<W: ?Sized + Write>(&mut self, out: &mut W $(, $argument: $type)*) -> io::Result<()> {
            self.0.$name(out $(, $argument)*)
        })*
    };
}

impl<F: Formatter> Formatter for VisibleFormatter<F> {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| !is_visible(*c)) {
            let (before, from) = rest.split_at(at);
            out.write_all(before.as_bytes())?;
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{unit:04x}")?;
            }
            rest = from.get(c.len_utf8()..).unwrap_or_default();
        }
        out.write_all(rest.as_bytes())
    }

    passed_on!(
        begin_array(),
        end_array(),
        begin_array_value(first: bool),
        end_array_value(),
        begin_object(),
        end_object(),
        begin_object_key(first: bool),
        end_object_key(),
        begin_object_value(),
        end_object_value()
    );
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns true for characters that must not reach a terminal: written down apart from the code that is tested.
    pub(crate) fn harms(c: char) -> bool {
        matches!(
            u32::from(c),
            0..=0x1f | 0x7f..=0x9f | 0xad | 0x61c | 0x180e | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f
            | 0xfeff | 0xfff9..=0xfffb | 0xe0000..=0xe007f
        )
    }

    /// A name with all kinds of characters that a terminal obeys, and a line of its own that begins with FORGED.
    pub(crate) const HOSTILE: &str = "\u{1b}[2J\u{9b}31m\u{202e}x\u{2066}\r\nFORGED\u{2028}FORGED\u{85}FORGED\u{7f}\u{200f}\u{feff}\u{e0041}";

    #[test]
    fn what_is_not_visible_is_escaped_and_nothing_else() {
        for fine in
            ["qemu-ü", "web 1", "ü = u\u{308}", "日本", "\"a\" 'b' \\x2d", "PRE_COPY → STOP_COPY", "🦀"]
        {
            assert_eq!(clean(fine), fine);
        }
        assert_eq!(clean("a\u{1b}[2Jb\u{202e}c\n\u{85}"), "a\\x1b[2Jb\\u{202e}c\\n\\x85");
        assert_eq!(clean("a\u{a0}b\u{ad}\u{3164}"), "a\\xa0b\\xad\\u{3164}");
        assert_eq!(clean_lines("a\u{1b}\nb\n"), "a\\x1b\nb\n");
    }

    #[test]
    fn json_is_the_same_value_with_nothing_harmful_in_it() {
        let value = serde_json::json!({"a": [HOSTILE, "ü"], "b": {}, "c": [], HOSTILE: 1});
        for text in [json(&value).unwrap(), json_pretty(&value).unwrap()] {
            assert!(!text.chars().any(|c| harms(c) && c != '\n'), "{text:?}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
        }
        let plain = serde_json::json!({"a": ["ü", 1, {"b": null}], "c": []});
        assert_eq!(json(&plain).unwrap(), serde_json::to_string(&plain).unwrap());
        assert_eq!(json_pretty(&plain).unwrap(), serde_json::to_string_pretty(&plain).unwrap());
    }

    proptest! {
        #[test]
        fn no_text_hurts(text in any::<String>(), code in any::<char>()) {
            for text in [text, format!("a{code}b")] {
                let safe = clean(&text).into_owned();
                prop_assert!(!safe.chars().any(harms), "{:?}", safe);
                prop_assert_eq!(clean(&safe), safe.as_str());
                let json = json(&text).unwrap();
                prop_assert!(!json.chars().any(harms), "{:?}", json);
                prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
            }
        }
    }

    #[test]
    fn no_harmful_character_is_left() {
        let left: Vec<char> =
            (0..=0x10_ffff).filter_map(char::from_u32).filter(|c| harms(*c) && is_visible(*c)).collect();
        assert_eq!(left, []);
    }
}
