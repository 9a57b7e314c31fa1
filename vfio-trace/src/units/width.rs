//! Width of text in columns of a terminal: East Asian characters take two, combining ones none.

use std::iter::repeat_n;

use unicode_width::UnicodeWidthChar as _;

/// Returns the number of columns that text without control characters takes. Each character is counted for itself, as
/// wcwidth(3) does and most terminals do, so that pieces of a text add up to the whole; a terminal that shapes text (lam and
/// alef in one column, a family of emoji in two) may show it narrower.
pub fn columns(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(1)).sum()
}

/// Returns the text filled up with spaces on the right to this number of columns; longer text as it is.
pub fn padded(text: &str, to: usize) -> String {
    // Not by the width of a format, which is a u16: names are as long as whoever made a recording wants.
    text.chars().chain(repeat_n(' ', to.saturating_sub(columns(text)))).collect()
}

/// Returns the width of a column for cells of these widths. Cells wider than `most` push their own lines to the right, and
/// no others: one long name does not fill all lines with spaces.
pub fn column(cells: impl IntoIterator<Item = usize>, most: usize) -> usize {
    cells.into_iter().filter(|width| *width <= most).max().unwrap_or(0)
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

    #[test]
    fn pieces_add_up_to_the_whole() {
        // Lam and alef, a family of emoji, an emoji with its variation selector, a flag, Hangul from its parts.
        let texts = [
            "\u{644}\u{627}",
            "👩\u{200d}👩\u{200d}👧",
            "❤\u{fe0f}",
            "🇩🇪",
            "\u{1112}\u{1161}\u{11ab}",
            "e\u{301}",
        ];
        for text in texts {
            for (at, _) in text.char_indices() {
                let (one, other) = text.split_at(at);
                assert_eq!(columns(one) + columns(other), columns(text), "{text:?} at {at}");
            }
        }
        assert_eq!(columns("\u{644}\u{627}"), 2, "as wcwidth(3) counts it");
    }

    #[test]
    fn names_may_have_any_length() {
        let long = "x".repeat(70_000);
        assert_eq!(padded(&long, 70_000), long);
        assert_eq!(padded("x", 70_000).len(), 70_000);
        assert_eq!(padded("", 70_000).trim_end(), "");
        assert_eq!(column([3, 70_000, 40], 40), 40);
        assert_eq!(column([70_000], 40), 0);
    }
}
