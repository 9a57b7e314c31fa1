//! Cells that know their width on a terminal, with or without colour, and tables of cells.

use crate::units::{human::clean, width};

pub(super) use crate::event::CellStyle;
impl CellStyle {
    const fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::State => Some("36"),
            Self::Error => Some("31"),
            Self::Dim => Some("2"),
            Self::Bold => Some("1"),
        }
    }
}

/// Text under construction, with its width on a terminal.
#[derive(Clone, Debug, Default)]
pub(super) struct TextCell {
    text: String,
    width: usize,
    color: bool,
}

impl TextCell {
    pub(super) fn new(color: bool) -> Self {
        Self { text: String::new(), width: 0, color }
    }

    pub(super) fn of(color: bool, style: CellStyle, text: &str) -> Self {
        let mut cell = Self::new(color);
        cell.add(style, text);
        cell
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Returns true if there is no text at all: combining characters alone take no column, and are text.
    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    pub(super) fn plain(&mut self, text: &str) -> &mut Self {
        self.add(CellStyle::Plain, text)
    }

    /// Adds text from any source. Escapes control characters, so that no line or table can steer a terminal.
    pub(super) fn add(&mut self, style: CellStyle, text: &str) -> &mut Self {
        let text = &*clean(text);
        self.width += width::columns(text);
        match style.code().filter(|_| self.color && !text.is_empty()) {
            Some(code) => {
                for part in ["\x1b[", code, "m", text, "\x1b[0m"] {
                    self.text.push_str(part);
                }
            },
            None => self.text.push_str(text),
        }
        self
    }

    /// Appends the text to a line, filled up to `width` on the right.
    pub(super) fn left(&self, width: usize, line: &mut String) {
        line.push_str(&self.text);
        fill(width.saturating_sub(self.width), line);
    }

    /// Appends the text to a line, filled up to `width` on the left.
    pub(super) fn right(&self, width: usize, line: &mut String) {
        fill(width.saturating_sub(self.width), line);
        line.push_str(&self.text);
    }
}

fn fill(count: usize, line: &mut String) {
    line.extend(std::iter::repeat_n(' ', count));
}

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct TableColumn {
    pub(super) title: &'static str,
    /// True for right-aligned columns: numbers.
    pub(super) right: bool,
}

impl TableColumn {
    pub(super) const fn left(title: &'static str) -> Self {
        Self { title, right: false }
    }

    pub(super) const fn right(title: &'static str) -> Self {
        Self { title, right: true }
    }
}

/// Widest column of a table. A wider cell pushes the rest of its own row to the right.
const MAX_CELL: usize = 100;

/// Formats aligned rows below a title row, columns two spaces apart, each line with a newline.
pub(super) fn table(columns: &[TableColumn], rows: &[Vec<TextCell>], color: bool) -> String {
    let width_of = |at: usize| {
        let cells = rows.iter().filter_map(|row| row.get(at).map(TextCell::width));
        let title = columns.get(at).map(|column| width::columns(column.title));
        width::column(cells.chain(title), MAX_CELL)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width_of).collect();
    let titles: Vec<TextCell> =
        columns.iter().map(|column| TextCell::of(color, CellStyle::Bold, column.title)).collect();
    let mut text = String::new();
    for row in std::iter::once(&titles).chain(rows) {
        let mut line = String::new();
        for ((cell, column), &width) in row.iter().zip(columns).zip(&widths) {
            if !line.is_empty() {
                line.push_str("  ");
            }
            if column.right { cell.right(width, &mut line) } else { cell.left(width, &mut line) }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_as_they_look() {
        let rows = ["虚拟机", "e\u{301}te\u{301}", "qemu-system"].map(|name| {
            vec![TextCell::of(true, CellStyle::State, name), TextCell::of(true, CellStyle::Plain, "7")]
        });
        let text = table(&[TableColumn::left("process"), TableColumn::right("fds")], &rows, true);
        let plain = text.replace("\x1b[36m", "").replace("\x1b[1m", "").replace("\x1b[0m", "");
        let widths: Vec<usize> = plain.lines().map(width::columns).collect();
        assert_eq!(widths, [16; 4], "{plain}");
    }

    #[test]
    fn a_long_cell_does_not_fill_other_rows() {
        let long = "x".repeat(70_000);
        let rows = [&*long, "qemu"].map(|name| {
            vec![TextCell::of(false, CellStyle::Plain, name), TextCell::of(false, CellStyle::Plain, "7")]
        });
        let text = table(&[TableColumn::left("process"), TableColumn::right("fds")], &rows, false);
        assert_eq!(text, format!("process  fds\n{long}    7\nqemu       7\n"));
    }
}
