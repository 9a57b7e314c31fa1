//! Check that a module's BTF was made for the vmlinux that it is read on top of.

use super::{error::BtfError, parse::Btf, types::BtfKind};

impl Btf {
    /// Checks that every function of this file has a function's type. A module's type ids continue those of its
    /// vmlinux: on top of another vmlinux they all mean something else, and nearly no function still has a function's
    /// type.
    ///
    /// # Errors
    ///
    /// [`BtfError::OtherBase`] at the first function that does not.
    pub fn check_base(&self) -> Result<(), BtfError> {
        let wrong = self.functions().find(|function| {
            self.get(function.proto).map_or(true, |found| found.kind() != BtfKind::FuncProto)
        });
        match wrong {
            None => Ok(()),
            Some(function) => {
                Err(BtfError::OtherBase { name: self.name().to_owned(), function: function.name.to_owned() })
            },
        }
    }
}
