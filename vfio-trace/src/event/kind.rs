//! Names of the kinds of events, written and read: for `--kind`, the text's column and JSON's `kind`.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};
use thiserror::Error;

use super::EventKind;

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Serialize for EventKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// No kind has this name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("no kind of event is called {0:?}; there are: {all}", all = EventKind::ALL.map(EventKind::name).join(", "))]
pub struct UnknownKind(pub String);

impl FromStr for EventKind {
    type Err = UnknownKind;

    /// # Errors
    ///
    /// [`UnknownKind`], which names all there are.
    fn from_str(name: &str) -> Result<Self, UnknownKind> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| UnknownKind(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for kind in EventKind::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
        }
        let error = "arcs".parse::<EventKind>().unwrap_err().to_string();
        assert!(
            error.starts_with("no kind of event is called \"arcs\"; there are: device, register,"),
            "{error}"
        );
    }
}
