//! Cells of a line of text that depend on the event's kind: each kind writes them itself.

use super::layout::{CellStyle, TextCell};
use crate::event::{CellColumn, CellSink, EventCells, VfioEvent};

/// Cells of a line that depend on the event's kind.
pub(super) struct LineCells {
    pub(super) subject: TextCell,
    pub(super) detail: TextCell,
    pub(super) result: TextCell,
}

impl LineCells {
    /// Returns the cells that the event writes.
    pub(super) fn of(event: &VfioEvent, color: bool) -> Self {
        let cell = || TextCell::new(color);
        let mut cells = Self { subject: cell(), detail: cell(), result: cell() };
        event.describe(&mut EventCells::new(&mut cells));
        cells
    }
}

impl CellSink for LineCells {
    fn add(&mut self, column: CellColumn, style: CellStyle, text: &str) {
        let cell = match column {
            CellColumn::Subject => &mut self.subject,
            CellColumn::Detail => &mut self.detail,
            CellColumn::Result => &mut self.result,
        };
        cell.add(style, text);
    }

    fn is_empty(&self, column: CellColumn) -> bool {
        let cell = match column {
            CellColumn::Subject => &self.subject,
            CellColumn::Detail => &self.detail,
            CellColumn::Result => &self.result,
        };
        cell.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_without_a_width_is_text() {
        for (first, expected) in [("", "more"), ("\u{301}", "\u{301}, more"), ("x", "x, more")] {
            let cell = || TextCell::new(false);
            let mut cells = LineCells { subject: cell(), detail: cell(), result: cell() };
            EventCells::new(&mut cells).detail(first).more("more");
            let mut line = String::new();
            cells.detail.left(0, &mut line);
            assert_eq!(line, expected);
        }
    }
}
