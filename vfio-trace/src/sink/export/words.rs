//! Values as words: what a table's field shows, and the names that the document's JSON has.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::Value;

use crate::event::MigState;

/// What the document's JSON calls one of several values.
pub(super) fn word(of: &impl Serialize) -> String {
    match serde_json::to_value(of) {
        Ok(Value::String(word)) => word,
        _ => String::new(),
    }
}

/// Something that a field can show.
pub(super) trait Cell {
    fn text(&self) -> Cow<'_, str>;
}

impl Cell for str {
    fn text(&self) -> Cow<'_, str> {
        Cow::Borrowed(self)
    }
}

impl Cell for String {
    fn text(&self) -> Cow<'_, str> {
        Cow::Borrowed(self)
    }
}

/// Shown as the document's JSON shows it.
macro_rules! displayed {
    ($($type:ty),+) => {$(
        impl Cell for $type {
            fn text(&self) -> Cow<'_, str> {
                Cow::Owned(self.to_string())
            }
        }
    )+};
}

displayed!(bool, u32, u64, usize, f64, MigState);

/// What is not known is empty.
impl<T: Cell> Cell for Option<T> {
    fn text(&self) -> Cow<'_, str> {
        self.as_ref().map_or(Cow::Borrowed(""), Cell::text)
    }
}

impl<T: Cell + ?Sized> Cell for &T {
    fn text(&self) -> Cow<'_, str> {
        (**self).text()
    }
}
