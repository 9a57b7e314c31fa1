//! How many columns of a terminal text takes: East Asian characters take two, combining ones none.

use unicode_width::UnicodeWidthStr as _;

/// Returns the number of columns that text without control characters takes.
pub fn columns(text: &str) -> usize {
    text.width()
}

/// Returns the text filled up with spaces on the right to this number of columns; longer text as it is.
pub fn padded(text: &str, to: usize) -> String {
    let missing = to.saturating_sub(columns(text));
    format!("{text}{:missing$}", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_and_combining_characters_are_counted_as_they_look() {
        for (text, expected) in [("qemu", 4), ("虚拟机", 6), ("e\u{301}te\u{301}", 3), ("", 0)] {
            assert_eq!(columns(text), expected, "{text}");
            assert_eq!(columns(&padded(text, 8)), 8, "{text}");
            assert_eq!(padded(text, 0), text);
        }
        // Those of our own texts are one column each.
        for text in ["→", "≥", "≈", "µ", "…", "✕", "·", "±"] {
            assert_eq!(columns(text), 1, "{text}");
        }
    }
}
