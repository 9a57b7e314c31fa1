//! Values as words: the fields of CSV tables, and the names of the document's JSON.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::Value;

use crate::{event::MigState, units::human::clean};

/// Returns the name of an enum's value in the document's JSON.
pub(super) fn word(of: &impl Serialize) -> String {
    match serde_json::to_value(of) {
        Ok(Value::String(word)) => word,
        _ => String::new(),
    }
}

/// A value that a field of a table can show.
pub(super) trait CsvCell {
    fn text(&self) -> Cow<'_, str>;
}

/// Makes the words safe. They come from outside, and a table may be shown on a terminal: control characters are
/// escaped. A spreadsheet takes words that begin with one of these signs for formulas, which may call programs; an
/// apostrophe before them makes them text. Some spreadsheets take the wide signs for the same.
impl CsvCell for str {
    fn text(&self) -> Cow<'_, str> {
        let clean = clean(self);
        let formula = clean.starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠']);
        if formula { Cow::Owned(format!("'{clean}")) } else { clean }
    }
}

impl CsvCell for String {
    fn text(&self) -> Cow<'_, str> {
        self.as_str().text()
    }
}

/// Shows the value as the document's JSON does.
macro_rules! displayed {
    ($($type:ty),+) => {$(
        impl CsvCell for $type {
            fn text(&self) -> Cow<'_, str> {
                Cow::Owned(self.to_string())
            }
        }
    )+};
}

displayed!(bool, u32, u64, usize, f64, MigState);

/// Shows an unknown value as an empty field.
impl<T: CsvCell> CsvCell for Option<T> {
    fn text(&self) -> Cow<'_, str> {
        self.as_ref().map_or(Cow::Borrowed(""), CsvCell::text)
    }
}

impl<T: CsvCell + ?Sized> CsvCell for &T {
    fn text(&self) -> Cow<'_, str> {
        (**self).text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_is_a_formula_for_a_spreadsheet() {
        for word in ["=cmd|' /C calc'!A0", "+1", "-1+2", "@SUM(A1)", "＝1", "＋1", "－1", "＠A1"] {
            assert_eq!(word.text(), format!("'{word}"));
            assert_eq!(Some(word.to_owned()).text(), format!("'{word}"));
        }
        for (word, safe) in
            [("\t=1", "\\t=1"), ("\r=1", "\\r=1"), ("\n=1", "\\n=1"), ("\u{feff}=1", "\\u{feff}=1")]
        {
            assert_eq!(word.text(), safe, "what a spreadsheet would pass over");
        }
        for word in ["qemu", "0000:75:00.1", "a=b", "'=1", ""] {
            assert_eq!(word.text(), word);
        }
        for word in ["\t=1", "\r=1", "\n=1", "\u{1b}[2J", "\u{202e}a"] {
            assert_eq!(word.text(), clean(word));
            assert!(!word.text().starts_with(['=', '\t', '\r', '\n', '\u{1b}', '\u{202e}']), "{word:?}");
        }
        assert_eq!((-1.5f64).text(), "-1.5", "a number stays one");
    }
}
